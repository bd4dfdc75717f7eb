//! Where two disks differ.

use crate::Result;
use disk::ReadAt;
use ondisk::{Len, Span};

/// What differs is carried in units of this length.
const UNIT: Len = Len::kib(64);

/// Compares disks piece by piece, in memory that it keeps.
#[derive(Default)]
pub(super) struct Differ {
    ours: Vec<u8>,
    theirs: Vec<u8>,
}

impl Differ {
    /// The units of `piece` that two disks read otherwise; behind its end a disk has zeros.
    pub fn differing(&mut self, piece: Span, mine: &dyn ReadAt, other: &dyn ReadAt) -> Result<Vec<Span>> {
        if is_hole(mine, piece)? && is_hole(other, piece)? {
            return Ok(Vec::new());
        }
        read(mine, piece, &mut self.ours)?;
        read(other, piece, &mut self.theirs)?;
        let units = self.ours.chunks(UNIT.to_usize()).zip(self.theirs.chunks(UNIT.to_usize()));
        let differ = piece.chunks(UNIT).zip(units).filter(|(_, (our, their))| our != their);
        Ok(differ.map(|(span, _)| span).collect())
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
