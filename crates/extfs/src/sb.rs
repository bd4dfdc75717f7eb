//! The validated superblock: the gate through which every other module goes.
//!
//! 1. Its checksum is right, where there is one.
//! 2. Its geometry is sound: all sizes are powers of two in range, counts agree with each other.
//! 3. No feature is set that changes how we would have to read.
//! 4. The 1024 bytes are kept as they were read; edits change fields in place.

use crate::csum::{self, Sums};
use crate::error::{Error, Part, Result};
use crate::feature::{Compat, Incompat, RoCompat};
use crate::geom::{Backups, Geometry};
use crate::layout;
use crate::layout::superblock::{CSUM_CRC32C, MAGIC, STATE_ERROR, STATE_VALID};
use crate::unit::{BlockCount, BlockNo, BlockSize, GroupNo, InodeNo};
use disk::ReadAt;
use ondisk::guid::Uuid;
use ondisk::num::low32;
use ondisk::{Len, Offset};

/// Where the superblock is.
pub const SUPER_OFFSET: Offset = Offset::new(1024);

/// A superblock that makes sense.
#[derive(Clone)]
pub struct Superblock {
    raw: Box<layout::Superblock>,
    geom: Geometry,
    sums: Sums,
}

impl Superblock {
    /// Reads the primary superblock.
    ///
    /// # Errors
    /// Where there is none, it is damaged, or has features that we cannot read.
    pub fn read(disk: &(impl ReadAt + ?Sized)) -> Result<Self> {
        let raw: layout::Superblock = if disk.len().get() < 2048 {
            return Err(Error::Magic { found: 0 });
        } else {
            disk::read_record(disk, SUPER_OFFSET)?
        };
        let this = Self::parse(raw, GroupNo(0))?;
        this.check_len(disk.len())?;
        Ok(this)
    }

    /// Reads the backup superblock in a group, whose place the present superblock knows.
    ///
    /// # Errors
    /// As [`Superblock::read`].
    pub fn read_backup(&self, disk: &(impl ReadAt + ?Sized), group: GroupNo) -> Result<Self> {
        let at = self.backup_offset(group);
        let at = at.ok_or(Error::broken(Part::Superblock(group), "there is no backup in this group"))?;
        let this = Self::parse(disk::read_record(disk, at)?, group)?;
        this.check_len(disk.len())?;
        Ok(this)
    }

    /// Where the copy of the superblock in a group begins; `None` for groups without one.
    #[must_use]
    pub fn backup_offset(&self, group: GroupNo) -> Option<Offset> {
        match group {
            GroupNo(0) => Some(SUPER_OFFSET),
            g if g.0 < self.geom.groups() && self.geom.has_super(g) => {
                self.geom.block_size.offset_of(self.geom.super_block(g))
            }
            _ => None,
        }
    }

    /// Validates the bytes of a superblock found in `group`.
    ///
    /// # Errors
    /// Where they are damaged, or have features that we cannot read.
    pub fn parse(raw: layout::Superblock, group: GroupNo) -> Result<Self> {
        let part = Part::Superblock(group);
        if raw.s_magic.get() != MAGIC {
            return Err(Error::Magic { found: raw.s_magic.get() });
        }
        if raw.s_rev_level.get() > 1 {
            return Err(Error::Unsupported { part, what: "a revision above 1" });
        }
        let unreadable = incompat(&raw).without(Incompat::READABLE);
        if !unreadable.is_empty() {
            return Err(Error::Features(unreadable));
        }
        if ro_compat(&raw).has(RoCompat::METADATA_CSUM) {
            if raw.s_checksum_type != CSUM_CRC32C {
                return Err(Error::field(part, "s_checksum_type", raw.s_checksum_type, "1 (crc32c)"));
            }
            csum::verify_superblock(&raw).map_err(Error::checksum(part))?;
        }
        let geom = geometry(&raw, part)?;
        check_counts(&raw, &geom, part)?;
        Ok(Self { sums: Sums::of(&raw), raw: Box::new(raw), geom })
    }

    /// A copy with some fields changed, validated and sealed.
    ///
    /// # Errors
    /// Where the result would make no sense.
    pub fn edited(&self, edit: impl FnOnce(&mut layout::Superblock)) -> Result<Self> {
        let mut raw = *self.raw;
        edit(&mut raw);
        if ro_compat(&raw).has(RoCompat::METADATA_CSUM) {
            csum::seal_superblock(&mut raw);
        }
        Self::parse(raw, GroupNo(u32::from(raw.s_block_group_nr.get())))
    }

    /// The copy for the backup in `group`: with its number, sealed.
    ///
    /// # Errors
    /// Never for a superblock that was valid; the type cannot say so.
    pub fn for_group(&self, group: GroupNo) -> Result<Self> {
        self.edited(|raw| raw.s_block_group_nr.set(ondisk::num::low16(u64::from(group.0))))
    }

    fn check_len(&self, len: Len) -> Result<()> {
        let there = self.geom.block_size.blocks_in(len);
        if self.geom.blocks > there {
            let expected = format!("at most {there}, which is what the disk holds");
            return Err(Error::field(
                Part::Superblock(GroupNo(0)),
                "s_blocks_count",
                self.geom.blocks.0,
                expected,
            ));
        }
        Ok(())
    }

    /// The bytes.
    #[must_use]
    pub const fn raw(&self) -> &layout::Superblock {
        &self.raw
    }

    /// Where everything is.
    #[must_use]
    pub const fn geom(&self) -> &Geometry {
        &self.geom
    }

    /// How metadata is checksummed.
    #[must_use]
    pub const fn sums(&self) -> &Sums {
        &self.sums
    }

    /// Features that may be ignored.
    #[must_use]
    pub fn compat(&self) -> Compat {
        compat(&self.raw)
    }

    /// Features needed to read.
    #[must_use]
    pub fn incompat(&self) -> Incompat {
        incompat(&self.raw)
    }

    /// Features needed to write.
    #[must_use]
    pub fn ro_compat(&self) -> RoCompat {
        ro_compat(&self.raw)
    }

    /// The names of all features, as dumpe2fs lists them.
    #[must_use]
    pub fn feature_names(&self) -> Vec<&'static str> {
        self.compat().names().chain(self.incompat().names()).chain(self.ro_compat().names()).collect()
    }

    /// What a mount calls it: `ext4` where ext3 lacks one of its features, else `ext3` with a journal and `ext2`
    /// without.
    #[must_use]
    pub fn version(&self) -> &'static str {
        let newer = self.incompat().without(Incompat::EXT3).is_empty();
        let newer = !newer || !self.ro_compat().without(RoCompat::EXT3).is_empty();
        match self.compat().has(Compat::HAS_JOURNAL) {
            _ if newer => "ext4",
            true => "ext3",
            false => "ext2",
        }
    }

    /// Whether we may write.
    ///
    /// # Errors
    /// The features that forbid it.
    pub fn writable(&self) -> Result<()> {
        let unknown = self.ro_compat().without(RoCompat::WRITABLE);
        if unknown.is_empty() { Ok(()) } else { Err(Error::ReadOnlyFeatures(unknown)) }
    }

    /// The filesystem's UUID.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        Uuid(self.raw.s_uuid)
    }

    /// The volume label, up to its end.
    #[must_use]
    pub fn label(&self) -> &[u8] {
        ondisk::text::until_nul(&self.raw.s_volume_name)
    }

    /// `s_free_blocks_count`: blocks, even with `bigalloc`.
    #[must_use]
    pub fn free_blocks(&self) -> BlockCount {
        BlockCount(self.wide(self.raw.s_free_blocks_count_lo.get(), self.raw.s_free_blocks_count_hi.get()))
    }

    /// `s_r_blocks_count`: blocks held back for root.
    #[must_use]
    pub fn reserved_blocks(&self) -> BlockCount {
        BlockCount(self.wide(self.raw.s_r_blocks_count_lo.get(), self.raw.s_r_blocks_count_hi.get()))
    }

    /// `s_free_inodes_count`.
    #[must_use]
    pub fn free_inodes(&self) -> u32 {
        self.raw.s_free_inodes_count.get()
    }

    /// The first inode that is not reserved.
    #[must_use]
    pub fn first_inode(&self) -> InodeNo {
        InodeNo(if self.raw.s_rev_level.get() == 0 { 11 } else { self.raw.s_first_ino.get() })
    }

    /// The journal's inode, if it is inside the filesystem.
    #[must_use]
    pub fn journal_inode(&self) -> Option<InodeNo> {
        let there = self.compat().has(Compat::HAS_JOURNAL) && self.raw.s_journal_inum.get() != 0;
        there.then(|| InodeNo(self.raw.s_journal_inum.get()))
    }

    /// The block of multiple mount protection, if there is one.
    #[must_use]
    pub fn mmp_block(&self) -> Option<BlockNo> {
        let there = self.incompat().has(Incompat::MMP) && self.raw.s_mmp_block.get() != 0;
        there.then(|| BlockNo(self.raw.s_mmp_block.get()))
    }

    /// Whether the journal must be replayed before anything else may be believed.
    #[must_use]
    pub fn needs_recovery(&self) -> bool {
        self.incompat().has(Incompat::RECOVER)
    }

    /// Whether deleted files are still to be freed.
    #[must_use]
    pub fn has_orphans(&self) -> bool {
        self.raw.s_last_orphan.get() != 0 || self.ro_compat().has(RoCompat::ORPHAN_PRESENT)
    }

    /// Whether it was unmounted cleanly.
    #[must_use]
    pub fn is_valid_state(&self) -> bool {
        self.raw.s_state.get() & STATE_VALID != 0
    }

    /// Whether somebody has seen errors in it.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.raw.s_state.get() & STATE_ERROR != 0
    }

    /// Whether the uninitialised flags of descriptors count.
    #[must_use]
    pub fn has_group_flags(&self) -> bool {
        let bits = self.ro_compat();
        bits.has(RoCompat::METADATA_CSUM) || bits.has(RoCompat::GDT_CSUM)
    }

    fn wide(&self, lo: u32, hi: u32) -> u64 {
        if self.incompat().has(Incompat::BIT64) { join(lo, hi) } else { u64::from(lo) }
    }
}

impl layout::Superblock {
    /// Sets `s_blocks_count`; without `64bit` the high half becomes 0.
    pub fn set_blocks(&mut self, n: BlockCount) {
        self.s_blocks_count_lo.set(low32(n.0));
        self.s_blocks_count_hi.set(high(self, n));
    }

    /// Sets `s_free_blocks_count`; without `64bit` the high half becomes 0.
    pub fn set_free_blocks(&mut self, n: BlockCount) {
        self.s_free_blocks_count_lo.set(low32(n.0));
        self.s_free_blocks_count_hi.set(high(self, n));
    }

    /// Sets `s_r_blocks_count`; without `64bit` the high half becomes 0.
    pub fn set_reserved_blocks(&mut self, n: BlockCount) {
        self.s_r_blocks_count_lo.set(low32(n.0));
        self.s_r_blocks_count_hi.set(high(self, n));
    }
}

fn high(raw: &layout::Superblock, n: BlockCount) -> u32 {
    if incompat(raw).has(Incompat::BIT64) { low32(n.0 >> 32) } else { 0 }
}

/// Features count in every revision: kernels, too, read them in revision 0.
fn compat(raw: &layout::Superblock) -> Compat {
    Compat(raw.s_feature_compat.get())
}

fn incompat(raw: &layout::Superblock) -> Incompat {
    Incompat(raw.s_feature_incompat.get())
}

fn ro_compat(raw: &layout::Superblock) -> RoCompat {
    RoCompat(raw.s_feature_ro_compat.get())
}

fn join(lo: u32, hi: u32) -> u64 {
    u64::from(hi) << 32 | u64::from(lo)
}

fn geometry(raw: &layout::Superblock, part: Part) -> Result<Geometry> {
    let field = |name, found: u32, expected: &str| Error::field(part, name, found, expected);
    let log = raw.s_log_block_size.get();
    let block_size = BlockSize::from_log(log).ok_or(field("s_log_block_size", log, "at most 6"))?;
    let bigalloc = ro_compat(raw).has(RoCompat::BIGALLOC);
    let (blocks_per_group, cluster_bits) = group_size(raw, block_size, bigalloc, part)?;
    let fdb = raw.s_first_data_block.get();
    let right = u32::from(log == 0 && cluster_bits == 0);
    if fdb != right {
        return Err(Error::field(part, "s_first_data_block", fdb, right));
    }
    let ipg = raw.s_inodes_per_group.get();
    if ipg == 0 || !ipg.is_multiple_of(8) || u64::from(ipg) > block_size.bitmap_bits() {
        return Err(field("s_inodes_per_group", ipg, "a multiple of 8 that fits a bitmap of one block"));
    }
    let bit64 = incompat(raw).has(Incompat::BIT64);
    let lo = raw.s_blocks_count_lo.get();
    let blocks = if bit64 { join(lo, raw.s_blocks_count_hi.get()) } else { u64::from(lo) };
    let geom = Geometry {
        block_size,
        blocks: BlockCount(blocks),
        first_data_block: BlockNo(u64::from(fdb)),
        blocks_per_group,
        cluster_bits,
        inodes_per_group: ipg,
        inode_size: inode_size(raw, block_size, part)?,
        desc_size: desc_size(raw, block_size, bit64, part)?,
        reserved_gdt: u32::from(raw.s_reserved_gdt_blocks.get()),
        first_meta_bg: incompat(raw).has(Incompat::META_BG).then(|| raw.s_first_meta_bg.get()),
        backups: backups(raw),
    };
    if geom.is_sound() { Ok(geom) } else { Err(field_of_blocks(part, &geom)) }
}

/// Says which of the numbers that form a geometry together is the likely culprit.
fn field_of_blocks(part: Part, geom: &Geometry) -> Error {
    match geom.first_meta_bg {
        Some(first) if first > geom.desc_blocks() => {
            Error::field(part, "s_first_meta_bg", first, format!("at most {}", geom.desc_blocks()))
        }
        _ => Error::field(
            part,
            "s_blocks_count",
            geom.blocks.0,
            "a number of blocks whose groups and inodes can be numbered",
        ),
    }
}

/// Blocks in a group, and log2 of the blocks in a cluster.
fn group_size(raw: &layout::Superblock, bs: BlockSize, bigalloc: bool, part: Part) -> Result<(u32, u32)> {
    let bpg = raw.s_blocks_per_group.get();
    let (log, log_cluster) = (raw.s_log_block_size.get(), raw.s_log_cluster_size.get());
    let bits = if bigalloc {
        let bits = log_cluster.checked_sub(log).filter(|_| log_cluster <= 19);
        bits.ok_or_else(|| Error::field(part, "s_log_cluster_size", log_cluster, format!("{log} to 19")))?
    } else {
        0
    };
    let cpg = bpg >> bits;
    let whole = u64::from(cpg) << bits == u64::from(bpg) && cpg.is_multiple_of(8);
    if cpg == 0 || !whole || u64::from(cpg) > bs.bitmap_bits() {
        let expected = "a multiple of 8 clusters that fits a bitmap of one block";
        return Err(Error::field(part, "s_blocks_per_group", bpg, expected));
    }
    if bigalloc && raw.s_clusters_per_group.get() != cpg {
        return Err(Error::field(part, "s_clusters_per_group", raw.s_clusters_per_group.get(), cpg));
    }
    Ok((bpg, bits))
}

fn inode_size(raw: &layout::Superblock, bs: BlockSize, part: Part) -> Result<u16> {
    let size = if raw.s_rev_level.get() == 0 { 128 } else { raw.s_inode_size.get() };
    if size.is_power_of_two() && size >= 128 && u64::from(size) <= bs.bytes() {
        Ok(size)
    } else {
        Err(Error::field(part, "s_inode_size", size, "a power of two from 128 to the size of a block"))
    }
}

fn desc_size(raw: &layout::Superblock, bs: BlockSize, bit64: bool, part: Part) -> Result<u16> {
    let size = raw.s_desc_size.get();
    match (bit64, size) {
        (false, _) => Ok(32),
        (true, 64..=1024) if size.is_power_of_two() && u64::from(size) <= bs.bytes() => Ok(size),
        _ => Err(Error::field(part, "s_desc_size", size, "a power of two from 64 to 1024")),
    }
}

fn backups(raw: &layout::Superblock) -> Backups {
    if compat(raw).has(Compat::SPARSE_SUPER2) {
        Backups::Sparse2(raw.s_backup_bgs.map(|g| GroupNo(g.get())))
    } else if ro_compat(raw).has(RoCompat::SPARSE_SUPER) {
        Backups::Sparse
    } else {
        Backups::All
    }
}

/// Counts that the geometry implies.
fn check_counts(raw: &layout::Superblock, geom: &Geometry, part: Part) -> Result<()> {
    if raw.s_inodes_count.get() != geom.inodes() {
        return Err(Error::field(part, "s_inodes_count", raw.s_inodes_count.get(), geom.inodes()));
    }
    let first = raw.s_first_ino.get();
    if raw.s_rev_level.get() > 0 && (first < 11 || first > geom.inodes()) {
        return Err(Error::field(part, "s_first_ino", first, format!("11 to {}", geom.inodes())));
    }
    let reserve_max = geom.block_size.bytes() >> 2;
    if u64::from(geom.reserved_gdt) > reserve_max {
        let expected = format!("at most {reserve_max}");
        return Err(Error::field(part, "s_reserved_gdt_blocks", geom.reserved_gdt, expected));
    }
    // Without meta_bg the descriptors of all groups must fit into group 0.
    let head = geom.head_blocks(GroupNo(0));
    if head > geom.blocks_in(GroupNo(0)) {
        let expected = format!("at most {} in group 0", geom.blocks_in(GroupNo(0)));
        return Err(Error::field(part, "the number of descriptor blocks", head.0, expected));
    }
    Ok(())
}
