//! `delta compose P1 P2 -o P`.

use super::sink::written;
use super::{is_stdio, refuse_over};
use crate::args::DeltaCompose;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::output::Output;
use crate::sandbox::{Needs, folder_of};
use delta::Patch;
use disk::FileDev;
use ondisk::size::Human;
use serde_json::json;
use std::path::Path;

/// Runs it.
pub(super) fn run(args: &DeltaCompose, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let open = |path: &Path| FileDev::new(super::plain(path)?).of(path);
    let (first, second) = (open(&args.first)?, open(&args.second)?);
    let needs = Needs::nothing();
    if is_stdio(&args.output) {
        session.confine(&needs, out);
    } else {
        refuse_over(&args.output, &[&args.first, &args.second], session)?;
        session.confine(&needs.writing(folder_of(&args.output)), out);
    }
    let first = Patch::open(first, &session.limits).of(&args.first)?;
    let second = Patch::open(second, &session.limits).of(&args.second)?;
    if first.facts().signature.is_some() || second.facts().signature.is_some() {
        out.warn("the patches are signed, the result is not: sign it anew where it is to be trusted");
    }
    let len = written(&args.output, session, |to| {
        session.on_threads(|| delta::compose(&first, &second, to, &session.cx()))?.of(&args.second)
    })?;
    let written = !session.globals.dry_run;
    if is_stdio(&args.output) && written {
        out.beside_content();
    }
    let would = if written { "" } else { "would be " };
    out.report(format!("{}: {would}a patch of {} ({len} bytes)", show(&args.output), Human(len)));
    out.document(&json!({ "changed": written, "dry-run": !written, "size": len.get() }))?;
    Ok(Exit::Done)
}
