//! Where things are: pure arithmetic on a few numbers, for the present size or for another one.
//!
//! ```text
//! group with a backup     [super][classic descriptor blocks][reserved]  … bitmaps and table anywhere …
//! first, second and last  [super?][one descriptor block]                … of a meta group with meta_bg
//! other groups            … bitmaps and table anywhere …
//! ```
//!
//! 1. `groups = ceil((blocks - first_data_block) / blocks_per_group)`, and there is at least one.
//! 2. With 1 KiB blocks and `bigalloc`, blocks count from 0 but the superblock is still block 1: group 0 behaves as if
//!    its super block were 1.
//! 3. With `meta_bg`, descriptor block k < `first_meta_bg` is in the classic place, others in their meta group.
//! 4. A group of a meta group from `first_meta_bg` on has no classic area, even where it holds a super block.

use crate::unit::{BlockCount, BlockNo, BlockSize, ClusterCount, GroupNo, InodeNo};
use ondisk::num::{low32, to_u64};

/// Which groups hold a copy of the superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backups {
    /// Every group.
    All,
    /// 0, 1 and the powers of 3, 5 and 7.
    Sparse,
    /// 0 and these two, where they are not 0.
    Sparse2([GroupNo; 2]),
}

/// The numbers that say where everything is.
///
/// The fields may be set freely to ask "what if"; [`Geometry::is_sound`] says whether the result makes sense, and
/// every [`crate::Superblock`] has a sound one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// The size of a block.
    pub block_size: BlockSize,
    /// Blocks in the filesystem.
    pub blocks: BlockCount,
    /// 1 with blocks of 1 KiB and without `bigalloc`, else 0.
    pub first_data_block: BlockNo,
    /// Blocks in a group that is not the last.
    pub blocks_per_group: u32,
    /// log2 of the blocks in a cluster; 0 without `bigalloc`.
    pub cluster_bits: u32,
    /// Inodes in each group.
    pub inodes_per_group: u32,
    /// Bytes of an inode.
    pub inode_size: u16,
    /// Bytes of a descriptor.
    pub desc_size: u16,
    /// Descriptor blocks held back for growth behind the classic ones.
    pub reserved_gdt: u32,
    /// With `meta_bg`: the first descriptor block that is not in the classic place.
    pub first_meta_bg: Option<u32>,
    /// Which groups hold a copy of the superblock.
    pub backups: Backups,
}

impl Geometry {
    /// The same filesystem with another number of blocks.
    #[must_use]
    pub fn with_blocks(&self, blocks: BlockCount) -> Self {
        Self { blocks, ..self.clone() }
    }

    /// Whether there is at least one group, and no more than numbers can name, inodes included.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let span = self.blocks.0.saturating_sub(self.first_data_block.0);
        let groups = span.checked_div(u64::from(self.blocks_per_group)).unwrap_or(u64::MAX).saturating_add(1);
        span > 0
            && self.blocks.0 <= 1 << 48
            && self.inodes_per_group > 0
            && u64::from(self.desc_size).is_power_of_two()
            && u64::from(self.desc_size) <= self.block_size.bytes()
            && groups <= u64::from(u32::MAX)
            && u64::from(self.groups()).saturating_mul(u64::from(self.inodes_per_group))
                <= u64::from(u32::MAX)
            && self.first_meta_bg.is_none_or(|first| first <= self.desc_blocks())
    }

    /// The number of groups.
    #[must_use]
    pub fn groups(&self) -> u32 {
        let span = self.blocks.0.saturating_sub(self.first_data_block.0);
        low32(span.div_ceil(u64::from(self.blocks_per_group).max(1)).min(u64::from(u32::MAX)))
    }

    /// All groups in order.
    pub fn all_groups(&self) -> impl DoubleEndedIterator<Item = GroupNo> + use<> {
        (0..self.groups()).map(GroupNo)
    }

    /// The last group.
    #[must_use]
    pub fn last_group(&self) -> GroupNo {
        GroupNo(self.groups().saturating_sub(1))
    }

    /// The number of inodes.
    #[must_use]
    pub fn inodes(&self) -> u32 {
        self.groups().saturating_mul(self.inodes_per_group)
    }

    /// Blocks in a cluster.
    #[must_use]
    pub const fn cluster_ratio(&self) -> u64 {
        1 << (self.cluster_bits & 31)
    }

    /// Clusters in a group that is not the last.
    #[must_use]
    pub const fn clusters_per_group(&self) -> u32 {
        self.blocks_per_group >> (self.cluster_bits & 31)
    }

    /// The first block of a group.
    #[must_use]
    pub fn first_block(&self, group: GroupNo) -> BlockNo {
        self.first_data_block.plus(u64::from(group.0).saturating_mul(u64::from(self.blocks_per_group)))
    }

    /// The block just behind a group.
    #[must_use]
    pub fn end_block(&self, group: GroupNo) -> BlockNo {
        BlockNo(self.first_block(group).0.saturating_add(u64::from(self.blocks_per_group)).min(self.blocks.0))
    }

    /// Blocks of a group: fewer in the last.
    #[must_use]
    pub fn blocks_in(&self, group: GroupNo) -> BlockCount {
        BlockCount(self.end_block(group).0.saturating_sub(self.first_block(group).0))
    }

    /// Clusters of a group: fewer in the last, whose last cluster may be cut.
    #[must_use]
    pub fn clusters_in(&self, group: GroupNo) -> ClusterCount {
        ClusterCount(self.blocks_in(group).0.div_ceil(self.cluster_ratio()))
    }

    /// The group that a block belongs to; `None` for blocks before the first and behind the last.
    #[must_use]
    pub fn group_of(&self, block: BlockNo) -> Option<GroupNo> {
        if block >= BlockNo(self.blocks.0) {
            return None;
        }
        let rel = block.0.checked_sub(self.first_data_block.0)?;
        u32::try_from(rel.checked_div(u64::from(self.blocks_per_group))?).ok().map(GroupNo)
    }

    /// A block's group and its bit in that group's bitmap.
    #[must_use]
    pub fn bit_of(&self, block: BlockNo) -> Option<(GroupNo, u32)> {
        let group = self.group_of(block)?;
        let rel = block.0.checked_sub(self.first_block(group).0)?;
        Some((group, low32(rel >> (self.cluster_bits & 31))))
    }

    /// The first block of the cluster that a bit of a group's bitmap stands for.
    #[must_use]
    pub fn block_of_bit(&self, group: GroupNo, bit: u32) -> BlockNo {
        self.first_block(group).plus(u64::from(bit) << (self.cluster_bits & 31))
    }

    /// Whether `count` blocks from `first` lie in the filesystem, behind its first data block.
    #[must_use]
    pub fn holds(&self, first: BlockNo, count: BlockCount) -> bool {
        first >= self.first_data_block && first.0.checked_add(count.0).is_some_and(|end| end <= self.blocks.0)
    }

    /// The group of an inode and its index there; `None` where there is no such inode.
    #[must_use]
    pub fn place_of(&self, ino: InodeNo) -> Option<(GroupNo, u32)> {
        let index = ino.0.checked_sub(1).filter(|_| ino.0 <= self.inodes())?;
        let group = index.checked_div(self.inodes_per_group)?;
        Some((GroupNo(group), index.checked_rem(self.inodes_per_group)?))
    }

    /// The inode with an index in a group.
    #[must_use]
    pub const fn inode_at(&self, group: GroupNo, index: u32) -> InodeNo {
        InodeNo(group.0.saturating_mul(self.inodes_per_group).saturating_add(index).saturating_add(1))
    }

    /// Blocks of a group's inode table.
    #[must_use]
    pub fn table_blocks(&self) -> BlockCount {
        let bytes = u64::from(self.inodes_per_group).saturating_mul(u64::from(self.inode_size));
        BlockCount(bytes.div_ceil(self.block_size.bytes()))
    }

    /// Descriptors in a block.
    #[must_use]
    pub fn descs_per_block(&self) -> u32 {
        low32(self.block_size.bytes().checked_div(u64::from(self.desc_size)).unwrap_or(1).max(1))
    }

    /// Descriptor blocks in use.
    #[must_use]
    pub fn desc_blocks(&self) -> u32 {
        self.groups().div_ceil(self.descs_per_block())
    }

    /// Descriptor blocks in use that are in the classic place.
    #[must_use]
    pub fn classic_desc_blocks(&self) -> u32 {
        self.first_meta_bg.unwrap_or_else(|| self.desc_blocks())
    }

    /// Whether a group holds a copy of the superblock.
    #[must_use]
    pub fn has_super(&self, group: GroupNo) -> bool {
        match (group.0, self.backups) {
            (0, _) | (_, Backups::All) | (1, Backups::Sparse) => true,
            (g, Backups::Sparse) => [3, 5, 7].into_iter().any(|base| is_power_of(g, base)),
            (_, Backups::Sparse2(two)) => two.contains(&group),
        }
    }

    /// The groups behind the first that hold a copy of the superblock, ascending.
    pub fn backup_groups(&self) -> impl Iterator<Item = GroupNo> + '_ {
        let (all, few) = match self.backups {
            Backups::All => (self.groups(), Vec::new()),
            Backups::Sparse => (0, sparse_groups(self.groups())),
            Backups::Sparse2(two) => {
                let mut two: Vec<u32> =
                    two.iter().map(|g| g.0).filter(|&g| g > 0 && g < self.groups()).collect();
                two.sort_unstable();
                two.dedup();
                (0, two)
            }
        };
        (1..all).chain(few).map(GroupNo)
    }

    /// Where a group's super block is, or would be.
    #[must_use]
    pub fn super_block(&self, group: GroupNo) -> BlockNo {
        let quirk = group.0 == 0 && self.first_data_block.0 == 0 && self.block_size.bytes() == 1024;
        self.first_block(group).plus(u64::from(quirk))
    }

    /// The meta group of a group: the number of the descriptor block that describes it.
    #[must_use]
    pub fn desc_block_of(&self, group: GroupNo) -> u32 {
        group.0.checked_div(self.descs_per_block()).unwrap_or_default()
    }

    /// Whether a group has the classic area behind its super block (invariant 4).
    #[must_use]
    pub fn has_classic(&self, group: GroupNo) -> bool {
        self.has_super(group) && self.first_meta_bg.is_none_or(|first| self.desc_block_of(group) < first)
    }

    /// The copy of descriptor block `k` that lies in `group`, if one does.
    #[must_use]
    pub fn desc_block_in(&self, k: u32, group: GroupNo) -> Option<BlockNo> {
        if k >= self.desc_blocks() || group.0 >= self.groups() {
            return None;
        }
        if self.first_meta_bg.is_none_or(|first| k < first) {
            return self.has_classic(group).then(|| self.super_block(group).plus(1).plus(u64::from(k)));
        }
        let index = group.0.checked_rem(self.descs_per_block())?;
        let holds = index <= 1 || index == self.descs_per_block().saturating_sub(1);
        (self.desc_block_of(group) == k && holds)
            .then(|| self.super_block(group).plus(u64::from(self.has_super(group))))
    }

    /// The primary copy of descriptor block `k`.
    #[must_use]
    pub fn primary_desc_block(&self, k: u32) -> Option<BlockNo> {
        match self.first_meta_bg {
            Some(first) if k >= first => self.desc_block_in(k, self.first_group_of(k)),
            _ => self.desc_block_in(k, GroupNo(0)),
        }
    }

    /// All copies of descriptor block `k`, the primary one first.
    #[must_use]
    pub fn desc_block_copies(&self, k: u32) -> Vec<BlockNo> {
        match self.first_meta_bg {
            Some(first) if k >= first => {
                let head = self.first_group_of(k).0;
                let last = head.saturating_add(self.descs_per_block().saturating_sub(1));
                let mut groups = vec![head, head.saturating_add(1), last];
                groups.dedup();
                groups.into_iter().filter_map(|g| self.desc_block_in(k, GroupNo(g))).collect()
            }
            _ => std::iter::once(GroupNo(0))
                .chain(self.backup_groups())
                .filter_map(|g| self.desc_block_in(k, g))
                .collect(),
        }
    }

    /// The first group of meta group `k`.
    #[must_use]
    pub fn first_group_of(&self, k: u32) -> GroupNo {
        GroupNo(k.saturating_mul(self.descs_per_block()))
    }

    /// Blocks at the head of a group that superblock, descriptors and the reserve take. With the quirk of invariant 2
    /// block 0 counts too.
    #[must_use]
    pub fn head_blocks(&self, group: GroupNo) -> BlockCount {
        let area = if self.has_classic(group) {
            let reserved = if self.first_meta_bg.is_some() { 0 } else { self.reserved_gdt };
            u64::from(self.classic_desc_blocks()).saturating_add(u64::from(reserved))
        } else {
            let meta = self.first_meta_bg.is_some_and(|first| self.desc_block_of(group) >= first);
            u64::from(meta && self.desc_block_in(self.desc_block_of(group), group).is_some())
        };
        let quirk = self.super_block(group).0.saturating_sub(self.first_block(group).0);
        BlockCount(area.saturating_add(u64::from(self.has_super(group))).saturating_add(quirk))
    }

    /// Blocks that a group takes for itself where its bitmaps and table lie inside it.
    #[must_use]
    pub fn overhead(&self, group: GroupNo) -> BlockCount {
        BlockCount(self.head_blocks(group).0.saturating_add(self.table_blocks().0).saturating_add(2))
    }

    /// The length of the descriptor table in memory.
    #[must_use]
    pub fn desc_table_bytes(&self) -> u64 {
        u64::from(self.groups()).saturating_mul(u64::from(self.desc_size))
    }

    /// Bytes of a block bitmap that its checksum covers.
    #[must_use]
    pub const fn block_bitmap_bytes(&self) -> usize {
        ondisk::num::to_usize(widen(self.clusters_per_group() >> 3))
    }

    /// Bytes of an inode bitmap that its checksum covers.
    #[must_use]
    pub const fn inode_bitmap_bytes(&self) -> usize {
        ondisk::num::to_usize(widen(self.inodes_per_group >> 3))
    }
}

#[allow(clippy::as_conversions, reason = "u64::from is not const yet")]
const fn widen(n: u32) -> u64 {
    n as u64
}

fn is_power_of(n: u32, base: u32) -> bool {
    let mut power = base;
    while power < n {
        match power.checked_mul(base) {
            Some(next) => power = next,
            None => return false,
        }
    }
    power == n
}

/// 1 and the powers of 3, 5 and 7 below `groups`, ascending.
fn sparse_groups(groups: u32) -> Vec<u32> {
    let mut found: Vec<u32> = [3_u32, 5, 7]
        .into_iter()
        .flat_map(|base| std::iter::successors(Some(1_u32), move |power| power.checked_mul(base)))
        .filter(|&g| g < groups)
        .collect();
    found.sort_unstable();
    found.dedup();
    debug_assert!(to_u64(found.len()) < 64, "three short sequences");
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;

    fn sample() -> Geometry {
        Geometry {
            block_size: BlockSize::from_log(2).unwrap(),
            blocks: BlockCount(32768 * 300 - 5),
            first_data_block: BlockNo(0),
            blocks_per_group: 32768,
            cluster_bits: 0,
            inodes_per_group: 8192,
            inode_size: 256,
            desc_size: 64,
            reserved_gdt: 7,
            first_meta_bg: None,
            backups: Backups::Sparse,
        }
    }

    #[test]
    fn groups_and_ends() {
        let geom = sample();
        assert!(geom.is_sound());
        assert_eq!(geom.groups(), 300);
        assert_eq!(geom.blocks_in(GroupNo(299)), BlockCount(32763));
        assert_eq!(geom.group_of(BlockNo(32768 * 300 - 5)), None);
        assert_eq!(geom.bit_of(BlockNo(32769)), Some((GroupNo(1), 1)));
        assert_eq!(geom.place_of(InodeNo(8193)), Some((GroupNo(1), 0)));
        assert_eq!(geom.place_of(InodeNo(0)), None);
        assert_eq!(geom.place_of(InodeNo(8192 * 300 + 1)), None);
        assert_eq!(geom.desc_blocks(), 5);
        assert_eq!(geom.head_blocks(GroupNo(3)), BlockCount(1 + 5 + 7));
        assert_eq!(geom.overhead(GroupNo(2)), BlockCount(2 + 512));
    }

    #[test]
    fn backups_agree_with_the_predicate() {
        for backups in [Backups::All, Backups::Sparse, Backups::Sparse2([GroupNo(299), GroupNo(1)])] {
            let geom = Geometry { backups, ..sample() };
            let listed: Vec<GroupNo> = geom.backup_groups().collect();
            let asked: Vec<GroupNo> = geom.all_groups().skip(1).filter(|&g| geom.has_super(g)).collect();
            assert_eq!(listed, asked);
        }
        let sparse: Vec<u32> = sample().backup_groups().map(|g| g.0).collect();
        assert_eq!(sparse, [1, 3, 5, 7, 9, 25, 27, 49, 81, 125, 243]);
    }

    #[test]
    fn meta_groups_have_three_copies() {
        let geom = Geometry { first_meta_bg: Some(1), reserved_gdt: 0, ..sample() };
        assert_eq!(geom.desc_block_copies(0)[..2], [BlockNo(1), BlockNo(32769)]);
        // Meta group 1 is groups 64 to 127; 125 holds a super block but no classic area.
        let at = |g: u64| BlockNo(g * 32768);
        assert_eq!(geom.desc_block_copies(1), [at(64), at(65), at(127)]);
        assert!(!geom.has_classic(GroupNo(125)));
        assert_eq!(geom.head_blocks(GroupNo(125)), BlockCount(1));
        // The last one is cut: groups 256 to 299.
        assert_eq!(geom.desc_block_copies(4), [at(256), at(257)]);
    }

    #[test]
    fn absurd_numbers_are_not_sound() {
        assert!(!Geometry { blocks_per_group: 0, ..sample() }.is_sound());
        assert!(!Geometry { blocks: BlockCount(0), ..sample() }.is_sound());
        assert!(!Geometry { blocks: BlockCount(u64::MAX), ..sample() }.is_sound());
        assert!(!Geometry { inodes_per_group: u32::MAX, ..sample() }.is_sound());
    }
}
