//! Making the signature of a disk.

use super::layout::{BLOCK, Block, END_MAGIC, End, Header, MAGIC, Run, VERSION};
use super::rolling::Rolling;
use crate::digest::{Leaf, Leaves, WINDOW, each_window, leaf_of};
use crate::error::{Error, Result};
use crate::format::patch::refuse_huge;
use disk::{Budget, Cx, ReadAt};
use ondisk::num::{low32, to_u64};
use ondisk::{Len, Offset, Span};
use std::io::{self, Write};
use std::mem::size_of;
use zerocopy::IntoBytes;

/// What is written, and its digest.
struct Out<'a> {
    out: &'a mut (dyn Write + Send),
    hasher: blake3::Hasher,
    len: u64,
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.len = self.len.saturating_add(to_u64(bytes.len()));
        self.out.write_all(bytes)
    }
}

/// Writes the signature of a disk. Yields its length.
///
/// # Errors
/// Where the disk cannot be read, the signature not be written, or the operator interrupts.
pub fn signature(disk: &dyn ReadAt, out: &mut (dyn Write + Send), cx: &Cx<'_>) -> Result<Len> {
    refuse_huge("a disk", disk.len())?;
    let mut out = Out { out, hasher: blake3::Hasher::new(), len: 0 };
    let failed = |at: u64| {
        let span = Span::new(Offset::new(at), Len::ZERO).unwrap_or_default();
        move |source| Error::Disk(disk::Error::Io { op: "write of the signature", span, source })
    };
    let header = Header {
        magic: MAGIC,
        version: VERSION.into(),
        flags: 0.into(),
        block: low32(to_u64(BLOCK)).into(),
        len: disk.len().get().into(),
        reserved: [0; 8],
    };
    out.put(header.as_bytes()).map_err(failed(0))?;
    let (mut leaves, mut runs, mut written) = (Vec::new(), Vec::<Run>::new(), Ok(()));
    let mut count = 0_u64;
    let len = disk.len();
    let budget = cx.limits.budget("the runs of a signature");
    let look = |index: u64, bytes: Option<&[u8]>| {
        (leaf_of(index, len, bytes), blocks(index, bytes.unwrap_or_default()))
    };
    each_window(disk, "signature", cx, look, |batch: Vec<(Leaf, Vec<(u64, Block)>)>| {
        for (leaf, blocks) in batch {
            leaves.push(leaf);
            for (number, block) in blocks {
                count = count.saturating_add(1);
                if written.is_ok() {
                    let put = |()| out.put(block.as_bytes()).map_err(failed(out.len));
                    written = add(&mut runs, number, &budget).and_then(put);
                }
            }
        }
    })?;
    written?;
    for part in [leaves.as_bytes(), runs.as_bytes()] {
        out.put(part).map_err(failed(out.len))?;
    }
    let digest = *Leaves::new(len, leaves).digest().as_bytes();
    let mut end = End {
        blocks: count.into(),
        runs: to_u64(runs.len()).into(),
        disk: digest,
        digest: [0; 32],
        magic: END_MAGIC,
    };
    out.hasher.update(end.sealed());
    end.digest = *out.hasher.finalize().as_bytes();
    out.put(end.as_bytes()).and_then(|()| out.out.flush()).map_err(failed(out.len))?;
    Ok(Len::new(out.len))
}

/// The whole blocks of a window that are not zero.
fn blocks(index: u64, bytes: &[u8]) -> Vec<(u64, Block)> {
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    let first = index.saturating_mul(WINDOW.get() >> BLOCK.ilog2());
    let stored = (first..).zip(blocks).filter(|(_, block)| **block != [0; BLOCK]);
    stored.map(|(number, block)| (number, summed(block))).collect()
}

/// What a signature says about a block.
pub fn summed(block: &[u8]) -> Block {
    Block { weak: Rolling::of(block).weak().into(), strong: strong(block) }
}

/// The strong hash of a block.
pub fn strong(block: &[u8]) -> [u8; 12] {
    blake3::hash(block).as_bytes().first_chunk().copied().unwrap_or_default()
}

/// Adds a block to the last run, or begins another.
fn add(runs: &mut Vec<Run>, number: u64, budget: &Budget) -> Result<()> {
    match runs.last_mut() {
        Some(run) if run.first.get().saturating_add(run.count.get()) == number => {
            run.count.set(run.count.get().saturating_add(1));
        }
        _ => {
            budget.take(Len::new(to_u64(size_of::<Run>())))?;
            runs.push(Run { first: number.into(), count: 1.into() });
        }
    }
    Ok(())
}
