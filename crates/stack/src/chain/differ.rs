//! Where two disks differ.

use crate::Result;
use disk::ReadAt;
use ondisk::{Len, Span};

/// What differs is carried in units of this length.
const UNIT: Len = Len::kib(64);

/// The units of `piece` that two disks read otherwise; behind its end a disk has zeros.
pub(super) fn differing(piece: Span, mine: &dyn ReadAt, other: &dyn ReadAt) -> Result<Vec<Span>> {
    let (ours, theirs) = (read(mine, piece)?, read(other, piece)?);
    let units = ours.chunks(UNIT.to_usize()).zip(theirs.chunks(UNIT.to_usize()));
    let differ = piece.chunks(UNIT).zip(units).filter(|(_, (our, their))| our != their);
    Ok(differ.map(|(span, _)| span).collect())
}

fn read(disk: &dyn ReadAt, piece: Span) -> Result<Vec<u8>> {
    let mut bytes = vec![0; piece.len().to_usize()];
    if let Some(there) = piece.intersect(Span::whole(disk.len())) {
        disk.read_at(there.start(), bytes.get_mut(..there.len().to_usize()).unwrap_or_default())?;
    }
    Ok(bytes)
}
