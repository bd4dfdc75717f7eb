//! Blocks leave the table, and the last ones move down.
//!
//! 1. A block goes where all of its sectors that are stored here are free, and what then shows through reads as zero.
//! 2. Blocks stand behind the head: the tables that lie one behind the other at the beginning of the file.

use super::footer::FOOTER_LEN;
use super::layout::UNALLOCATED;
use super::read::{Piece, Source};
use super::write::{aligned, nameable};
use super::{Body, Sparse, Vhd};
use crate::sparsify::{Compacted, gaps};
use crate::{Findings, Result};
use disk::coarse::{PIECE, inwards};
use disk::{Coarse, Disk, ReadAt};
use ondisk::num::round_up;
use ondisk::{Len, Offset, Span};
use zerocopy::IntoBytes;

/// A block, and where it lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Block {
    at: Span,
    index: u64,
}

/// What has its place in the file, ascending.
struct Places {
    blocks: Vec<Block>,
    used: Vec<Span>,
    /// Behind the head.
    floor: Offset,
}

impl<D: ReadAt> Vhd<D> {
    /// Where everything lies; refuses what may not be written to.
    fn places(&self, sparse: &Sparse) -> Result<Places> {
        self.writable()?;
        self.survey_clean(sparse)?;
        let mut blocks = Vec::new();
        for (entry, index) in self.collect(sparse, &mut Findings::default())? {
            blocks.extend(sparse.block_span(entry).map(|at| Block { at, index: index.into() }));
        }
        let mut used: Vec<Span> =
            blocks.iter().map(|block| block.at).chain(sparse.metadata.clone()).collect();
        used.sort_unstable();
        Ok(Places { blocks, used, floor: head_end(sparse) })
    }

    /// The part of a block that is on the disk; none behind its end.
    fn piece_of(&self, sparse: &Sparse, index: u64) -> Option<Piece> {
        let block = sparse.header.shape.virtual_span(index);
        Some(Piece { index, block, span: block.intersect(Span::whole(self.len))? })
    }

    /// Whether a block may leave the table (invariant 1).
    fn is_free(&self, sparse: &Sparse, piece: Piece, entry: u32, free: &Coarse) -> Result<bool> {
        let some = free.intersect(piece.span).next().is_some();
        let runs = if some { sparse.runs(&self.file, piece, entry)? } else { Vec::new() };
        for (span, source) in &runs {
            let here = matches!(source, Source::File(_));
            if here && !(free.contains(*span) && sparse.extents_under(*span, Source::Absent)?.all_zero()) {
                return Ok(false);
            }
        }
        Ok(!runs.is_empty())
    }

    /// See [`crate::Container::spare`].
    pub(crate) fn spare(&self, free: &Coarse, spare: &mut Coarse) -> Result<()> {
        let Body::Sparse(sparse) = &self.body else {
            self.writable()?;
            return Ok(free.iter().try_for_each(|span| spare.insert(span))?);
        };
        let places = self.places(sparse)?;
        for gap in gaps(&places.used, places.floor, self.footers.end.start()) {
            spare.insert(gap)?;
        }
        self.each_block(sparse, |index, entry| {
            let Some(piece) = self.piece_of(sparse, index) else { return Ok(()) };
            if free.intersect(piece.span).next().is_none() {
                return Ok(());
            }
            for (span, source) in sparse.runs(&self.file, piece, entry)? {
                let Source::File(at) = source else { continue };
                for part in free.intersect(span) {
                    let ahead = part.start().since(span.start()).unwrap_or_default();
                    let there = at.checked_add(ahead).and_then(|at| Span::new(at, part.len()));
                    // Only whole pieces: the rest of a piece may be in use.
                    if let Some(there) = there.and_then(|there| inwards(there, Len::new(u64::MAX))) {
                        spare.insert(there)?;
                    }
                }
            }
            Ok(())
        })
    }
}

/// Behind the tables that lie at the beginning, with no room for a block between them.
fn head_end(sparse: &Sparse) -> Offset {
    let mut metadata = sparse.metadata.clone();
    metadata.sort_unstable();
    let room = sparse.header.shape.whole();
    metadata.into_iter().fold(Offset::ZERO, |end, span| {
        let gap = span.start().since(end).unwrap_or_default();
        if gap < room { end.max(span.end()) } else { end }
    })
}

impl<D: Disk> Vhd<D> {
    /// See [`crate::Container::drop_free`].
    pub(crate) fn drop_free(&mut self, free: &Coarse, most: u64) -> Result<u64> {
        if matches!(self.body, Body::Fixed) {
            self.writable()?;
            return Ok(0);
        }
        self.ready()?;
        let mut dropped = 0_u64;
        let entries = self.sparse().map_or(0, |sparse| sparse.header.entries);
        let mut index = 0_u64;
        while index < entries && dropped < most {
            let Some(sparse) = self.sparse() else { break };
            let window = sparse.entries(&self.file, index, u64::MAX)?;
            for entry in window {
                if entry != UNALLOCATED && dropped < most && self.drop_block(index, entry, free)? {
                    dropped = dropped.saturating_add(1);
                }
                index = index.saturating_add(1);
            }
        }
        self.forget_bitmaps();
        Ok(dropped)
    }

    fn drop_block(&mut self, index: u64, entry: u32, free: &Coarse) -> Result<bool> {
        let Some(sparse) = self.sparse() else { return Ok(false) };
        let Some(piece) = self.piece_of(sparse, index) else { return Ok(false) };
        if !self.is_free(sparse, piece, entry, free)? {
            return Ok(false);
        }
        let (at, span) = (sparse.entry_span(index).start(), sparse.block_span(entry).unwrap_or_default());
        self.file.write_at(at, &UNALLOCATED.to_be_bytes())?;
        self.mark_complete(index, false)?;
        // No hole can take the ragged ends, and what moves here later shall find zeros.
        let inner =
            inwards(span, Len::new(u64::MAX)).unwrap_or(Span::new(span.end(), Len::ZERO).unwrap_or_default());
        for ragged in [Span::between(span.start(), inner.start()), Span::between(inner.end(), span.end())] {
            self.file.zero(ragged.unwrap_or_default())?;
        }
        Ok(true)
    }

    /// See [`crate::Container::compact`].
    pub(crate) fn compact(&mut self, most: Len) -> Result<Compacted> {
        if matches!(self.body, Body::Fixed) {
            return Ok(Compacted::default());
        }
        self.ready()?;
        let Some(sparse) = self.sparse() else { return Ok(Compacted::default()) };
        let places = self.places(sparse)?;
        let (moves, done) = choose(&places, sparse.header.shape.bitmap(), self.footers.end.start(), most);
        let moved = moves.iter().fold(0_u64, |sum, (block, _)| sum.saturating_add(block.at.len().get()));
        for (block, to) in &moves {
            self.move_block(*block, *to)?;
        }
        self.forget_bitmaps();
        self.cut()?;
        Ok(Compacted { moved: Len::new(moved), more: !done })
    }

    fn move_block(&mut self, block: Block, to: Span) -> Result<()> {
        let entry = nameable(to)?;
        let at = self.sparse().map(|sparse| sparse.entry_span(block.index)).unwrap_or_default();
        self.file.mark_fresh(to)?;
        self.file.copy(block.at, to.start())?;
        self.file.write_at(at.start(), &entry.to_be_bytes())?;
        Ok(())
    }

    /// Puts the footer right behind what is left, and ends the file there.
    fn cut(&mut self) -> Result<()> {
        let Some(sparse) = self.sparse() else { return Ok(()) };
        let end = self.survey_clean(sparse)?.end;
        let end = Offset::new(round_up(end.get(), super::header::SECTOR).unwrap_or(u64::MAX));
        let Some(footer) = Span::new(end, FOOTER_LEN).filter(|new| new.end() < self.footers.end.end()) else {
            return Ok(());
        };
        self.file.write_at(footer.start(), self.footers.footer.as_bytes())?;
        self.file.resize(Len::new(footer.end().get()))?;
        self.footers.end = footer;
        if let Body::Sparse(sparse) = &mut self.body {
            sparse.end = Some(end);
        }
        Ok(())
    }
}

/// Which blocks move where: the last into the first gap that takes it, as long as that lies before. Whether nothing is
/// left to move.
fn choose(places: &Places, bitmap: Len, limit: Offset, most: Len) -> (Vec<(Block, Span)>, bool) {
    let mut gaps = gaps(&places.used, places.floor, limit).into_iter();
    let mut gap = gaps.next();
    let mut moves = Vec::new();
    let mut moved = 0_u64;
    for block in places.blocks.iter().rev() {
        let to = loop {
            let Some(room) = gap.filter(|room| room.start() < block.at.start()) else { return (moves, true) };
            match fitting(room, block.at.len(), bitmap) {
                Some(to) if to.end() <= block.at.start() => break to,
                _ => gap = gaps.next(),
            }
        };
        if moved >= most.get() {
            return (moves, false);
        }
        gap = gap.and_then(|room| Span::between(to.end(), room.end()));
        moved = moved.saturating_add(block.at.len().get());
        moves.push((*block, to));
    }
    (moves, true)
}

/// The place of a block in a gap: with its data aligned, if that fits.
fn fitting(room: Span, len: Len, bitmap: Len) -> Option<Span> {
    let tight = Offset::new(round_up(room.start().get(), super::header::SECTOR)?);
    let places = [aligned(room.start(), bitmap), Some(tight)].into_iter().flatten();
    places.filter_map(|at| Span::new(at, len)).find(|span| room.contains(*span))
}

const _: () = assert!(PIECE == super::write::ALIGN, "blocks are aligned to what a file can give back");

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: u64, len: u64) -> Span {
        Span::new(Offset::new(start), Len::new(len)).unwrap()
    }

    #[test]
    fn the_last_block_goes_into_the_first_gap() {
        let bitmap = Len::new(512);
        let unit = 512 + 65536;
        let block = |at: u64, index| Block { at: span(at, unit), index };
        // Blocks side by side, the second one gone: its place takes a block as it stood, though not aligned.
        let at = |n: u64| 2048_u64.checked_add(n.checked_mul(unit).unwrap()).unwrap();
        let blocks = vec![block(at(0), 0), block(at(2), 7), block(at(3), 2)];
        let used = [vec![span(0, 2048)], blocks.iter().map(|block| block.at).collect()].concat();
        let places = Places { blocks, used, floor: Offset::new(2048) };
        let (moves, done) = choose(&places, bitmap, Offset::new(at(4)), Len::gib(1));
        assert_eq!((moves, done), (vec![(block(at(3), 2), span(at(1), unit))], true));
        let (moves, done) = choose(&places, bitmap, Offset::new(at(4)), Len::ZERO);
        assert_eq!((moves, done), (vec![], false));
    }

    #[test]
    fn a_roomy_gap_aligns_the_data() {
        let bitmap = Len::new(512);
        assert_eq!(fitting(span(5000, 80000), Len::new(66048), bitmap), Some(span(8192 - 512, 66048)));
        assert_eq!(fitting(span(5000, 66048 + 500), Len::new(66048), bitmap), Some(span(5120, 66048)));
        assert_eq!(fitting(span(5000, 66048), Len::new(66048), bitmap), None);
    }
}
