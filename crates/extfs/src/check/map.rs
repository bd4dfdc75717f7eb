//! The blocks of one file: claims them all and checks the map on its way.
//!
//! Stops at the first damage of a map: what lies behind it cannot be told.

use super::Check;
use super::finding::What;
use crate::csum::Object;
use crate::error::{Part, Result};
use crate::feature::Incompat;
use crate::layout::inode::{EXTENT_MAGIC, EXTENT_MAX};
use crate::layout::{Extent, ExtentHeader, ExtentIdx};
use crate::read::inode::{EXTENTS, Inode, Kind};
use crate::unit::{BlockCount, BlockNo, InodeNo};
use disk::ReadAt;
use ondisk::num::low32;
use zerocopy::FromBytes;

/// `i_flags`: contents that are verified with hashes behind the end of the file.
pub(super) const VERITY: u32 = 0x10_0000;

/// What a map holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mapped {
    /// Clusters that count for `i_blocks`.
    pub(super) clusters: u64,
    /// The file's block just behind the last one.
    pub(super) end: u64,
    /// The last block of the file that is written.
    pub(super) written: Option<u64>,
    /// Whether the map could be followed to its end.
    pub(super) sound: bool,
    /// The disk's block before, for clusters.
    before: u64,
    /// The file's block before, for clusters.
    file_before: u64,
    /// The first block of the file that the next extent may map.
    next: u64,
}

impl Mapped {
    /// The map of a file without blocks.
    pub(super) fn nothing() -> Self {
        Self { sound: true, ..Self::default() }
    }
}

/// A node of an extent tree under way.
struct Node {
    part: Part,
    /// 0 for the root.
    block: u64,
    bytes: Vec<u8>,
    entries: u16,
    next: u16,
    depth: u16,
    /// Just behind what the last entry covers.
    end: u64,
    /// The last block that a leaf's entries may map; 0: any.
    last: u64,
}

impl<D: ReadAt> Check<'_, D> {
    /// Follows the map of an inode that has one.
    pub(super) fn map(&mut self, inode: &Inode) -> Result<Mapped> {
        let mut mapped = Mapped::default();
        let extents = inode.has(EXTENTS) && self.fs.sb().incompat().has(Incompat::EXTENTS);
        let done =
            if extents { self.extents(inode, &mut mapped)? } else { self.pointers(inode, &mut mapped)? };
        mapped.sound = done.is_ok();
        if let Err((part, what)) = done {
            self.report.damaged(part, what);
        }
        Ok(mapped)
    }

    fn extents(&mut self, inode: &Inode, mapped: &mut Mapped) -> Result<Outcome> {
        let ino = inode.ino();
        let file_end = self.fs.geom().block_size.blocks_for(full_size(inode)).0;
        let root = Node {
            part: Part::MapRoot(ino),
            block: 0,
            bytes: inode.raw().i_block.to_vec(),
            entries: 0,
            next: 0,
            depth: 0,
            end: file_end,
            last: 0,
        };
        let root = match root.checked(None) {
            Ok(root) => root,
            Err(bad) => return Ok(Err(bad)),
        };
        let mut stack = vec![root];
        while let Some(node) = stack.last_mut() {
            if node.next >= node.entries {
                stack.pop();
                continue;
            }
            let index = node.next;
            node.next = index.saturating_add(1);
            if node.depth == 0 {
                let Some(extent) = node.entry::<Extent>(index) else { continue };
                let (part, last) = (node.part, node.last);
                if let Err(bad) = self.extent(inode, part, last, file_end, &extent, mapped)? {
                    return Ok(Err(bad));
                }
                continue;
            }
            match self.child(inode, node, index, file_end)? {
                Ok(child) => {
                    // Whatever has it, too, it has been followed.
                    if !self.claim(child.part, BlockNo(child.block), BlockCount(1))? {
                        return Ok(Err((child.part, What::Broken("is not the file's own"))));
                    }
                    mapped.clusters = mapped.clusters.saturating_add(1);
                    stack.push(child);
                }
                Err(bad) => return Ok(Err(bad)),
            }
        }
        Ok(Ok(()))
    }

    /// The node that an inner entry leads to.
    fn child(
        &self,
        inode: &Inode,
        node: &Node,
        index: u16,
        file_end: u64,
    ) -> Result<std::result::Result<Node, Bad>> {
        let (geom, part) = (self.fs.geom(), node.part);
        let Some(entry) = node.entry::<ExtentIdx>(index) else {
            return Ok(Err((part, What::Broken("is cut off"))));
        };
        let at = u64::from(entry.ei_block.get());
        let leaf = BlockNo(u64::from(entry.ei_leaf_hi.get()) << 32 | u64::from(entry.ei_leaf_lo.get()));
        if leaf.0 == 0 || !geom.holds(leaf, BlockCount(1)) {
            return Ok(Err((part, What::field("ei_leaf", leaf.0, format!("a block below {}", geom.blocks)))));
        }
        let next = node.entry::<ExtentIdx>(index.saturating_add(1));
        let next = next.filter(|_| index.saturating_add(1) < node.entries);
        let end = next.map_or(node.end, |next| u64::from(next.ei_block.get()));
        // The length is a number of 32 bits, and huge where a file has blocks behind its end.
        let len = u64::from(low32(end.wrapping_sub(at)));
        let last = at.wrapping_add(len).wrapping_sub(1);
        let beyond = last > file_end.wrapping_sub(1) && inode.has(VERITY);
        if node.last != 0 && last > node.last && !beyond {
            return Ok(Err((part, What::field("ei_block", at, format!("a range up to {}", node.last)))));
        }
        let part = Part::MapBlock(inode.ino(), leaf);
        let bytes = self.fs.read_block(part, leaf)?;
        let sums = self.fs.sb().sums();
        let sealed = sums.verify(Object::ExtentBlock(inode.seed(sums)), &bytes);
        let depth = node.depth.saturating_sub(1);
        let child = Node { part, block: leaf.0, bytes, entries: 0, next: 0, depth, end, last };
        let child = match child.checked(Some(depth)) {
            Ok(child) => child,
            Err(bad) => return Ok(Err(bad)),
        };
        if let Err(mismatch) = sealed {
            return Ok(Err((part, What::Checksum(mismatch))));
        }
        let first = child.entry::<ExtentIdx>(0).map_or(0, |first| u64::from(first.ei_block.get()));
        if first != at {
            return Ok(Err((part, What::field("its first block of the file", first, at))));
        }
        Ok(Ok(child))
    }

    /// An entry of a leaf.
    fn extent(
        &mut self,
        inode: &Inode,
        part: Part,
        last_allowed: u64,
        file_end: u64,
        raw: &Extent,
        mapped: &mut Mapped,
    ) -> Result<Outcome> {
        let (geom, len) = (self.fs.geom(), raw.ee_len.get());
        let unwritten = len > EXTENT_MAX;
        let count = u64::from(if unwritten { len.saturating_sub(EXTENT_MAX) } else { len });
        let start = BlockNo(u64::from(raw.ee_start_hi.get()) << 32 | u64::from(raw.ee_start_lo.get()));
        let at = u64::from(raw.ee_block.get());
        let end = at.saturating_add(count);
        let last = end.wrapping_sub(1);
        let is_dir = inode.kind() == Some(Kind::Dir);
        let bad = |name, found: u64, expected: String| Ok(Err((part, What::field(name, found, expected))));
        if start.0 == 0 || !geom.holds(start, BlockCount(count.max(1))) {
            return bad("ee_start", start.0, format!("{count} blocks below {}", geom.blocks));
        }
        let beyond = last > file_end.wrapping_sub(1) && (unwritten || inode.has(VERITY));
        if last_allowed != 0 && last > last_allowed && !beyond {
            return bad("ee_block", at, format!("a range up to {last_allowed}"));
        }
        if count == 0 {
            return bad("ee_len", len.into(), "at least 1".to_owned());
        }
        if at < mapped.next {
            return bad("ee_block", at, format!("at least {}", mapped.next));
        }
        if is_dir && end > self.dir_max(inode) {
            return bad("ee_block", at, "less than 2 GiB for a directory".to_owned());
        }
        if is_dir && unwritten {
            return Ok(Err((part, What::Broken("has unwritten blocks in a directory"))));
        }
        if is_dir && mapped.end < at {
            return bad("ee_block", at, format!("{}: a directory has no holes", mapped.end));
        }
        mapped.next = end;
        self.claim_extent(part, start, count, at, mapped)?;
        mapped.end = end;
        if !unwritten && !is_dir {
            mapped.written = Some(last);
        }
        Ok(Ok(()))
    }

    fn claim_extent(
        &mut self,
        part: Part,
        start: BlockNo,
        count: u64,
        at: u64,
        mapped: &mut Mapped,
    ) -> Result<()> {
        let bits = self.fs.geom().cluster_bits;
        let mask = self.fs.geom().cluster_ratio().saturating_sub(1);
        let cluster = |block: u64| block >> bits;
        let crosses = mapped.before != 0
            && at & mask != 0
            && cluster(at) == cluster(mapped.file_before)
            && cluster(start.0) != cluster(mapped.before);
        if at & mask != start.0 & mask || crosses {
            self.report.damaged(
                part,
                What::field("ee_start", start.0, "the same place in its cluster as in the file's"),
            );
        }
        let shared = mapped.before != 0 && mask != 0 && cluster(start.0) == cluster(mapped.before);
        let first = cluster(start.0).saturating_add(u64::from(shared)) << bits;
        let end = start.0.saturating_add(count);
        if first < end {
            let len = end.saturating_sub(first);
            self.claim(part, BlockNo(first), BlockCount(len))?;
            mapped.clusters = mapped.clusters.saturating_add(len.div_ceil(mask.saturating_add(1)));
        }
        mapped.before = end.saturating_sub(1);
        mapped.file_before = at.saturating_add(count).saturating_sub(1);
        Ok(())
    }

    /// How many blocks a directory may map.
    fn dir_max(&self, inode: &Inode) -> u64 {
        let large = self.fs.sb().incompat().has(Incompat::LARGEDIR) || inode.raw().i_size_high.get() != 0;
        if large {
            u64::MAX
        } else {
            1 << 21_u32.saturating_sub(self.fs.geom().block_size.bits().saturating_sub(10))
        }
    }

    /// Follows the pointers of ext2 and ext3.
    fn pointers(&mut self, inode: &Inode, mapped: &mut Mapped) -> Result<Outcome> {
        let root = super::special::words(&inode.raw().i_block);
        let fan = self.fs.geom().block_size.bytes() >> 2;
        for (index, &pointer) in root.iter().enumerate() {
            let (level, at) = match index {
                12 => (1, 12),
                13 => (2, fan.saturating_add(12)),
                14 => (3, fan.saturating_pow(2).saturating_add(fan).saturating_add(12)),
                n => (0, ondisk::num::to_u64(n)),
            };
            if let Err(bad) = self.pointer(inode, pointer, level, at, mapped)? {
                return Ok(Err(bad));
            }
        }
        Ok(Ok(()))
    }

    /// Follows one pointer of an inode with all that is behind it.
    fn pointer(
        &mut self,
        inode: &Inode,
        top: u32,
        level: u32,
        at: u64,
        mapped: &mut Mapped,
    ) -> Result<Outcome> {
        let fan = self.fs.geom().block_size.bytes() >> 2;
        let ino = inode.ino();
        // Each level: the pointers of a block, the next one, and the block of the file that it maps.
        let mut stack = vec![(Part::MapRoot(ino), vec![top], 0_usize, at, level)];
        while let Some((part, pointers, next, at, level)) = stack.last_mut() {
            let Some(&pointer) = pointers.get(*next) else {
                stack.pop();
                continue;
            };
            let (part, here, level) = (*part, *at, *level);
            *next = next.saturating_add(1);
            *at = at.saturating_add(fan.saturating_pow(level));
            if pointer == 0 {
                continue;
            }
            let block = BlockNo(pointer.into());
            if let Err(bad) = self.pointed(inode, part, block, (level == 0).then_some(here), mapped)? {
                return Ok(Err(bad));
            }
            if level > 0 {
                let part = Part::MapBlock(ino, block);
                let inner = super::special::words(&self.fs.read_block(part, block)?);
                stack.push((part, inner, 0, here, level.saturating_sub(1)));
            }
        }
        Ok(Ok(()))
    }

    /// A block that a pointer names: of the file, or of pointers.
    fn pointed(
        &mut self,
        inode: &Inode,
        part: Part,
        block: BlockNo,
        at: Option<u64>,
        mapped: &mut Mapped,
    ) -> Result<Outcome> {
        let geom = self.fs.geom();
        let (is_dir, is_file) = (inode.kind() == Some(Kind::Dir), inode.kind() == Some(Kind::File));
        let max = 1_u64 << 31_u32.saturating_sub(geom.block_size.bits().saturating_sub(10));
        let many = mapped.clusters.saturating_add(1) >= max && (is_dir || is_file);
        let late = at.is_some_and(|at| is_dir && at > self.dir_max(inode) || !is_dir && !is_file && at > 0);
        if many || late {
            return Ok(Err((part, What::field("a pointer's place in the file", at.unwrap_or(max), "less"))));
        }
        if !geom.holds(block, BlockCount(1)) {
            return Ok(Err((
                part,
                What::field("a pointer", block.0, format!("a block below {}", geom.blocks)),
            )));
        }
        let (bits, mask) = (geom.cluster_bits, geom.cluster_ratio().saturating_sub(1));
        let resize = inode.ino() == InodeNo::RESIZE;
        let same = mask != 0 && mapped.before != 0 && block.0 >> bits == mapped.before >> bits;
        if resize {
            // Its reserved blocks belong to the groups' heads; only the topmost block is its own.
            if part == Part::MapRoot(inode.ino()) {
                self.claim(part, block, BlockCount(1))?;
            }
            mapped.clusters = mapped.clusters.saturating_add(1);
        } else if !same || at.is_none_or(|at| at & mask != block.0 & mask) {
            if !self.claim(part, block, BlockCount(1))? && at.is_none() {
                return Ok(Err((Part::MapBlock(inode.ino(), block), What::Broken("is not the file's own"))));
            }
            mapped.clusters = mapped.clusters.saturating_add(1);
        }
        if let Some(at) = at {
            mapped.end = at.saturating_add(1);
            mapped.written = Some(at);
        }
        mapped.before = block.0;
        Ok(Ok(()))
    }
}

/// Where and what is damaged.
type Bad = (Part, What);
/// Whether a map could be followed.
type Outcome = std::result::Result<(), Bad>;

impl Node {
    fn entry<T: FromBytes>(&self, index: u16) -> Option<T> {
        let at = usize::from(index).checked_mul(12)?.checked_add(12)?;
        Some(T::read_from_prefix(self.bytes.get(at..)?).ok()?.0)
    }

    /// Reads the header.
    fn checked(mut self, depth: Option<u16>) -> std::result::Result<Self, Bad> {
        let part = self.part;
        let Ok((head, _)) = ExtentHeader::read_from_prefix(&self.bytes) else {
            return Err((part, What::Broken("is shorter than its header")));
        };
        let bad = |name, found: u16, expected: String| Err((part, What::field(name, found, expected)));
        if head.eh_magic.get() != EXTENT_MAGIC {
            return bad("eh_magic", head.eh_magic.get(), EXTENT_MAGIC.to_string());
        }
        let room = self.bytes.len().saturating_sub(12).checked_div(12).unwrap_or_default();
        let max = usize::from(head.eh_max.get());
        if max > room || max < room.saturating_sub(2) {
            return bad("eh_max", head.eh_max.get(), format!("{} to {room}", room.saturating_sub(2)));
        }
        let entries = head.eh_entries.get();
        let inner = depth.map_or(head.eh_depth.get() > 0, |_| true);
        let least = u16::from(inner);
        if entries > head.eh_max.get() || entries < least {
            return bad("eh_entries", entries, format!("{least} to {max}"));
        }
        let found = head.eh_depth.get();
        match depth {
            Some(depth) if depth != found => return bad("eh_depth", found, depth.to_string()),
            None if found > 5 => return bad("eh_depth", found, "at most 5".to_owned()),
            _ => {}
        }
        self.entries = entries;
        self.depth = found;
        Ok(self)
    }
}

/// `i_size` with its high half, whatever the kind of file.
pub(super) fn full_size(inode: &Inode) -> ondisk::Len {
    let raw = inode.raw();
    ondisk::Len::new(u64::from(raw.i_size_high.get()) << 32 | u64::from(raw.i_size_lo.get()))
}

/// Whether an extent tree, or something that looks like one, begins in an inode.
pub(super) fn looks_like_extents(inode: &Inode) -> bool {
    let raw = inode.raw();
    let Ok((head, _)) = ExtentHeader::read_from_prefix(&raw.i_block) else { return false };
    let (max, entries) = (head.eh_max.get(), head.eh_entries.get());
    head.eh_magic.get() == EXTENT_MAGIC && entries <= max && (2..=4).contains(&max)
}
