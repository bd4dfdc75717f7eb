//! `chain snapshot IMAGE NEW`: a new child, which holds what is written from now on. IMAGE is not touched, and must not
//! be written any more: only so does NEW read as it did.

use crate::args::{Create, Snapshot};
use crate::cmd::create;
use crate::cx::Session;
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Runs it.
///
/// # Errors
/// As `create --backing`.
pub(super) fn run(args: &Snapshot, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let create = Create {
        image: args.new.clone(),
        size: None,
        output_format: args.output_format,
        backing: Some(args.image.clone()),
        layout: Default::default(),
    };
    create::run(&create, session, out)
}
