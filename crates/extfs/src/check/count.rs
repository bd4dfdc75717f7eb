//! Bitmaps and counts on disk against what was found in use.

use super::Check;
use super::facts::USED;
use super::finding::What;
use crate::bitmap::Bitmap;
use crate::error::{Part, Result};
use crate::group::Descriptor;
use crate::unit::{BlockCount, GroupNo};
use disk::ReadAt;
use ondisk::Mismatch;
use ondisk::num::low32;

impl<D: ReadAt> Check<'_, D> {
    /// Claims what the filesystem takes for itself.
    pub(super) fn metadata(&mut self) -> Result<()> {
        let geom = self.fs.geom();
        for group in geom.all_groups() {
            self.blocks.reserve(geom.first_block(group), geom.head_blocks(group))?;
        }
        for group in geom.all_groups() {
            let Some(desc) = self.fs.groups().unverified(group) else { continue };
            for (name, at, count) in super::group::places(self.fs, &desc) {
                if !super::group::inside(self.fs, group, at, count) {
                    continue;
                }
                if self.blocks.reserve(at, count)?.is_some() {
                    let what = What::field(name, at.0, "blocks that no other metadata has");
                    self.report.damaged(Part::Descriptor(group), what);
                }
            }
        }
        if let Some(mmp) = self.fs.sb().mmp_block()
            && mmp > geom.first_data_block
            && mmp.0 < geom.blocks.0
        {
            self.blocks.claim(mmp, BlockCount(1))?;
        }
        Ok(())
    }

    /// Compares all bitmaps and the counts of all groups.
    pub(super) fn bitmaps(&mut self) -> Result<()> {
        let task =
            self.cx.progress.task("checking bitmaps", disk::Total::Count(self.fs.geom().groups().into()));
        for group in self.fs.geom().all_groups() {
            self.cx.cancel.check()?;
            let Some(desc) = self.fs.groups().unverified(group) else { continue };
            self.group_blocks(group, &desc)?;
            self.group_inodes_bitmap(group, &desc)?;
            task.advance(1);
        }
        Ok(())
    }

    fn group_blocks(&mut self, group: GroupNo, desc: &Descriptor) -> Result<()> {
        let (geom, part) = (self.fs.geom(), Part::BlockBitmap(group));
        let len = low32(geom.clusters_in(group).0);
        let disk = if desc.block_uninit() {
            self.fs.implied_block_bitmap(group, desc)
        } else if super::group::inside(self.fs, group, desc.block_bitmap, BlockCount(1)) {
            let bytes = self.fs.read_block(part, desc.block_bitmap)?;
            self.sealed_bitmap(part, &bytes, geom.block_bitmap_bytes(), desc.block_bitmap_csum);
            Bitmap::from_bytes(bytes, len)
        } else {
            return Ok(());
        };
        if !disk.is_padded() {
            self.report.damaged(part, What::Broken("has bits clear behind its end"));
        }
        let empty = Bitmap::empty(geom.block_size, len);
        let found = self.blocks.group(group).unwrap_or(&empty);
        let used = u64::from(found.count_set());
        if let Some(what) = differences(found, &disk, "clusters", |bit| geom.block_of_bit(group, bit).0) {
            self.report.damaged(part, what);
        }
        self.report.stats.clusters = self.report.stats.clusters.saturating_add(used);
        self.count(group, "bg_free_blocks_count", desc.free_clusters, disk.count_clear());
        Ok(())
    }

    fn group_inodes_bitmap(&mut self, group: GroupNo, desc: &Descriptor) -> Result<()> {
        let (geom, part) = (self.fs.geom(), Part::InodeBitmap(group));
        let len = geom.inodes_per_group;
        let disk = if desc.inode_uninit() {
            Bitmap::empty(geom.block_size, len)
        } else if super::group::inside(self.fs, group, desc.inode_bitmap, BlockCount(1)) {
            let bytes = self.fs.read_block(part, desc.inode_bitmap)?;
            self.sealed_bitmap(part, &bytes, geom.inode_bitmap_bytes(), desc.inode_bitmap_csum);
            Bitmap::from_bytes(bytes, len)
        } else {
            return Ok(());
        };
        if !disk.is_padded() {
            self.report.damaged(part, What::Broken("has bits clear behind its end"));
        }
        let mut found = Bitmap::empty(geom.block_size, len);
        let mut dirs = 0_u32;
        for (bit, fact) in (0..len).zip(self.facts.group(group)).filter(|(_, fact)| fact.has(USED)) {
            found.set(bit);
            dirs = dirs.saturating_add(u32::from(fact.is_dir() && disk.get(bit)));
        }
        if let Some(what) = differences(&found, &disk, "inodes", |bit| geom.inode_at(group, bit).0.into()) {
            self.report.damaged(part, what);
        }
        self.count(group, "bg_free_inodes_count", desc.free_inodes, disk.count_clear());
        self.count(group, "bg_used_dirs_count", desc.used_dirs, dirs);
        Ok(())
    }

    fn count(&mut self, group: GroupNo, name: &'static str, found: u32, counted: u32) {
        if found != counted {
            let what = What::Count { name, found: found.into(), counted: counted.into() };
            self.report.damaged(Part::Descriptor(group), what);
        }
    }

    fn sealed_bitmap(&mut self, part: Part, bytes: &[u8], covered: usize, stored: u32) {
        let sums = self.fs.sb().sums();
        let computed = sums.bitmap(bytes.get(..covered).unwrap_or(bytes), self.fs.geom().desc_size);
        if sums.cover_all() && stored != computed {
            let mismatch = Mismatch { stored: stored.into(), computed: computed.into() };
            self.report.damaged(part, What::Checksum(mismatch));
        }
    }
}

/// What two bitmaps of the same length differ in.
fn differences(found: &Bitmap, disk: &Bitmap, of: &'static str, number: impl Fn(u32) -> u64) -> Option<What> {
    if found.bytes() == disk.bytes() {
        return None;
    }
    let (mut leaked, mut missing, mut first) = (0_u64, 0_u64, None);
    for bit in (0..found.len()).filter(|&bit| found.get(bit) != disk.get(bit)) {
        first = first.or(Some(bit));
        if disk.get(bit) {
            leaked = leaked.saturating_add(1);
        } else {
            missing = missing.saturating_add(1);
        }
    }
    first.map(|first| What::Bits { of, first: number(first), leaked, missing })
}
