//! Changes under way: what has been read and altered, by place.

use super::quota::Usage;
use crate::Ext;
use crate::bitmap::Bitmap;
use crate::csum::Object;
use crate::error::{Error, Part, Result};
use crate::group::Groups;
use crate::layout;
use crate::read::inode::{HUGE_FILE, Inode, Kind};
use crate::unit::{BlockCount, BlockNo, GroupNo, InodeNo};
use disk::{Budget, Cx, ReadAt};
use ondisk::num::low32;
use ondisk::{Len, Offset, SpanSet};
use std::collections::{BTreeMap, BTreeSet};
use zerocopy::FromBytes;

/// What an entry of a map takes, roughly.
const ENTRY: Len = Len::new(64);

/// A filesystem and what is different from it.
pub(super) struct Edit<'a, D> {
    pub(super) fs: &'a Ext<D>,
    pub(super) usage: Usage,
    now: u64,
    budget: Budget,
    blocks: BTreeMap<BlockNo, Vec<u8>>,
    inodes: BTreeMap<InodeNo, Vec<u8>>,
    groups: Groups,
    changed: BTreeSet<GroupNo>,
    block_maps: BTreeMap<GroupNo, Bitmap>,
    inode_maps: BTreeMap<GroupNo, Bitmap>,
    /// What the filesystem itself lives on.
    guarded: SpanSet,
}

impl<'a, D: ReadAt> Edit<'a, D> {
    pub(super) fn new(fs: &'a Ext<D>, cx: &Cx<'_>) -> Self {
        Self {
            fs,
            usage: Usage::default(),
            now: cx.now,
            budget: cx.limits.budget("the changes to orphans"),
            blocks: BTreeMap::new(),
            inodes: BTreeMap::new(),
            groups: fs.groups().clone(),
            changed: BTreeSet::new(),
            block_maps: BTreeMap::new(),
            inode_maps: BTreeMap::new(),
            guarded: SpanSet::default(),
        }
    }

    /// Notes all blocks that no file may have.
    pub(super) fn guard(&mut self) -> Result<()> {
        let geom = self.fs.geom();
        for group in geom.all_groups() {
            let desc = self.groups.get(group)?;
            let areas = [
                (geom.first_block(group), geom.head_blocks(group)),
                (desc.block_bitmap, BlockCount(1)),
                (desc.inode_bitmap, BlockCount(1)),
                (desc.inode_table, geom.table_blocks()),
            ];
            for (at, count) in areas {
                self.budget.take(ENTRY)?;
                self.guarded.insert(geom.block_size.span_of(at, count).unwrap_or_default());
            }
        }
        let mut others: Vec<(BlockNo, BlockCount)> = Vec::new();
        others.extend(self.fs.sb().mmp_block().map(|mmp| (mmp, BlockCount(1))));
        if let Some(ino) = self.fs.sb().journal_inode() {
            for run in self.fs.map(&self.fs.inode(ino)?)? {
                let run = run?;
                self.budget.take(ENTRY)?;
                others.push((run.start, run.count));
            }
        }
        for (at, count) in others {
            self.guarded.insert(geom.block_size.span_of(at, count).unwrap_or_default());
        }
        Ok(())
    }

    /// Seconds since 1970.
    pub(super) const fn now(&self) -> u64 {
        self.now
    }

    /// Takes the memory for one more entry of a list.
    pub(super) fn hold(&self) -> Result<()> {
        Ok(self.budget.take(ENTRY)?)
    }

    /// An inode as it is by now.
    pub(super) fn inode(&self, ino: InodeNo) -> Result<Inode> {
        match self.inodes.get(&ino) {
            Some(bytes) => Inode::parse(ino, bytes.clone()),
            None => self.fs.inode(ino),
        }
    }

    /// Changes an inode.
    pub(super) fn change(&mut self, inode: &Inode, edit: impl FnOnce(&mut layout::Inode)) -> Result<()> {
        let mut bytes = inode.bytes().to_vec();
        if let Ok((raw, _)) = layout::Inode::mut_from_prefix(&mut bytes) {
            edit(raw);
        }
        self.fs.sb().sums().seal(Object::Inode(inode.ino()), &mut bytes);
        self.budget.take(Len::of(&bytes))?;
        self.inodes.insert(inode.ino(), bytes);
        Ok(())
    }

    /// A block as it is by now.
    pub(super) fn block(&self, part: Part, block: BlockNo) -> Result<Vec<u8>> {
        match self.blocks.get(&block) {
            Some(bytes) => Ok(bytes.clone()),
            None => self.fs.read_block(part, block),
        }
    }

    /// Changes a block.
    pub(super) fn put_block(&mut self, block: BlockNo, bytes: Vec<u8>) -> Result<()> {
        self.budget.take(Len::of(&bytes))?;
        self.blocks.insert(block, bytes);
        Ok(())
    }

    /// The cluster of a block.
    pub(super) const fn cluster_of(&self, block: BlockNo) -> u64 {
        let geom = self.fs.geom();
        block.0.saturating_sub(geom.first_data_block.0) >> (geom.cluster_bits & 31)
    }

    /// Bytes in so many clusters.
    pub(super) const fn bytes_in(&self, clusters: u64) -> u64 {
        let geom = self.fs.geom();
        clusters.saturating_mul(geom.cluster_ratio()).saturating_mul(geom.block_size.bytes())
    }

    /// Bytes that an inode says it takes.
    pub(super) fn bytes_of(&self, inode: &Inode) -> u64 {
        inode.sectors().saturating_mul(self.unit(inode))
    }

    /// What `i_blocks` counts.
    pub(super) fn unit(&self, inode: &Inode) -> u64 {
        if inode.has(HUGE_FILE) { self.fs.geom().block_size.bytes() } else { 512 }
    }

    /// Frees the clusters from that of `first` to that of `last`. All must be in use.
    pub(super) fn free(&mut self, part: Part, first: BlockNo, last: BlockNo) -> Result<()> {
        let geom = self.fs.geom().clone();
        let count = BlockCount(last.0.saturating_sub(first.0).saturating_add(1));
        let span = geom.block_size.span_of(first, count).unwrap_or_default();
        let (Some((from, mut bit)), Some((to, end))) = (geom.bit_of(first), geom.bit_of(last)) else {
            return Err(Error::field(part, "its block", first.0, format!("a block below {}", geom.blocks)));
        };
        if self.guarded.overlaps(span) {
            return Err(Error::field(part, "its block", first.0, "a block that holds no other structure"));
        }
        for group in (from.0..=to.0).map(GroupNo) {
            let bits = low32(geom.clusters_in(group).0);
            let stop = if group == to { end.saturating_add(1) } else { bits };
            let map = self.block_map(group)?;
            if map.next(bit, false) < stop {
                return Err(Error::field(part, "its block", first.0, "blocks that are in use"));
            }
            map.fill(bit..stop, false);
            bit = 0;
        }
        Ok(())
    }

    fn block_map(&mut self, group: GroupNo) -> Result<&mut Bitmap> {
        if !self.block_maps.contains_key(&group) {
            let map = self.fs.block_bitmap(group)?;
            self.budget.take(Len::of(map.bytes()))?;
            self.block_maps.insert(group, map);
        }
        self.changed.insert(group);
        let map = self.block_maps.get_mut(&group);
        map.ok_or(Error::broken(Part::BlockBitmap(group), "was there a moment ago"))
    }

    fn inode_map(&mut self, group: GroupNo) -> Result<&mut Bitmap> {
        if !self.inode_maps.contains_key(&group) {
            let map = self.fs.inode_bitmap(group)?;
            self.budget.take(Len::of(map.bytes()))?;
            self.inode_maps.insert(group, map);
        }
        let map = self.inode_maps.get_mut(&group);
        map.ok_or(Error::broken(Part::InodeBitmap(group), "was there a moment ago"))
    }

    /// Whether an inode is in use.
    pub(super) fn inode_in_use(&mut self, ino: InodeNo) -> Result<bool> {
        match self.fs.geom().place_of(ino) {
            Some((group, index)) => Ok(self.inode_map(group)?.get(index)),
            None => Ok(false),
        }
    }

    /// Takes an inode out of use.
    pub(super) fn free_inode(&mut self, inode: &Inode) -> Result<()> {
        let part = Part::Inode(inode.ino());
        let place = self.fs.geom().place_of(inode.ino());
        let (group, index) = place.ok_or(Error::broken(part, "does not exist"))?;
        if !self.inode_map(group)?.clear(index) {
            return Err(Error::broken(part, "is to be freed, and not in use"));
        }
        let mut desc = self.groups.get(group)?;
        desc.free_inodes = desc.free_inodes.saturating_add(1);
        if inode.kind() == Some(Kind::Dir) {
            desc.used_dirs = desc.used_dirs.saturating_sub(1);
        }
        self.changed.insert(group);
        self.groups.put(group, &desc)
    }

    /// All bytes that are different: bitmaps first make their checksums, which the descriptors hold.
    pub(super) fn finish(mut self) -> Result<BTreeMap<Offset, Vec<u8>>> {
        let geom = self.fs.geom().clone();
        let sums = *self.fs.sb().sums();
        let mut places = std::mem::take(&mut self.blocks);
        for &group in &self.changed {
            let mut desc = self.groups.get(group)?;
            if let Some(map) = self.block_maps.get(&group) {
                let before = self.fs.block_bitmap(group)?.count_clear();
                let gained = map.count_clear().saturating_sub(before);
                desc.free_clusters = desc.free_clusters.saturating_add(gained);
                let covered = map.bytes().get(..geom.block_bitmap_bytes()).unwrap_or(map.bytes());
                desc.block_bitmap_csum = sums.bitmap(covered, geom.desc_size);
                places.insert(desc.block_bitmap, map.bytes().to_vec());
            }
            if let Some(map) = self.inode_maps.get(&group) {
                let covered = map.bytes().get(..geom.inode_bitmap_bytes()).unwrap_or(map.bytes());
                desc.inode_bitmap_csum = sums.bitmap(covered, geom.desc_size);
                places.insert(desc.inode_bitmap, map.bytes().to_vec());
            }
            self.groups.put(group, &desc)?;
        }
        for k in self.changed.iter().map(|&group| geom.desc_block_of(group)).collect::<BTreeSet<u32>>() {
            if let (Some(at), Some(bytes)) = (geom.primary_desc_block(k), self.groups.block(k)) {
                places.insert(at, bytes.to_vec());
            }
        }
        let mut writes = BTreeMap::new();
        for (block, bytes) in places {
            let at = geom.block_size.offset_of(block);
            let beyond = Error::broken(Part::Superblock(GroupNo(0)), "has blocks beyond all numbers");
            writes.insert(at.ok_or(beyond)?, bytes);
        }
        for (ino, bytes) in self.inodes {
            writes.insert(self.fs.inode_offset(ino)?, bytes);
        }
        Ok(writes)
    }
}
