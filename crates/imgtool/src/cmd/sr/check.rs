//! `sr check SR`: volumes, metadata, every image and every chain.

use crate::args::SrCheck;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::output::Output;
use crate::sandbox::Needs;
use container::Severity;
use serde_json::{Value, json};

/// Runs it.
///
/// # Errors
/// Where there is no repository that could be read. Damage is an answer.
pub(super) fn run(args: &SrCheck, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let (store, repository) =
        session.open_repository(&args.of.sr, &args.of.at.place(), Needs::nothing(), out)?;
    let mut list: Vec<(Severity, String)> = Vec::new();
    list.extend(repository.findings.iter().map(|one| (one.severity, one.text.clone())));
    let images = repository.check(&*store, &session.cx()).of(&args.of.sr)?;
    list.extend(images.into_iter().map(|(vdi, one)| (one.severity, format!("{vdi}: {}", one.text))));
    for (severity, text) in &list {
        match severity {
            Severity::Note => out.report(format!("note: {text}")),
            other => out.line(format!("{}: {text}", word(*other))),
        }
    }
    let damage = list.iter().filter(|(severity, _)| *severity == Severity::Damage).count();
    let (name, disks, pending) = (show(&args.of.sr), repository.vdis.len(), repository.pending.len());
    let clean = damage == 0 && pending == 0;
    if clean {
        out.report(format!("{name}: clean, {disks} virtual disks"));
    } else {
        out.line(format!("{name}: {damage} damaged, {pending} changes of the host's not finished"));
    }
    let findings: Vec<Value> =
        list.iter().map(|(severity, text)| json!({ "severity": word(*severity), "text": text })).collect();
    out.document(&json!({
        "filename": name,
        "type": store.title().kind.name(),
        "uuid": store.title().uuid.map(|uuid| uuid.to_string()),
        "clean": clean,
        "corruptions": damage,
        "pending": repository.pending.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(),
        "findings": findings,
    }))?;
    Ok(if clean { Exit::Done } else { Exit::No })
}

const fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Damage => "damage",
        Severity::Leak => "leak",
        Severity::Note => "note",
    }
}
