//! `sr export SR --vdi UUID OUT`: a conversion whose source is a virtual disk of a repository.

use crate::args::{Convert, SrExport};
use crate::cmd::convert;
use crate::cx::Session;
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Runs it.
///
/// # Errors
/// As a conversion, and where no virtual disk was named.
pub(super) fn run(args: &SrExport, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    if session.globals.vdi.is_none() {
        let which = Failure::usage("which virtual disk? name it with --vdi UUID");
        return Err(which.with_help("`imgtool sr scan` lists them"));
    }
    convert::run(&Convert::plain(&args.sr, &args.out, args.output_format), session, out)
}
