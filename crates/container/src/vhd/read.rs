//! Reading: from a position of the disk through the table and the bitmap to the bytes.

use super::bits::Bits;
use super::header::SECTOR;
use super::layout::UNALLOCATED;
use super::{Body, Sparse, Vhd};
use crate::{BlockStatus, Error, Mapped, Parent, Result, chain};
use disk::traits::{bounded, within};
use disk::{ExtentKind, ExtentMap, ReadAt};
use ondisk::num::to_usize;
use ondisk::{Len, Offset, Span};

/// So many entries of the BAT are read at once.
const WINDOW: u64 = 4096;
/// A map of more than this is answered by whole blocks.
const FINE: Len = Len::gib(1);
const STRUCTURE: &str = "VHD block";

/// A block in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The BAT entry: the sector of the bitmap.
    pub entry: u32,
    /// The bitmap.
    pub bitmap: Span,
    /// The data.
    pub data: Span,
}

impl Place {
    /// Where virtual position `at` of the block that begins at `block` is stored.
    pub fn offset_of(self, at: Offset, block: Span) -> Offset {
        let ahead = at.since(block.start()).unwrap_or_default();
        self.data.start().checked_add(ahead).unwrap_or(self.data.end())
    }
}

/// Where a run of the disk comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Stored here.
    File(Offset),
    /// In a block, under clear bits.
    Clear,
    /// In no block.
    Absent,
}

/// The part of a virtual range that lies in one block.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    pub index: u64,
    pub block: Span,
    pub span: Span,
}

impl Sparse {
    /// The parts of `range` by block.
    pub fn pieces(&self, range: Span) -> impl Iterator<Item = Piece> + use<> {
        let shape = self.header.shape;
        let mut rest = range;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let index = shape.index_of(rest.start());
            let block = shape.virtual_span(index);
            let span = block.intersect(rest)?;
            rest = Span::between(span.end(), range.end())?;
            Some(Piece { index, block, span })
        })
    }

    /// Where entry `index` of the BAT stands.
    pub fn entry_span(&self, index: u64) -> Span {
        let ahead = Len::new(index.saturating_mul(4));
        let at = self.header.bat.start().checked_add(ahead);
        at.and_then(|at| Span::new(at, Len::new(4))).unwrap_or_default()
    }

    /// Entries of the BAT from `first` on: as many as are asked for, there are, or fit a window.
    pub fn entries(&self, file: &dyn ReadAt, first: u64, count: u64) -> disk::Result<Vec<u32>> {
        let count = count.min(WINDOW).min(self.header.entries.saturating_sub(first));
        let mut bytes = vec![0; to_usize(count.saturating_mul(4))];
        if !bytes.is_empty() {
            file.read_at(self.entry_span(first).start(), &mut bytes)?;
        }
        let (entries, _) = bytes.as_chunks::<4>();
        Ok(entries.iter().map(|entry| u32::from_be_bytes(*entry)).collect())
    }

    /// The entry of one block.
    pub fn entry(&self, file: &dyn ReadAt, index: u64) -> disk::Result<u32> {
        Ok(self.entries(file, index, 1)?.first().copied().unwrap_or(UNALLOCATED))
    }

    /// What an entry points at.
    pub fn place(&self, entry: u32) -> Option<Place> {
        let at = Offset::new(u64::from(entry) << 9);
        let shape = self.header.shape;
        let bitmap = Span::new(at, shape.bitmap())?;
        Some(Place { entry, bitmap, data: Span::new(bitmap.end(), shape.data())? })
            .filter(|_| entry != UNALLOCATED)
    }

    /// As [`Sparse::place`], for a block that is about to be used: it lies in the file and in no metadata.
    pub fn checked_place(&self, file: &dyn ReadAt, index: u64, entry: u32) -> Result<Option<Place>> {
        let Some(place) = self.place(entry) else { return Ok(None) };
        let whole = Span::between(place.bitmap.start(), place.data.end()).unwrap_or_default();
        if !Span::whole(file.len()).contains(whole) {
            let problem = format!("block {index} at {whole} lies outside the file of {} bytes", file.len());
            return Err(Error::corrupt(STRUCTURE, whole.start(), problem));
        }
        if let Some(metadata) = self.metadata.iter().find(|span| span.intersect(whole).is_some()) {
            let problem = format!("block {index} at {whole} overlaps metadata at {metadata}");
            return Err(Error::corrupt(STRUCTURE, whole.start(), problem));
        }
        Ok(Some(place))
    }

    /// The bits of a block.
    pub fn bits(&self, file: &dyn ReadAt, index: u64, place: Place) -> disk::Result<Bits> {
        if let Some(bits) = self.bitmaps.lock().ok().and_then(|cache| cache.get(place.entry)) {
            return Ok(bits);
        }
        let complete = match self.batmap.good() {
            Some(map) => map.has(file, index)?,
            None => false,
        };
        let bits = if complete {
            Bits::All
        } else {
            let mut bytes = vec![0; self.header.shape.bitmap_bytes()];
            file.read_at(place.bitmap.start(), &mut bytes)?;
            Bits::of(bytes, self.header.shape)
        };
        if let Ok(mut cache) = self.bitmaps.lock() {
            cache.put(place.entry, bits.clone());
        }
        Ok(bits)
    }

    /// The runs of one piece and where each comes from.
    pub fn runs(&self, file: &dyn ReadAt, piece: Piece, entry: u32) -> Result<Vec<(Span, Source)>> {
        let Some(place) = self.checked_place(file, piece.index, entry)? else {
            return Ok(vec![(piece.span, Source::Absent)]);
        };
        let sector = |at: Offset| at.since(piece.block.start()).unwrap_or_default().get();
        let first = sector(piece.span.start()) >> 9;
        let last = sector(piece.span.end()).div_ceil(SECTOR);
        let bits = self.bits(file, piece.index, place)?;
        let run = |(sectors, here): (std::ops::Range<u64>, bool)| {
            let start = piece.block.start().checked_add(Len::new(sectors.start << 9))?;
            let end = piece.block.start().checked_add(Len::new(sectors.end << 9))?;
            let span = Span::between(start, end)?.intersect(piece.span)?;
            let source =
                if here { Source::File(place.offset_of(span.start(), piece.block)) } else { Source::Clear };
            Some((span, source))
        };
        Ok(bits.runs(first..last).into_iter().filter_map(run).collect())
    }

    /// Calls `each` with every piece of `range` and its entry, in order.
    pub fn each_piece(
        &self,
        file: &dyn ReadAt,
        range: Span,
        mut each: impl FnMut(Piece, u32) -> Result<()>,
    ) -> Result<()> {
        let mut window = (0, Vec::new());
        let last = self.header.shape.count(range.end().since(Offset::ZERO).unwrap_or_default());
        for piece in self.pieces(range) {
            let ahead = to_usize(piece.index.saturating_sub(window.0));
            if ahead >= window.1.len() {
                window = (piece.index, self.entries(file, piece.index, last.saturating_sub(piece.index))?);
            }
            let ahead = to_usize(piece.index.saturating_sub(window.0));
            each(piece, window.1.get(ahead).copied().unwrap_or(UNALLOCATED))?;
        }
        Ok(())
    }

    /// The parent that the image needs.
    fn parent(&self) -> Result<&Parent> {
        self.parent.as_ref().ok_or_else(|| Error::ParentMissing {
            parent: self.parent_ref.as_ref().map(ToString::to_string).unwrap_or_default(),
        })
    }

    /// Fills `buf` with what lies under a piece that is not stored here.
    fn read_under(&self, span: Span, buf: &mut [u8]) -> Result<()> {
        if self.parent_ref.is_none() {
            buf.fill(0);
            return Ok(());
        }
        let parent = self.parent()?;
        let there = span.intersect(Span::whole(parent.len())).unwrap_or_default().len().to_usize();
        let (stored, beyond) = buf.split_at_mut(there.min(buf.len()));
        beyond.fill(0);
        if !stored.is_empty() {
            parent.read_at(span.start(), stored)?;
        }
        Ok(())
    }

    /// What is known about a run that is not stored here. Zero unless there is a parent that says otherwise.
    pub fn extents_under(&self, span: Span, source: Source) -> Result<ExtentMap> {
        if self.parent_ref.is_none() {
            let kind = if source == Source::Absent { ExtentKind::Hole } else { ExtentKind::Zero };
            return Ok(ExtentMap::single(span, kind));
        }
        let parent = self.parent()?;
        let mut map = ExtentMap::new();
        if let Some(there) = span.intersect(Span::whole(parent.len())) {
            map.append(&parent.extents(there)?);
        }
        let beyond = Span::between(span.start().max(parent.len().end()), span.end());
        map.push(beyond.unwrap_or_default(), ExtentKind::Hole);
        Ok(map)
    }

    fn read_at(&self, file: &dyn ReadAt, range: Span, buf: &mut [u8]) -> Result<()> {
        let mut rest = buf;
        self.each_piece(file, range, |piece, entry| {
            for (span, source) in self.runs(file, piece, entry)? {
                let (head, tail) = std::mem::take(&mut rest).split_at_mut(span.len().to_usize());
                match source {
                    Source::File(at) => file.read_at(at, head)?,
                    Source::Clear | Source::Absent => self.read_under(span, head)?,
                }
                rest = tail;
            }
            Ok(())
        })
    }

    fn extents(&self, file: &dyn ReadAt, range: Span) -> Result<ExtentMap> {
        let fine = range.len() <= FINE;
        let mut map = ExtentMap::new();
        self.each_piece(file, range, |piece, entry| {
            let runs = self.runs(file, piece, entry)?;
            let stored = |(_, source): &(Span, Source)| matches!(source, Source::File(_));
            if !fine && runs.len() > 1 && runs.iter().any(stored) {
                map.push(piece.span, ExtentKind::Data);
                return Ok(());
            }
            for (span, source) in runs {
                match source {
                    Source::File(_) => map.push(span, ExtentKind::Data),
                    Source::Clear | Source::Absent => map.append(&self.extents_under(span, source)?),
                }
            }
            Ok(())
        })?;
        Ok(map)
    }

    fn status(&self, file: &dyn ReadAt, range: Span) -> Result<Vec<BlockStatus>> {
        let mut list = Vec::new();
        self.each_piece(file, range, |piece, entry| {
            for (span, source) in self.runs(file, piece, entry)? {
                let here = BlockStatus { present: true, ..BlockStatus::hole(span) };
                match source {
                    Source::File(at) => {
                        BlockStatus { zero: false, data: true, offset: Some(at), ..here }
                            .append_to(&mut list);
                    }
                    // Without a parent there is nobody else who could have it.
                    _ if self.parent_ref.is_none() => here.append_to(&mut list),
                    Source::Clear | Source::Absent => {
                        let under = chain::status_under(&**self.parent()?, span)?;
                        under.into_iter().for_each(|run| run.append_to(&mut list));
                    }
                }
            }
            Ok(())
        })?;
        Ok(list)
    }
}

impl<D: ReadAt> Mapped for Vhd<D> {
    fn status(&self, range: Span) -> Result<Vec<BlockStatus>> {
        within(range, self.len)?;
        match &self.body {
            Body::Fixed => Ok(crate::raw::status(&self.file, range)?),
            Body::Sparse(sparse) => sparse.status(&self.file, range),
        }
    }
}

impl<D: ReadAt> ReadAt for Vhd<D> {
    fn len(&self) -> Len {
        self.len
    }

    fn read_at(&self, at: Offset, buf: &mut [u8]) -> disk::Result<()> {
        let range = bounded(at, buf.len(), self.len)?;
        match &self.body {
            Body::Fixed => self.file.read_at(at, buf),
            Body::Sparse(sparse) => Ok(sparse.read_at(&self.file, range, buf)?),
        }
    }

    fn extents(&self, range: Span) -> disk::Result<ExtentMap> {
        within(range, self.len)?;
        match &self.body {
            Body::Fixed => self.file.extents(range),
            Body::Sparse(sparse) => Ok(sparse.extents(&self.file, range)?),
        }
    }
}
