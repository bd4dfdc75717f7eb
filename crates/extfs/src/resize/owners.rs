//! Which blocks of the old state belong to the filesystem itself.
//!
//! 1. No block of metadata has two owners.
//! 2. A bitmap that will be changed has its padding set, agrees with the free count, and has all metadata in use.

use crate::bitmap::Bitmap;
use crate::error::{Error, Part, Result};
use crate::geom::Geometry;
use crate::read::Ext;
use crate::unit::{BlockCount, BlockNo, GroupNo};
use disk::ReadAt;
use ondisk::num::low32;
use std::ops::Range;

/// Blocks of metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owned {
    start: BlockNo,
    end: BlockNo,
    part: Part,
}

/// All blocks of superblocks, descriptors, bitmaps and inode tables, ascending and disjoint.
pub(super) struct Owners(Vec<Owned>);

impl Owners {
    /// As the descriptors say, every one of which is verified.
    pub fn of<D: ReadAt>(fs: &Ext<D>) -> Result<Self> {
        let geom = fs.geom();
        let mut all = Vec::new();
        for group in geom.all_groups() {
            let desc = fs.groups().get(group)?;
            let (free, there) = (desc.free_clusters, geom.clusters_in(group));
            if u64::from(free) > there.0 {
                let expected = format!("at most {there}");
                return Err(Error::field(Part::Descriptor(group), "bg_free_blocks_count", free, expected));
            }
            if desc.free_inodes > geom.inodes_per_group {
                let expected = format!("at most {}", geom.inodes_per_group);
                let field = "bg_free_inodes_count";
                return Err(Error::field(Part::Descriptor(group), field, desc.free_inodes, expected));
            }
            let parts = [
                (geom.first_block(group), geom.head_blocks(group), Part::Superblock(group)),
                (desc.block_bitmap, BlockCount(1), Part::BlockBitmap(group)),
                (desc.inode_bitmap, BlockCount(1), Part::InodeBitmap(group)),
                (desc.inode_table, geom.table_blocks(), Part::Descriptor(group)),
            ];
            let owned = |(start, count, part): (BlockNo, BlockCount, Part)| Owned {
                start,
                end: start.plus(count.0),
                part,
            };
            all.extend(parts.into_iter().filter(|part| part.1.0 > 0).map(owned));
        }
        all.sort_unstable_by_key(|owned| owned.start);
        let overlap = all.iter().zip(all.iter().skip(1)).find(|(one, two)| one.end > two.start);
        match overlap {
            Some((_, two)) => Err(Error::broken(two.part, "lies in other metadata")),
            None => Ok(Self(all)),
        }
    }

    /// The parts of `blocks` that are metadata.
    pub fn within(&self, blocks: Range<BlockNo>) -> impl Iterator<Item = Range<BlockNo>> + '_ {
        let first = self.0.partition_point(|owned| owned.end <= blocks.start);
        let rest = self.0.get(first..).unwrap_or_default();
        rest.iter()
            .take_while(move |owned| owned.start < blocks.end)
            .map(move |owned| owned.start.max(blocks.start)..owned.end.min(blocks.end))
            .filter(|owned| !owned.is_empty())
    }

    /// Whether none of `blocks` is metadata.
    pub fn avoid(&self, blocks: Range<BlockNo>) -> bool {
        self.within(blocks).next().is_none()
    }

    /// The block bitmap of a group that will be changed.
    pub fn bitmap<D: ReadAt>(&self, fs: &Ext<D>, group: GroupNo) -> Result<Bitmap> {
        let geom = fs.geom();
        let part = Part::BlockBitmap(group);
        let bitmap = fs.block_bitmap(group)?;
        if !bitmap.is_padded() {
            return Err(Error::broken(part, "has clear bits behind its end"));
        }
        let (counted, free) = (bitmap.count_clear(), fs.groups().get(group)?.free_clusters);
        if counted != free {
            let expected = format!("{counted}, as many as are clear in the bitmap");
            return Err(Error::field(Part::Descriptor(group), "bg_free_blocks_count", free, expected));
        }
        for owned in self.within(geom.first_block(group)..geom.end_block(group)) {
            let bits = bits(geom, group, owned);
            if bitmap.next(bits.start, false) < bits.end {
                return Err(Error::broken(part, "says that metadata is free"));
            }
        }
        Ok(bitmap)
    }
}

/// The bits that stand for blocks of one group, clusters touched in part included.
pub(super) fn bits(geom: &Geometry, group: GroupNo, blocks: Range<BlockNo>) -> Range<u32> {
    let first = geom.first_block(group).0;
    let bit = |block: u64| low32(block.saturating_sub(first).div_ceil(geom.cluster_ratio()));
    let start = low32(blocks.start.0.saturating_sub(first) >> geom.cluster_bits);
    start..bit(blocks.end.0)
}
