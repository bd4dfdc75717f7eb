//! Who has which block: one bit for each cluster, and a first pass that only sees metadata.

use crate::bitmap::Bitmap;
use crate::error::Result;
use crate::geom::Geometry;
use crate::unit::{BlockCount, BlockNo, GroupNo};
use disk::{Budget, Limits};
use ondisk::num::{low32, to_usize};
use ondisk::{Len, Offset, Span, SpanSet};

/// Clusters in use, as they come to light.
pub(super) struct Blocks {
    geom: Geometry,
    /// A bitmap as it would be on disk, for each group that has a cluster in use.
    groups: Vec<Option<Bitmap>>,
    /// Blocks of metadata: with `bigalloc` finer than clusters.
    metadata: SpanSet,
    budget: Budget,
}

impl Blocks {
    pub(super) fn new(geom: &Geometry, limits: &Limits) -> Result<Self> {
        let budget = limits.budget("the map of blocks in use");
        let each = ondisk::num::to_u64(size_of::<Option<Bitmap>>());
        budget.take(Len::new(u64::from(geom.groups()).saturating_mul(each)))?;
        let groups = vec![None; to_usize(geom.groups().into())];
        Ok(Self { geom: geom.clone(), groups, metadata: SpanSet::new(), budget })
    }

    /// Claims blocks of metadata; the first one that other metadata has, if any.
    pub(super) fn reserve(&mut self, first: BlockNo, count: BlockCount) -> Result<Option<BlockNo>> {
        let count = BlockCount(count.0.min(self.geom.blocks.0.saturating_sub(first.0)));
        let span = Span::new(Offset::new(first.0), Len::new(count.0)).unwrap_or_default();
        let twice = self.metadata.overlaps(span);
        self.metadata.insert(span);
        self.claim(first, count)?;
        Ok(twice.then_some(first))
    }

    /// Claims the clusters of blocks that lie in the filesystem; the first that was claimed before, if any.
    pub(super) fn claim(&mut self, first: BlockNo, count: BlockCount) -> Result<Option<BlockNo>> {
        let mut twice = None;
        let (mut at, end) = (first, first.plus(count.0));
        while at < end {
            let Some((group, from)) = self.geom.bit_of(at) else { break };
            let last = BlockNo(end.min(self.geom.end_block(group)).0.saturating_sub(1));
            let to = self.geom.bit_of(last).map_or(from, |(_, bit)| bit).saturating_add(1);
            let geom = self.geom.clone();
            let bitmap = self.group_mut(group)?;
            let before = bitmap.next(from, true);
            if before < to && twice.is_none() {
                twice = Some(geom.block_of_bit(group, before));
            }
            bitmap.fill(from..to, true);
            at = geom.end_block(group);
        }
        Ok(twice)
    }

    /// What is in use in a group; `None` where nothing is.
    pub(super) fn group(&self, group: GroupNo) -> Option<&Bitmap> {
        self.groups.get(to_usize(group.0.into()))?.as_ref()
    }

    fn group_mut(&mut self, group: GroupNo) -> Result<&mut Bitmap> {
        let (size, len) = (self.geom.block_size, low32(self.geom.clusters_in(group).0));
        if self.group(group).is_none() {
            self.budget.take(Len::new(size.bytes()))?;
        }
        let slot = self.groups.get_mut(to_usize(group.0.into()));
        let missing = crate::Error::broken(crate::Part::Descriptor(group), "there is no such group");
        Ok(slot.ok_or(missing)?.get_or_insert_with(|| Bitmap::empty(size, len)))
    }
}
