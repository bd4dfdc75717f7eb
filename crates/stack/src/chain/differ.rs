//! Where two disks differ.
//!
//! 1. What the tables of both call zero, and what both have from the same image, is not read.
//! 2. The rest is read by several threads, in pieces that stay in the processor's cache.

use crate::Result;
use container::{BlockStatus, Mapped};
use disk::{Cx, ReadAt, crew};
use ondisk::{Len, Span};
use std::sync::{Mutex, PoisonError};

/// What differs is carried in units of this length.
const UNIT: Len = Len::kib(64);
/// So much is asked for holes at once, and so much is compared.
const PIECE: Len = Len::mib(1);
const READ: Len = Len::kib(256);

/// The disk that is to lie below an image in the place of its parents.
#[derive(Clone, Copy)]
pub struct Under<'a> {
    /// The disk.
    pub disk: &'a dyn Mapped,
    /// Where both chains come together, if they do.
    pub shared: Option<Shared>,
}

/// From these depths on, two chains are the same images.
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    /// The depth of the first of them below the image.
    pub old: u32,
    /// The same for the disk that is to lie there.
    pub new: u32,
}

impl Under<'_> {
    /// The units within `runs` of `old`, an image with its parents, that this disk reads otherwise, in order.
    pub(super) fn differing(&self, runs: &[BlockStatus], old: &dyn ReadAt, cx: &Cx<'_>) -> Result<Vec<Span>> {
        let mut suspects: Vec<Span> = Vec::new();
        for run in runs {
            for span in self.suspects(run)? {
                match suspects.last_mut() {
                    Some(last) if last.end() == span.start() => {
                        *last = Span::between(last.start(), span.end()).unwrap_or(*last);
                    }
                    _ => suspects.push(span),
                }
            }
        }
        let pieces: Vec<Span> = suspects.into_iter().flat_map(|span| span.chunks(PIECE)).collect();
        let found = Mutex::new(Vec::new());
        crew::each(&pieces, cx, Differ::default, |differ, piece| -> Result<()> {
            let spans = differ.differing(*piece, old, self.disk)?;
            found.lock().unwrap_or_else(PoisonError::into_inner).extend(spans);
            Ok(())
        })?;
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.sort_unstable_by_key(|span| span.start());
        Ok(found)
    }

    /// What of a run may differ, by the tables.
    fn suspects(&self, run: &BlockStatus) -> Result<Vec<Span>> {
        let there = run.span.intersect(Span::whole(self.disk.len())).filter(|there| !there.is_empty());
        let new = there.map_or(Ok(Vec::new()), |there| self.disk.status(there))?;
        let behind = Span::between(there.map_or(run.span.start(), Span::end), run.span.end());
        let behind = behind.filter(|behind| !behind.is_empty() && !run.zero);
        let differ = new.into_iter().filter(|new| !(run.zero && new.zero || self.is_same(run, new)));
        Ok(differ.map(|new| new.span).chain(behind).collect())
    }

    /// Whether both come from the same place of the same image.
    fn is_same(&self, old: &BlockStatus, new: &BlockStatus) -> bool {
        let Some(shared) = self.shared.filter(|_| old.present && new.present) else { return false };
        match (old.depth.checked_sub(shared.old), new.depth.checked_sub(shared.new)) {
            (Some(old), Some(new)) => old == new,
            _ => false,
        }
    }
}

/// Compares disks piece by piece, in memory that it keeps.
#[derive(Default)]
pub(super) struct Differ {
    ours: Vec<u8>,
    theirs: Vec<u8>,
}

impl Differ {
    /// The units of `piece` that two disks read otherwise; behind its end a disk has zeros.
    pub fn differing(&mut self, piece: Span, mine: &dyn ReadAt, other: &dyn ReadAt) -> Result<Vec<Span>> {
        let mut differ = Vec::new();
        if is_hole(mine, piece)? && is_hole(other, piece)? {
            return Ok(differ);
        }
        for part in piece.chunks(READ) {
            read(mine, part, &mut self.ours)?;
            read(other, part, &mut self.theirs)?;
            let units = self.ours.chunks(UNIT.to_usize()).zip(self.theirs.chunks(UNIT.to_usize()));
            let others = part.chunks(UNIT).zip(units).filter(|(_, (our, their))| our != their);
            differ.extend(others.map(|(span, _)| span));
        }
        Ok(differ)
    }
}

fn there(disk: &dyn ReadAt, piece: Span) -> Option<Span> {
    piece.intersect(Span::whole(disk.len())).filter(|there| !there.is_empty())
}

fn is_hole(disk: &dyn ReadAt, piece: Span) -> Result<bool> {
    there(disk, piece).map_or(Ok(true), |there| Ok(disk.extents(there)?.all_zero()))
}

fn read(disk: &dyn ReadAt, piece: Span, into: &mut Vec<u8>) -> Result<()> {
    into.resize(piece.len().to_usize(), 0);
    let there = there(disk, piece).unwrap_or_default();
    let (stored, behind) = into.split_at_mut(there.len().to_usize());
    behind.fill(0);
    if stored.is_empty() { Ok(()) } else { Ok(disk.read_at(there.start(), stored)?) }
}
