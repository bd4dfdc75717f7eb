//! Making a filesystem larger while nobody has it mounted.
//!
//! ```text
//! old   [head 0 …][group 1 …] … [last group, cut]
//! new   [head 0 …][group 1 …] … [last group, whole ][first new group: head, pack][head] … [last group, cut]
//!        └ home: descriptors,     └ home: bitmap     └ fresh
//!          reserve, superblock
//! ```
//!
//! 1. Nothing that the old state refers to is written before the commit point: fresh is what lies behind the old end,
//!    and the copies of reserved descriptor blocks in backup groups, which have no content before.
//! 2. No guest data moves and no head changes its length, except where the reserve is used up and the boot loader does
//!    not know `meta_bg`; then data move to blocks that were free.
//! 3. [`plan_grow`] decides and verifies; [`GrowPlan::apply`] only writes.
//! 4. What the change relies on is verified before: superblock, all descriptors, the bitmaps that change, the resize
//!    inode to its last pointer, and that no two structures share a block. Root and journal are verified with the
//!    result (`check::Scope::Touched`).

mod apply;
mod clear;
mod owners;
mod place;
mod plan;
mod relink;
mod reserve;
mod size;
mod space;

pub use crate::refusal::Refusal;
pub use place::Pack;
pub use plan::plan_grow;
pub use reserve::Reserve;
pub use size::blocks_on;

use crate::geom::{Backups, Geometry};
use crate::unit::{BlockCount, BlockNo, GroupNo, InodeNo};
use ondisk::num::to_u64;
use ondisk::size::Human;
use std::ops::Range;

/// What the filesystem itself cannot tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrowOptions {
    /// Its boot loader reads only descriptors in the classic place (GRUB legacy): do not convert to `meta_bg`.
    pub legacy_boot: bool,
}

/// What is free in all groups together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Free clusters (blocks without `bigalloc`).
    pub free_clusters: u64,
    /// Free inodes.
    pub free_inodes: u64,
}

/// A change of the block bitmap of an old group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEdit {
    /// Which.
    pub group: GroupNo,
    /// Bits that become free, besides those that the group is longer by.
    pub cleared: Vec<Range<u32>>,
    /// Bits that are in use afterwards, whatever else happens to them.
    pub set: Vec<Range<u32>>,
    /// Free clusters that it gains in all.
    pub gained: i64,
}

/// Blocks that are copied to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// From here.
    pub from: BlockNo,
    /// To here.
    pub to: BlockNo,
    /// So many.
    pub count: BlockCount,
    /// The target was free; else what was there has moved before.
    pub fresh: bool,
}

/// Where a part of a group is afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The block bitmap.
    BlockBitmap(BlockNo),
    /// The inode bitmap.
    InodeBitmap(BlockNo),
    /// The inode table.
    InodeTable(BlockNo),
}

/// What moves because descriptors need its place. Nothing, as a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// Copies, in this order.
    pub copies: Vec<Copied>,
    /// Bitmaps and tables at new places.
    pub places: Vec<(GroupNo, Place)>,
    /// Inodes with changed pointers, whole.
    pub inodes: Vec<(InodeNo, Vec<u8>)>,
    /// Blocks with changed pointers or checksums, whole, at their new places.
    pub blocks: Vec<(BlockNo, Vec<u8>)>,
    /// The journal's `i_block`, of which the superblock has a copy.
    pub journal_map: Option<Vec<u8>>,
}

/// Everything that a grow will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrowPlan {
    /// The numbers before.
    pub old: Geometry,
    /// The numbers afterwards.
    pub new: Geometry,
    /// What is free before, by the descriptors.
    pub before: Count,
    /// What is free afterwards.
    pub after: Count,
    /// Blocks held back for root afterwards.
    pub held_back: BlockCount,
    /// `s_overhead_clusters` afterwards.
    pub overhead: u32,
    /// Where the bitmaps and tables of the new groups go.
    pub packs: Vec<Pack>,
    /// Bitmaps of old groups that change.
    pub edits: Vec<GroupEdit>,
    /// What moves out of the way.
    pub moves: Moves,
    /// What happens to the resize inode.
    pub reserve: Reserve,
    /// What was found odd and will be right afterwards.
    pub notes: Vec<String>,
}

impl GrowPlan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.old == self.new
    }

    /// Whether the filesystem becomes one with `meta_bg`.
    #[must_use]
    pub const fn converts_to_meta_bg(&self) -> bool {
        self.old.first_meta_bg.is_none() && self.new.first_meta_bg.is_some()
    }

    /// The plan for people.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let (old, new) = (&self.old, &self.new);
        if self.is_empty() {
            return vec![format!("the filesystem keeps its {} blocks", old.blocks)];
        }
        let len =
            |geom: &Geometry| Human(geom.block_size.len_of(geom.blocks).unwrap_or_default()).to_string();
        let mut said = vec![
            format!("blocks: {} ({}) to {} ({})", old.blocks, len(old), new.blocks, len(new)),
            format!(
                "groups: {} to {}; inodes: {} to {}",
                old.groups(),
                new.groups(),
                old.inodes(),
                new.inodes()
            ),
        ];
        if !self.packs.is_empty() {
            let tables =
                u64::from(new.groups().saturating_sub(old.groups())).saturating_mul(new.table_blocks().0);
            said.push(format!(
                "bitmaps and {tables} blocks of inode tables of the new groups lie in {} packs",
                to_u64(self.packs.len())
            ));
        }
        if old.desc_blocks() != new.desc_blocks() {
            said.push(format!("descriptor blocks: {} to {}", old.desc_blocks(), new.desc_blocks()));
        }
        match self.reserve {
            Reserve::Changed { .. } if old.reserved_gdt != new.reserved_gdt => {
                said.push(format!(
                    "descriptor blocks in reserve: {} to {}",
                    old.reserved_gdt, new.reserved_gdt
                ));
            }
            Reserve::Changed { .. } => said.push("the resize inode lists the new backup groups".to_owned()),
            Reserve::Dropped { .. } => {
                said.push("the resize inode is given up (feature resize_inode)".to_owned())
            }
            Reserve::Same => {}
        }
        for one in &self.moves.copies {
            said.push(format!("{} blocks at {} move to {}", one.count, one.from, one.to));
        }
        if self.converts_to_meta_bg() {
            said.push("further descriptor blocks lie in their own groups (feature meta_bg)".to_owned());
        }
        if let (Backups::Sparse2(from), Backups::Sparse2(to)) = (old.backups, new.backups)
            && from != to
        {
            said.push(format!("backup groups: {} and {} to {} and {}", from[0], from[1], to[0], to[1]));
        }
        said.extend(self.notes.iter().cloned());
        said
    }
}
