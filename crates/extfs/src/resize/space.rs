//! Bits of old groups that change.
//!
//! 1. `new = (old without cleared) with set`: what is in the way stays in use even where its owner left.
//! 2. Blocks are taken only where they are free in the *old* state, so that they may be written before the commit
//!    point.

use super::GroupEdit;
use super::owners::{Owners, bits};
use crate::bitmap::Bitmap;
use crate::error::{Error, Part, Result};
use crate::geom::Geometry;
use crate::read::Ext;
use crate::unit::{BlockNo, GroupNo};
use disk::ReadAt;
use ondisk::num::low32;
use std::collections::BTreeMap;
use std::ops::Range;

struct Work {
    old: Bitmap,
    /// What may not be taken: in use before, or afterwards.
    busy: Bitmap,
    cleared: Vec<Range<u32>>,
    set: Vec<Range<u32>>,
}

/// The bitmaps of old groups, read and verified as they are needed.
pub(super) struct Space<'a, D> {
    fs: &'a Ext<D>,
    owners: &'a Owners,
    groups: BTreeMap<GroupNo, Work>,
}

impl<'a, D: ReadAt> Space<'a, D> {
    pub const fn new(fs: &'a Ext<D>, owners: &'a Owners) -> Self {
        Self { fs, owners, groups: BTreeMap::new() }
    }

    /// Reads a group's bitmap; it will be written again.
    pub fn touch(&mut self, group: GroupNo) -> Result<()> {
        self.work(group).map(|_| ())
    }

    fn work(&mut self, group: GroupNo) -> Result<&mut Work> {
        if !self.groups.contains_key(&group) {
            let old = self.owners.bitmap(self.fs, group)?;
            self.groups.insert(group, Work { busy: old.clone(), old, cleared: Vec::new(), set: Vec::new() });
        }
        self.groups.get_mut(&group).ok_or(Error::broken(Part::BlockBitmap(group), "is not in memory"))
    }

    /// Whether a block was in use.
    pub fn was_used(&mut self, block: BlockNo) -> Result<bool> {
        let (group, bit) = self.fs.geom().bit_of(block).ok_or_else(|| outside(self.fs.geom(), block))?;
        Ok(self.work(group)?.old.get(bit))
    }

    /// Blocks of one group, all of them in use, become free; of a cluster shared with other metadata, none.
    pub fn clear(&mut self, blocks: Range<BlockNo>) -> Result<()> {
        let geom = self.fs.geom();
        let group = geom.group_of(blocks.start).ok_or_else(|| outside(geom, blocks.start))?;
        let range = freeable(geom, self.owners, group, &blocks);
        let work = self.work(group)?;
        if work.old.next(range.start, false) < range.end {
            return Err(Error::broken(Part::BlockBitmap(group), "says that blocks in use are free"));
        }
        work.cleared.push(range);
        Ok(())
    }

    /// Blocks of one group are in use from now on.
    pub fn set(&mut self, blocks: Range<BlockNo>) -> Result<()> {
        let geom = self.fs.geom();
        let group = geom.group_of(blocks.start).ok_or_else(|| outside(geom, blocks.start))?;
        let range = bits(geom, group, blocks);
        let work = self.work(group)?;
        work.busy.fill(range.clone(), true);
        work.set.push(range);
        Ok(())
    }

    /// Takes `count` neighbouring free blocks, in `near` or, where that is allowed, in another group.
    pub fn take(&mut self, near: GroupNo, count: u64, anywhere: bool) -> Result<Option<BlockNo>> {
        let groups = std::iter::once(near).chain(self.fs.geom().all_groups().filter(|_| anywhere));
        for group in groups {
            if u64::from(self.fs.groups().get(group)?.free_clusters) < count {
                continue;
            }
            let work = self.work(group)?;
            let found =
                work.busy.runs(false).find(|run| u64::from(run.end.saturating_sub(run.start)) >= count);
            if let Some(run) = found {
                let first = self.fs.geom().block_of_bit(group, run.start);
                self.set(first..first.plus(count))?;
                return Ok(Some(first));
            }
        }
        Ok(None)
    }

    /// Neighbouring blocks of a group that only files use, if anybody; they are in use by somebody else from now on.
    pub fn window(&mut self, group: GroupNo, count: u64) -> Result<Option<Range<BlockNo>>> {
        let geom = self.fs.geom();
        let work = self.work(group)?;
        let mut taken = Bitmap::empty(geom.block_size, work.old.len());
        work.set.iter().for_each(|range| taken.fill(range.clone(), true));
        for owned in self.owners.within(geom.first_block(group)..geom.end_block(group)) {
            taken.fill(bits(geom, group, owned), true);
        }
        let found = taken.runs(false).find(|run| u64::from(run.end.saturating_sub(run.start)) >= count);
        let Some(run) = found else { return Ok(None) };
        let first = geom.block_of_bit(group, run.start);
        self.set(first..first.plus(count))?;
        Ok(Some(first..first.plus(count)))
    }

    /// What changes in groups whose bitmaps were touched, once the filesystem has its new length.
    pub fn into_edits(self, new: &Geometry) -> Vec<GroupEdit> {
        let mut edits = Vec::new();
        for (group, work) in self.groups {
            let mut edit = GroupEdit { group, cleared: work.cleared, set: work.set, gained: 0 };
            let after = edit.applied(work.old.clone(), new).count_clear();
            edit.gained = i64::from(after).saturating_sub(i64::from(work.old.count_clear()));
            edits.push(edit);
        }
        edits
    }
}

impl GroupEdit {
    /// A group's old block bitmap with this change.
    #[must_use]
    pub fn applied(&self, old: Bitmap, new: &Geometry) -> Bitmap {
        let mut bitmap = old;
        bitmap.resize(low32(new.clusters_in(self.group).0));
        for range in &self.cleared {
            bitmap.fill(range.clone(), false);
        }
        for range in &self.set {
            bitmap.fill(range.clone(), true);
        }
        bitmap
    }
}

fn outside(geom: &Geometry, block: BlockNo) -> Error {
    Error::field(Part::Superblock(GroupNo(0)), "a block", block.0, format!("one below {}", geom.blocks))
}

fn freeable(geom: &Geometry, owners: &Owners, group: GroupNo, blocks: &Range<BlockNo>) -> Range<u32> {
    let all = bits(geom, group, blocks.clone());
    let shared = |bit: u32| {
        let start = geom.block_of_bit(group, bit);
        let end = start.plus(geom.cluster_ratio());
        !owners.avoid(start..blocks.start.max(start)) || !owners.avoid(blocks.end.min(end)..end)
    };
    let first = if shared(all.start) { all.start.saturating_add(1) } else { all.start };
    let end = all.end.saturating_sub(1);
    let end = if end >= first && shared(end) { end } else { all.end };
    first..end.max(first)
}
