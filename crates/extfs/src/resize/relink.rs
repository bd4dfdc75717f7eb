//! Pointers of one file rewritten for blocks that moved.
//!
//! 1. Nodes are rewritten whole, and appear at the place that they themselves have afterwards.
//! 2. An extent of which a part moved becomes up to three; where its node has no room for them, the plan is refused.

use super::Refusal;
use crate::csum::Object;
use crate::error::{Error, Part, Result};
use crate::layout::inode::EXTENT_MAX;
use crate::layout::{self, Extent, ExtentHeader, ExtentIdx};
use crate::read::Ext;
use crate::read::inode::{EXTENTS, Inode};
use crate::read::map::Piece;
use crate::unit::{BlockNo, InodeNo};
use disk::ReadAt;
use ondisk::num::{low16, low32, to_u64};
use std::collections::BTreeMap;
use zerocopy::{FromBytes, IntoBytes};

/// From → to, a block each.
pub(super) type Targets = BTreeMap<BlockNo, BlockNo>;

/// A file's changed metadata, sealed.
pub(super) struct Relinked {
    /// The whole inode.
    pub inode: Vec<u8>,
    /// Nodes of its map.
    pub blocks: Vec<(BlockNo, Vec<u8>)>,
}

/// Rewrites whatever in a file's map names a block that moves.
pub(super) fn relink<D: ReadAt>(fs: &Ext<D>, inode: &Inode, targets: &Targets) -> Result<Relinked> {
    let sums = fs.sb().sums();
    let extents = inode.has(EXTENTS);
    let mut blocks = Vec::new();
    for piece in fs.walk(inode)? {
        let Piece::Node(at, _) = piece? else { continue };
        let old = fs.read_block(Part::MapBlock(inode.ino(), at), at)?;
        let mut new = old.clone();
        rewrite(inode.ino(), &mut new, extents, targets)?;
        if new != old {
            if extents {
                sums.seal(Object::ExtentBlock(inode.seed(sums)), &mut new);
            }
            blocks.push((moved(at, targets), new));
        }
    }
    let mut bytes = inode.bytes().to_vec();
    let has_map = inode.has_map();
    if let Ok((raw, _)) = layout::Inode::mut_from_prefix(&mut bytes) {
        if has_map {
            rewrite(inode.ino(), &mut raw.i_block, extents, targets)?;
        }
        if let Some(to) = inode.xattr_block().and_then(|from| targets.get(&from)) {
            raw.i_file_acl_lo.set(low32(to.0));
            raw.i_file_acl_high.set(low16(to.0 >> 32));
        }
    }
    sums.seal(Object::Inode(inode.ino()), &mut bytes);
    Ok(Relinked { inode: bytes, blocks })
}

fn moved(block: BlockNo, targets: &Targets) -> BlockNo {
    targets.get(&block).copied().unwrap_or(block)
}

fn rewrite(ino: InodeNo, node: &mut [u8], extents: bool, targets: &Targets) -> Result<()> {
    if extents { extent_node(ino, node, targets) } else { pointers(node, targets) }
}

fn pointers(node: &mut [u8], targets: &Targets) -> Result<()> {
    for word in node.as_chunks_mut::<4>().0 {
        let block = BlockNo(u32::from_le_bytes(*word).into());
        *word = low32(moved(block, targets).0).to_le_bytes();
    }
    Ok(())
}

fn extent_node(ino: InodeNo, node: &mut [u8], targets: &Targets) -> Result<()> {
    let short = || Error::broken(Part::MapRoot(ino), "has a node shorter than its header");
    let (head, rest) = ExtentHeader::mut_from_prefix(node).map_err(|_| short())?;
    let (entries, max) = (usize::from(head.eh_entries.get()), usize::from(head.eh_max.get()));
    if head.eh_depth.get() > 0 {
        for bytes in rest.chunks_exact_mut(size_of::<ExtentIdx>()).take(entries) {
            let idx = ExtentIdx::mut_from_bytes(bytes).map_err(|_| short())?;
            let block = BlockNo(u64::from(idx.ei_leaf_hi.get()) << 32 | u64::from(idx.ei_leaf_lo.get()));
            let to = moved(block, targets);
            idx.ei_leaf_lo.set(low32(to.0));
            idx.ei_leaf_hi.set(low16(to.0 >> 32));
        }
        return Ok(());
    }
    let mut all = Vec::new();
    for bytes in rest.chunks_exact(size_of::<Extent>()).take(entries) {
        split(*Extent::ref_from_bytes(bytes).map_err(|_| short())?, targets, &mut all);
    }
    if all.len() > max {
        return Err(Refusal::Extents { ino }.into());
    }
    for (place, extent) in rest.chunks_exact_mut(size_of::<Extent>()).zip(&all) {
        place.copy_from_slice(extent.as_bytes());
    }
    head.eh_entries.set(low16(to_u64(all.len())));
    Ok(())
}

/// The extents that one becomes, neighbours merged.
fn split(extent: Extent, targets: &Targets, all: &mut Vec<Extent>) {
    let len = extent.ee_len.get();
    let flag = if len > EXTENT_MAX { EXTENT_MAX } else { 0 };
    let start = BlockNo(u64::from(extent.ee_start_hi.get()) << 32 | u64::from(extent.ee_start_lo.get()));
    let count = len.saturating_sub(flag);
    if targets.range(start..start.plus(count.into())).next().is_none() {
        all.push(extent);
        return;
    }
    let mut open: Option<(u16, BlockNo, u16)> = None;
    let mut close = |(at, to, count): (u16, BlockNo, u16)| {
        let mut part = extent;
        part.ee_block.set(extent.ee_block.get().saturating_add(at.into()));
        part.ee_len.set(count.saturating_add(flag));
        part.ee_start_lo.set(low32(to.0));
        part.ee_start_hi.set(low16(to.0 >> 32));
        all.push(part);
    };
    for at in 0..count {
        let to = moved(start.plus(at.into()), targets);
        open = match open {
            Some((first, begin, n)) if begin.plus(n.into()) == to => {
                Some((first, begin, n.saturating_add(1)))
            }
            done => {
                done.into_iter().for_each(&mut close);
                Some((at, to, 1))
            }
        };
    }
    open.into_iter().for_each(close);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;
    use zerocopy::FromZeros;

    fn extent(at: u32, start: u64, len: u16) -> Extent {
        let mut extent = Extent::new_zeroed();
        extent.ee_block.set(at);
        extent.ee_len.set(len);
        extent.ee_start_lo.set(low32(start));
        extent.ee_start_hi.set(low16(start >> 32));
        extent
    }

    fn parts(of: Extent, targets: &[(u64, u64)]) -> Vec<(u32, u16, u32)> {
        let targets = targets.iter().map(|&(from, to)| (BlockNo(from), BlockNo(to))).collect();
        let mut all = Vec::new();
        split(of, &targets, &mut all);
        all.iter().map(|e| (e.ee_block.get(), e.ee_len.get(), e.ee_start_lo.get())).collect()
    }

    #[test]
    fn extents_split_where_blocks_leave() {
        let whole = extent(100, 1000, 10);
        assert_eq!(parts(whole, &[(5, 6)]), [(100, 10, 1000)]);
        assert_eq!(parts(whole, &[(1003, 7), (1004, 8)]), [(100, 3, 1000), (103, 2, 7), (105, 5, 1005)]);
        assert_eq!(parts(whole, &[(1000, 7)]), [(100, 1, 7), (101, 9, 1001)]);
        let all: Vec<(u64, u64)> = (1000..1010).map(|from| (from, from - 500)).collect();
        assert_eq!(parts(whole, &all), [(100, 10, 500)]);
        // Unwritten ones stay unwritten, and the longest written one is not mistaken for one.
        let unwritten = extent(0, 1000, EXTENT_MAX + 4);
        assert_eq!(parts(unwritten, &[(1003, 9)]), [(0, EXTENT_MAX + 3, 1000), (3, EXTENT_MAX + 1, 9)]);
        let longest = extent(0, 0x10_0000, EXTENT_MAX);
        assert_eq!(parts(longest, &[(0x10_0000, 1)]), [(0, 1, 1), (1, EXTENT_MAX - 1, 0x10_0001)]);
    }
}
