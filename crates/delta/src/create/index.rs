//! Where in the bases which bytes are.

use super::table::{self, POSITION, Place, Table};
use super::{gear, same};
use crate::digest::{Leaves, WINDOW, each_window, leaf_of};
use crate::error::{Error, Result};
use disk::{Cx, ReadAt};
use ondisk::num::{low32, to_u64};
use ondisk::{Len, Span};

/// An anchor in 2^n bytes, where memory allows it.
const DENSE: u32 = 6;
/// Zeros of at least so many bytes are passed over.
const ZEROS: usize = 4096;

/// All anchors of the bases.
pub struct Index {
    pub(super) table: Table,
    sparse: u32,
    /// Where each base begins, one behind the other.
    starts: Vec<u64>,
}

impl Index {
    /// With room for the anchors of these bases.
    pub fn empty(bases: &[&dyn ReadAt], memory: Len, cx: &Cx<'_>) -> Result<Self> {
        let (mut starts, mut next, mut bytes) = (Vec::new(), 0_u64, 0_u64);
        for base in bases {
            starts.push(next);
            next = next.saturating_add(base.len().get());
            bytes = bytes.saturating_add(stored(*base, cx)?.get());
        }
        if next >> POSITION != 0 {
            let limit = Len::new(1_u64.wrapping_shl(POSITION));
            return Err(Error::TooLarge { what: "a set of bases", len: Len::new(next), limit });
        }
        let sparse = sparse(bytes, memory);
        let table = Table::new(bytes.wrapping_shr(sparse), memory, &cx.limits)?;
        Ok(Self { table, sparse, starts })
    }

    /// Reads all bases; yields the values of their windows as well.
    pub fn of(bases: &[&dyn ReadAt], memory: Len, cx: &Cx<'_>) -> Result<(Self, Vec<Leaves>)> {
        let mut index = Self::empty(bases, memory, cx)?;
        let mut all = Vec::new();
        for (number, base) in bases.iter().enumerate() {
            all.push(index.take(number, *base, cx)?);
        }
        Ok((index, all))
    }

    /// Adds a base.
    fn take(&mut self, number: usize, base: &dyn ReadAt, cx: &Cx<'_>) -> Result<Leaves> {
        let (len, sparse) = (base.len(), self.sparse);
        let start = self.starts.get(number).copied().unwrap_or_default();
        let mut leaves = Vec::new();
        let look = |index: u64, bytes: Option<&[u8]>| {
            let at = index.saturating_mul(WINDOW.get()).saturating_add(start);
            let mut places: Vec<Place> = Vec::new();
            let value = leaf_of(index, len, bytes);
            let bytes = bytes.unwrap_or_default();
            // Most of a disk is zero, and nobody looks for that.
            for part in same::gaps(&same::zeros(bytes, ZEROS), bytes.len()) {
                let data = bytes.get(part.clone()).unwrap_or_default();
                gear::anchors(data, low32(to_u64(part.start)), sparse, |anchor| {
                    places.push((anchor.hash, at.saturating_add(u64::from(anchor.end))));
                });
            }
            (value, places)
        };
        let sink = |batch: Vec<_>| {
            let (some, lists): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            leaves.extend(some);
            self.table.extend(&lists);
        };
        each_window(base, "index", cx, look, sink)?;
        Ok(Leaves::new(len, leaves))
    }

    /// One anchor in 2^n bytes.
    pub const fn sparse(&self) -> u32 {
        self.sparse
    }

    /// Where the bytes before anchors may be, for [`Index::place`]; 0 where nowhere.
    pub fn find_all<const N: usize>(&self, hashes: [u64; N]) -> [u64; N] {
        self.table.find_all(hashes)
    }

    /// A base, and where in it; nothing of 0.
    pub fn place(&self, position: u64) -> Option<(usize, u64)> {
        // An anchor at the very end of a base does not belong to the next one.
        let number = self.starts.partition_point(|start| *start < position).checked_sub(1)?;
        Some((number, position.saturating_sub(*self.starts.get(number)?)))
    }
}

/// Bytes that a disk stores.
pub fn stored(disk: &dyn ReadAt, cx: &Cx<'_>) -> Result<Len> {
    let mut sum = 0_u64;
    for window in Span::whole(disk.len()).chunks(Len::gib(1)) {
        cx.cancel.check()?;
        sum = disk.extents(window)?.data().fold(sum, |sum, data| sum.saturating_add(data.len().get()));
    }
    Ok(Len::new(sum))
}

/// How sparse anchors of so many bytes must be to fit into so much memory.
pub fn sparse(bytes: u64, memory: Len) -> u32 {
    let mut sparse = DENSE;
    while table::wanted(bytes.wrapping_shr(sparse)) > table::room(memory) && sparse < 32 {
        sparse = sparse.saturating_add(1);
    }
    sparse
}
