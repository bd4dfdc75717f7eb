//! Handing out a new file from its beginning to its end, and counting the users of its clusters.

use super::geom::{Geometry, Host};
use crate::write::{Put, What};
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset};
use std::collections::VecDeque;

/// Refcounts have 16 bits.
const COUNT_BYTES: u64 = 2;

/// What of the file is in use.
#[derive(Debug)]
pub(super) struct Tally {
    geo: Geometry,
    /// The first byte that nobody has.
    next: u64,
    /// Blocks of counts that are not written yet: those that the file has not passed.
    blocks: VecDeque<Vec<u16>>,
    /// Where the blocks before them lie.
    written: Vec<Offset>,
}

/// How many counts a block has.
const fn per_block(geo: Geometry) -> u64 {
    geo.bytes() / COUNT_BYTES
}

/// How many blocks, and how many clusters for their table, count themselves and `used` clusters, where `have` blocks
/// are among these already.
pub(super) fn needed(geo: Geometry, used: u64, have: u64) -> (u64, u64) {
    let (mut blocks, mut table) = (0_u64, 0_u64);
    loop {
        let total = used.saturating_add(blocks).saturating_add(table);
        let all = total.div_ceil(per_block(geo));
        let next = (all.saturating_sub(have), all.saturating_mul(8).div_ceil(geo.bytes()));
        if next == (blocks, table) {
            return next;
        }
        (blocks, table) = (next.0.max(blocks), next.1.max(table));
    }
}

impl Tally {
    /// Of an empty file.
    pub fn new(geo: Geometry) -> Self {
        Self { geo, next: 0, blocks: VecDeque::new(), written: Vec::new() }
    }

    /// The first cluster that nobody has.
    pub const fn end(&self) -> u64 {
        self.next.div_ceil(self.geo.bytes())
    }

    /// Hands out clusters for one user each.
    pub fn take(&mut self, clusters: u64) -> Host {
        let first = self.end();
        let end = first.saturating_add(clusters);
        (first..end).for_each(|cluster| self.count(cluster));
        self.next = end.saturating_mul(self.geo.bytes());
        Host(first)
    }

    /// Hands out bytes, wherever they begin; each cluster that they touch has one user more.
    pub fn take_bytes(&mut self, len: u64) -> Offset {
        if self.users(self.next.wrapping_shr(self.geo.cluster_bits())) == u16::MAX {
            self.next = self.end().saturating_mul(self.geo.bytes());
        }
        let at = self.next;
        self.next = at.saturating_add(len);
        (at.wrapping_shr(self.geo.cluster_bits())..self.end()).for_each(|cluster| self.count(cluster));
        Offset::new(at)
    }

    /// The block that counts a cluster, and which of its counts.
    fn place(&self, cluster: u64) -> (usize, usize) {
        let block = cluster.checked_div(per_block(self.geo)).unwrap_or_default();
        let within = cluster.checked_rem(per_block(self.geo)).unwrap_or_default();
        (to_usize(block.saturating_sub(to_u64(self.written.len()))), to_usize(within))
    }

    fn users(&self, cluster: u64) -> u16 {
        let (block, within) = self.place(cluster);
        self.blocks.get(block).and_then(|block| block.get(within)).copied().unwrap_or_default()
    }

    fn count(&mut self, cluster: u64) {
        let (block, within) = self.place(cluster);
        while self.blocks.len() <= block {
            self.blocks.push_back(vec![0; to_usize(per_block(self.geo))]);
        }
        if let Some(count) = self.blocks.get_mut(block).and_then(|block| block.get_mut(within)) {
            *count = count.saturating_add(1);
        }
    }

    /// Writes the blocks that the file has passed: their counts change no more.
    pub fn write_full(&mut self, puts: &mut Vec<Put>) {
        let passed = |tally: &Self| {
            let block = to_u64(tally.written.len()).saturating_add(1);
            tally.next >= block.saturating_mul(per_block(tally.geo)).saturating_mul(tally.geo.bytes())
        };
        while passed(self) {
            // The block itself may be counted in the one behind it, which is not written yet.
            let at = self.geo.host_at(self.take(1));
            self.write_first(at, puts);
        }
    }

    fn write_first(&mut self, at: Offset, puts: &mut Vec<Put>) {
        let counts = self.blocks.pop_front().unwrap_or_default();
        let bytes = counts.iter().flat_map(|count| count.to_be_bytes()).collect();
        puts.push(Put { at, what: What::Bytes(bytes) });
        self.written.push(at);
    }

    /// Writes all that is left, and the table of all blocks: where it lies, and how many clusters it takes.
    pub fn finish(&mut self, puts: &mut Vec<Put>) -> (Offset, u64) {
        let (blocks, clusters) = needed(self.geo, self.end(), to_u64(self.written.len()));
        let first = self.take(blocks);
        let table = self.geo.host_at(self.take(clusters));
        for block in 0..blocks {
            self.write_first(self.geo.host_at(Host(first.0.saturating_add(block))), puts);
        }
        let mut bytes: Vec<u8> = self.written.iter().flat_map(|at| at.get().to_be_bytes()).collect();
        bytes.resize(to_usize(Len::new(clusters.saturating_mul(self.geo.bytes())).get()), 0);
        puts.push(Put { at: table, what: What::Bytes(bytes) });
        (table, clusters)
    }
}
