//! Tables of little-endian words, read piece by piece.

use super::{Files, Place};
use crate::{Error, Result};
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Span};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use zerocopy::FromBytes;
use zerocopy::little_endian::{U32, U64};

/// Bytes of a piece.
const PIECE: u64 = 16 << 10;
/// Pieces kept.
const PIECES: usize = 256;

/// A table in a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    /// What it is called.
    pub name: &'static str,
    pub place: Place,
    /// How many entries it has.
    pub entries: u64,
    /// The bytes of an entry: 4 or 8.
    pub width: u64,
}

/// Entries of a table that follow each other.
pub(crate) struct Window {
    first: u64,
    width: u64,
    bytes: Arc<Vec<u8>>,
}

impl Window {
    /// Entry `index`, if it is one of these.
    pub fn get(&self, index: u64) -> Option<u64> {
        let at = to_usize(index.checked_sub(self.first)?.checked_mul(self.width)?);
        let bytes = self.bytes.get(at..)?;
        match self.width {
            4 => U32::read_from_prefix(bytes).ok().map(|(word, _)| word.get().into()),
            _ => U64::read_from_prefix(bytes).ok().map(|(word, _)| word.get()),
        }
    }

    /// How many entries from `index` on are `word`.
    pub fn same(&self, index: u64, word: u64) -> u64 {
        let mut count = 0_u64;
        while self.get(index.saturating_add(count)) == Some(word) {
            count = count.saturating_add(1);
        }
        count
    }
}

/// Last use and bytes of each piece.
type Pieces = BTreeMap<Place, (u64, Arc<Vec<u8>>)>;

/// The pieces that were used last.
#[derive(Default)]
pub(crate) struct Tables {
    pieces: Mutex<(u64, Pieces)>,
}

impl Table {
    /// Refuses a table that does not lie in its file.
    pub fn check(&self, files: &Files<'_>) -> Result<()> {
        let len = self.entries.checked_mul(self.width).map(Len::new);
        if let Some(len) = len
            && files.holds(self.place, len)?
        {
            return Ok(());
        }
        let problem = format!(
            "it has {} entries and does not lie in the file of {} bytes",
            self.entries,
            files.len(self.place.part)?
        );
        Err(Error::corrupt(self.name, self.place.at, problem))
    }

    /// Its bytes in its file.
    pub fn span(&self) -> Span {
        let len = Len::new(self.entries.saturating_mul(self.width));
        Span::new(self.place.at, len).unwrap_or_default()
    }
}

impl Tables {
    /// Entry `index` of a table and some that follow it.
    pub fn window(&self, files: &Files<'_>, table: Table, index: u64) -> Result<Window> {
        let per_piece = PIECE.checked_div(table.width).unwrap_or(1);
        let first = index.saturating_sub(index.checked_rem(per_piece).unwrap_or_default());
        let count = table.entries.saturating_sub(first).min(per_piece);
        let ahead = Len::new(first.saturating_mul(table.width));
        let beyond = || Error::corrupt(table.name, table.place.at, format!("it has no entry {index}"));
        let place = table.place.ahead(ahead).filter(|_| index < table.entries).ok_or_else(beyond)?;
        let bytes = self.piece(files, table, place, count.saturating_mul(table.width))?;
        Ok(Window { first, width: table.width, bytes })
    }

    fn piece(&self, files: &Files<'_>, table: Table, place: Place, len: u64) -> Result<Arc<Vec<u8>>> {
        let mut guard = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let (clock, pieces) = &mut *guard;
        *clock = clock.saturating_add(1);
        if let Some((used, bytes)) = pieces.get_mut(&place).filter(|(_, bytes)| to_u64(bytes.len()) >= len) {
            *used = *clock;
            return Ok(Arc::clone(bytes));
        }
        if !files.holds(place, Len::new(len))? {
            table.check(files)?;
        }
        let mut bytes = vec![0; to_usize(len)];
        files.read(place, &mut bytes)?;
        let bytes = Arc::new(bytes);
        if pieces.len() >= PIECES
            && let Some(oldest) = pieces.iter().min_by_key(|(_, (used, _))| *used).map(|(&at, _)| at)
        {
            pieces.remove(&oldest);
        }
        pieces.insert(place, (*clock, Arc::clone(&bytes)));
        Ok(bytes)
    }
}
