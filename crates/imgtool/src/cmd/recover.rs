//! `recover IMAGE`: finishes or takes back an interrupted change; with `--undo FILE`, takes a finished one back.

use crate::args::Recover;
use crate::cmd::about;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::output::Output;
use crate::sandbox::{Needs, folder_of};
use disk::{CommitOptions, Image, OpenOptions, Outcome, Place};
use serde_json::json;
use std::path::Path;

/// Runs it.
///
/// # Errors
/// Where somebody else has written to the image since, or the system fails.
pub fn run(args: &Recover, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let how = OpenOptions { write: true, recover: true, force: args.force, journal: args.journal.clone() };
    let mut image = Image::open(&args.image, &how).of(&args.image)?;
    let undo = args.undo.as_deref().map(Place::at).transpose().of(&args.image)?;
    confine(args, session, out);
    let outcome = if session.globals.dry_run {
        image.pending(&session.limits).of(&args.image)?.map_or(Outcome::Nothing, |pending| pending.outcome())
    } else {
        image.recover(&session.cx()).of(&args.image)?
    };
    let undone = match undo {
        Some(undo) => take_back(&mut image, &args.image, &undo, session)?,
        None => false,
    };
    let name = show(&args.image);
    let would = if session.globals.dry_run { "would be " } else { "" };
    match outcome {
        Outcome::Nothing if !undone => out.report(format!("{name}: nothing to recover")),
        Outcome::Nothing => {}
        Outcome::RolledBack => out.report(format!("{name}: the interrupted change {would}taken back")),
        Outcome::RolledForward => out.report(format!("{name}: the interrupted change {would}finished")),
    }
    if undone {
        out.report(format!("{name}: the finished change {would}taken back"));
    }
    let changed = (outcome != Outcome::Nothing || undone) && !session.globals.dry_run;
    out.document(&json!({
        "changed": changed,
        "dry-run": session.globals.dry_run,
        "outcome": match outcome {
            Outcome::Nothing => "nothing",
            Outcome::RolledBack => "rolled-back",
            Outcome::RolledForward => "rolled-forward",
        },
        "undone": undone && !session.globals.dry_run,
    }))?;
    Ok(Exit::Done)
}

/// Takes a finished change back; whether there was something to take back.
fn take_back(image: &mut Image, name: &Path, undo: &Place, session: &Session) -> Result<bool, Failure> {
    let change = image.undo(undo, &session.limits).of(name)?;
    if !session.globals.dry_run {
        let options = CommitOptions { about: about(), ..CommitOptions::default() };
        image.commit(&change, &options, &session.cx()).of(name)?;
    }
    Ok(!change.is_empty())
}

fn confine(args: &Recover, session: &Session, out: &Output) {
    let real = std::fs::canonicalize(&args.image).unwrap_or_else(|_| args.image.clone());
    let mut needs = Needs::nothing().writing(folder_of(args.journal.as_deref().unwrap_or(&real)));
    if let Some(undo) = &args.undo {
        needs = needs.reading(folder_of(undo));
    }
    session.confine(&needs, out);
}
