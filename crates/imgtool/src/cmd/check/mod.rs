//! `check IMAGE`: the container, the partition table, every ext filesystem; with `--repair`, what can be mended is.

mod repair;

use crate::args::Check;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::open::age;
use crate::output::Output;
use crate::sandbox::Needs;
use container::Severity;
use serde_json::{Value, json};
use stack::check::{self, Checked};

/// Runs it.
///
/// # Errors
/// Where the image, or a structure of it, cannot be read at all. Damage is an answer.
pub fn run(args: &Check, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    if args.repair {
        return repair::run(args, session, out);
    }
    let opened = session.open_reading(&args.image, session.globals.format)?;
    session.confine(&Needs::nothing(), out);
    let (checked, document) = opened.with_disk(session, out, |disk| {
        let checked = check::all(disk, &session.cx()).of(&args.image)?;
        let document = document(&checked, &show(&args.image), opened.format_name());
        Ok((checked, document))
    })?;
    for (path, doubt) in &opened.doubts {
        out.report(format!("note: the parent {} {doubt}: {}", show(path), age::WHY));
    }
    tell(&checked, &show(&args.image), out);
    if let Some(error) = checked.unreadable.first() {
        return Err(Failure::of(&args.image, error));
    }
    out.document(&document)?;
    Ok(if checked.is_clean() { Exit::Done } else { Exit::No })
}

fn tell(checked: &Checked, name: &str, out: &mut Output) {
    for finding in &checked.findings {
        let (layer, text) = (&finding.layer, &finding.text);
        match finding.severity {
            Severity::Damage => out.line(format!("damage: {layer}: {text}")),
            Severity::Leak => out.line(format!("leak: {layer}: {text}")),
            Severity::Note => out.report(format!("note: {layer}: {text}")),
        }
    }
    for id in &checked.recovered {
        out.report(format!("{id}: needs recovery; checked as it will be after its journal is replayed"));
    }
    if checked.is_clean() {
        let what = if checked.recognised { "clean" } else { "nothing recognised that could be checked" };
        out.report(format!("{name}: {what}"));
    } else {
        out.line(format!(
            "{name}: {} damaged, {} leaked, {} unreadable",
            checked.damage,
            checked.leaks,
            checked.unreadable.len()
        ));
    }
}

/// The words of `qemu-img check`, and what it does not know.
fn document(checked: &Checked, name: &str, format: &str) -> Value {
    let severity = |severity| match severity {
        Severity::Damage => "damage",
        Severity::Leak => "leak",
        Severity::Note => "note",
    };
    let findings: Vec<Value> = checked
        .findings
        .iter()
        .map(|one| json!({"layer": one.layer.to_string(), "severity": severity(one.severity), "text": one.text}))
        .collect();
    let names = |ids: &[stack::VolumeId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "filename": name,
        "format": format,
        "check-errors": checked.unreadable.len(),
        "corruptions": checked.damage,
        "leaks": checked.leaks,
        "clean": checked.is_clean(),
        "recognised": checked.recognised,
        "checked": names(&checked.checked),
        "needs-recovery": names(&checked.recovered),
        "findings": findings,
    })
}
