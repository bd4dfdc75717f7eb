//! Reading a filesystem: nothing in here can write.
//!
//! 1. Every block number is checked against the filesystem's bounds before it is read.
//! 2. Every loop ends: trees are walked with an explicit stack and visit no block twice.
//! 3. Everything with a checksum is verified before it is believed.

pub mod dir;
pub mod file;
pub mod inode;
pub mod map;
pub mod path;
pub mod xattr;

use crate::bitmap::Bitmap;
use crate::csum::Object;
use crate::error::{Error, Part, Result};
use crate::geom::Geometry;
use crate::group::{Descriptor, Groups};
use crate::layout;
use crate::layout::misc::{MMP_MAGIC, MMP_SEQ_CLEAN, MMP_SEQ_FSCK};
use crate::sb::Superblock;
use crate::unit::{BlockCount, BlockNo, GroupNo, InodeNo};
use disk::{Limits, ReadAt};
use inode::Inode;
use ondisk::num::{low32, to_usize};
use ondisk::{Len, Mismatch, Offset};
use zerocopy::FromBytes;

/// An open filesystem.
pub struct Ext<D> {
    disk: D,
    sb: Superblock,
    groups: Groups,
    limits: Limits,
}

/// Who has the filesystem, as multiple mount protection tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MmpState {
    /// Nobody; or it is not protected.
    Clean,
    /// A checker is running, or was interrupted.
    Checking,
    /// A host has it mounted, or crashed while it had.
    Mounted {
        /// The name of the host.
        node: Vec<u8>,
        /// When it was seen last, in seconds since 1970.
        time: u64,
    },
}

impl<D: ReadAt> Ext<D> {
    /// Reads superblock and descriptors.
    ///
    /// # Errors
    /// Where there is no filesystem, its superblock is damaged, or it has features that we cannot read.
    pub fn open(disk: D, limits: &Limits) -> Result<Self> {
        let sb = Superblock::read(&disk)?;
        let groups = Groups::read(&disk, &sb, limits)?;
        Ok(Self { disk, sb, groups, limits: *limits })
    }

    /// The disk below.
    pub const fn disk(&self) -> &D {
        &self.disk
    }

    /// The superblock.
    pub const fn sb(&self) -> &Superblock {
        &self.sb
    }

    /// Where everything is.
    pub const fn geom(&self) -> &Geometry {
        self.sb.geom()
    }

    /// The group descriptors.
    pub const fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The bounds it was opened with.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Reads one block; `part` is what lies there, for the error.
    ///
    /// # Errors
    /// Where it does not lie in the filesystem, or cannot be read.
    pub fn read_block(&self, part: Part, block: BlockNo) -> Result<Vec<u8>> {
        self.read_blocks(part, block, BlockCount(1))
    }

    /// Reads neighbouring blocks.
    ///
    /// # Errors
    /// As [`Ext::read_block`], and where they do not fit into memory.
    pub fn read_blocks(&self, part: Part, first: BlockNo, count: BlockCount) -> Result<Vec<u8>> {
        let geom = self.geom();
        let end = first.0.checked_add(count.0).filter(|&end| end <= geom.blocks.0);
        let span = end.and_then(|_| geom.block_size.span_of(first, count));
        let Some(span) = span else {
            return Err(Error::field(part, "its block", first.0, format!("a block below {}", geom.blocks)));
        };
        Ok(disk::read_vec(&self.disk, span, &self.limits)?)
    }

    /// Where an inode is, in bytes.
    ///
    /// # Errors
    /// Where there is no such inode, or its group's descriptor is damaged.
    pub fn inode_offset(&self, ino: InodeNo) -> Result<Offset> {
        let geom = self.geom();
        let Some((group, index)) = geom.place_of(ino) else {
            let expected = format!("1 to {}", geom.inodes());
            return Err(Error::field(Part::Inode(ino), "its number", ino.0, expected));
        };
        let table = geom.block_size.offset_of(self.groups.get(group)?.inode_table);
        let within = u64::from(index).saturating_mul(u64::from(geom.inode_size));
        let at = table.and_then(|table| table.checked_add(Len::new(within)));
        at.ok_or(Error::broken(Part::Inode(ino), "lies beyond the end of all numbers"))
    }

    /// Reads an inode.
    ///
    /// # Errors
    /// Where there is no such inode, it cannot be read, or it is damaged.
    pub fn inode(&self, ino: InodeNo) -> Result<Inode> {
        let mut bytes = vec![0; usize::from(self.geom().inode_size)];
        self.disk.read_at(self.inode_offset(ino)?, &mut bytes)?;
        self.parse_inode(ino, bytes)
    }

    /// Validates the bytes of an inode that were read in bulk.
    ///
    /// # Errors
    /// Where they are damaged.
    pub fn parse_inode(&self, ino: InodeNo, bytes: Vec<u8>) -> Result<Inode> {
        self.sb.sums().verify(Object::Inode(ino), &bytes).map_err(Error::checksum(Part::Inode(ino)))?;
        Inode::parse(ino, bytes)
    }

    /// The block bitmap of a group, computed where it is not initialised. Padding is as on disk.
    ///
    /// # Errors
    /// Where it cannot be read, or is damaged.
    pub fn block_bitmap(&self, group: GroupNo) -> Result<Bitmap> {
        let desc = self.groups.get(group)?;
        if desc.block_uninit() {
            return Ok(self.implied_block_bitmap(group, &desc));
        }
        let part = Part::BlockBitmap(group);
        let bytes = self.read_block(part, desc.block_bitmap)?;
        self.check_bitmap(&bytes, self.geom().block_bitmap_bytes(), desc.block_bitmap_csum)
            .map_err(Error::checksum(part))?;
        Ok(Bitmap::from_bytes(bytes, low32(self.geom().clusters_in(group).0)))
    }

    /// What the block bitmap of a group would be if nothing but the group's own metadata were in it: the meaning of
    /// `BLOCK_UNINIT`.
    #[must_use]
    pub fn implied_block_bitmap(&self, group: GroupNo, desc: &Descriptor) -> Bitmap {
        let geom = self.geom();
        let mut bitmap = Bitmap::empty(geom.block_size, low32(geom.clusters_in(group).0));
        let own = [
            (geom.first_block(group), geom.head_blocks(group)),
            (desc.block_bitmap, BlockCount(1)),
            (desc.inode_bitmap, BlockCount(1)),
            (desc.inode_table, geom.table_blocks()),
        ];
        let (first, end) = (geom.first_block(group), geom.end_block(group));
        for (at, count) in own {
            let (lo, hi) = (at.max(first), at.plus(count.0).min(end));
            if lo < hi {
                let bit = |block: BlockNo| low32(block.0.saturating_sub(first.0) >> geom.cluster_bits);
                let last = BlockNo(hi.0.saturating_sub(1));
                bitmap.fill(bit(lo)..bit(last).saturating_add(1), true);
            }
        }
        bitmap
    }

    /// The inode bitmap of a group, computed where it is not initialised.
    ///
    /// # Errors
    /// Where it cannot be read, or is damaged.
    pub fn inode_bitmap(&self, group: GroupNo) -> Result<Bitmap> {
        let desc = self.groups.get(group)?;
        if desc.inode_uninit() {
            return Ok(Bitmap::empty(self.geom().block_size, self.geom().inodes_per_group));
        }
        let part = Part::InodeBitmap(group);
        let bytes = self.read_block(part, desc.inode_bitmap)?;
        self.check_bitmap(&bytes, self.geom().inode_bitmap_bytes(), desc.inode_bitmap_csum)
            .map_err(Error::checksum(part))?;
        Ok(Bitmap::from_bytes(bytes, self.geom().inodes_per_group))
    }

    fn check_bitmap(&self, bytes: &[u8], covered: usize, stored: u32) -> std::result::Result<(), Mismatch> {
        if !self.sb.sums().cover_all() {
            return Ok(());
        }
        let computed = self.sb.sums().bitmap(bytes.get(..covered).unwrap_or(bytes), self.geom().desc_size);
        if stored == computed {
            Ok(())
        } else {
            Err(Mismatch { stored: stored.into(), computed: computed.into() })
        }
    }

    /// Free blocks as the descriptors count them: the superblock's count may be behind.
    ///
    /// # Errors
    /// Where a descriptor is damaged.
    pub fn free_blocks(&self) -> Result<BlockCount> {
        let mut free = 0_u64;
        for group in self.geom().all_groups() {
            free = free.saturating_add(u64::from(self.groups.get(group)?.free_clusters));
        }
        Ok(BlockCount(free << self.geom().cluster_bits))
    }

    /// Whether the journal must be replayed before anything else may be believed.
    #[must_use]
    pub fn needs_recovery(&self) -> bool {
        self.sb.needs_recovery()
    }

    /// Whether deleted files are still to be freed.
    #[must_use]
    pub fn has_orphans(&self) -> bool {
        self.sb.has_orphans()
    }

    /// Who has the filesystem mounted, as far as it says so.
    ///
    /// # Errors
    /// Where its block cannot be read, or is damaged.
    pub fn mmp(&self) -> Result<MmpState> {
        let Some(block) = self.sb.mmp_block() else { return Ok(MmpState::Clean) };
        let part = Part::Mmp(block);
        let bytes = self.read_block(part, block)?;
        let (mmp, _) = layout::Mmp::read_from_prefix(&bytes)
            .map_err(|_| Error::broken(part, "is shorter than its record"))?;
        if mmp.mmp_magic.get() != MMP_MAGIC {
            return Err(Error::field(part, "mmp_magic", mmp.mmp_magic.get(), MMP_MAGIC));
        }
        self.sb.sums().verify(Object::Mmp, &bytes).map_err(Error::checksum(part))?;
        Ok(match mmp.mmp_seq.get() {
            MMP_SEQ_CLEAN => MmpState::Clean,
            MMP_SEQ_FSCK => MmpState::Checking,
            _ => MmpState::Mounted {
                node: ondisk::text::until_nul(&mmp.mmp_nodename).to_vec(),
                time: mmp.mmp_time.get(),
            },
        })
    }

    fn block_bytes(&self) -> usize {
        to_usize(self.geom().block_size.bytes())
    }
}
