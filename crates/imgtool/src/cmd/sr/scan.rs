//! `sr scan SR`: the virtual disks, those that stand on others below these.

use crate::args::SrScan;
use crate::cx::Session;
use crate::exit::{Exit, Failure, show};
use crate::output::Output;
use crate::render::Tree;
use crate::sandbox::Needs;
use ondisk::Len;
use ondisk::guid::Uuid;
use ondisk::size::Human;
use ondisk::text::Printable;
use serde_json::{Value, json};
use sr::{Parent, Repository, Title, Vdi};
use std::collections::BTreeSet;

/// Runs it.
///
/// # Errors
/// Where there is no repository, or its storage cannot be read. Damage of its disks is told.
pub(super) fn run(args: &SrScan, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let (store, repository) =
        session.open_repository(&args.of.sr, &args.of.at.place(), Needs::nothing(), out)?;
    let title = store.title();
    out.tree(&tree(&show(&args.of.sr), title, &repository));
    for finding in &repository.findings {
        let kind = if finding.is_damage() { "damage" } else { "note" };
        out.report(format!("{kind}: {}", finding.text));
    }
    out.document(&document(title, &repository))?;
    Ok(Exit::Done)
}

fn tree(name: &str, title: &Title, repository: &Repository) -> Tree {
    let mut tree = Tree::new();
    let uuid = title.uuid.map(|uuid| format!(" {uuid}")).unwrap_or_default();
    let label = title.metadata.as_ref().map(|metadata| quoted(&metadata.name_label)).unwrap_or_default();
    let size = format!("{}, {} free", Human(title.size), Human(title.free));
    tree.push(0, format!("{name}: {} repository{uuid}{label}, {size}", title.kind.name()));
    let mut shown = BTreeSet::new();
    for root in repository.vdis.iter().filter(|vdi| vdi.parent().is_none()) {
        push(&mut tree, root, 1, repository, &mut shown);
    }
    // What stands in a circle has no root.
    for vdi in &repository.vdis {
        if !shown.contains(&vdi.uuid) {
            push(&mut tree, vdi, 1, repository, &mut shown);
        }
    }
    tree
}

/// A VDI, and below it those that stand on it: each once.
fn push(tree: &mut Tree, root: &Vdi, depth: usize, repository: &Repository, shown: &mut BTreeSet<Uuid>) {
    let mut waiting = vec![(root, depth)];
    while let Some((vdi, depth)) = waiting.pop() {
        if !shown.insert(vdi.uuid) {
            continue;
        }
        tree.push(depth, line(vdi));
        let mut children: Vec<_> =
            repository.children(vdi.uuid).map(|child| (child, depth.saturating_add(1))).collect();
        children.reverse();
        waiting.append(&mut children);
    }
}

fn line(vdi: &Vdi) -> String {
    let mut words = vec![vdi.uuid.to_string(), vdi.format.name().to_owned()];
    words.extend(vdi.image.as_ref().map(|image| format!("{},", Human(image.virtual_len))));
    words.push(format!("{} used", Human(vdi.entry.len)));
    if vdi.image.is_none() {
        words.push("(unreadable)".to_owned());
    }
    if vdi.is_hidden() {
        words.push("(hidden)".to_owned());
    }
    if let Parent::Missing(_) = vdi.parent {
        words.push("(parent missing)".to_owned());
    }
    if let Some(record) = &vdi.record {
        let of = record.snapshot_of.filter(|_| record.is_a_snapshot);
        words.extend(of.map(|of| format!("(snapshot of {of})")));
        words.push(quoted(&record.name_label).trim_start().to_owned());
    }
    words.join(" ").trim_end().to_owned()
}

fn quoted(label: &str) -> String {
    if label.is_empty() { String::new() } else { format!(" \"{}\"", Printable(label.as_bytes())) }
}

fn document(title: &Title, repository: &Repository) -> Value {
    let record = |vdi: &Vdi, get: fn(&sr::Record) -> Value| vdi.record.as_ref().map_or(Value::Null, get);
    let vdis: Vec<Value> = repository
        .vdis
        .iter()
        .map(|vdi| {
            json!({
                "uuid": vdi.uuid.to_string(),
                "name_label": record(vdi, |record| record.name_label.clone().into()),
                "name_description": record(vdi, |record| record.name_description.clone().into()),
                "snapshot_of": record(vdi, |record| {
                    record.snapshot_of.filter(|_| record.is_a_snapshot).map(|of| of.to_string()).into()
                }),
                "format": vdi.format.name(),
                "virtual_size": vdi.image.as_ref().map(|image| image.virtual_len.get()),
                "physical_size": vdi.entry.len.get(),
                "parent": vdi.parent().map(|parent| parent.to_string()),
                "hidden": vdi.is_hidden(),
                "readable": vdi.image.is_some(),
            })
        })
        .collect();
    let used = title.size.saturating_sub(title.free);
    json!({
        "type": title.kind.name(),
        "uuid": title.uuid.map(|uuid| uuid.to_string()),
        "name_label": title.metadata.as_ref().map(|metadata| metadata.name_label.clone()),
        "physical_size": title.size.get(),
        "physical_utilisation": Len::get(used),
        "vdis": vdis,
        "pending": repository.pending.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(),
        "leftovers": repository.leftovers,
        "findings": repository.findings.iter().map(|one| json!({
            "severity": if one.is_damage() { "damage" } else { "note" },
            "text": one.text,
        })).collect::<Vec<_>>(),
    })
}
