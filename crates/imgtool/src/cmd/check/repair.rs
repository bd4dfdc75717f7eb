//! `check IMAGE --repair`: what survives of a structure mends it, as one change.

use super::{document, tell};
use crate::args::Check;
use crate::cmd::{Committed, commit};
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::open::Opened;
use crate::output::Output;
use ondisk::Len;
use ondisk::size::Human;
use serde_json::{Value, json};
use stack::repair::{Reach, Repaired, stage};
use std::path::Path;

/// Runs it.
///
/// # Errors
/// Where what is left of the image is not enough to read it; it is as before then, or `recover` finishes the change.
pub(super) fn run(args: &Check, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let mut opened = session.open_repairing(&args.image, &args.change)?;
    let child = session.child_of(&opened);
    session.confine_change(&args.image, &args.change, out);
    let repaired = staged(&opened, child.as_deref(), args, session, out)?;
    let committed = commit(&mut opened.image, &args.image, &repaired.change, &args.change, session)?;
    let (name, dry_run) = (show(&args.image), session.globals.dry_run);
    let mended = if dry_run { "would mend" } else { "mended" };
    for step in &repaired.steps {
        out.line(format!("{mended}: {step}"));
    }
    repaired.notes.iter().for_each(|note| out.warn(note));
    if dry_run && !repaired.change.is_empty() {
        out.line(format!("would write {} over used places", Human(repaired.change.home_len())));
    }
    tell(&repaired.after, &name, out);
    if let Some(error) = repaired.after.unreadable.first().filter(|_| repaired.change.is_empty()) {
        return Err(Failure::of(&args.image, error));
    }
    out.document(&whole_document(&repaired, &committed, &name, opened.format.name(), dry_run))?;
    Ok(if repaired.after.is_clean() { Exit::Done } else { Exit::No })
}

/// The repair. What stands on the image goes on to read what it did: then only the container is mended.
fn staged(
    opened: &Opened<'_>,
    child: Option<&Path>,
    args: &Check,
    session: &Session,
    out: &Output,
) -> Result<Repaired, Failure> {
    let cx = session.change_cx();
    let source = opened.source(&opened.image);
    let all = stage(&source, Reach::All, &cx).of(&args.image)?;
    let Some(child) = child.filter(|_| all.steps.len() > all.outside) else { return Ok(all) };
    let why = format!("{} stands on it and reads what would be mended on the disk", show(child));
    if args.change.force {
        out.warn(format!("{}: {why}", show(&args.image)));
        return Ok(all);
    }
    if all.outside == 0 {
        return Err(Failure::new(Exit::Refused, "in-use", format!("{}: {why}", show(&args.image)))
            .with_help(
                "repair the image at the end of the chain instead, or flatten or rebase that one first",
            ));
    }
    let mut container = stage(&source, Reach::Container, &cx).of(&args.image)?;
    container.notes.push(format!("what lies inside is left as it is: {why}"));
    Ok(container)
}

/// As without `--repair`, of what is left, and what was mended in the words of `qemu-img check`.
fn whole_document(
    repaired: &Repaired,
    committed: &Committed,
    name: &str,
    format: &str,
    dry_run: bool,
) -> Value {
    let mut value = document(&repaired.after, name, format);
    let before = repaired.before.as_ref();
    let fixed = |was: Option<u64>, is: u64| was.map(|was| was.saturating_sub(is));
    let more = json!({
        "changed": !repaired.change.is_empty() && !dry_run,
        "dry-run": dry_run,
        "steps": repaired.steps,
        "notes": repaired.notes,
        "corruptions-fixed": fixed(before.map(|one| one.damage), repaired.after.damage),
        "leaks-fixed": fixed(before.map(|one| one.leaks), repaired.after.leaks),
        "home-bytes": repaired.change.home_len().get(),
        "journal-bytes": committed.journal().map(Len::get),
    });
    if let (Some(all), Value::Object(more)) = (value.as_object_mut(), more) {
        all.extend(more);
    }
    value
}
