//! `grow IMAGE SIZE`: the container, the partition and the filesystem grow together.

use crate::args::Grow;
use crate::cmd::{Committed, commit};
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of};
use crate::output::Output;
use crate::render::Table;
use grub::Boot;
use ondisk::Len;
use ondisk::size::Human;
use serde_json::{Value, json};
use stack::discover;
use stack::grow::{BootNeeds, Depth, Grown, Request, Sizes, stage};
use stack::source::Source;

/// Runs it.
///
/// # Errors
/// Where the image cannot grow as asked; it is as before then, or `recover` finishes the change.
pub fn run(args: &Grow, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let mut opened = session.open_writing(&args.image, &args.change)?;
    session.refuse_parent(&opened, &args.change, out)?;
    session.confine_change(&args.image, &args.change, out);
    let source = opened.source(&opened.image);
    let (boot, needs) = boot_loaders(&source, session).of(&args.image)?;
    let request = Request {
        size: args.size,
        place: args.at.place(),
        depth: match (args.disk_only, args.no_fs) {
            (true, _) => Depth::Disk,
            (_, true) => Depth::Partition,
            _ => Depth::Filesystem,
        },
        move_behind: args.move_behind,
        full_check: args.change.check,
        boot: needs,
    };
    let mut grown = stage(&source, &request, &session.change_cx()).of(&args.image)?;
    if !grown.change.is_empty() {
        grown.notes.extend(boot.notes(request.depth, grown.after.partition));
    }
    for note in &grown.notes {
        out.warn(note);
    }
    let committed = commit(&mut opened.image, &args.image, &grown.change, &args.change, session)?;
    show(&grown, &committed, session, out)?;
    Ok(Exit::Done)
}

/// What could start the disk, and what that relies on.
pub(super) fn boot_loaders(source: &Source<'_>, session: &Session) -> Result<(Boot, BootNeeds), grub::Error> {
    let cx = session.change_cx();
    let disk = source.open(source.file, &cx)?;
    let layout = discover(&disk, &cx)?;
    let boot = grub::look(&disk, &layout, &cx)?;
    let needs = boot.needs(&layout);
    Ok((boot, needs))
}

fn show(grown: &Grown, committed: &Committed, session: &Session, out: &mut Output) -> Result<(), Failure> {
    if grown.change.is_empty() {
        out.report("nothing to do: everything has that size already");
    } else if session.globals.dry_run {
        for step in &grown.steps {
            out.line(step);
        }
        out.line(format!(
            "would write {} to unused places and {} over used ones, with a journal of up to {}",
            Human(grown.change.fresh_len()),
            Human(grown.change.home_len()),
            Human(committed.journal().unwrap_or_default())
        ));
    } else {
        out.note(grown.steps.join("; "));
        if !session.globals.quiet {
            out.table(&sizes(&grown.before, &grown.after));
        }
    }
    out.document(&document(grown, committed, session.globals.dry_run))
}

fn sizes(before: &Sizes, after: &Sizes) -> Table {
    let mut table = Table::new().left("").right("BEFORE").right("AFTER");
    let mut row = |name: &str, before: Option<Len>, after: Option<Len>| {
        if let (Some(before), Some(after)) = (before, after) {
            table.row([name.to_owned(), Human(before).to_string(), Human(after).to_string()]);
        }
    };
    row("file", Some(before.file), Some(after.file));
    row("disk", Some(before.disk), Some(after.disk));
    row("partition", before.partition.map(|span| span.len()), after.partition.map(|span| span.len()));
    row("logical volume", before.logical, after.logical);
    row("filesystem", before.filesystem.map(|fs| fs.0), after.filesystem.map(|fs| fs.0));
    row("free in it", before.filesystem.map(|fs| fs.1), after.filesystem.map(|fs| fs.1));
    table
}

fn document(grown: &Grown, committed: &Committed, dry_run: bool) -> Value {
    let side = |sizes: &Sizes| {
        json!({
            "file-size": sizes.file.get(),
            "virtual-size": sizes.disk.get(),
            "partition-start": sizes.partition.map(|span| span.start().get()),
            "partition-size": sizes.partition.map(|span| span.len().get()),
            "logical-volume-size": sizes.logical.map(Len::get),
            "filesystem-size": sizes.filesystem.map(|fs| fs.0.get()),
            "filesystem-free": sizes.filesystem.map(|fs| fs.1.get()),
        })
    };
    json!({
        "changed": !grown.change.is_empty() && !dry_run,
        "dry-run": dry_run,
        "place": grown.volume.as_ref().map(ToString::to_string),
        "steps": grown.steps,
        "notes": grown.notes,
        "before": side(&grown.before),
        "after": side(&grown.after),
        "fresh-bytes": grown.change.fresh_len().get(),
        "home-bytes": grown.change.home_len().get(),
        "journal-bytes": committed.journal().map(Len::get),
        "flushes": committed.receipt().map(|receipt| receipt.flushes),
    })
}
