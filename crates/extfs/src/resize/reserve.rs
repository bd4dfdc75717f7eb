//! The resize inode and the descriptor blocks that it holds back.
//!
//! ```text
//! inode 7 ─► double indirect block ─► reserved block i of group 0 ─► reserved block i of each backup group
//! ```
//!
//! 1. Slot `i mod (block size / 4)` of the double indirect block names reserved block `i`, counted from the first
//!    descriptor block; all other slots are 0.
//! 2. Each reserved block of group 0 lists its twins, ascending, and then zeros.
//! 3. The twins have no content: they may be written before the commit point.

use crate::error::{Error, Part, Result};
use crate::feature::Compat;
use crate::geom::Geometry;
use crate::read::Ext;
use crate::unit::{BlockNo, GroupNo, InodeNo};
use disk::ReadAt;
use ondisk::num::{low32, to_u64, to_usize};
use std::ops::Range;

/// The slot of the double indirect block in an inode.
const DIND: usize = 13;
const PART: Part = Part::Inode(InodeNo::RESIZE);

/// What happens to the resize inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// There is none, or it stays as it is.
    Same,
    /// Blocks leave the reserve, or their lists change.
    Changed {
        /// The double indirect block.
        dind: BlockNo,
    },
    /// It goes, because the reserve is used up.
    Dropped {
        /// The double indirect block, which becomes free.
        dind: BlockNo,
    },
}

/// Whether descriptors need more room in the classic place than there is.
pub(super) fn grows_heads(old: &Geometry, new: &Geometry) -> bool {
    let room = old.classic_desc_blocks().saturating_add(old.reserved_gdt);
    old.first_meta_bg.is_none() && new.classic_desc_blocks() > room
}

/// The descriptor blocks in reserve, counted from the first descriptor block.
pub(super) fn indexes(geom: &Geometry) -> Range<u32> {
    let first = geom.desc_blocks();
    first..first.saturating_add(geom.reserved_gdt)
}

/// The block of group 0 that is descriptor block `index`, used or in reserve.
pub(super) fn primary(geom: &Geometry, index: u32) -> BlockNo {
    geom.super_block(GroupNo(0)).plus(1).plus(u64::from(index))
}

/// The slot of the double indirect block that names it, as a range of bytes.
pub(super) fn slot(geom: &Geometry, index: u32) -> Range<usize> {
    let slots = low32(geom.block_size.bytes() >> 2).max(1);
    let at = to_usize(u64::from(index.checked_rem(slots).unwrap_or_default())).saturating_mul(4);
    at..at.saturating_add(4)
}

/// The contents of the double indirect block.
pub(super) fn dind_block(geom: &Geometry) -> Vec<u8> {
    let mut block = vec![0; geom.block_size.to_usize()];
    for index in indexes(geom) {
        if let Some(place) = block.get_mut(slot(geom, index)) {
            place.copy_from_slice(&low32(primary(geom, index).0).to_le_bytes());
        }
    }
    block
}

/// The contents of a reserved block of group 0.
pub(super) fn list_block(geom: &Geometry, index: u32) -> Vec<u8> {
    let mut block = vec![0; geom.block_size.to_usize()];
    for (place, group) in block.chunks_exact_mut(4).zip(geom.backup_groups()) {
        let blocks = u64::from(group.0).saturating_mul(u64::from(geom.blocks_per_group));
        place.copy_from_slice(&low32(primary(geom, index).plus(blocks).0).to_le_bytes());
    }
    block
}

/// `i_blocks`: the double indirect block and all blocks in reserve, each of which counts as a cluster.
pub(super) fn sectors(geom: &Geometry) -> u32 {
    let copies = to_u64(geom.backup_groups().count()).saturating_add(1);
    let blocks = copies.saturating_mul(u64::from(geom.reserved_gdt)).saturating_add(1);
    low32(blocks.saturating_mul(geom.cluster_ratio()).saturating_mul(geom.block_size.bytes() >> 9))
}

/// What must happen; verifies the whole of the old state where something must.
pub(super) fn plan<D: ReadAt>(fs: &Ext<D>, new: &Geometry) -> Result<Reserve> {
    let old = fs.geom();
    if !fs.sb().compat().has(Compat::RESIZE_INODE) {
        return if old.reserved_gdt == 0 {
            Ok(Reserve::Same)
        } else {
            let expected = "0 without the feature resize_inode";
            Err(Error::field(
                Part::Superblock(GroupNo(0)),
                "s_reserved_gdt_blocks",
                old.reserved_gdt,
                expected,
            ))
        };
    }
    if old.first_meta_bg.is_some() {
        return Err(Error::broken(Part::Superblock(GroupNo(0)), "has both resize_inode and meta_bg"));
    }
    let dind = verify(fs)?;
    let same = || old.desc_blocks() == new.desc_blocks() && old.backup_groups().eq(new.backup_groups());
    Ok(match () {
        () if new.first_meta_bg.is_some() || grows_heads(old, new) => Reserve::Dropped { dind },
        () if same() => Reserve::Same,
        () => Reserve::Changed { dind },
    })
}

/// Checks every pointer of the resize inode; its double indirect block.
fn verify<D: ReadAt>(fs: &Ext<D>) -> Result<BlockNo> {
    let geom = fs.geom();
    let inode = fs.inode(InodeNo::RESIZE)?;
    let raw = inode.raw();
    let mut pointers = raw
        .i_block
        .chunks_exact(4)
        .map(|word| word.first_chunk().map_or(0, |word: &[u8; 4]| u32::from_le_bytes(*word)));
    let direct = pointers.by_ref().take(DIND).all(|pointer| pointer == 0);
    let dind = BlockNo(u64::from(pointers.next().unwrap_or_default()));
    if inode.mode() & 0o170_000 != 0o100_000 || inode.links() == 0 {
        return Err(Error::broken(PART, "is not the regular file that a resize inode is"));
    }
    if !direct || pointers.any(|pointer| pointer != 0) {
        return Err(Error::broken(PART, "has pointers other than the double indirect one"));
    }
    let part = Part::MapBlock(InodeNo::RESIZE, dind);
    if dind < geom.first_data_block || dind.0 == 0 {
        return Err(Error::broken(PART, "has no double indirect block"));
    }
    if fs.read_block(part, dind)? != dind_block(geom) {
        return Err(Error::broken(part, "does not list the descriptor blocks in reserve"));
    }
    for index in indexes(geom) {
        let at = primary(geom, index);
        let part = Part::MapBlock(InodeNo::RESIZE, at);
        if fs.read_block(part, at)? != list_block(geom, index) {
            return Err(Error::broken(part, "does not list its twins in the backup groups"));
        }
    }
    Ok(dind)
}
