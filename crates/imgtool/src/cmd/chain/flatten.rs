//! `chain flatten IMAGE`: what the parents have is copied into the image, which then stands alone.

use super::{carry, container, tell};
use crate::args::Flatten;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::output::Output;
use ondisk::size::Human;
use stack::chain::{self, Take, Then, refuse_snapshots};

/// Runs it.
///
/// # Errors
/// Where the image may not be changed, or a parent cannot be read; the image reads as before then.
pub(super) fn run(args: &Flatten, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let mut opened = session.open_writing(&args.image, &args.change)?;
    session.confine_change(&args.image, &args.change, out);
    if opened.parent.is_none() {
        out.report(format!("{}: stands alone already", show(&args.image)));
        tell(&[], &super::Carried::default(), false, session, out)?;
        return Ok(Exit::Done);
    }
    refuse_snapshots(&container(&opened, session)?).of(&args.image)?;
    let cx = session.change_cx();
    let beside = chain::beside(&opened.source(&opened.image));
    let carried = carry(&mut opened, &beside, &args.change, session, |opened, part| {
        let target = opened.source(&opened.image);
        chain::carry(&target, Take::Inherited, Then::Alone, part, &cx).of(opened.path)
    })?;
    let steps = [
        format!("{} of the parents' data are copied into {}", Human(carried.bytes), show(&args.image)),
        "the image no longer names a parent".to_owned(),
    ];
    tell(&steps, &carried, true, session, out)?;
    Ok(Exit::Done)
}
