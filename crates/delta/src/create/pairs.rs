//! Which bytes of the target have an older version in a base: told by somebody who knows files.
//!
//! That is a hint: it leads to dictionaries, and a wrong one makes a larger patch.

use crate::format::frame::Like;
use disk::Limits;
use ondisk::num::to_u64;
use ondisk::{Len, Offset, Span};
use std::collections::BTreeMap;
use std::mem::size_of;
use std::ops::Range;

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where in the file it begins, in bytes.
    pub at: u64,
    /// Where it lies on the disk.
    pub span: Span,
}

impl Piece {
    /// What lies in these bytes of the file.
    fn within(&self, file: &Range<u64>) -> Option<Span> {
        let end = self.at.saturating_add(self.span.len().get());
        let (from, to) = (file.start.max(self.at), file.end.min(end));
        let skip = Len::new(from.saturating_sub(self.at));
        Span::new(self.span.start().checked_add(skip)?, Len::new(to.checked_sub(from)?))
    }
}

/// The older version of a file.
#[derive(Clone, Debug)]
struct Old {
    base: usize,
    /// Its pieces, in the list of all.
    pieces: Range<usize>,
}

/// Files of the target, each with its older version in a base.
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    /// Pieces of the target by where they lie, and which file they are of.
    new: BTreeMap<Offset, (Piece, usize)>,
    files: Vec<Old>,
    old: Vec<Piece>,
    /// Bytes of memory that are left.
    room: u64,
}

impl Pairs {
    /// To be filled: a part of the memory is for them.
    #[must_use]
    pub fn within(limits: &Limits) -> Self {
        Self { room: limits.memory.get() >> 5, ..Self::default() }
    }

    /// Adds a file of the target and its older version, the pieces of each in the order of the file. Whether there was
    /// room for it.
    pub fn add(&mut self, new: &[Piece], base: usize, old: &[Piece]) -> bool {
        // A map takes about twice what is in it.
        let each = |count: usize, size: usize| to_u64(count).saturating_mul(to_u64(size));
        let need = each(new.len(), size_of::<(Offset, Piece, usize)>() << 1)
            .saturating_add(each(old.len(), size_of::<Piece>() << 1))
            .saturating_add(each(1, size_of::<Old>() << 1));
        let Some(room) = self.room.checked_sub(need) else { return false };
        self.room = room;
        let file = self.files.len();
        self.new.extend(new.iter().map(|piece| (piece.span.start(), (*piece, file))));
        let first = self.old.len();
        self.old.extend(old);
        self.files.push(Old { base, pieces: first..self.old.len() });
        true
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.new.is_empty()
    }

    /// What the older versions of the bytes in `target` have at the same place in their files, and `around` that.
    pub(super) fn older(&self, target: Span, around: Len, mut tell: impl FnMut(Like)) {
        let before = self.new.range(..=target.start()).next_back();
        let from = before.map_or(target.start(), |(start, _)| *start);
        for (piece, file) in self.new.range(from..target.end()).map(|(_, new)| new) {
            let (Some(inside), Some(old)) = (piece.span.intersect(target), self.files.get(*file)) else {
                continue;
            };
            let skip = inside.start().since(piece.span.start()).unwrap_or_default();
            let at = piece.at.saturating_add(skip.get());
            let behind = at.saturating_add(inside.len().get());
            let wanted = at.saturating_sub(around.get())..behind.saturating_add(around.get());
            let pieces = self.old.get(old.pieces.clone()).unwrap_or_default();
            let first = pieces
                .partition_point(|piece| piece.at.saturating_add(piece.span.len().get()) <= wanted.start);
            let there = pieces.iter().skip(first).take_while(|piece| piece.at < wanted.end);
            for span in there.filter_map(|piece| piece.within(&wanted)) {
                tell(Like { base: old.base, span });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(at: u64, start: u64, len: u64) -> Piece {
        Piece { at, span: Span::new(Offset::new(start), Len::new(len)).unwrap() }
    }

    fn older(pairs: &Pairs, start: u64, len: u64, around: u64) -> Vec<(usize, u64, u64)> {
        let mut told = Vec::new();
        pairs.older(piece(0, start, len).span, Len::new(around), |like| {
            told.push((like.base, like.span.start().get(), like.span.len().get()));
        });
        told
    }

    #[test]
    fn the_same_place_of_the_file() {
        let mut pairs = Pairs::within(&Limits::default());
        assert!(pairs.is_empty());
        // A hole, and another order on the disk.
        let new = [piece(0, 1000, 100), piece(200, 500, 100)];
        let old = [piece(0, 7000, 150), piece(150, 9000, 100)];
        assert!(pairs.add(&new, 3, &old));
        assert!(pairs.add(&[piece(0, 600, 50)], 0, &[piece(0, 20, 30)]));
        assert_eq!(older(&pairs, 1000, 100, 0), [(3, 7000, 100)]);
        assert_eq!(older(&pairs, 990, 20, 0), [(3, 7000, 10)]);
        assert_eq!(older(&pairs, 1090, 10, 70), [(3, 7020, 130), (3, 9000, 20)]);
        // Over the end of one file into another, and behind the end of an older version.
        assert_eq!(older(&pairs, 530, 90, 0), [(3, 9080, 20), (0, 20, 20)]);
        assert_eq!(older(&pairs, 560, 10, 0), []);
        assert_eq!(older(&pairs, 640, 10, 0), []);
        assert_eq!(older(&pairs, 0, 500, 1 << 40), []);
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut pairs = Pairs::within(&Limits { memory: Len::kib(64), ..Limits::default() });
        let added =
            (0..100).filter(|file| pairs.add(&[piece(0, file * 10, 10)], 0, &[piece(0, 0, 10)])).count();
        assert!((5..50).contains(&added), "{added}");
        assert_eq!(older(&pairs, 0, 10, 0), [(0, 0, 10)]);
        assert_eq!(older(&pairs, 990, 10, 0), []);
    }
}
