//! `sparsify IMAGE`: what the guest does not need is given back to this machine, in place; with OUT, it is left out of a
//! new image.
//!
//! 1. Several steps, each of which leaves a whole image: tables let go, holes are punched, what lies last moves down.
//! 2. What only becomes a hole takes no journal. With `--undo` all of it does, as one change that can be taken back.

mod copy;

pub(super) use copy::free as free_of;

use crate::args::Sparsify;
use crate::cmd::commit;
use crate::cmd::grow::boot_loaders;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::open::Opened;
use crate::output::Output;
use crate::render::Table;
use disk::{Coarse, Image, ReadAt};
use ondisk::size::Human;
use ondisk::{Len, Span};
use serde_json::json;
use stack::free::Free;
use stack::sparsify as steps;
use std::path::Path;

/// So many holes are punched before they are made durable.
const HOLES: usize = 1 << 16;
/// So much of the file is looked at at once.
const WINDOW: Len = Len::gib(1);

/// Runs it.
///
/// # Errors
/// Where the image may not be changed, or the system fails; the image is whole then, or `recover` makes it whole.
pub fn run(args: &Sparsify, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    if let Some(to) = &args.out {
        return copy::run(args, to, session, out);
    }
    let mut opened = session.open_writing(&args.image, &args.change)?;
    session.refuse_parent(&opened, &args.change, out)?;
    session.confine_change(&args.image, &args.change, out);
    refuse_device(&opened)?;
    let free = survey(&opened, args, session)?;
    for note in &free.notes {
        out.warn(note);
    }
    let before = Size::of(&opened)?;
    let mut done = if session.globals.dry_run || args.change.undo.is_some() {
        at_once(&mut opened, &free.map, args, session)?
    } else {
        step_by_step(&mut opened, &free.map, args, session)?
    };
    let after = if session.globals.dry_run { before.without(&done) } else { Size::of(&opened)? };
    done.changed |= !session.globals.dry_run && after != before;
    tell(&opened, &free, &done, (before, after), session, out)?;
    Ok(Exit::Done)
}

/// How large a file is, and how much space it takes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Size {
    file: Len,
    allocated: Len,
}

impl Size {
    fn of(opened: &Opened<'_>) -> Result<Self, Failure> {
        let allocated = opened.image.allocated().of(opened.path)?.unwrap_or_default();
        Ok(Self { file: opened.image.len(), allocated })
    }

    /// What would be left.
    const fn without(self, done: &Done) -> Self {
        Self { file: done.file, allocated: self.allocated.saturating_sub(done.given) }
    }
}

/// What was done, or would be.
#[derive(Default)]
struct Done {
    changed: bool,
    /// Blocks or clusters.
    dropped: u64,
    moved: Len,
    /// Bytes of holes that were data, where that was counted.
    given: Len,
    /// The length of the file.
    file: Len,
    /// The longest journal.
    journal: Len,
}

fn refuse_device(opened: &Opened<'_>) -> Result<(), Failure> {
    if !opened.is_device() {
        return Ok(());
    }
    let what = format!("{}: a device has no holes to be given back", show(opened.path));
    Err(Failure::new(Exit::Refused, "refused", what)
        .with_help("make a new image: imgtool sparsify IMAGE OUT"))
}

fn survey(opened: &Opened<'_>, args: &Sparsify, session: &Session) -> Result<Free, Failure> {
    let cx = session.change_cx();
    let source = opened.source(&opened.image);
    steps::refuse(&source, &cx).of(opened.path)?;
    let (_, needs) = boot_loaders(&source, session).of(opened.path)?;
    let free = steps::survey(&source, &needs.pinned, &cx).of(opened.path)?;
    if args.change.check {
        steps::check_result(&source, &free.map, &cx).of(opened.path)?;
    }
    Ok(free)
}

/// One change of all steps.
fn at_once(
    opened: &mut Opened<'_>,
    free: &Coarse,
    args: &Sparsify,
    session: &Session,
) -> Result<Done, Failure> {
    let whole =
        steps::stage_whole(&opened.source(&opened.image), free, &session.change_cx()).of(opened.path)?;
    let steps::Whole { staged, given } = whole;
    // What is reserved and was never written shows in no map: as much as the file takes beyond what is stored.
    let reserved = Holes::of(&opened.image, &Coarse::new(opened.image.len(), &session.change_cx().limits));
    let reserved = reserved.of(opened.path)?.reserved.min(given.all.saturating_sub(given.stored));
    let given = given.stored.checked_add(reserved).unwrap_or(given.stored);
    let nothing = staged.dropped == 0 && staged.moved.is_zero() && given.is_zero();
    let mut done = Done { file: opened.image.len(), ..Done::default() };
    if nothing && staged.change.new_len == staged.change.old_len {
        return Ok(done);
    }
    done = Done { dropped: staged.dropped, moved: staged.moved, given, file: staged.change.new_len, ..done };
    let change = match args.change.undo {
        Some(_) => staged.change,
        // Without an undo file nothing but the tables goes through a journal.
        None => {
            steps::stage_drop(&opened.source(&opened.image), free, &session.change_cx())
                .of(opened.path)?
                .change
        }
    };
    let committed = commit(&mut opened.image, opened.path, &change, &args.change, session)?;
    done.journal = committed.journal().unwrap_or_default();
    done.changed = !session.globals.dry_run;
    Ok(done)
}

fn step_by_step(
    opened: &mut Opened<'_>,
    free: &Coarse,
    args: &Sparsify,
    session: &Session,
) -> Result<Done, Failure> {
    let cx = session.change_cx();
    let (path, mut done) = (opened.path, Done::default());
    let put = |opened: &mut Opened<'_>, done: &mut Done, staged: &steps::Staged| {
        let committed = commit(&mut opened.image, path, &staged.change, &args.change, session)?;
        done.journal = done.journal.max(committed.journal().unwrap_or_default());
        done.dropped = done.dropped.saturating_add(staged.dropped);
        done.moved = done.moved.checked_add(staged.moved).unwrap_or(done.moved);
        done.changed = true;
        Ok::<(), Failure>(())
    };
    let last = loop {
        let staged = steps::stage_drop(&opened.source(&opened.image), free, &cx).of(path)?;
        if staged.dropped == 0 {
            break staged;
        }
        put(opened, &mut done, &staged)?;
    };
    give_back(opened, free, session, |opened| {
        // What becomes a hole may be data: the container learns that its disk changes.
        if last.change.is_empty() { Ok(()) } else { put(opened, &mut done, &last) }
    })?;
    loop {
        let staged = steps::stage_compact(&opened.source(&opened.image), &cx).of(path)?;
        if staged.moved.is_zero() && staged.change.new_len == staged.change.old_len {
            break;
        }
        put(opened, &mut done, &staged)?;
    }
    // What has moved may lie where more of it can become a hole.
    if !done.moved.is_zero() {
        give_back(opened, free, session, |_| Ok(()))?;
    }
    Ok(done)
}

/// Punches what is spare, if anything is, once `first` is done.
fn give_back(
    opened: &mut Opened<'_>,
    free: &Coarse,
    session: &Session,
    first: impl FnOnce(&mut Opened<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let path = opened.path;
    let spare = steps::spare(&opened.source(&opened.image), free, &session.change_cx()).of(path)?;
    let holes = Holes::of(&opened.image, &spare).of(path)?;
    if holes.any {
        first(opened)?;
        punch(&mut opened.image, path, &spare, &holes, session)?;
    }
    Ok(())
}

/// Which holes are worth their calls.
struct Holes {
    /// Whether there is something to give back.
    any: bool,
    /// How much space the file has that was never written to: no map tells where.
    reserved: Len,
}

impl Holes {
    fn of(image: &Image, spare: &Coarse) -> disk::Result<Self> {
        let (mut stored, mut runs, mut any) = (0_u64, 0_u64, false);
        for window in Span::whole(image.len()).chunks(WINDOW) {
            for data in image.extents(window)?.data() {
                stored = stored.saturating_add(data.len().get());
                runs = runs.saturating_add(1);
                any = any || spare.intersect(data).next().is_some();
            }
        }
        // A file system keeps its own map of a file, and rounds.
        let maps = runs.saturating_mul(32).saturating_add(64 << 10);
        let taken = image.allocated()?.unwrap_or_default().get();
        let more = taken > stored.saturating_add(maps);
        let reserved = Len::new(if more { taken.saturating_sub(stored) } else { 0 });
        Ok(Self { any: any || (more && !spare.is_empty()), reserved })
    }
}

fn punch(
    image: &mut Image,
    path: &Path,
    spare: &Coarse,
    holes: &Holes,
    session: &Session,
) -> Result<(), Failure> {
    let cx = session.change_cx();
    let whole = Span::whole(image.len());
    let task = cx.progress.task("giving space back", disk::Total::Bytes(whole.len()));
    let mut batch = Vec::new();
    for window in whole.chunks(WINDOW) {
        let map = image.extents(window).of(path)?;
        let parts: Vec<Span> = if !holes.reserved.is_zero() { vec![window] } else { map.data().collect() };
        for part in parts {
            batch.extend(spare.intersect(part));
            if batch.len() >= HOLES {
                image.give_back(batch.drain(..), &cx).of(path)?;
            }
        }
        task.advance(window.len().get());
    }
    image.give_back(batch, &cx).of(path)
}

fn tell(
    opened: &Opened<'_>,
    free: &Free,
    done: &Done,
    (before, after): (Size, Size),
    session: &Session,
    out: &mut Output,
) -> Result<(), Failure> {
    let unit = opened.with_unit(session)?;
    let given = before.allocated.saturating_sub(after.allocated);
    if !done.changed && !session.globals.dry_run {
        out.report(format!("{}: nothing to do: nothing is stored that is not needed", show(opened.path)));
    } else if session.globals.dry_run {
        let what =
            unit.filter(|_| done.dropped > 0).map(|unit| format!(", {} {unit}s dropped", done.dropped));
        out.line(format!(
            "would give back {} of {}{}, with {} moved down, and a file of {}",
            Human(given),
            Human(before.allocated),
            what.unwrap_or_default(),
            Human(done.moved),
            Human(after.file)
        ));
    } else if !session.globals.quiet {
        let mut table = Table::new().left("").right("BEFORE").right("AFTER");
        let row = |name: &str, before: Len, after: Len| {
            [name.to_owned(), Human(before).to_string(), Human(after).to_string()]
        };
        table.row(row("allocated", before.allocated, after.allocated));
        table.row(row("file", before.file, after.file));
        out.table(&table);
    }
    for (who, len) in &free.told {
        out.note(format!("{who}: {} are free", Human(*len)));
    }
    let side = |size: Size| json!({"file-size": size.file.get(), "actual-size": size.allocated.get()});
    let told = |(who, len): &(String, Len)| json!({"place": who, "free": len.get()});
    out.document(&json!({
        "changed": done.changed,
        "dry-run": session.globals.dry_run,
        "format": opened.format.name(),
        "free": free.told.iter().map(told).collect::<Vec<_>>(),
        "zero-bytes": free.zeros.get(),
        "notes": free.notes,
        "unit": unit,
        "dropped": done.dropped,
        "moved-bytes": done.moved.get(),
        "given-back": given.get(),
        "journal-bytes": done.journal.get(),
        "before": side(before),
        "after": side(after),
    }))
}

impl Opened<'_> {
    /// What the container calls the pieces that leave its tables.
    fn with_unit(&self, session: &Session) -> Result<Option<&'static str>, Failure> {
        Ok(self.source(&self.image).open(&self.image, &session.cx()).of(self.path)?.unit())
    }
}
