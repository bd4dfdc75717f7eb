//! What `delta create` says when it is done: the size, and with `--stats` where the bytes of the patch come from.

use super::is_stdio;
use crate::args::DeltaCreate;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::json::put_bytes;
use crate::output::Output;
use crate::render::Table;
use delta::{Literals, Stats};
use disk::ReadAt;
use ondisk::Len;
use ondisk::size::Human;
use ondisk::text::Printable;
use serde_json::{Map, Value, json};
use stack::owners::{self, OfFile, Owners, Use};
use std::path::Path;

/// So many of the largest files are named.
const FILES: usize = 10;

/// What came of it.
pub(super) struct Told {
    pub(super) stats: Stats,
    /// What `--drop-free` left out.
    pub(super) freed: Option<Len>,
    /// Whether the index was kept from the last time, where there is one.
    pub(super) kept: Option<bool>,
    /// Whose the literal bytes are, where that was asked for.
    pub(super) owners: Option<Owners>,
}

/// Whose the literal bytes of the `target` are.
pub(super) fn owners(
    target: &dyn ReadAt,
    literals: &Literals,
    name: &Path,
    session: &Session,
) -> Result<Owners, Failure> {
    let cx = session.cx();
    let layout = stack::discover(target, &cx).of(name)?;
    owners::find(target, &layout, &literals.list, FILES, &cx).of(name)
}

/// Says it.
pub(super) fn tell(
    args: &DeltaCreate,
    told: &Told,
    session: &Session,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let written = !session.globals.dry_run;
    if is_stdio(&args.output) && written {
        out.beside_content();
    }
    let stats = &told.stats;
    let would = if written { "" } else { "would be " };
    let len = Len::new(stats.patch);
    out.report(format!("{}: {would}a patch of {} ({len} bytes)", show(&args.output), Human(len)));
    if let Some(freed) = told.freed {
        out.report(format!("{} that no filesystem uses read as zero in the result", Human(freed)));
    }
    if args.stats {
        out.table(&by_origin(stats));
    }
    if let Some(owners) = &told.owners {
        by_owner(owners, out);
    }
    out.document(&json!({
        "changed": written,
        "dry-run": !written,
        "size": stats.patch,
        "freed": told.freed.map(Len::get),
        "index": told.kept.map(|kept| if kept { "kept" } else { "made" }),
        "stats": {
            "unchanged": stats.unchanged,
            "copied": stats.copied,
            "zeros": stats.zeros,
            "repeated": stats.again,
            "literal": stats.literals,
            "packed": stats.packed,
        },
        "owners": told.owners.as_ref().map(document),
    }))?;
    Ok(Exit::Done)
}

fn human(bytes: u64) -> String {
    Human(Len::new(bytes)).to_string()
}

/// Where the bytes of the target come from.
fn by_origin(stats: &Stats) -> Table {
    let mut table = Table::new().left("").right("target").right("patch");
    let mut row = |name: &str, target: u64, patch: Option<u64>| {
        table.row([name.to_owned(), human(target), patch.map(human).unwrap_or_default()]);
    };
    row("as in the first base", stats.unchanged, None);
    row("copied from a base", stats.copied, None);
    row("zeros", stats.zeros, None);
    row("repeated", stats.again, None);
    row("literal", stats.literals, Some(stats.packed));
    row("instructions", 0, Some(stats.patch.saturating_sub(stats.packed)));
    table
}

/// Whose the literal bytes are.
fn by_owner(owners: &Owners, out: &mut Output) {
    for note in &owners.notes {
        out.warn(note);
    }
    if !owners.uses.is_empty() {
        let mut table = Table::new().left("literal bytes of").right("target").right("patch");
        for (what, amount) in &owners.uses {
            table.row([what.name().to_owned(), human(amount.literal), human(amount.packed)]);
        }
        out.table(&table);
    }
    if !owners.files.is_empty() {
        let mut table = Table::new().left("largest files").right("target").right("patch");
        for file in &owners.files {
            table.row([name_of(file), human(file.amount.literal), human(file.amount.packed)]);
        }
        out.table(&table);
    }
}

fn name_of(file: &OfFile) -> String {
    let path = file.path.as_ref().map(|path| Printable(path).to_string());
    format!("{}: {}", file.volume, path.unwrap_or_else(|| format!("inode {}", file.inode)))
}

fn document(owners: &Owners) -> Value {
    let amount = |what: &Use| {
        let amount = owners.uses.get(what).copied().unwrap_or_default();
        (what.name().replace(' ', "-"), json!({ "literal": amount.literal, "packed": amount.packed }))
    };
    let file = |file: &OfFile| {
        let mut object = Map::new();
        object.insert("volume".to_owned(), file.volume.clone().into());
        object.insert("inode".to_owned(), file.inode.into());
        if let Some(path) = &file.path {
            put_bytes(&mut object, "path", path);
        }
        object.insert("literal".to_owned(), file.amount.literal.into());
        object.insert("packed".to_owned(), file.amount.packed.into());
        Value::Object(object)
    };
    json!({
        "uses": Use::ALL.iter().map(amount).collect::<Map<String, Value>>(),
        "files": owners.files.iter().map(file).collect::<Vec<Value>>(),
        "notes": owners.notes,
    })
}
