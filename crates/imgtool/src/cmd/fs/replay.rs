//! `fs replay IMAGE`: the journal is replayed and orphans are cleared for good, as a mount does.

use crate::args::Replay;
use crate::cmd::commit;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::output::Output;
use ondisk::Len;
use ondisk::size::Human;
use serde_json::json;

/// Runs it.
///
/// # Errors
/// Where the journal is damaged; the image is as before then, or `recover` finishes the change.
pub(super) fn run(args: &Replay, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let mut opened = session.open_writing(&args.image, &args.change)?;
    session.refuse_parent(&opened, &args.change, out)?;
    session.confine_change(&args.image, &args.change, out);
    let source = opened.source(&opened.image);
    let replayed = stack::replay::stage(&source, &args.at.place(), args.change.check, &session.change_cx());
    let replayed = replayed.of(&args.image)?;
    let committed = commit(&mut opened.image, &args.image, &replayed.change, &args.change, session)?;
    let dry_run = session.globals.dry_run;
    if replayed.change.is_empty() {
        out.report(format!("{}: {}: nothing to do", show(&args.image), replayed.volume));
    } else {
        replayed.steps.iter().for_each(|step| out.report(step));
        if dry_run {
            out.line(format!("would write {} over used places", Human(replayed.change.home_len())));
        }
    }
    out.document(&json!({
        "changed": !replayed.change.is_empty() && !dry_run,
        "dry-run": dry_run,
        "place": replayed.volume.to_string(),
        "steps": replayed.steps,
        "home-bytes": replayed.change.home_len().get(),
        "journal-bytes": committed.journal().map(Len::get),
    }))?;
    Ok(Exit::Done)
}
