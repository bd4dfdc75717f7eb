//! A few pieces of L2 tables, and the last cluster that was unpacked.

use super::entry::Raw;
use super::file;
use super::geom::Geometry;
use crate::Result;
use disk::ReadAt;
use ondisk::num::{to_u64, to_usize};
use ondisk::{Offset, Span};
use std::collections::BTreeMap;
use std::sync::Arc;
use zerocopy::FromBytes;
use zerocopy::big_endian::U64;

/// Bytes of a piece, unless a whole table is smaller.
const PIECE: u64 = 16 << 10;
/// Pieces kept: they answer for 32 GiB of a disk with clusters of 64 KiB.
const PIECES: usize = 256;

/// A part of an L2 table.
pub type Piece = Arc<Vec<u8>>;

pub struct Cache {
    geo: Geometry,
    /// Position in the file → (last use, bytes).
    pieces: BTreeMap<Offset, (u64, Piece)>,
    clock: u64,
    unpacked: Option<(Span, Arc<Vec<u8>>)>,
}

impl Cache {
    pub const fn new(geo: Geometry) -> Self {
        Self { geo, pieces: BTreeMap::new(), clock: 0, unpacked: None }
    }

    /// How many entries a piece has.
    pub fn entries(&self) -> u64 {
        self.piece_bytes().checked_div(self.geo.entry_bytes()).unwrap_or(1)
    }

    fn piece_bytes(&self) -> u64 {
        PIECE.min(self.geo.bytes())
    }

    /// Where the piece with entry `index` of the table at `table` lies.
    fn place(&self, table: Offset, index: u64) -> Offset {
        let byte = index.saturating_mul(self.geo.entry_bytes());
        Offset::new(table.get().saturating_add(byte & !self.piece_bytes().wrapping_sub(1)))
    }

    /// The piece with entry `index` of the table at `table`.
    pub fn piece(&mut self, file: &(impl ReadAt + ?Sized), table: Offset, index: u64) -> Result<Piece> {
        self.clock = self.clock.saturating_add(1);
        let at = self.place(table, index);
        if let Some((used, piece)) = self.pieces.get_mut(&at) {
            *used = self.clock;
            return Ok(Arc::clone(piece));
        }
        let mut bytes = vec![0; to_usize(self.piece_bytes())];
        file::read(file, at, &mut bytes)?;
        let piece = Arc::new(bytes);
        if self.pieces.len() >= PIECES
            && let Some(oldest) = self.pieces.iter().min_by_key(|(_, (used, _))| *used).map(|(&at, _)| at)
        {
            self.pieces.remove(&oldest);
        }
        self.pieces.insert(at, (self.clock, Arc::clone(&piece)));
        Ok(piece)
    }

    /// Changes entry `index` in memory and returns the sector around it, with its place, to be written.
    pub fn set(
        &mut self,
        file: &(impl ReadAt + ?Sized),
        table: Offset,
        index: u64,
        raw: Raw,
    ) -> Result<(Offset, Vec<u8>)> {
        self.piece(file, table, index)?;
        let at = self.place(table, index);
        let byte = index.saturating_mul(self.geo.entry_bytes()) & self.piece_bytes().wrapping_sub(1);
        let Some((_, piece)) = self.pieces.get_mut(&at) else { return Ok((at, Vec::new())) };
        let bytes = Arc::make_mut(piece);
        let words = [raw.word.to_be_bytes(), raw.parts.to_be_bytes()].concat();
        let entry = bytes.get_mut(to_usize(byte)..).unwrap_or_default();
        for (target, source) in entry.iter_mut().zip(words).take(to_usize(self.geo.entry_bytes())) {
            *target = source;
        }
        let sector = to_usize(byte & !511);
        let bytes = bytes.get(sector..).and_then(|rest| rest.get(..512)).unwrap_or_default();
        Ok((Offset::new(at.get().saturating_add(byte & !511)), bytes.to_vec()))
    }

    /// Forgets what it knows about these bytes of the file.
    pub fn forget(&mut self, span: Span) {
        let gone: Vec<_> = self.pieces.range(span.start()..span.end()).map(|(&at, _)| at).collect();
        for at in gone {
            self.pieces.remove(&at);
        }
        self.unpacked.take_if(|(packed, _)| packed.intersect(span).is_some());
    }

    /// The cluster that was unpacked from `packed`, if it was the last one.
    pub fn unpacked(&self, packed: Span) -> Option<Arc<Vec<u8>>> {
        self.unpacked.as_ref().filter(|(at, _)| *at == packed).map(|(_, bytes)| Arc::clone(bytes))
    }

    /// Remembers a cluster that was unpacked from `packed`.
    pub fn remember(&mut self, packed: Span, bytes: Arc<Vec<u8>>) {
        self.unpacked = Some((packed, bytes));
    }
}

/// Entry `index` of the table of which `piece` is a part.
pub fn raw_at(piece: &[u8], index: u64, geo: Geometry) -> Raw {
    let entries = to_u64(piece.len()).checked_div(geo.entry_bytes()).unwrap_or(1);
    let start = to_usize(index.checked_rem(entries).unwrap_or_default().saturating_mul(geo.entry_bytes()));
    let word = |at: usize| {
        let bytes = piece.get(at..).unwrap_or_default();
        U64::read_from_prefix(bytes).map(|(word, _)| word.get()).unwrap_or_default()
    };
    Raw { word: word(start), parts: if geo.extended() { word(start.saturating_add(8)) } else { 0 } }
}
