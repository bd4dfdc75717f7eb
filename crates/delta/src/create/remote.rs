//! One window of the target, compared with signatures of the bases.
//!
//! 1. A window of the same value is unchanged.
//! 2. Blocks that the bases have at the same place, then whole blocks of zeros.
//! 3. In what remains, the rolling checksum finds blocks of the bases at any byte. Where one was found, the blocks beside
//!    it are tried next to it.

use super::gear;
use super::matching::{Matched, Run};
use super::same;
use super::source::Source;
use super::table::Table;
use crate::digest::{self, WINDOW, window};
use crate::error::Result;
use crate::format::op::Op;
use crate::signature::layout::BLOCK;
use crate::signature::rolling::Rolling;
use crate::signature::{Signature, strong};
use disk::{Cx, Limits, ReadAt};
use ondisk::Len;
use ondisk::num::{low32, to_u64, to_usize};
use std::ops::Range;

/// Bytes of a run of zeros, at least.
const ZEROS: usize = 512;
/// Bits of the filter for each block: a place of the target that is no block passes once in so many.
const FILTER: u64 = 16;

/// Blocks of all signatures by their rolling checksums.
pub struct Remote<'a, D> {
    signatures: &'a [Signature<D>],
    table: Table,
    /// A bit for what a checksum hashes to: it is in the cache, the table is not.
    filter: Vec<u64>,
    bits: u32,
    /// Number of the first record of each signature among all.
    starts: Vec<u64>,
}

impl<'a, D: ReadAt> Remote<'a, D> {
    /// Reads all checksums. Where memory does not suffice, blocks are left out.
    pub fn of(signatures: &'a [Signature<D>], memory: Len, cx: &Cx<'_>) -> Result<Self> {
        let blocks = signatures.iter().fold(0_u64, |sum, signature| sum.saturating_add(signature.blocks()));
        let table = Table::new(blocks, Len::new(memory.get() >> 1), &cx.limits)?;
        let room = (memory.get() >> 2).saturating_mul(8).max(64);
        let bits = blocks.saturating_mul(FILTER).clamp(64, room).ilog2();
        let bytes = cx.limits.buffer("the index", Len::new(1_u64.wrapping_shl(bits) >> 3))?;
        let mut remote =
            Self { signatures, table, filter: vec![0; bytes.len() >> 3], bits, starts: Vec::new() };
        let mut start = 0_u64;
        for signature in signatures {
            remote.starts.push(start);
            signature.each(cx, |first, blocks| {
                let first = first.saturating_add(start);
                for (number, block) in (first..).zip(blocks) {
                    let hash = mixed(block.weak.get());
                    let (word, bit) = remote.slot(hash);
                    if let Some(word) = remote.filter.get_mut(word) {
                        *word |= bit;
                    }
                    // None is 0.
                    remote.table.insert((hash, number.saturating_add(1)));
                }
            })?;
            start = start.saturating_add(signature.blocks());
        }
        Ok(remote)
    }

    fn slot(&self, hash: u64) -> (usize, u64) {
        let at = hash.wrapping_shr(64_u32.saturating_sub(self.bits));
        (to_usize(at >> 6), 1_u64.wrapping_shl(low32(at & 63)))
    }

    /// Which record may have a block of this checksum: its signature, and its number there.
    #[inline]
    fn find(&self, weak: u32) -> Option<(usize, u64)> {
        let hash = mixed(weak);
        let (word, bit) = self.slot(hash);
        if self.filter.get(word).is_none_or(|word| word & bit == 0) {
            return None;
        }
        let record = self.table.find(hash)?.checked_sub(1)?;
        let number = self.starts.partition_point(|start| *start <= record).checked_sub(1)?;
        Some((number, record.saturating_sub(*self.starts.get(number)?)))
    }
}

/// The upper bits depend on all of the checksum.
fn mixed(weak: u32) -> u64 {
    u64::from(weak).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// What a thread needs to compare windows.
pub struct Matcher<'a, D> {
    target: &'a dyn ReadAt,
    remote: &'a Remote<'a, D>,
    sparse: u32,
    files: Vec<Source<'a>>,
    limits: Limits,
}

/// A block of a base.
type Found = (usize, u64);

impl<'a, D: ReadAt> Matcher<'a, D> {
    /// Nothing is read yet.
    pub fn new(target: &'a dyn ReadAt, remote: &'a Remote<'a, D>, sparse: u32, limits: Limits) -> Self {
        let files = remote.signatures.iter().map(|signature| Source::new(signature.file())).collect();
        Self { target, remote, sparse, files, limits }
    }

    /// Compares window `index`.
    pub fn window(&mut self, index: u64) -> disk::Result<Matched> {
        let span = window(index, self.target.len());
        let mut bytes = self.limits.buffer("a window", span.len())?;
        digest::fill(self.target, span, &mut bytes)?;
        let leaf = digest::leaf(index, self.target.len(), &bytes);
        let first = self.remote.signatures.first();
        let known = first.and_then(|first| first.leaves().as_part_of(index, self.target.len()));
        let behind = first.is_none_or(|first| span.start() >= first.len().end());
        if known == Some(leaf) || (behind && bytes.iter().all(|byte| *byte == 0)) {
            return Ok(Matched::nothing(leaf));
        }
        let mut parts = self.aligned(index, &bytes)?;
        for gap in same::gaps(&ranges(&parts), bytes.len()) {
            let inner = bytes.get(gap.clone()).unwrap_or_default();
            for rest in same::gaps(&same::zeros(inner, BLOCK), inner.len()) {
                let rest = gap.start.saturating_add(rest.start)..gap.start.saturating_add(rest.end);
                self.search(&bytes, rest, &mut parts)?;
            }
        }
        parts.sort_unstable_by_key(|(range, _)| range.start);
        Ok(Matched { leaf, ..assemble(&bytes, &parts, self.sparse) })
    }

    /// Blocks that are where they were.
    fn aligned(&mut self, index: u64, bytes: &[u8]) -> disk::Result<Vec<(Range<usize>, Found)>> {
        let mut parts = Vec::new();
        let first = index.saturating_mul(WINDOW.get() >> BLOCK.ilog2());
        let (blocks, _) = bytes.as_chunks::<BLOCK>();
        for (number, block) in blocks.iter().enumerate() {
            if *block == [0; BLOCK] {
                continue;
            }
            let (wanted, hash) = (first.saturating_add(to_u64(number)), strong(block));
            for base in 0..self.files.len() {
                if self.has(base, wanted, &hash)? {
                    let start = number.saturating_mul(BLOCK);
                    parts.push((start..start.saturating_add(BLOCK), (base, wanted)));
                    break;
                }
            }
        }
        Ok(parts)
    }

    /// Whether a base has a block of this hash there.
    fn has(&mut self, base: usize, block: u64, hash: &[u8; 12]) -> disk::Result<bool> {
        let record = self.remote.signatures.get(base).and_then(|signature| signature.record_of(block));
        record.map_or(Ok(false), |record| self.is(base, record, hash))
    }

    fn is(&mut self, base: usize, record: u64, hash: &[u8; 12]) -> disk::Result<bool> {
        let Some(file) = self.files.get_mut(base) else { return Ok(false) };
        Ok(file.forward(Signature::<D>::strong_at(record), hash)? == hash.len())
    }

    /// Looks for blocks at any byte of `gap`.
    fn search(
        &mut self,
        bytes: &[u8],
        gap: Range<usize>,
        parts: &mut Vec<(Range<usize>, Found)>,
    ) -> disk::Result<()> {
        let mut done = gap.start;
        while let Some(block) = bytes.get(done..gap.end).and_then(|rest| rest.get(..BLOCK)) {
            let rest = bytes.get(done..gap.end).unwrap_or_default();
            let mut rolling = Rolling::of(block);
            let mut steps = rest.iter().zip(rest.get(BLOCK..).unwrap_or_default());
            let mut at = done;
            let found = loop {
                if let Some(found) = self.at(rolling.weak(), bytes, at)? {
                    break Some(found);
                }
                let Some((out, new)) = steps.next() else { break None };
                rolling.step(*out, *new);
                at = at.saturating_add(1);
            };
            let Some((base, number)) = found else { break };
            parts.push((at..at.saturating_add(BLOCK), (base, number)));
            done = self.extended(bytes, done..gap.end, at, (base, number), parts)?;
        }
        Ok(())
    }

    /// The block of a base that lies at `at`.
    #[inline]
    fn at(&mut self, weak: u32, bytes: &[u8], at: usize) -> disk::Result<Option<Found>> {
        let Some((base, record)) = self.remote.find(weak) else { return Ok(None) };
        let hash = strong(block_at(bytes, at));
        if !self.is(base, record, &hash)? {
            return Ok(None);
        }
        let number = self.remote.signatures.get(base).and_then(|signature| signature.block_of(record));
        Ok(number.map(|number| (base, number)))
    }

    /// Adds the blocks beside one that was found, as far as they go within `room`. Yields where they end.
    fn extended(
        &mut self,
        bytes: &[u8],
        room: Range<usize>,
        at: usize,
        (base, number): Found,
        parts: &mut Vec<(Range<usize>, Found)>,
    ) -> disk::Result<usize> {
        let (mut start, mut before) = (at, number);
        while let (Some(place), Some(block)) = (start.checked_sub(BLOCK), before.checked_sub(1)) {
            if place < room.start || !self.has(base, block, &strong(block_at(bytes, place)))? {
                break;
            }
            parts.push((place..start, (base, block)));
            (start, before) = (place, block);
        }
        let (mut end, mut next) = (at.saturating_add(BLOCK), number.saturating_add(1));
        while end.saturating_add(BLOCK) <= room.end && self.has(base, next, &strong(block_at(bytes, end)))? {
            let behind = end.saturating_add(BLOCK);
            parts.push((end..behind, (base, next)));
            (end, next) = (behind, next.saturating_add(1));
        }
        Ok(end)
    }
}

fn block_at(bytes: &[u8], at: usize) -> &[u8] {
    bytes.get(at..at.saturating_add(BLOCK)).unwrap_or_default()
}

/// What the parts cover, in order.
fn ranges(parts: &[(Range<usize>, Found)]) -> Vec<Range<usize>> {
    parts.iter().map(|(range, _)| range.clone()).collect()
}

/// Instructions for `parts`, in order, and for what lies between them.
fn assemble(bytes: &[u8], parts: &[(Range<usize>, Found)], sparse: u32) -> Matched {
    let mut made = Matched { unchanged: false, ..Matched::nothing([0; 32]) };
    let mut at = 0;
    let end = bytes.len();
    for (range, found) in
        parts.iter().map(|(range, found)| (range.clone(), Some(*found))).chain([(end..end, None)])
    {
        let inner = bytes.get(at..range.start).unwrap_or_default();
        let mut passed = 0;
        for zeros in same::zeros(inner, ZEROS).into_iter().chain(std::iter::once(inner.len()..inner.len())) {
            let run = at.saturating_add(passed)..at.saturating_add(zeros.start);
            if !run.is_empty() {
                let literals = bytes.get(run.clone()).unwrap_or_default();
                made.ops.push(Op::Fresh(to_u64(run.len())));
                made.literals.extend(literals);
                let start = low32(to_u64(run.start));
                gear::anchors(literals, start, sparse, |anchor| made.anchors.push(anchor));
                made.runs.push(Run { range: run, like: None });
            }
            if !zeros.is_empty() {
                made.ops.push(Op::Zero(to_u64(zeros.len())));
            }
            passed = zeros.end;
        }
        if let Some((base, block)) = found {
            copy(&mut made.ops, base, block.saturating_mul(to_u64(BLOCK)), to_u64(range.len()));
        }
        at = range.end;
    }
    made
}

/// Adds a copy, to the last one where it goes on.
fn copy(ops: &mut Vec<Op>, base: usize, at: u64, more: u64) {
    match ops.last_mut() {
        Some(Op::Copy { base: same, at: from, len }) if *same == base && from.saturating_add(*len) == at => {
            *len = len.saturating_add(more);
        }
        _ => ops.push(Op::Copy { base, at, len: more }),
    }
}
