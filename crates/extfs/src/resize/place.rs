//! Where the bitmaps and inode tables of new groups go.
//!
//! ```text
//! first group of a pack   [head][n block bitmaps][n inode bitmaps][n inode tables] free …
//! the others              [head] free …
//! ```
//!
//! 1. A pack lies wholly in its first group; without `flex_bg` it is one group.
//! 2. Hence only first groups of packs of several have a block bitmap that is not implied by their own descriptor.

use crate::bitmap::Bitmap;
use crate::geom::Geometry;
use crate::unit::{BlockCount, BlockNo, GroupNo};
use ondisk::num::low32;
use std::ops::Range;

/// Neighbouring new groups whose bitmaps and tables lie together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pack {
    /// The groups.
    pub groups: Range<u32>,
    /// The block bitmap of the first of them; all else follows.
    pub at: BlockNo,
}

impl Pack {
    /// How many groups it serves.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.groups.end.saturating_sub(self.groups.start)
    }

    fn index(&self, group: GroupNo) -> u64 {
        u64::from(group.0.saturating_sub(self.groups.start))
    }

    /// The block bitmap of a group.
    #[must_use]
    pub fn block_bitmap(&self, group: GroupNo) -> BlockNo {
        self.at.plus(self.index(group))
    }

    /// The inode bitmap of a group.
    #[must_use]
    pub fn inode_bitmap(&self, group: GroupNo) -> BlockNo {
        self.at.plus(u64::from(self.count())).plus(self.index(group))
    }

    /// The inode table of a group.
    #[must_use]
    pub fn inode_table(&self, group: GroupNo, geom: &Geometry) -> BlockNo {
        self.tables().plus(self.index(group).saturating_mul(geom.table_blocks().0))
    }

    /// The first inode table.
    #[must_use]
    pub fn tables(&self) -> BlockNo {
        self.at.plus(u64::from(self.count()).saturating_mul(2))
    }

    /// Blocks of all tables together.
    #[must_use]
    pub fn table_blocks(&self, geom: &Geometry) -> BlockCount {
        BlockCount(u64::from(self.count()).saturating_mul(geom.table_blocks().0))
    }

    /// The first clusters of a group of this pack, which hold its head and perhaps the pack.
    #[must_use]
    pub fn used_clusters(&self, group: GroupNo, geom: &Geometry) -> u32 {
        let own = geom.table_blocks().0.saturating_add(2).saturating_mul(u64::from(self.count()));
        let pack = if group.0 == self.groups.start { own } else { 0 };
        low32(geom.head_blocks(group).0.saturating_add(pack).div_ceil(geom.cluster_ratio()))
    }

    /// Clusters of a group of this pack that are free.
    #[must_use]
    pub fn free_clusters(&self, group: GroupNo, geom: &Geometry) -> u32 {
        low32(geom.clusters_in(group).0).saturating_sub(self.used_clusters(group, geom))
    }

    /// Whether a group's block bitmap follows from its own descriptor, so that it need not be written.
    #[must_use]
    pub fn is_implied(&self, group: GroupNo, geom: &Geometry) -> bool {
        (group.0 != self.groups.start || self.count() == 1) && group != geom.last_group()
    }

    /// The block bitmap of a group of this pack.
    #[must_use]
    pub fn bitmap(&self, group: GroupNo, geom: &Geometry) -> Bitmap {
        let mut bitmap = Bitmap::empty(geom.block_size, low32(geom.clusters_in(group).0));
        bitmap.fill(0..self.used_clusters(group, geom), true);
        bitmap
    }
}

/// Packs for all new groups; `per_flex` groups at most in one, and never across a border of flex groups.
pub(super) fn packs(geom: &Geometry, new: Range<u32>, per_flex: u64) -> Vec<Pack> {
    let mut packs = Vec::new();
    let mut start = new.start;
    while start < new.end {
        let group = GroupNo(start);
        let head = geom.head_blocks(group).0;
        let each = geom.table_blocks().0.saturating_add(2);
        let room = geom.blocks_in(group).0.saturating_sub(head).checked_div(each).unwrap_or_default();
        let border = per_flex.saturating_sub(u64::from(start).checked_rem(per_flex).unwrap_or_default());
        let left = u64::from(new.end.saturating_sub(start));
        let end = start.saturating_add(low32(border.min(room).clamp(1, left)));
        packs.push(Pack { groups: start..end, at: geom.first_block(group).plus(head) });
        start = end;
    }
    packs
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
    use super::*;
    use crate::geom::Backups;
    use crate::unit::BlockSize;

    fn geom(groups: u64, inodes_per_group: u32) -> Geometry {
        Geometry {
            block_size: BlockSize::from_log(0).unwrap(),
            blocks: BlockCount(1 + groups * 8192 - 4000),
            first_data_block: BlockNo(1),
            blocks_per_group: 8192,
            cluster_bits: 0,
            inodes_per_group,
            inode_size: 256,
            desc_size: 64,
            reserved_gdt: 200,
            first_meta_bg: None,
            backups: Backups::Sparse,
        }
    }

    #[test]
    fn packs_cover_all_new_groups_and_stay_in_their_first() {
        for (inodes, per_flex) in [(512, 16), (512, 1), (8192, 16), (8192, u64::MAX), (4096, 1 << 31)] {
            let geom = geom(100, inodes);
            let packs = packs(&geom, 37..100, per_flex);
            let all: Vec<u32> = packs.iter().flat_map(|pack| pack.groups.clone()).collect();
            assert_eq!(all, (37..100).collect::<Vec<_>>());
            for pack in &packs {
                let first = GroupNo(pack.groups.start);
                let end = pack.tables().plus(pack.table_blocks(&geom).0);
                assert!(end <= geom.end_block(first), "{pack:?}");
                assert_eq!(pack.at.0 - geom.first_block(first).0, geom.head_blocks(first).0);
                let flex = u64::from(pack.groups.start) / per_flex;
                assert_eq!(flex, u64::from(pack.groups.end - 1) / per_flex);
                for group in pack.groups.clone().map(GroupNo) {
                    let free = pack.bitmap(group, &geom).count_clear();
                    assert_eq!(free, pack.free_clusters(group, &geom));
                    assert!(!pack.is_implied(group, &geom) || group != geom.last_group());
                }
            }
        }
    }

    #[test]
    fn two_tebibytes_take_few_packs() {
        let geom =
            Geometry { block_size: BlockSize::from_log(2).unwrap(), blocks_per_group: 32768, ..geom(9, 512) };
        let geom = geom.with_blocks(BlockCount(1 << 29));
        assert_eq!(packs(&geom, 8192..16384, 16).len(), 512);
    }
}
