//! Which blocks hold a file: extent trees, and the indirect blocks of ext2 and ext3.
//!
//! 1. Runs come in ascending order of the file's blocks and never overlap there.
//! 2. No block of the tree is visited twice, so a tree that refers to itself ends as an error.
//! 3. An inner entry of an extent tree bounds what its children may map.

use super::Ext;
use super::inode::{EXTENTS, Inode};
use crate::csum::{InodeSeed, Object};
use crate::error::{Error, Part, Result};
use crate::layout::inode::{EXTENT_MAGIC, EXTENT_MAX};
use crate::layout::{Extent, ExtentHeader, ExtentIdx};
use crate::unit::{BlockCount, BlockNo, FileBlock, InodeNo};
use disk::ReadAt;
use ondisk::num::{to_u64, to_usize};
use std::collections::HashSet;
use zerocopy::FromBytes;

/// Neighbouring blocks of a file that are neighbours on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first block, as the file counts.
    pub at: FileBlock,
    /// Where it is on disk.
    pub start: BlockNo,
    /// How many.
    pub count: BlockCount,
    /// Allocated, but reads as zero.
    pub unwritten: bool,
}

impl Run {
    /// The file's block just behind the run.
    #[must_use]
    pub const fn end(&self) -> FileBlock {
        self.at.plus(self.count.0)
    }
}

/// What a walk through a map comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A block of the map itself, and how many levels are below it.
    Node(BlockNo, u16),
    /// Blocks of the file.
    Run(Run),
}

/// A node under way: of an extent tree, or pointers.
struct Frame {
    part: Part,
    bytes: Vec<u8>,
    /// The next entry.
    next: usize,
    entries: usize,
    depth: u16,
    /// The first block of the file that entry 0 maps (pointers only).
    base: u64,
    /// The file's block just behind what this node may map.
    end: u64,
}

/// A walk through a map, in ascending order of the file's blocks.
pub struct Walk<'a, D> {
    fs: &'a Ext<D>,
    ino: InodeNo,
    seed: InodeSeed,
    extents: bool,
    stack: Vec<Frame>,
    seen: HashSet<BlockNo>,
    /// Runs that end before this do not matter.
    from: FileBlock,
    /// The file's block just behind the last run.
    done: u64,
}

/// An extent tree can map so many blocks.
const FILE_BLOCKS_MAX: u64 = 1 << 32;
/// The deepest extent tree.
const DEPTH_MAX: u16 = 5;

impl<D: ReadAt> Ext<D> {
    /// Walks a file's map from one of its blocks on: its runs and the map's own blocks. Empty for files without one.
    ///
    /// # Errors
    /// Where the root of the map is damaged.
    pub fn walk_from(&self, inode: &Inode, from: FileBlock) -> Result<Walk<'_, D>> {
        let extents = inode.has(EXTENTS);
        let mut walk = Walk {
            fs: self,
            ino: inode.ino(),
            seed: inode.seed(self.sb.sums()),
            extents,
            stack: Vec::new(),
            seen: HashSet::new(),
            from,
            done: 0,
        };
        if inode.has_map() {
            let part = Part::MapRoot(inode.ino());
            let bytes = inode.raw().i_block.to_vec();
            let frame = if extents {
                extent_frame(part, bytes, None, 0, FILE_BLOCKS_MAX)?
            } else {
                Frame { part, bytes, next: 0, entries: 15, depth: 0, base: 0, end: u64::MAX }
            };
            walk.stack.push(frame);
        }
        Ok(walk)
    }

    /// Walks a file's whole map.
    ///
    /// # Errors
    /// As [`Ext::walk_from`].
    pub fn walk(&self, inode: &Inode) -> Result<Walk<'_, D>> {
        self.walk_from(inode, FileBlock(0))
    }

    /// The runs of a file; what lies between them are holes.
    ///
    /// # Errors
    /// As [`Ext::walk_from`].
    pub fn map(&self, inode: &Inode) -> Result<impl Iterator<Item = Result<Run>> + use<'_, D>> {
        self.map_from(inode, FileBlock(0))
    }

    /// The runs of a file that end behind one of its blocks.
    ///
    /// # Errors
    /// As [`Ext::walk_from`].
    pub fn map_from(
        &self,
        inode: &Inode,
        from: FileBlock,
    ) -> Result<impl Iterator<Item = Result<Run>> + use<'_, D>> {
        Ok(self.walk_from(inode, from)?.filter_map(|piece| match piece {
            Ok(Piece::Run(run)) => Some(Ok(run)),
            Ok(Piece::Node(..)) => None,
            Err(error) => Some(Err(error)),
        }))
    }
}

impl<D: ReadAt> Iterator for Walk<'_, D> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = if self.extents { Self::extent_step } else { Self::pointer_step };
        match step(self) {
            Ok(piece) => piece.map(Ok),
            Err(error) => {
                self.stack.clear();
                Some(Err(error))
            }
        }
    }
}

impl<D: ReadAt> Walk<'_, D> {
    fn extent_step(&mut self) -> Result<Option<Piece>> {
        while let Some(frame) = self.stack.last_mut() {
            if frame.next >= frame.entries {
                self.stack.pop();
                continue;
            }
            let index = frame.next;
            frame.next = index.saturating_add(1);
            if frame.depth == 0 {
                let extent: Extent = entry(frame, index)?;
                if let Some(run) = self.extent(extent)? {
                    return Ok(Some(Piece::Run(run)));
                }
            } else if let Some(node) = self.descend(index)? {
                return Ok(Some(node));
            }
        }
        Ok(None)
    }

    /// An entry of a leaf, unless it ends too early to matter.
    fn extent(&mut self, raw: Extent) -> Result<Option<Run>> {
        let Some(frame) = self.stack.last() else { return Ok(None) };
        let (len, at) = (raw.ee_len.get(), u64::from(raw.ee_block.get()));
        let unwritten = len > EXTENT_MAX;
        let count = u64::from(if unwritten { len.saturating_sub(EXTENT_MAX) } else { len });
        let start = u64::from(raw.ee_start_hi.get()) << 32 | u64::from(raw.ee_start_lo.get());
        let run = Run { at: FileBlock(at), start: BlockNo(start), count: BlockCount(count), unwritten };
        if count == 0 {
            return Err(Error::field(frame.part, "ee_len", len, "at least 1"));
        }
        if at < self.done || run.end().0 > frame.end {
            let expected = format!("a range within {} to {}", self.done, frame.end);
            return Err(Error::field(frame.part, "ee_block", at, expected));
        }
        self.check_blocks(frame.part, "ee_start", run.start, run.count)?;
        self.done = run.end().0;
        Ok((run.end() > self.from).then_some(run))
    }

    /// Enters the child of an inner entry, unless it ends too early to matter.
    fn descend(&mut self, index: usize) -> Result<Option<Piece>> {
        let Some(frame) = self.stack.last() else { return Ok(None) };
        let (part, depth) = (frame.part, frame.depth.saturating_sub(1));
        let idx: ExtentIdx = entry(frame, index)?;
        let at = u64::from(idx.ei_block.get());
        let end = match index.saturating_add(1) {
            next if next < frame.entries => u64::from(entry::<ExtentIdx>(frame, next)?.ei_block.get()),
            _ => frame.end,
        };
        if at < self.done || at >= end || end > frame.end {
            let expected = format!("from {} on, ascending, below {}", self.done, frame.end);
            return Err(Error::field(part, "ei_block", at, expected));
        }
        if end <= self.from.0 {
            return Ok(None);
        }
        let block = BlockNo(u64::from(idx.ei_leaf_hi.get()) << 32 | u64::from(idx.ei_leaf_lo.get()));
        self.check_blocks(part, "ei_leaf", block, BlockCount(1))?;
        let (part, bytes) = self.node(block)?;
        let child = extent_frame(part, bytes, Some(depth), at, end)?;
        self.fs
            .sb
            .sums()
            .verify(Object::ExtentBlock(self.seed), &child.bytes)
            .map_err(Error::checksum(part))?;
        self.done = at;
        self.stack.push(child);
        Ok(Some(Piece::Node(block, depth)))
    }

    fn pointer_step(&mut self) -> Result<Option<Piece>> {
        let fan = to_u64(self.fs.block_bytes()) >> 2;
        while let Some(frame) = self.stack.last_mut() {
            let index = frame.next;
            if index >= frame.entries {
                self.stack.pop();
                continue;
            }
            let (level, at) = pointer_place(frame, index, fan);
            let pointer = pointer(frame, index);
            let covers = power(fan, level);
            frame.next = index.saturating_add(1);
            if pointer.0 == 0 || at.saturating_add(covers) <= self.from.0 {
                continue;
            }
            let part = frame.part;
            if level == 0 {
                let count = neighbours(frame, index, pointer);
                frame.next = index.saturating_add(count);
                let count = BlockCount(to_u64(count));
                self.check_blocks(part, "i_block", pointer, count)?;
                let run = Run { at: FileBlock(at), start: pointer, count, unwritten: false };
                return Ok(Some(Piece::Run(run)));
            }
            self.check_blocks(part, "i_block", pointer, BlockCount(1))?;
            let (part, bytes) = self.node(pointer)?;
            let (entries, end) = (to_usize(fan), at.saturating_add(covers));
            self.stack.push(Frame { part, bytes, next: 0, entries, depth: level, base: at, end });
            return Ok(Some(Piece::Node(pointer, level.saturating_sub(1))));
        }
        Ok(None)
    }

    fn check_blocks(&self, part: Part, field: &'static str, at: BlockNo, count: BlockCount) -> Result<()> {
        let geom = self.fs.geom();
        if at.0 > 0 && geom.holds(at, count) {
            return Ok(());
        }
        Err(Error::field(part, field, at.0, format!("{count} blocks below {}", geom.blocks)))
    }

    /// Reads a block of the map that was not seen before.
    fn node(&mut self, block: BlockNo) -> Result<(Part, Vec<u8>)> {
        let part = Part::MapBlock(self.ino, block);
        if !self.seen.insert(block) {
            return Err(Error::broken(part, "is in the map twice"));
        }
        Ok((part, self.fs.read_block(part, block)?))
    }
}

/// Validates the header of a node. `depth` is what the parent expects; the root may choose.
fn extent_frame(part: Part, bytes: Vec<u8>, depth: Option<u16>, base: u64, end: u64) -> Result<Frame> {
    let head = ExtentHeader::read_from_prefix(&bytes)
        .map_err(|_| Error::broken(part, "is shorter than its header"))?
        .0;
    if head.eh_magic.get() != EXTENT_MAGIC {
        return Err(Error::field(part, "eh_magic", head.eh_magic.get(), EXTENT_MAGIC));
    }
    let (found, max) = (head.eh_depth.get(), head.eh_max.get());
    match depth {
        Some(depth) if found != depth => return Err(Error::field(part, "eh_depth", found, depth)),
        None if found > DEPTH_MAX => return Err(Error::field(part, "eh_depth", found, "at most 5")),
        _ => {}
    }
    let room = bytes.len().saturating_sub(size_of::<ExtentHeader>()).checked_div(size_of::<Extent>());
    let room = room.unwrap_or_default();
    if usize::from(max) > room || max == 0 {
        return Err(Error::field(part, "eh_max", max, format!("1 to {room}")));
    }
    let entries = head.eh_entries.get();
    let least = u16::from(found > 0);
    if entries > max || entries < least {
        return Err(Error::field(part, "eh_entries", entries, format!("{least} to {max}")));
    }
    Ok(Frame { part, bytes, next: 0, entries: entries.into(), depth: found, base, end })
}

fn entry<T: FromBytes>(frame: &Frame, index: usize) -> Result<T> {
    let at = index.saturating_mul(size_of::<Extent>()).saturating_add(size_of::<ExtentHeader>());
    let bytes = frame.bytes.get(at..).unwrap_or_default();
    Ok(T::read_from_prefix(bytes).map_err(|_| Error::broken(frame.part, "has an entry behind its end"))?.0)
}

/// How many levels of pointers are below an entry, and which block of the file it begins at.
fn pointer_place(frame: &Frame, index: usize, fan: u64) -> (u16, u64) {
    let n = to_u64(index);
    match (frame.depth, index) {
        (0, 12) => (1, 12),
        (0, 13) => (2, fan.saturating_add(12)),
        (0, 14) => (3, power(fan, 2).saturating_add(fan).saturating_add(12)),
        (0, _) => (0, n),
        (depth, _) => {
            let level = depth.saturating_sub(1);
            (level, frame.base.saturating_add(n.saturating_mul(power(fan, level))))
        }
    }
}

fn power(fan: u64, level: u16) -> u64 {
    fan.saturating_pow(level.into())
}

fn pointer(frame: &Frame, index: usize) -> BlockNo {
    let bytes = frame.bytes.get(index.saturating_mul(4)..).and_then(<[u8]>::first_chunk);
    BlockNo(bytes.map_or(0, |b| u64::from(u32::from_le_bytes(*b))))
}

/// How many pointers from `index` on name neighbouring blocks.
fn neighbours(frame: &Frame, index: usize, first: BlockNo) -> usize {
    // The last three pointers of an inode are not for data.
    let end = if frame.depth == 0 { 12 } else { frame.entries };
    let mut count = 1;
    while index.saturating_add(count) < end
        && pointer(frame, index.saturating_add(count)) == first.plus(to_u64(count))
    {
        count = count.saturating_add(1);
    }
    count
}
