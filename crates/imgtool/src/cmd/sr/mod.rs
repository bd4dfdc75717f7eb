//! `sr`: storage repositories of XenServer and XCP-ng.

mod check;
mod convert;
mod export;
mod scan;

use crate::args::Sr;
use crate::cx::Session;
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Runs one of them.
///
/// # Errors
/// Where it did not do what it was asked.
pub fn run(args: &Sr, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    match args {
        Sr::Scan(args) => scan::run(args, session, out),
        Sr::Check(args) => check::run(args, session, out),
        Sr::Export(args) => export::run(args, session, out),
        Sr::Convert(args) => convert::run(args, session, out),
    }
}
