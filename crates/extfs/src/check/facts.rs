//! What must be remembered of each inode until all directories are read: eight bytes.

use crate::error::Result;
use crate::geom::Geometry;
use crate::unit::{GroupNo, InodeNo};
use disk::{Budget, Limits};
use ondisk::Len;
use ondisk::num::{to_u64, to_usize};

/// It is in use.
pub(super) const USED: u8 = 1;
/// It holds the value of an attribute.
pub(super) const VALUE: u8 = 2;
/// It is a directory with a hash tree.
pub(super) const INDEXED: u8 = 4;
/// Nobody counts its links.
pub(super) const UNCOUNTED: u8 = 8;
/// It is a file, directory or symbolic link with an encryption policy.
pub(super) const ENCRYPTED: u8 = 0x10;
/// Its blocks cannot be relied on.
pub(super) const BROKEN: u8 = 0x20;
/// It is what a directory may refer to without an encryption policy.
pub(super) const SPECIAL: u8 = 0x40;

/// What is known of an inode.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fact {
    pub(super) flags: u8,
    /// Its kind, as directory entries have it; 0 where it has none.
    pub(super) kind: u8,
    /// `i_links_count`.
    pub(super) links: u16,
    /// Entries that name it.
    pub(super) counted: u32,
}

impl Fact {
    pub(super) const fn has(self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    pub(super) const fn is_dir(self) -> bool {
        self.kind == 2
    }
}

/// The facts of all inodes; groups without used ones take no room.
pub(super) struct Facts {
    geom: Geometry,
    groups: Vec<Vec<Fact>>,
    budget: Budget,
}

impl Facts {
    pub(super) fn new(geom: &Geometry, limits: &Limits) -> Result<Self> {
        let budget = limits.budget("the facts about inodes");
        let each = to_u64(size_of::<Vec<Fact>>());
        budget.take(Len::new(u64::from(geom.groups()).saturating_mul(each)))?;
        let groups = vec![Vec::new(); to_usize(geom.groups().into())];
        Ok(Self { geom: geom.clone(), groups, budget })
    }

    pub(super) fn get(&self, ino: InodeNo) -> Fact {
        let place = self.geom.place_of(ino);
        let fact = place.and_then(|(group, index)| self.group(group).get(to_usize(index.into())));
        fact.copied().unwrap_or_default()
    }

    /// The facts of a group's inodes, as far as there are any.
    pub(super) fn group(&self, group: GroupNo) -> &[Fact] {
        self.groups.get(to_usize(group.0.into())).map_or(&[], Vec::as_slice)
    }

    /// Changes what is known of an inode.
    pub(super) fn edit(&mut self, ino: InodeNo, change: impl FnOnce(&mut Fact)) -> Result<()> {
        let Some((group, index)) = self.geom.place_of(ino) else { return Ok(()) };
        let Some(facts) = self.groups.get_mut(to_usize(group.0.into())) else { return Ok(()) };
        let index = to_usize(index.into());
        if facts.len() <= index {
            // Doubles, so that a group with few inodes stays small.
            let len = index.saturating_add(1).next_power_of_two();
            let more = to_u64(len.saturating_sub(facts.len()).saturating_mul(size_of::<Fact>()));
            self.budget.take(Len::new(more))?;
            facts.resize(len, Fact::default());
        }
        if let Some(fact) = facts.get_mut(index) {
            change(fact);
        }
        Ok(())
    }
}
