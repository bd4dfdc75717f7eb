//! Writing: blocks appear behind everything else; a sector's bit is set when its bytes are right.
//!
//! 1. A new block is zero and fresh: its bytes are marked, what the file had there before is zeroed.
//! 2. In a dynamic image a new block is complete at once, as readers that ignore bitmaps expect. In a differencing
//!    image only the sectors written have their bits.
//! 3. A sector whose bit is set by a write that does not fill it gets the rest of its bytes from what was readable.
//! 4. Tables are home: an entry or a bit is not marked.

use super::bits::{Bits, set};
use super::footer::FOOTER_LEN;
use super::header::SECTOR;
use super::layout::UNALLOCATED;
use super::read::{Piece, Place, Source};
use super::{Body, Sparse, Vhd};
use crate::{Error, Result};
use disk::traits::{bounded, within};
use disk::{Disk, PourInto, ReadAt};
use ondisk::num::{low32, round_up};
use ondisk::{Len, Offset, Span};
use zerocopy::IntoBytes;

/// Data of new blocks begins at a multiple of this.
pub const ALIGN: u64 = 4096;
/// Bytes carried through memory at once where a copy cannot be handed down.
const CARRY: Len = Len::kib(256);

/// The first place from `end` on for a bitmap whose data is aligned.
pub fn aligned(end: Offset, bitmap: Len) -> Option<Offset> {
    let data = round_up(end.checked_add(bitmap)?.get(), ALIGN)?;
    Offset::new(data).checked_sub(bitmap)
}

/// Whether a block there can be named by 32 bits and ends within what they reach.
pub fn nameable(block: Span) -> Result<u32> {
    let sector = block.start().get() >> 9;
    let limit = Len::new(u64::from(UNALLOCATED) << 9);
    if sector >= u64::from(UNALLOCATED) || block.end() > limit.end() {
        let want = Len::new(block.end().get());
        return Err(Error::TooLarge { format: "the file of a VHD".to_owned(), want, limit });
    }
    Ok(low32(sector))
}

impl<D: Disk> Vhd<D> {
    /// The tables, once everything that a write stands on has been checked.
    pub(super) fn ready(&mut self) -> Result<&mut Sparse> {
        if self.sparse().is_some_and(|sparse| sparse.end.is_none()) {
            self.writable()?;
            let end = self.sparse().map(|sparse| self.survey_clean(sparse)).transpose()?;
            if let Body::Sparse(sparse) = &mut self.body {
                sparse.end = end.map(|survey| survey.end);
            }
        }
        match &mut self.body {
            Body::Sparse(sparse) => Ok(sparse),
            Body::Fixed => Err(Error::Usage { what: "a fixed VHD has no blocks".to_owned() }),
        }
    }

    /// The block of a piece, and its entry in the BAT; none where it is not allocated.
    fn find(&mut self, piece: Piece) -> Result<Option<Place>> {
        self.ready()?;
        let Some(sparse) = self.sparse() else { return Ok(None) };
        let entry = sparse.entry(&self.file, piece.index)?;
        sparse.checked_place(&self.file, piece.index, entry)
    }

    /// The block of a piece, which is made where there is none.
    fn find_or_make(&mut self, piece: Piece) -> Result<Place> {
        match self.find(piece)? {
            Some(place) => Ok(place),
            None => self.allocate(piece.index),
        }
    }

    fn allocate(&mut self, index: u64) -> Result<Place> {
        let sparse = self.ready()?;
        let child = sparse.parent_ref.is_some();
        let shape = sparse.header.shape;
        let entry_at = sparse.entry_span(index).start();
        let at = sparse.end.and_then(|end| aligned(end, shape.bitmap()));
        let block = at.and_then(|at| Span::new(at, shape.whole()));
        let block = block.ok_or_else(|| Error::unsupported("the VHD's file has no room for a block"))?;
        let entry = nameable(block)?;
        sparse.end = Some(block.end());
        let place = sparse.place(entry).ok_or_else(|| Error::unsupported("no place for a block"))?;
        let old_end = self.footers.end;
        self.make_room(block)?;
        for part in [
            Span::between(block.start(), block.end().min(old_end.start())),
            Span::between(block.start().max(old_end.end()), block.end()),
        ] {
            self.file.mark_fresh(part.unwrap_or_default())?;
        }
        if let Some(reused) = Span::between(block.start(), block.end().min(old_end.end()))
            && !reused.is_empty()
        {
            self.file.zero(reused)?;
        }
        if !child {
            let mut bitmap = vec![0; place.bitmap.len().to_usize()];
            set(&mut bitmap, 0..shape.sectors());
            self.file.write_at(place.bitmap.start(), &bitmap)?;
            self.mark_complete(index, true)?;
        }
        self.file.write_at(entry_at, &entry.to_be_bytes())?;
        Ok(place)
    }

    /// Moves the end footer behind `block` where it stands in its way.
    fn make_room(&mut self, block: Span) -> Result<()> {
        let old = self.footers.end;
        if block.end() <= old.start() {
            return Ok(());
        }
        let new = Span::new(block.end(), FOOTER_LEN);
        let new = new.ok_or_else(|| Error::unsupported("the VHD's file has no room for its footer"))?;
        self.file.discard(old)?;
        if new.end() > self.file.len().end() {
            self.file.resize(Len::new(new.end().get()))?;
        }
        let new = super::footer::end_span(self.file.len()).unwrap_or(new);
        self.file.write_at(new.start(), self.footers.footer.as_bytes())?;
        self.footers.end = new;
        Ok(())
    }

    /// Keeps the batmap true: its bit, and the checksum if that covers it.
    pub(super) fn mark_complete(&mut self, index: u64, complete: bool) -> Result<()> {
        let Body::Sparse(sparse) = &mut self.body else { return Ok(()) };
        let super::Batmap::Good(map) = &mut sparse.batmap else { return Ok(()) };
        let Some((at, mask)) = map.bit(index) else { return Ok(()) };
        let mut byte = [0];
        self.file.read_at(at, &mut byte)?;
        let [old] = byte;
        let new = if complete { old | mask } else { old & !mask };
        if new == old {
            return Ok(());
        }
        self.file.write_at(at, &[new])?;
        if map.covers(at) {
            let sum = (!map.raw.checksum.get()).wrapping_sub(map.raw.weight(old));
            map.raw.checksum = (!sum.wrapping_add(map.raw.weight(new))).into();
            self.file.write_at(map.at, map.raw.as_bytes())?;
        }
        Ok(())
    }

    /// Makes the sectors that `piece` touches belong to the block, whatever is then written to them. Bytes of a
    /// touched sector outside the piece keep what they read as.
    fn claim(&mut self, piece: Piece, place: Place) -> Result<()> {
        let Some(sparse) = self.sparse() else { return Ok(()) };
        let shape = sparse.header.shape;
        let Bits::Some(bytes) = sparse.bits(&self.file, piece.index, place)? else { return Ok(()) };
        let bits = Bits::Some(bytes.clone());
        let ahead = |at: Offset| at.since(piece.block.start()).unwrap_or_default().get();
        let sectors = ahead(piece.span.start()) >> 9..ahead(piece.span.end()).div_ceil(SECTOR);
        if sectors.clone().all(|sector| bits.has(sector)) {
            return Ok(());
        }
        for sector in [sectors.start, sectors.end.saturating_sub(1)] {
            let at = piece.block.start().checked_add(Len::new(sector << 9)).unwrap_or_default();
            let whole = Span::new(at, Len::new(SECTOR)).unwrap_or_default();
            if !bits.has(sector) && !piece.span.contains(whole) {
                let mut buf = [0_u8; 512];
                self.read_at(at, &mut buf)?;
                self.file.write_at(place.offset_of(at, piece.block), &buf)?;
            }
        }
        let mut bitmap = bytes.to_vec();
        set(&mut bitmap, sectors);
        self.file.write_at(place.bitmap.start(), &bitmap)?;
        if let Bits::All = Bits::of(bitmap, shape) {
            self.mark_complete(piece.index, true)?;
        }
        self.forget_bitmaps();
        Ok(())
    }

    pub(super) fn forget_bitmaps(&mut self) {
        if let Body::Sparse(sparse) = &mut self.body
            && let Ok(cache) = sparse.bitmaps.get_mut()
        {
            cache.forget();
        }
    }

    fn pieces(&self, range: Span) -> impl Iterator<Item = Piece> + use<D> {
        let pieces = self.sparse().map(|sparse| sparse.pieces(range));
        pieces.into_iter().flatten()
    }

    fn write_piece(&mut self, piece: Piece, buf: &[u8]) -> Result<()> {
        let found = self.find(piece)?;
        let child = self.sparse().is_some_and(|sparse| sparse.parent_ref.is_some());
        if found.is_none() && !child && buf.iter().all(|&byte| byte == 0) {
            return Ok(());
        }
        let place = match found {
            Some(place) => place,
            None => self.allocate(piece.index)?,
        };
        self.claim(piece, place)?;
        self.file.write_at(place.offset_of(piece.span.start(), piece.block), buf)?;
        Ok(())
    }

    /// Zeros one piece; a hole stays a hole where it reads as zero already.
    fn zero_piece(&mut self, piece: Piece) -> Result<()> {
        self.find(piece)?;
        let Some(sparse) = self.sparse() else { return Ok(()) };
        let entry = sparse.entry(&self.file, piece.index)?;
        for (span, source) in sparse.runs(&self.file, piece, entry)? {
            let here = Piece { span, ..piece };
            if !matches!(source, Source::File(_)) && self.reads_zero_under(span, source)? {
                continue;
            }
            let place = self.find_or_make(here)?;
            self.claim(here, place)?;
            let at = place.offset_of(span.start(), piece.block);
            self.file.zero(Span::new(at, span.len()).unwrap_or_default())?;
        }
        Ok(())
    }

    fn reads_zero_under(&self, span: Span, source: Source) -> Result<bool> {
        match self.sparse() {
            Some(sparse) => Ok(sparse.extents_under(span, source)?.all_zero()),
            None => Ok(false),
        }
    }

    /// Takes a whole block out of the table where nothing then shows through; zeros everything else.
    fn discard_piece(&mut self, piece: Piece) -> Result<()> {
        let Some(place) = self.find(piece)? else { return self.zero_piece(piece) };
        let disk = piece.block.intersect(Span::whole(self.len)).unwrap_or(piece.block);
        if piece.span != disk || !self.reads_zero_under(piece.span, Source::Absent)? {
            return self.zero_piece(piece);
        }
        let entry = self.sparse().map(|sparse| sparse.entry_span(piece.index)).unwrap_or_default();
        self.file.write_at(entry.start(), &UNALLOCATED.to_be_bytes())?;
        self.mark_complete(piece.index, false)?;
        self.file.discard(Span::between(place.bitmap.start(), place.data.end()).unwrap_or_default())?;
        self.forget_bitmaps();
        Ok(())
    }

    /// Copies within the disk, one run of the source at a time.
    fn copy_run(&mut self, from: Span, source: Source, to: Offset) -> Result<()> {
        if !matches!(source, Source::File(_)) && self.reads_zero_under(from, source)? {
            return Ok(self.zero(Span::new(to, from.len()).unwrap_or_default())?);
        }
        let mut from = from;
        let mut source = source;
        for piece in self.pieces(Span::new(to, from.len()).unwrap_or_default()) {
            let part = Span::new(from.start(), piece.span.len()).unwrap_or_default();
            if let Source::File(at) = source {
                let place = self.find_or_make(piece)?;
                self.claim(piece, place)?;
                let target = place.offset_of(piece.span.start(), piece.block);
                self.file.copy(Span::new(at, part.len()).unwrap_or_default(), target)?;
                source = Source::File(at.checked_add(part.len()).unwrap_or(at));
            } else {
                self.carry(part, piece.span.start())?;
            }
            from = Span::between(part.end(), from.end()).unwrap_or_default();
        }
        Ok(())
    }

    /// Copies through memory what the parent has.
    fn carry(&mut self, from: Span, to: Offset) -> Result<()> {
        for part in from.chunks(CARRY) {
            let mut buf = vec![0; part.len().to_usize()];
            self.read_at(part.start(), &mut buf)?;
            let ahead = part.start().since(from.start()).unwrap_or_default();
            self.write_at(to.checked_add(ahead).unwrap_or(to), &buf)?;
        }
        Ok(())
    }

    fn mark_piece(&mut self, piece: Piece) -> Result<()> {
        let Some(sparse) = self.sparse() else { return Ok(()) };
        let entry = sparse.entry(&self.file, piece.index)?;
        for (span, source) in sparse.runs(&self.file, piece, entry)? {
            if let Source::File(at) = source {
                self.file.mark_fresh(Span::new(at, span.len()).unwrap_or_default())?;
            }
        }
        Ok(())
    }

    const fn is_fixed(&self) -> bool {
        matches!(self.body, Body::Fixed)
    }
}

impl<D: Disk> Disk for Vhd<D> {
    fn write_at(&mut self, at: Offset, buf: &[u8]) -> disk::Result<()> {
        let range = bounded(at, buf.len(), self.len)?;
        if self.is_fixed() {
            self.writable()?;
            return self.file.write_at(at, buf);
        }
        let mut rest = buf;
        for piece in self.pieces(range) {
            let (head, tail) = rest.split_at(piece.span.len().to_usize());
            self.write_piece(piece, head)?;
            rest = tail;
        }
        Ok(())
    }

    fn zero(&mut self, span: Span) -> disk::Result<()> {
        within(span, self.len)?;
        if self.is_fixed() {
            self.writable()?;
            return self.file.zero(span);
        }
        Ok(self.pieces(span).try_for_each(|piece| self.zero_piece(piece))?)
    }

    fn discard(&mut self, span: Span) -> disk::Result<()> {
        within(span, self.len)?;
        if self.is_fixed() {
            self.writable()?;
            return self.file.discard(span);
        }
        Ok(self.pieces(span).try_for_each(|piece| self.discard_piece(piece))?)
    }

    fn copy(&mut self, from: Span, to: Offset) -> disk::Result<()> {
        within(from, self.len)?;
        let target = bounded(to, from.len().to_usize(), self.len)?;
        if from.intersect(target).is_some() {
            return Err(disk::Error::Unsupported { what: "the source and the target of a copy overlap" });
        }
        if self.is_fixed() {
            self.writable()?;
            return self.file.copy(from, to);
        }
        self.ready()?;
        for piece in self.pieces(from) {
            let Some(sparse) = self.sparse() else { continue };
            let entry = sparse.entry(&self.file, piece.index)?;
            for (span, source) in sparse.runs(&self.file, piece, entry)? {
                let ahead = span.start().since(from.start()).unwrap_or_default();
                self.copy_run(span, source, to.checked_add(ahead).unwrap_or(to))?;
            }
        }
        Ok(())
    }

    fn resize(&mut self, _: Len) -> disk::Result<()> {
        Err(disk::Error::Unsupported { what: "a VHD changes its size by a plan for its file" })
    }

    fn mark_fresh(&mut self, span: Span) -> disk::Result<()> {
        within(span, self.len)?;
        if self.is_fixed() {
            self.writable()?;
            return self.file.mark_fresh(span);
        }
        self.ready()?;
        Ok(self.pieces(span).try_for_each(|piece| self.mark_piece(piece))?)
    }
}

impl<D: PourInto> PourInto for Vhd<D> {
    fn pour(&mut self, span: Span, from: Offset) -> disk::Result<()> {
        within(span, self.len)?;
        if self.is_fixed() {
            self.writable()?;
            return self.file.pour(span, from);
        }
        for piece in self.pieces(span) {
            let place = self.find_or_make(piece)?;
            self.claim(piece, place)?;
            let there = Span::new(place.offset_of(piece.span.start(), piece.block), piece.span.len());
            let ahead = piece.span.start().since(span.start()).unwrap_or_default();
            self.file.pour(there.unwrap_or_default(), from.checked_add(ahead).unwrap_or(from))?;
        }
        Ok(())
    }
}
