//! A disk as equal blocks, the last of which may be shorter.

use super::{Files, Place, Run, What};
use crate::{Error, Result};
use ondisk::{Len, Offset, Span};

/// How a disk is divided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocks {
    pub disk: Len,
    /// Not zero.
    pub size: Len,
}

impl Blocks {
    /// How many there are.
    pub fn count(self) -> u64 {
        ondisk::num::div_up(self.disk.get(), self.size.get()).unwrap_or_default()
    }

    /// The block with byte `at` of the disk.
    pub fn index_of(self, at: Offset) -> u64 {
        at.get().checked_div(self.size.get()).unwrap_or_default()
    }

    /// `count` blocks from `index` on, up to the end of the disk.
    pub fn span(self, index: u64, count: u64) -> Span {
        let end = self.disk.end();
        let at = |index: u64| Offset::new(index.saturating_mul(self.size.get())).min(end);
        Span::between(at(index), at(index.saturating_add(count))).unwrap_or_default()
    }
}

/// The part `within` of a piece of the disk that is stored from `place` on: all of the piece must be there.
pub(crate) fn stored(
    files: &Files<'_>,
    structure: &'static str,
    piece: Span,
    place: Option<Place>,
    within: Span,
) -> Result<Run> {
    let span = piece.intersect(within).unwrap_or_default();
    let ahead = span.start().since(piece.start()).unwrap_or_default();
    let Some((place, from)) = place.and_then(|place| Some((place, place.ahead(ahead)?))) else {
        let problem = format!("byte {} of the disk is behind byte 2^64 of the file", piece.start());
        return Err(Error::corrupt(structure, Offset::ZERO, problem));
    };
    if !files.holds(place, piece.len())? {
        let problem = format!(
            "bytes {piece} of the disk end behind the end of the file ({} bytes)",
            files.len(place.part)?
        );
        return Err(Error::corrupt(structure, place.at, problem));
    }
    Ok(Run { span, what: What::Stored(from) })
}
