//! `chain …`: images that stand on each other.
//!
//! 1. What an image reads as never changes, neither in between nor after a crash, but where the operator says
//!    `--content-may-change`.
//! 2. Data go in batches, each a commit of its own. Repeating an interrupted command continues it.
//! 3. Everything that may be refused is refused before the first batch.

mod coalesce;
mod flatten;
mod list;
mod rebase;
mod snapshot;

use crate::args::{self, Chain};
use crate::cmd::create::relative;
use crate::cmd::make::plain;
use crate::cmd::pour;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::open::Opened;
use crate::output::Output;
use container::link::Link;
use container::{Container, Format};
use disk::{Image, ReadAt};
use ondisk::guid::Uuid;
use ondisk::size::Human;
use ondisk::{Len, Offset};
use serde_json::json;
use stack::chain::{Batch, Part};
use std::path::Path;

/// Bytes of one batch. Where unused places hold old bytes, its journal may be as long.
const BATCH: Len = Len::gib(1);

/// Runs one of them.
///
/// # Errors
/// Where it did not do what it was asked.
pub fn run(command: &Chain, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    match command {
        Chain::List(args) => list::run(args, session, out),
        Chain::Snapshot(args) => snapshot::run(args, session, out),
        Chain::Coalesce(args) => coalesce::run(args, session, out),
        Chain::Flatten(args) => flatten::run(args, session, out),
        Chain::Rebase(args) => rebase::run(args, session, out),
    }
}

/// What was carried, or would be.
#[derive(Default)]
struct Carried {
    bytes: Len,
    commits: u64,
    fresh: Len,
    home: Len,
}

impl Carried {
    fn note(&mut self, change: &disk::Change) {
        let sum = |a: Len, b: Len| Len::new(a.get().saturating_add(b.get()));
        self.commits = self.commits.saturating_add(u64::from(!change.is_empty()));
        self.fresh = sum(self.fresh, change.fresh_len());
        self.home = sum(self.home, change.home_len());
    }
}

/// Stages and commits batch after batch. What several of them need together is foreseen before the first is committed,
/// where staging reads no data.
fn carry(
    target: &mut Opened<'_>,
    beside: &dyn ReadAt,
    how: &args::Change,
    session: &Session,
    mut stage: impl FnMut(&Opened<'_>, Part) -> Result<Batch, Failure>,
) -> Result<Carried, Failure> {
    // Of what is taken back in one piece there is one piece, and that happens in memory.
    let memory = session.change_cx().limits.memory;
    let room = if how.undo.is_some() { Len::new(memory.get() / 4) } else { BATCH };
    let part = |from| Part { from, room, check: how.check };
    let (mut carried, mut growth) = (Carried::default(), Growth::default());
    let mut batch = stage(target, part(Offset::ZERO))?;
    if batch.next.is_some() && how.undo.is_some() {
        let why = format!("more than {} change, which one undo file cannot take back", Human(room));
        return Err(Failure::new(Exit::Refused, "refused", format!("{}: {why}", show(target.path)))
            .with_help("leave --undo away, and copy the image first where it must be kept"));
    }
    if !session.globals.dry_run && batch.foreseeable {
        let mut all = Growth::default();
        all.add(&batch, target)?;
        let mut next = batch.next;
        while let Some(from) = next {
            let ahead = stage(target, Part { check: false, ..part(from) })?;
            all.add(&ahead, target)?;
            next = ahead.next;
        }
    }
    loop {
        pour(&mut target.image, target.path, &batch.change, Some(beside), how, session)?;
        carried.bytes = Len::new(carried.bytes.get().saturating_add(batch.carried.get()));
        carried.note(&batch.change);
        if session.globals.dry_run {
            growth.add(&batch, target)?;
        }
        let Some(from) = batch.next else { return Ok(carried) };
        batch = stage(target, part(from))?;
    }
}

/// What batches that are staged one after the other, and not committed, make a file longer by.
#[derive(Default)]
struct Growth(Len);

impl Growth {
    /// Adds a batch; refuses where all of them do not fit.
    fn add(&mut self, batch: &Batch, target: &Opened<'_>) -> Result<(), Failure> {
        self.0 = Len::new(self.0.get().saturating_add(batch.change.added().get()));
        target.image.refuse_full(self.0).of(target.path)
    }
}

/// What one has to know of an image to link to it.
#[derive(Clone, Copy)]
struct Who {
    len: Len,
    id: Option<Uuid>,
    /// When it was last modified, in seconds since 1970.
    timestamp: u64,
}

impl Who {
    fn of<D: ReadAt>(disk: &Container<D>, file: &Image, session: &Session) -> Self {
        Self { len: disk.len(), id: disk.uuid(), timestamp: written(file, session) }
    }
}

/// When an image was last modified. No clock of another machine makes that a time to come.
fn written(file: &Image, session: &Session) -> u64 {
    file.modified().unwrap_or_default().min(session.cx().now)
}

/// How `child` names `parent`.
fn link_to(parent: &Opened<'_>, who: Who, child: &Opened<'_>) -> Result<Link, Failure> {
    let name = relative(child.path, parent.path)?;
    // In a VHD a colon is a letter like others.
    let name = if child.format == Format::Vhd { name } else { plain(name) };
    Ok(Link { name, format: parent.format, id: who.id, timestamp: who.timestamp })
}

/// Whether two names mean the same file.
fn same_file(a: &Path, b: &Path) -> bool {
    match (std::fs::canonicalize(a), std::fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

fn refused(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Refused, "refused", format!("{}: {why}", show(path)))
}

/// Says what was done, in sentences and in a document.
fn tell(
    steps: &[String],
    carried: &Carried,
    changed: bool,
    session: &Session,
    out: &mut Output,
) -> Result<(), Failure> {
    let dry_run = session.globals.dry_run;
    for step in steps {
        if dry_run { out.line(format!("would: {step}")) } else { out.report(step) }
    }
    if !changed {
        out.report("nothing to do");
    }
    out.document(&json!({
        "changed": changed && !dry_run,
        "dry-run": dry_run,
        "steps": steps,
        "carried-bytes": carried.bytes.get(),
        "commits": carried.commits,
        "fresh-bytes": carried.fresh.get(),
        "home-bytes": carried.home.get(),
    }))
}

/// The container of an opened image, with its parents.
fn container<'o>(opened: &'o Opened<'_>, session: &Session) -> Result<Container<&'o dyn ReadAt>, Failure> {
    let file: &dyn ReadAt = &opened.image;
    opened.source(file).open(file, &session.cx()).of(opened.path)
}
