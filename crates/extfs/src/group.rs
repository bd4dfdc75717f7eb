//! Group descriptors: where each group's bitmaps and inode table are, and what is free in it.
//!
//! 1. Bytes are kept as read, padding behind the last descriptor included; [`Groups::put`] changes fields in place and
//!    seals them.
//! 2. [`Groups::get`] gives out only descriptors whose checksum is right and whose places lie in the filesystem; without
//!    `flex_bg` in their own group.
//! 3. Flags count only with `uninit_bg` or `metadata_csum`; else they read as 0, and the bits on disk stay as they are.

use crate::csum::{Object, Sums};
use crate::error::{Error, Part, Result};
use crate::feature::Incompat;
use crate::geom::Geometry;
use crate::layout::GroupDesc;
use crate::layout::group::{BLOCK_UNINIT, DESC_SIZE_32, INODE_UNINIT, INODE_ZEROED};
use crate::sb::Superblock;
use crate::unit::{BlockCount, BlockNo, GroupNo};
use disk::{Limits, ReadAt};
use ondisk::Len;
use ondisk::num::{low16, low32, to_usize};
use std::ops::Range;
use zerocopy::{FromZeros, IntoBytes};

/// What a descriptor says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Where the block bitmap is.
    pub block_bitmap: BlockNo,
    /// Where the inode bitmap is.
    pub inode_bitmap: BlockNo,
    /// Where the inode table begins.
    pub inode_table: BlockNo,
    /// Free clusters (blocks without `bigalloc`).
    pub free_clusters: u32,
    /// Free inodes.
    pub free_inodes: u32,
    /// Inodes that are directories.
    pub used_dirs: u32,
    /// Inodes at the end of the table that were never used.
    pub itable_unused: u32,
    /// `bg_flags`.
    pub flags: u16,
    /// The stored checksum of the block bitmap.
    pub block_bitmap_csum: u32,
    /// The stored checksum of the inode bitmap.
    pub inode_bitmap_csum: u32,
}

impl Descriptor {
    /// Whether inode bitmap and table are not initialised.
    #[must_use]
    pub const fn inode_uninit(&self) -> bool {
        self.flags & INODE_UNINIT != 0
    }

    /// Whether the block bitmap is not initialised.
    #[must_use]
    pub const fn block_uninit(&self) -> bool {
        self.flags & BLOCK_UNINIT != 0
    }

    /// Whether the unused part of the inode table is known to read as zero.
    #[must_use]
    pub const fn inode_zeroed(&self) -> bool {
        self.flags & INODE_ZEROED != 0
    }

    fn of(raw: &GroupDesc, flags_count: bool) -> Self {
        let block = |lo: u32, hi: u32| BlockNo(u64::from(hi) << 32 | u64::from(lo));
        let count = |lo: u16, hi: u16| u32::from(hi) << 16 | u32::from(lo);
        Self {
            block_bitmap: block(raw.bg_block_bitmap_lo.get(), raw.bg_block_bitmap_hi.get()),
            inode_bitmap: block(raw.bg_inode_bitmap_lo.get(), raw.bg_inode_bitmap_hi.get()),
            inode_table: block(raw.bg_inode_table_lo.get(), raw.bg_inode_table_hi.get()),
            free_clusters: count(raw.bg_free_blocks_count_lo.get(), raw.bg_free_blocks_count_hi.get()),
            free_inodes: count(raw.bg_free_inodes_count_lo.get(), raw.bg_free_inodes_count_hi.get()),
            used_dirs: count(raw.bg_used_dirs_count_lo.get(), raw.bg_used_dirs_count_hi.get()),
            itable_unused: count(raw.bg_itable_unused_lo.get(), raw.bg_itable_unused_hi.get()),
            flags: if flags_count { raw.bg_flags.get() } else { 0 },
            block_bitmap_csum: count(raw.bg_block_bitmap_csum_lo.get(), raw.bg_block_bitmap_csum_hi.get()),
            inode_bitmap_csum: count(raw.bg_inode_bitmap_csum_lo.get(), raw.bg_inode_bitmap_csum_hi.get()),
        }
    }

    fn store(&self, raw: &mut GroupDesc) {
        let high = |n: u32| low16(u64::from(n >> 16));
        let low = |n: u32| low16(u64::from(n));
        raw.bg_block_bitmap_lo.set(low32(self.block_bitmap.0));
        raw.bg_block_bitmap_hi.set(low32(self.block_bitmap.0 >> 32));
        raw.bg_inode_bitmap_lo.set(low32(self.inode_bitmap.0));
        raw.bg_inode_bitmap_hi.set(low32(self.inode_bitmap.0 >> 32));
        raw.bg_inode_table_lo.set(low32(self.inode_table.0));
        raw.bg_inode_table_hi.set(low32(self.inode_table.0 >> 32));
        raw.bg_free_blocks_count_lo.set(low(self.free_clusters));
        raw.bg_free_blocks_count_hi.set(high(self.free_clusters));
        raw.bg_free_inodes_count_lo.set(low(self.free_inodes));
        raw.bg_free_inodes_count_hi.set(high(self.free_inodes));
        raw.bg_used_dirs_count_lo.set(low(self.used_dirs));
        raw.bg_used_dirs_count_hi.set(high(self.used_dirs));
        raw.bg_itable_unused_lo.set(low(self.itable_unused));
        raw.bg_itable_unused_hi.set(high(self.itable_unused));
        raw.bg_flags.set(self.flags);
        raw.bg_block_bitmap_csum_lo.set(low(self.block_bitmap_csum));
        raw.bg_block_bitmap_csum_hi.set(high(self.block_bitmap_csum));
        raw.bg_inode_bitmap_csum_lo.set(low(self.inode_bitmap_csum));
        raw.bg_inode_bitmap_csum_hi.set(high(self.inode_bitmap_csum));
    }
}

/// All descriptors of a filesystem.
#[derive(Clone)]
pub struct Groups {
    /// Descriptor blocks, one after the other.
    bytes: Vec<u8>,
    geom: Geometry,
    sums: Sums,
    flags_count: bool,
    flex: bool,
}

impl Groups {
    /// Reads the primary descriptors. They are verified one by one when they are asked for.
    ///
    /// # Errors
    /// Where they cannot be read or do not fit into memory.
    pub fn read(disk: &(impl ReadAt + ?Sized), sb: &Superblock, limits: &Limits) -> Result<Self> {
        Self::read_with(disk, sb, limits, |geom, k| geom.primary_desc_block(k))
    }

    /// Reads the copies that belong to the backup in `group`: the classic ones there, others from the second group of
    /// their meta group.
    ///
    /// # Errors
    /// As [`Groups::read`], and where there are none.
    pub fn read_backup(
        disk: &(impl ReadAt + ?Sized),
        sb: &Superblock,
        limits: &Limits,
        group: GroupNo,
    ) -> Result<Self> {
        Self::read_with(disk, sb, limits, |geom, k| match geom.first_meta_bg {
            Some(first) if k >= first => geom.desc_block_copies(k).get(1).copied(),
            _ => geom.desc_block_in(k, group),
        })
    }

    fn read_with(
        disk: &(impl ReadAt + ?Sized),
        sb: &Superblock,
        limits: &Limits,
        place: impl Fn(&Geometry, u32) -> Option<BlockNo>,
    ) -> Result<Self> {
        let geom = sb.geom().clone();
        let (size, count) = (geom.block_size, geom.desc_blocks());
        let len = size.len_of(BlockCount(count.into())).unwrap_or(Len::new(u64::MAX));
        let mut bytes = limits.buffer("the group descriptors", len)?;
        for (k, block) in (0..count).zip(bytes.chunks_exact_mut(size.to_usize())) {
            let part = Part::Descriptor(geom.first_group_of(k));
            let at = place(&geom, k).filter(|&at| geom.holds(at, BlockCount(1)));
            let at = at.and_then(|at| size.offset_of(at));
            disk.read_at(at.ok_or(Error::broken(part, "has no place in the filesystem"))?, block)?;
        }
        Ok(Self {
            bytes,
            sums: *sb.sums(),
            flags_count: sb.has_group_flags(),
            flex: sb.incompat().has(Incompat::FLEX_BG),
            geom,
        })
    }

    /// The same descriptors for a superblock of another size: new ones are zero, until they are [`Groups::put`].
    ///
    /// # Errors
    /// Where the new table does not fit into memory.
    pub fn resized(&self, sb: &Superblock, limits: &Limits) -> Result<Self> {
        let geom = sb.geom().clone();
        let used = to_usize(geom.desc_table_bytes().min(self.geom.desc_table_bytes()));
        let len = geom.block_size.len_of(BlockCount(geom.desc_blocks().into()));
        let mut bytes = limits.buffer("the group descriptors", len.unwrap_or(Len::new(u64::MAX)))?;
        if let (Some(to), Some(from)) = (bytes.get_mut(..used), self.bytes.get(..used)) {
            to.copy_from_slice(from);
        }
        Ok(Self {
            bytes,
            sums: *sb.sums(),
            flags_count: sb.has_group_flags(),
            flex: sb.incompat().has(Incompat::FLEX_BG),
            geom,
        })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.geom.groups()
    }

    /// A descriptor, verified.
    ///
    /// # Errors
    /// Where its checksum is wrong, or it points out of the filesystem.
    pub fn get(&self, group: GroupNo) -> Result<Descriptor> {
        let part = Part::Descriptor(group);
        let bytes = self.bytes_of(group).ok_or(Error::broken(part, "there is no such group"))?;
        self.sums.verify(Object::Descriptor(group), bytes).map_err(Error::checksum(part))?;
        let desc = self.unverified(group).unwrap_or_default();
        self.check_place(group, "bg_block_bitmap", desc.block_bitmap, BlockCount(1))?;
        self.check_place(group, "bg_inode_bitmap", desc.inode_bitmap, BlockCount(1))?;
        self.check_place(group, "bg_inode_table", desc.inode_table, self.geom.table_blocks())?;
        if desc.itable_unused > self.geom.inodes_per_group && self.flags_count {
            let expected = format!("at most {}", self.geom.inodes_per_group);
            return Err(Error::field(part, "bg_itable_unused", desc.itable_unused, expected));
        }
        Ok(desc)
    }

    /// A descriptor as it stands there, for those who look for damage; `None` where there is no such group.
    #[must_use]
    pub fn unverified(&self, group: GroupNo) -> Option<Descriptor> {
        let raw = head(self.bytes_of(group)?)?;
        Some(Descriptor::of(&raw, self.flags_count))
    }

    /// Replaces a descriptor: its fields in place, then its checksum. Flags stay where they do not count.
    ///
    /// # Errors
    /// Where there is no such group.
    pub fn put(&mut self, group: GroupNo, desc: &Descriptor) -> Result<()> {
        let (sums, flags_count) = (self.sums, self.flags_count);
        let range = self.range(group);
        let bytes = range.and_then(|range| self.bytes.get_mut(range));
        let bytes = bytes.ok_or(Error::broken(Part::Descriptor(group), "there is no such group"))?;
        let Some(mut raw) = head(bytes) else { return Ok(()) };
        let flags = if flags_count { desc.flags } else { raw.bg_flags.get() };
        Descriptor { flags, ..*desc }.store(&mut raw);
        for (to, from) in bytes.iter_mut().zip(raw.as_bytes()) {
            *to = *from;
        }
        sums.seal(Object::Descriptor(group), bytes);
        Ok(())
    }

    /// Descriptor block `k` as it is on disk.
    #[must_use]
    pub fn block(&self, k: u32) -> Option<&[u8]> {
        let size = self.geom.block_size.to_usize();
        let start = to_usize(u64::from(k)).checked_mul(size)?;
        self.bytes.get(start..start.checked_add(size)?)
    }

    /// The bytes of a descriptor.
    #[must_use]
    pub fn bytes_of(&self, group: GroupNo) -> Option<&[u8]> {
        self.bytes.get(self.range(group)?)
    }

    fn range(&self, group: GroupNo) -> Option<Range<usize>> {
        let size = usize::from(self.geom.desc_size);
        let start = to_usize(u64::from(group.0)).checked_mul(size)?;
        (group.0 < self.count()).then(|| start..start.saturating_add(size))
    }

    fn check_place(&self, group: GroupNo, field: &'static str, at: BlockNo, count: BlockCount) -> Result<()> {
        let (lo, hi) = if self.flex {
            (self.geom.first_data_block, BlockNo(self.geom.blocks.0))
        } else {
            (self.geom.first_block(group), self.geom.end_block(group))
        };
        let last = hi.0.saturating_sub(count.0);
        // Block 0 holds the superblock, or is the boot block.
        if at >= lo && at.0 <= last && at.0 > 0 && count.0 <= hi.0 {
            return Ok(());
        }
        Err(Error::field(Part::Descriptor(group), field, at.0, format!("a block from {lo} to {last}")))
    }
}

/// The first 64 bytes; those that a short descriptor lacks are zero.
fn head(bytes: &[u8]) -> Option<GroupDesc> {
    let mut raw = GroupDesc::new_zeroed();
    let len = if bytes.len() < size_of::<GroupDesc>() { DESC_SIZE_32 } else { size_of::<GroupDesc>() };
    raw.as_mut_bytes().get_mut(..len)?.copy_from_slice(bytes.get(..len)?);
    Some(raw)
}
