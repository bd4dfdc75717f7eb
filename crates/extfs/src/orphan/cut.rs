//! Cutting the map of a file: what lies behind a block of it is freed.
//!
//! ```text
//!                     cut
//!  root  [a][b][c]     ↓
//!         |  |  └ freed with all below
//!         |  └ the edge: entries behind the cut go; a node without entries goes itself
//!         └ stays as it is
//! ```
//!
//! 1. Only the nodes on the edge change: one at each level.
//! 2. A cluster goes once, and only if nothing of the file stays in it.

use super::edit::Edit;
use super::quota;
use crate::csum::Object;
use crate::error::{Error, Part, Result};
use crate::layout::inode::{EXTENT_MAGIC, EXTENT_MAX};
use crate::layout::{Extent, ExtentHeader, ExtentIdx, Inode as RawInode};
use crate::read::inode::{ENCRYPT, EXTENTS, INLINE_DATA, Inode};
use crate::read::map::Piece;
use crate::unit::{BlockNo, FileBlock};
use disk::ReadAt;
use ondisk::num::{low16, low32, to_u64, to_usize};
use std::collections::BTreeSet;
use zerocopy::FromBytes;

/// The entries that a root of extents has room for.
const ROOT_MAX: u16 = 4;

/// Frees everything that a file's map refers to, and the map.
pub(super) fn free_all<D: ReadAt>(edit: &mut Edit<'_, D>, inode: &Inode) -> Result<()> {
    free_from(edit, inode, FileBlock(0)).and_then(|(_, nodes)| free_nodes(edit, inode, &nodes)).map(|_| ())
}

/// Makes an empty map.
pub(super) fn clear_root(raw: &mut RawInode) {
    let extents = raw.i_flags.get() & EXTENTS != 0;
    raw.i_block = [0; 60];
    if let (true, Ok((head, _))) = (extents, ExtentHeader::mut_from_prefix(&mut raw.i_block)) {
        head.eh_magic.set(EXTENT_MAGIC);
        head.eh_max.set(ROOT_MAX);
    }
}

/// Cuts a file to its size.
pub(super) fn truncate<D: ReadAt>(edit: &mut Edit<'_, D>, inode: &Inode) -> Result<()> {
    let part = Part::Inode(inode.ino());
    let mut raw = inode.raw();
    raw.i_dtime.set(0);
    if inode.has(INLINE_DATA) {
        let end = to_usize(inode.size().get());
        if edit.fs.inline_bytes(inode)?.len() > end.max(raw.i_block.len()) {
            return Err(Error::Unsupported { part, what: "truncating data in an attribute" });
        }
        // A file that grows again must not show what was cut off.
        raw.i_block.get_mut(end..).unwrap_or_default().fill(0);
        return edit.change(inode, |to| *to = raw);
    }
    let size = edit.fs.geom().block_size;
    let cut = FileBlock(size.blocks_for(inode.size()).0);
    clear_tail(edit, inode)?;
    let (mut clusters, nodes) = free_from(edit, inode, cut)?;
    let kept = if inode.has(EXTENTS) {
        cut_extents(edit, inode, &mut raw, cut, &nodes)?
    } else {
        cut_pointers(edit, inode, &mut raw, cut, &nodes)?
    };
    let gone: BTreeSet<BlockNo> = nodes.difference(&kept).copied().collect();
    clusters = clusters.saturating_add(free_nodes(edit, inode, &gone)?);
    let freed = edit.bytes_in(clusters);
    quota::charge(edit, inode, freed, 0)?;
    let units = freed.checked_div(edit.unit(inode)).unwrap_or_default();
    let left = inode.sectors().checked_sub(units);
    let left = left.ok_or_else(|| {
        Error::field(part, "i_blocks", inode.sectors(), format!("at least the {units} to be freed"))
    })?;
    raw.i_blocks_lo.set(low32(left));
    raw.i_blocks_high.set(low16(left >> 32));
    raw.i_ctime.set(low32(edit.now()));
    raw.i_mtime.set(low32(edit.now()));
    edit.change(inode, |to| *to = raw)
}

/// Zeroes what follows the end of a file in its last block; what is unwritten or encrypted stays.
fn clear_tail<D: ReadAt>(edit: &mut Edit<'_, D>, inode: &Inode) -> Result<()> {
    let size = edit.fs.geom().block_size;
    let within = inode.size().get().checked_rem(size.bytes()).unwrap_or_default();
    if within == 0 || inode.has(ENCRYPT) {
        return Ok(());
    }
    let last = FileBlock(inode.size().get() >> size.bits());
    let Some(run) = edit.fs.map_from(inode, last)?.next().transpose()? else { return Ok(()) };
    let Some(by) = last.0.checked_sub(run.at.0).filter(|_| !run.unwritten) else { return Ok(()) };
    let block = run.start.plus(by);
    let mut bytes = edit.block(Part::Inode(inode.ino()), block)?;
    let tail = bytes.get_mut(to_usize(within)..).unwrap_or_default();
    if tail.iter().any(|&byte| byte != 0) {
        tail.fill(0);
        edit.put_block(block, bytes)?;
    }
    Ok(())
}

/// Frees the blocks of a file from one of them on. Returns how many clusters that were, and the nodes of the map that
/// reach there.
fn free_from<D: ReadAt>(
    edit: &mut Edit<'_, D>,
    inode: &Inode,
    cut: FileBlock,
) -> Result<(u64, BTreeSet<BlockNo>)> {
    let part = Part::Inode(inode.ino());
    let (mut clusters, mut nodes) = (0_u64, BTreeSet::new());
    let mut last = kept_cluster(edit, inode, cut)?;
    for piece in edit.fs.walk_from(inode, cut)? {
        let run = match piece? {
            Piece::Run(run) => run,
            Piece::Node(block, _) => {
                edit.hold()?;
                nodes.insert(block);
                continue;
            }
        };
        let skip = cut.0.saturating_sub(run.at.0);
        let mut first = run.start.plus(skip);
        let end = run.start.plus(run.count.0.saturating_sub(1));
        let to = edit.cluster_of(end);
        if Some(edit.cluster_of(first)) == last {
            let geom = edit.fs.geom();
            let next = edit.cluster_of(first).saturating_add(1);
            first = BlockNo(next << geom.cluster_bits).plus(geom.first_data_block.0);
        }
        last = Some(to);
        if first <= end {
            edit.free(part, first, end)?;
            let from = edit.cluster_of(first);
            clusters = clusters.saturating_add(to.saturating_sub(from)).saturating_add(1);
        }
    }
    Ok((clusters, nodes))
}

/// The cluster that both sides of the cut share, if something of the file stays in it.
fn kept_cluster<D: ReadAt>(edit: &Edit<'_, D>, inode: &Inode, cut: FileBlock) -> Result<Option<u64>> {
    let bits = edit.fs.geom().cluster_bits;
    let start = FileBlock(cut.0 >> bits << bits);
    let mut kept = None;
    if start == cut {
        return Ok(kept);
    }
    for run in edit.fs.map_from(inode, start)? {
        let run = run?;
        if run.at >= cut {
            break;
        }
        let within = run.end().min(cut).0.saturating_sub(run.at.0).saturating_sub(1);
        kept = Some(edit.cluster_of(run.start.plus(within)));
    }
    Ok(kept)
}

/// Frees blocks of the map. A cluster holds no two of them.
fn free_nodes<D: ReadAt>(edit: &mut Edit<'_, D>, inode: &Inode, nodes: &BTreeSet<BlockNo>) -> Result<u64> {
    for &node in nodes {
        edit.free(Part::MapBlock(inode.ino(), node), node, node)?;
    }
    Ok(to_u64(nodes.len()))
}

/// A node on the edge: its block (none for the root), its bytes, and which entry leads to the next one.
struct Edge {
    block: Option<BlockNo>,
    bytes: Vec<u8>,
    child: usize,
}

/// Removes the entries behind the cut. Returns the nodes of `nodes` that stay.
fn cut_extents<D: ReadAt>(
    edit: &mut Edit<'_, D>,
    inode: &Inode,
    raw: &mut RawInode,
    cut: FileBlock,
    nodes: &BTreeSet<BlockNo>,
) -> Result<BTreeSet<BlockNo>> {
    let sums = *edit.fs.sb().sums();
    let object = Object::ExtentBlock(inode.seed(&sums));
    let mut path = vec![Edge { block: None, bytes: raw.i_block.to_vec(), child: 0 }];
    while let Some(edge) = path.last_mut() {
        let before = entries_before(&edge.bytes, cut);
        edge.child = before.saturating_sub(1);
        let next = child_of(&edge.bytes, edge.child).filter(|block| before > 0 && nodes.contains(block));
        let Some(block) = next else { break };
        let bytes = edit.fs.read_block(Part::MapBlock(inode.ino(), block), block)?;
        path.push(Edge { block: Some(block), bytes, child: 0 });
    }
    let (mut kept, mut child_gone) = (BTreeSet::new(), false);
    while let Some(mut edge) = path.pop() {
        let mut left = entries_before(&edge.bytes, cut);
        left = left.saturating_sub(usize::from(child_gone));
        shorten(&mut edge.bytes, left, cut);
        child_gone = left == 0 && edge.block.is_some();
        let Some(block) = edge.block else {
            raw.i_block.copy_from_slice(edge.bytes.get(..60).unwrap_or(&[0; 60]));
            if left == 0 {
                clear_root(raw);
            }
            break;
        };
        if !child_gone {
            kept.insert(block);
            sums.seal(object, &mut edge.bytes);
            edit.put_block(block, edge.bytes)?;
        }
    }
    Ok(kept)
}

fn head(bytes: &[u8]) -> (usize, u16) {
    let head = ExtentHeader::ref_from_prefix(bytes).ok();
    head.map_or((0, 0), |(head, _)| (usize::from(head.eh_entries.get()), head.eh_depth.get()))
}

fn place(index: usize) -> usize {
    index.saturating_mul(size_of::<Extent>()).saturating_add(size_of::<ExtentHeader>())
}

/// Entries that begin before the cut. Inner nodes and leaves both have the file's block first.
fn entries_before(bytes: &[u8], cut: FileBlock) -> usize {
    let begins = |index: &usize| {
        let word = bytes.get(place(*index)..).and_then(<[u8]>::first_chunk);
        word.is_some_and(|word| u64::from(u32::from_le_bytes(*word)) < cut.0)
    };
    (0..head(bytes).0).take_while(begins).count()
}

fn child_of(bytes: &[u8], index: usize) -> Option<BlockNo> {
    let idx = (head(bytes).1 > 0).then(|| bytes.get(place(index)..)).flatten()?;
    let (idx, _) = ExtentIdx::ref_from_prefix(idx).ok()?;
    Some(BlockNo(u64::from(idx.ei_leaf_hi.get()) << 32 | u64::from(idx.ei_leaf_lo.get())))
}

/// Leaves the first `left` entries; the last one of a leaf ends at the cut at the latest.
fn shorten(bytes: &mut [u8], left: usize, cut: FileBlock) {
    let (_, depth) = head(bytes);
    if let Ok((head, _)) = ExtentHeader::mut_from_prefix(bytes) {
        head.eh_entries.set(low16(to_u64(left)));
    }
    let last = left.checked_sub(1).filter(|_| depth == 0);
    let last = last.and_then(|last| bytes.get_mut(place(last)..));
    let Some(Ok((extent, _))) = last.map(Extent::mut_from_prefix) else { return };
    let room = cut.0.saturating_sub(extent.ee_block.get().into());
    let len = extent.ee_len.get();
    let base = if len > EXTENT_MAX { EXTENT_MAX } else { 0 };
    if u64::from(len.saturating_sub(base)) > room {
        extent.ee_len.set(base.saturating_add(low16(room)));
    }
}

/// The same for indirect blocks: pointers behind the cut become zero.
fn cut_pointers<D: ReadAt>(
    edit: &mut Edit<'_, D>,
    inode: &Inode,
    raw: &mut RawInode,
    cut: FileBlock,
    nodes: &BTreeSet<BlockNo>,
) -> Result<BTreeSet<BlockNo>> {
    let fan = edit.fs.geom().block_size.bytes() >> 2;
    let root = |index: usize| match index {
        0..12 => (to_u64(index), 1),
        12 => (12, fan),
        13 => (fan.saturating_add(12), fan.saturating_pow(2)),
        _ => (fan.saturating_pow(2).saturating_add(fan).saturating_add(12), fan.saturating_pow(3)),
    };
    let mut words = pointers(&raw.i_block);
    let mut path = vec![(None, 0)];
    let mut levels: Vec<Vec<u32>> = Vec::new();
    let mut edge = cut_words(&mut words, cut, root);
    levels.push(words);
    while let Some((index, base, span)) = edge {
        let Some(block) = levels.last().and_then(|words| words.get(index)).map(|&n| BlockNo(n.into())) else {
            break;
        };
        if span <= 1 || !nodes.contains(&block) {
            break;
        }
        let mut words = pointers(&edit.fs.read_block(Part::MapBlock(inode.ino(), block), block)?);
        let step = span.checked_div(fan).unwrap_or(1).max(1);
        edge = cut_words(&mut words, cut, |i| (base.saturating_add(to_u64(i).saturating_mul(step)), step));
        levels.push(words);
        path.push((Some(block), index));
    }
    let mut kept = BTreeSet::new();
    while let (Some(words), Some((block, index))) = (levels.pop(), path.pop()) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        match block {
            None => raw.i_block.copy_from_slice(bytes.get(..60).unwrap_or(&[0; 60])),
            Some(_) if words.iter().all(|&word| word == 0) => {
                if let Some(pointer) = levels.last_mut().and_then(|above| above.get_mut(index)) {
                    *pointer = 0;
                }
            }
            Some(block) => {
                kept.insert(block);
                edit.put_block(block, bytes)?;
            }
        }
    }
    Ok(kept)
}

fn pointers(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
}

/// Clears the pointers that begin behind the cut. Returns the one that reaches over it: its index, where it begins in
/// the file, and how many blocks it covers.
fn cut_words(
    words: &mut [u32],
    cut: FileBlock,
    place: impl Fn(usize) -> (u64, u64),
) -> Option<(usize, u64, u64)> {
    let mut edge = None;
    for (index, word) in words.iter_mut().enumerate() {
        let (base, span) = place(index);
        if base >= cut.0 {
            *word = 0;
        } else if base.saturating_add(span) > cut.0 {
            edge = Some((index, base, span));
        }
    }
    edge
}
