//! The numbers of the grown filesystem.
//!
//! 1. A last group too small for its own metadata and 50 blocks more is not begun.
//! 2. Descriptor blocks in use and in reserve are together as many as before, so that no group's head changes its
//!    length and nothing has to move.
//! 3. Where the reserve is used up, all of the classic area becomes descriptors, and the rest goes to `meta_bg`; or,
//!    where that cannot be, heads become longer after all.
//! 4. The second backup of `sparse_super2` stays with the last group.

use super::Refusal;
use crate::error::Result;
use crate::feature::Compat;
use crate::geom::{Backups, Geometry};
use crate::sb::Superblock;
use crate::unit::{BlockCount, GroupNo};
use ondisk::Len;
use ondisk::num::round_down;

/// Free blocks that a last group must have beyond its metadata.
const LAST_GROUP_SPARE: u64 = 50;
/// Filesystems end with a whole page of the processors that mount them.
const PAGE: u64 = 4096;

/// How many blocks fill a disk of that length.
#[must_use]
pub fn blocks_on(sb: &Superblock, len: Len) -> BlockCount {
    let geom = sb.geom();
    let fill = |len: u64| geom.block_size.blocks_in(Len::new(len));
    let paged = fill(round_down(len.get(), PAGE).unwrap_or_default());
    // A filesystem that already uses a part of the last page keeps it.
    let blocks = if paged > geom.blocks { paged } else { fill(len.get()).min(geom.blocks) };
    BlockCount(
        round_down(blocks.0, geom.cluster_ratio()).unwrap_or_default().max(blocks.0.min(geom.blocks.0)),
    )
}

/// The geometry of at most `want` blocks; the present one where there is nothing to gain.
pub(super) fn choose(sb: &Superblock, want: BlockCount, legacy_boot: bool) -> Result<Geometry> {
    let old = sb.geom();
    if want < old.blocks {
        return Err(Refusal::Smaller { have: old.blocks, want }.into());
    }
    let mut blocks = numbered(sb, BlockCount(round_down(want.0, old.cluster_ratio()).unwrap_or_default()))?;
    loop {
        if blocks <= old.blocks {
            return Ok(old.clone());
        }
        let new = shape(sb, blocks, legacy_boot)?;
        let last = new.last_group();
        let begun = last > old.last_group() && new.blocks_in(last).0 < u64::from(new.blocks_per_group);
        if begun && new.blocks_in(last).0 < new.overhead(last).0.saturating_add(LAST_GROUP_SPARE) {
            blocks = BlockCount(new.first_block(last).0);
            continue;
        }
        return fits(old, &new).map(|()| new);
    }
}

/// As many of the blocks as can be numbered, inodes included.
fn numbered(sb: &Superblock, want: BlockCount) -> Result<BlockCount> {
    let old = sb.geom();
    let mut blocks = want;
    let wide = sb.incompat().has(crate::feature::Incompat::BIT64);
    if !wide && want.0 > u64::from(u32::MAX) {
        if want.0 > 1 << 32 {
            let block_bytes = old.block_size.bytes();
            return Err(Refusal::Without64Bit { want, block_bytes }.into());
        }
        blocks = BlockCount(round_down(u64::from(u32::MAX), old.cluster_ratio()).unwrap_or_default());
    }
    let too_many = |blocks| !old.with_blocks(blocks).is_sound();
    if too_many(blocks) {
        let last = old.with_blocks(blocks).last_group();
        blocks = BlockCount(old.with_blocks(blocks).first_block(last).0);
    }
    if too_many(blocks) {
        return Err(Refusal::Inodes { want, per_group: old.inodes_per_group }.into());
    }
    Ok(blocks)
}

fn shape(sb: &Superblock, blocks: BlockCount, legacy_boot: bool) -> Result<Geometry> {
    let old = sb.geom();
    let mut new = old.with_blocks(blocks);
    new.backups = moved(old, &new);
    if old.first_meta_bg.is_some() {
        return Ok(new);
    }
    let (need, room) = (new.desc_blocks(), old.desc_blocks().saturating_add(old.reserved_gdt));
    if need <= room {
        new.reserved_gdt = room.saturating_sub(need);
        if sb.compat().has(Compat::RESIZE_INODE) && blocks.0 > 1 << 32 {
            return Err(Refusal::ResizeInode { want: blocks }.into());
        }
        return Ok(new);
    }
    new.reserved_gdt = 0;
    // Revision 0 knows no features.
    if !legacy_boot && sb.raw().s_rev_level.get() > 0 {
        new.first_meta_bg = Some(room);
    } else if new.cluster_bits > 0 {
        return Err(Refusal::Reserve { want: blocks, need, room }.into());
    }
    Ok(new)
}

/// Where the backups are once there are more groups.
fn moved(old: &Geometry, new: &Geometry) -> Backups {
    let (last, before) = (new.last_group(), old.last_group());
    match old.backups {
        Backups::Sparse2(_) if last > before && before == GroupNo(0) => {
            Backups::Sparse2([GroupNo(1), if last > GroupNo(1) { last } else { GroupNo(0) }])
        }
        Backups::Sparse2([first, second]) if last > before && second == before => {
            Backups::Sparse2([first, last])
        }
        same => same,
    }
}

/// Whether the heads of groups leave room for bitmaps and tables.
fn fits(old: &Geometry, new: &Geometry) -> Result<()> {
    let roomy = |group: GroupNo| new.overhead(group) <= new.blocks_in(group);
    let heads = new.backup_groups().filter(|&group| group > old.last_group());
    let plain = (old.groups()..new.groups()).map(GroupNo).take(3);
    let last = std::iter::once(new.last_group()).filter(|&group| group > old.last_group());
    if new.is_sound() && heads.chain(plain).chain(last).all(roomy) {
        Ok(())
    } else {
        Err(Refusal::Head { want: new.blocks, per_group: new.blocks_per_group }.into())
    }
}
