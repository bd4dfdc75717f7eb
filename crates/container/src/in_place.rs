//! Another format around the same bytes: only tables are written, and what stands where they must be moves away.
//!
//! ```text
//! raw            | data                                  |
//! fixed VHD      | data                                  | footer |
//! dynamic VHD    | header | BAT | some blocks of the data | the others | footer |
//! qcow2          | header | data but for its first piece | that | L1 | L2 … | refcounts |
//! ```
//!
//! 1. All of it is one change: the image is in the old format or in the new one.
//! 2. What lies where it belongs stays. What moves over bytes in use goes through the journal, which has its limit.
//! 3. Nothing that the new format cannot hold is lost silently: snapshots, bitmaps and parents are refused.

use crate::vhd::Kind;
use crate::{Container, Create, CreatePlan, Error, Facts, Result, vhd};
use disk::{Change, Coarse, Data, Disk, Limits, MemDisk, Move, Overlay, ReadAt, Write};
use ondisk::num::to_u64;
use ondisk::size::Human;
use ondisk::{Len, Offset, Span};

/// So many bytes may go through the journal.
const CARRIED_MAX: Len = Len::mib(256);
/// So much of the file is looked at at once.
const WINDOW: Len = Len::gib(1);
const HELP: &str = "copy it instead: imgtool convert IMAGE NEW";

/// Plans the change of the file by which its disk becomes an image as `new` says; an empty one where it is one already.
///
/// # Errors
/// Where the layout does not allow that, something would be lost, or the image may not be written to.
pub fn plan(disk: &Container<&dyn ReadAt>, new: &Create, limits: &Limits) -> Result<Change> {
    // Refuses what may not be written to.
    disk.spare(&Coarse::new(disk.len(), limits), limits)?;
    refuse_loss(disk)?;
    let file = *disk.file();
    match (is_flat(disk), new) {
        (_, Create::Qcow2(_)) if matches!(disk, Container::Qcow2(_)) => Ok(unchanged(file)),
        (_, Create::Vhd(spec)) if kind(disk) == Some(spec.kind.kind()) => Ok(unchanged(file)),
        (true, Create::Raw(len)) => flat(file, disk.len(), *len, &[], limits),
        (true, Create::Vhd(spec)) if spec.kind.kind() == Kind::Fixed => {
            flat(file, disk.len(), spec.len, &footer(spec)?, limits)
        }
        (true, Create::Vhd(spec)) if spec.kind.kind() == Kind::Dynamic => spec.around(file, disk.len(), limits),
        (true, Create::Qcow2(spec)) => spec.around(file, disk.len(), limits),
        (false, Create::Raw(len)) => Flatten::new(disk, limits)?.plan(*len, &[]),
        (false, Create::Vhd(spec)) if spec.kind.kind() == Kind::Fixed => {
            Flatten::new(disk, limits)?.plan(spec.len, &footer(spec)?)
        }
        _ => Err(refused(
            "in place this becomes a raw disk, a fixed VHD, or, where the data lie as on the disk, a dynamic VHD or \
             qcow2; for other layouts nearly all data would have to move"
                .to_owned(),
        )),
    }
}

pub(crate) fn refused(why: String) -> Error {
    Error::Refused { why, help: Some(HELP.to_owned()) }
}

fn unchanged(file: &dyn ReadAt) -> Change {
    Change { old_len: file.len(), new_len: file.len(), ..Change::default() }
}

fn kind(disk: &Container<&dyn ReadAt>) -> Option<Kind> {
    match disk {
        Container::Vhd(vhd) => Some(vhd.kind()),
        _ => None,
    }
}

/// Whether the file begins with the disk as it is.
fn is_flat(disk: &Container<&dyn ReadAt>) -> bool {
    matches!(disk, Container::Raw(_)) || kind(disk) == Some(Kind::Fixed)
}

/// Refuses what another format could not hold.
fn refuse_loss(disk: &Container<&dyn ReadAt>) -> Result<()> {
    if disk.parent_ref().is_some() {
        return Err(refused("the image stands on a parent, whose bytes are not in its file".to_owned()));
    }
    let Facts::Qcow2(facts) = disk.facts() else { return Ok(()) };
    let lost = [("snapshots", facts.snapshots.len()), ("bitmaps", facts.bitmaps.len())];
    match lost.into_iter().find(|(_, count)| *count > 0) {
        Some((what, count)) => Err(refused(format!("the image has {count} {what}, which would be lost"))),
        None => Ok(()),
    }
}

/// The footer of a fixed VHD.
fn footer(spec: &vhd::create::Spec) -> Result<Vec<u8>> {
    let mut file = MemDisk::default();
    CreatePlan::Vhd(vhd::create::plan(spec)?).apply(&mut file)?;
    let mut bytes = vec![0; 512];
    file.read_at(spec.len.end(), &mut bytes)?;
    Ok(bytes)
}

/// A flat disk gets another end.
fn flat(file: &dyn ReadAt, old: Len, new: Len, footer: &[u8], limits: &Limits) -> Result<Change> {
    let mut overlay = Overlay::new(file, limits);
    // Behind the disk there was a footer at most.
    let behind = Span::between(old.end(), file.len().end()).unwrap_or_default();
    overlay.zero(behind)?;
    overlay.resize(new.checked_add(Len::of(footer)).ok_or_else(too_long)?)?;
    overlay.write_at(new.end(), footer)?;
    Ok(overlay.into_change()?)
}

pub(crate) fn too_long() -> Error {
    Error::unsupported("the file would be longer than any file can be")
}

/// A disk in pieces that becomes flat.
struct Flatten<'a> {
    disk: &'a Container<&'a dyn ReadAt>,
    file: &'a dyn ReadAt,
    /// What nothing in the file refers to.
    spare: Coarse,
    change: Change,
    carried: u64,
    budget: disk::Budget,
}

impl<'a> Flatten<'a> {
    fn new(disk: &'a Container<&'a dyn ReadAt>, limits: &Limits) -> Result<Self> {
        Ok(Self {
            disk,
            file: *disk.file(),
            spare: disk.spare(&Coarse::new(disk.len(), limits), limits)?,
            change: Change { old_len: disk.file().len(), ..Change::default() },
            carried: 0,
            budget: limits.budget("the list of what moves"),
        })
    }

    fn plan(mut self, len: Len, footer: &[u8]) -> Result<Change> {
        self.change.new_len = len.checked_add(Len::of(footer)).ok_or_else(too_long)?;
        let mut at = Offset::ZERO;
        for run in self.disk.map() {
            let run = run?;
            if run.data {
                let from = run.offset.ok_or_else(|| {
                    refused(
                        "the image has compressed clusters, which would have to be written anew".to_owned(),
                    )
                })?;
                self.bring(run.span, from)?;
            } else {
                self.clear(run.span)?;
            }
            at = run.span.end();
        }
        self.clear(Span::between(at, len.end()).unwrap_or_default())?;
        if self.carried > CARRIED_MAX.get() {
            return Err(refused(format!(
                "{} lie where others belong and would have to go through the journal, which takes up to {}",
                Human(Len::new(self.carried)),
                Human(CARRIED_MAX)
            )));
        }
        if !footer.is_empty() {
            let write = Write { at: len.end(), data: Data::Bytes(footer.to_vec()) };
            let inside = write.span().start() < self.change.old_len.end();
            if inside { &mut self.change.home } else { &mut self.change.fresh }.push(write);
        }
        self.change.moves.sort_by_key(|one| one.to);
        self.change.carried.sort_by_key(|one| one.to);
        Ok(self.change)
    }

    /// What is stored at `from` comes to its place; holes in it become zeros there.
    fn bring(&mut self, span: Span, from: Offset) -> Result<()> {
        if from == span.start() {
            return Ok(());
        }
        for window in span.chunks(WINDOW) {
            let ahead = window.start().since(span.start()).unwrap_or_default();
            let source = from.checked_add(ahead).and_then(|from| Span::new(from, window.len()));
            let source = source.ok_or_else(too_long)?;
            let there = source.intersect(Span::whole(self.file.len())).unwrap_or_default();
            for extent in self.file.extents(there)?.rebased(source.start(), window.start()).iter() {
                if extent.kind.reads_zero() {
                    self.clear(extent.span)?;
                } else {
                    self.move_to(extent.span, source.start(), window.start())?;
                }
            }
            let behind = window.start().checked_add(there.len()).unwrap_or(window.end());
            self.clear(Span::between(behind, window.end()).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Copies what belongs to `to`, and lies so far from `source` as that from `base`.
    fn move_to(&mut self, to: Span, source: Offset, base: Offset) -> Result<()> {
        let mut rest = to;
        while !rest.is_empty() {
            let (part, fresh) = self.head(rest)?;
            let ahead = part.start().since(base).unwrap_or_default();
            let from =
                source.checked_add(ahead).and_then(|at| Span::new(at, part.len())).ok_or_else(too_long)?;
            self.budget.take(Len::new(to_u64(size_of::<Move>())))?;
            let one = Move { from, to: part.start() };
            if fresh {
                self.change.moves.push(one);
            } else {
                self.carried = self.carried.saturating_add(part.len().get());
                self.change.carried.push(one);
            }
            rest = Span::between(part.end(), rest.end()).unwrap_or_default();
        }
        Ok(())
    }

    /// The head of a range of which all is unused, or nothing that this knows of; whether it is.
    fn head(&self, range: Span) -> Result<(Span, bool)> {
        let cut = |end: Offset| Span::between(range.start(), end.min(range.end())).unwrap_or(range);
        let old_end = self.change.old_len.end();
        if range.start() >= old_end {
            return Ok((range, true));
        }
        let inside = cut(old_end);
        let unused = self.spare.intersect(inside).next();
        let Some(unused) = unused else { return Ok((inside, false)) };
        if unused.start() > range.start() {
            return Ok((cut(unused.start()), false));
        }
        let empty = self.file.extents(unused)?.iter().next().filter(|extent| extent.kind.reads_zero());
        Ok(match empty {
            Some(hole) => (cut(hole.span.end()), true),
            None => (cut(unused.end()), false),
        })
    }

    /// Makes a range of the new disk zero, where the file has something there.
    fn clear(&mut self, span: Span) -> Result<()> {
        let there = span.intersect(Span::whole(self.file.len())).unwrap_or_default();
        for window in there.chunks(WINDOW) {
            for data in self.file.extents(window)?.data() {
                self.budget.take(Len::new(to_u64(size_of::<Write>())))?;
                self.change.home.push(Write { at: data.start(), data: Data::Zero(data.len()) });
            }
        }
        Ok(())
    }
}
