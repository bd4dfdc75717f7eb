//! `delta apply --base IMAGE PATCH --in-place`: the first base becomes the target, in the same file and format.
//!
//! 1. It is one change, with a journal: see `stack::receive`. Interrupted, the image is the base or the target.
//! 2. Repeated, the command finishes what was interrupted, if it was a command like this, and does what is left to do.
//! 3. The image is read twice at once: as the disk that changes, and, as it was, as the first base of the patch.

use super::keys::trusted;
use super::{open, patch_file, refuse_changed};
use crate::args::DeltaApply;
use crate::cmd::{Committed, make, pour};
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::known::{Known, surveyed};
use crate::open::{Opened, with_disks};
use crate::output::Output;
use delta::{Facts, Leaves, Patch, Patched};
use disk::{FileDev, Image, OpenOptions, Outcome, ReadAt, Slice};
use ondisk::size::Human;
use ondisk::{Len, Span};
use serde_json::json;
use stack::receive::{Received, stage};
use std::path::Path;

/// What such a command is known by in the journal that it leaves.
const ABOUT: [&str; 2] = [" delta apply ", " --in-place"];

/// Runs it.
pub(super) fn run(args: &DeltaApply, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let Some((first, rest)) = args.from.bases.split_first() else {
        return Err(Failure::usage("--in-place makes the first --base the target, and there is none"));
    };
    let finished = finish(first, args, session, out)?;
    let trusted = trusted(&args.trust)?;
    let mut opened = session.open_writing(first, &args.change)?;
    session.refuse_parent(&opened, &args.change, out)?;
    let others = open(rest, Some(&opened), session)?;
    let file = patch_file(&args.patch)?;
    // Of what is about to change nothing is kept.
    let mut known = vec![Known::of(&opened, false, session)];
    known.extend(others.iter().map(|other| Known::of(other, !args.no_cache, session)));
    session.confine_change(first, &args.change, out);
    let patch = super::open_patch(file, trusted.as_ref(), &args.patch, first, session)?
        .native(&args.patch, "--in-place")?;
    let before = as_it_is(&opened)?;
    let before: &dyn ReadAt = &before;
    let base = opened.source(before).open(before, &session.cx()).of(first)?;
    let done = with_disks(
        &others,
        vec![&base],
        session,
        out,
        Box::new(|disks: &[&dyn ReadAt]| {
            let work = Work { args, session, name: first, known };
            work.change(&mut opened, patch, disks)
        }),
    )?;
    refuse_changed(&others)?;
    tell(args, first, &done, finished, session, out)
}

/// Finishes or takes back such a change, where one was interrupted. Whether it is finished.
fn finish(image: &Path, args: &DeltaApply, session: &Session, out: &mut Output) -> Result<bool, Failure> {
    let how = OpenOptions {
        write: true,
        recover: true,
        force: args.change.force,
        journal: args.change.journal.clone(),
    };
    let mut opened = Image::open(image, &how).of(image)?;
    let Some(pending) = opened.pending(&session.limits).of(image)? else { return Ok(false) };
    let like_this = |about: String| ABOUT.iter().all(|word| about.contains(word));
    // Who was killed before the journal was whole has left no word, and changed nothing.
    if session.globals.dry_run || !pending.about().is_none_or(like_this) {
        return Ok(false);
    }
    drop(pending);
    let outcome = opened.recover(&session.cx()).of(image)?;
    if outcome == Outcome::RolledForward {
        out.report(format!("{}: the interrupted change is finished", show(image)));
    }
    Ok(outcome == Outcome::RolledForward)
}

/// The file of an image as it is now: through the same open file, so that nobody else has it open, and not longer when
/// that has become longer.
fn as_it_is(opened: &Opened<'_>) -> Result<Slice<FileDev>, Failure> {
    let none = || make::refused(opened.path, "it is no file or device");
    let file = opened.image.descriptor().ok_or_else(none)?;
    let file = file.try_clone_to_owned().map_err(|error| Failure::io(opened.path, &error))?;
    let file = FileDev::new(file.into()).of(opened.path)?;
    let whole = Span::whole(file.len());
    Slice::new(file, whole).of(opened.path)
}

/// What came of it.
struct Done {
    facts: Facts,
    /// None where the image is the target already.
    received: Option<(Received, Committed)>,
}

struct Work<'a> {
    args: &'a DeltaApply,
    session: &'a Session,
    name: &'a Path,
    known: Vec<Known>,
}

impl Work<'_> {
    fn change(
        &self,
        opened: &mut Opened<'_>,
        patch: Patch<FileDev>,
        disks: &[&dyn ReadAt],
    ) -> Result<Done, Failure> {
        let (args, session) = (self.args, self.session);
        let (cx, facts) = (session.change_cx(), patch.facts().clone());
        let given = session.on_threads(|| surveyed(disks, &self.known, &cx))?.of(self.name)?;
        if let Some((_, leaves)) = given.first() {
            if is(leaves, &facts.target) {
                return Ok(Done { facts, received: None });
            }
            self.refuse_other_first(leaves, &facts)?;
        }
        let made = session.on_threads(|| Patched::new(patch, given, &cx))?.of(&args.patch)?;
        let file: &dyn ReadAt = &opened.image;
        let source = opened.source(file);
        let received = session.on_threads(|| stage(&source, &made, args.change.check, &cx))?;
        let received = received.of(self.name)?;
        let image = &mut opened.image;
        let committed = pour(image, self.name, &received.change, Some(&made), &args.change, session)?;
        Ok(Done { facts, received: Some((received, committed)) })
    }

    /// Refuses where the image is a base of the patch, but not the one that its windows are compared with.
    fn refuse_other_first(&self, leaves: &Leaves, facts: &Facts) -> Result<(), Failure> {
        let place = facts.bases.iter().position(|base| is(leaves, base));
        match (place, facts.bases.len()) {
            (_, 0) => Err(make::refused(self.name, "the patch was made from no base")
                .with_help("make a new image: -o OUT")),
            (Some(0) | None, _) => Ok(()),
            (Some(_), _) => {
                Err(make::refused(self.name, "it is a base of the patch, but not the patch's first one")
                    .with_help(
                        "name the base that shall become the target first, or make a new image: -o OUT",
                    ))
            }
        }
    }
}

fn is(leaves: &Leaves, facts: &delta::BaseFacts) -> bool {
    leaves.len() == facts.len && leaves.digest() == facts.digest
}

fn tell(
    args: &DeltaApply,
    first: &Path,
    done: &Done,
    finished: bool,
    session: &Session,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let (name, dry_run) = (show(first), session.globals.dry_run);
    let committed = done.received.as_ref().map(|(_, committed)| committed);
    let journal = committed.and_then(Committed::journal);
    let (written, zeroed) = done
        .received
        .as_ref()
        .map_or((Len::ZERO, Len::ZERO), |(received, _)| (received.written, received.zeroed));
    match &done.received {
        None => out.report(format!("{name}: is the target of {}", show(&args.patch))),
        Some(_) => {
            let would = if dry_run { "would be" } else { "is now" };
            let told = format!(
                "{name}: {would} the target of {}; {} written, {} zeroed, {} through the journal",
                show(&args.patch),
                Human(written),
                Human(zeroed),
                Human(journal.unwrap_or_default())
            );
            if dry_run { out.line(told) } else { out.report(told) }
        }
    }
    out.document(&json!({
        "changed": finished || matches!(committed, Some(Committed::Done(_))),
        "dry-run": dry_run,
        "virtual-size": done.facts.target.len.get(),
        "digest": done.facts.target.digest.to_hex().as_str(),
        "written-bytes": written.get(),
        "zeroed-bytes": zeroed.get(),
        "journal-bytes": journal.map(Len::get),
    }))?;
    Ok(Exit::Done)
}
