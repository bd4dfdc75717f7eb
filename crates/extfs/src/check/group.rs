//! Group descriptors: what one says, and what all say together.

use super::finding::{Report, What};
use crate::Ext;
use crate::csum::Object;
use crate::error::{Part, Result};
use crate::feature::Incompat;
use crate::group::Descriptor;
use crate::unit::{BlockCount, BlockNo, GroupNo};
use disk::{Cx, ReadAt};

/// Checks every descriptor, and the totals.
pub(super) fn check<D: ReadAt>(fs: &Ext<D>, cx: &Cx<'_>, report: &mut Report) -> Result<()> {
    let (mut free, mut inodes) = (0_u64, 0_u64);
    for group in fs.geom().all_groups() {
        if group.0.is_multiple_of(4096) {
            cx.cancel.check()?;
        }
        let Some(desc) = fs.groups().unverified(group) else { continue };
        one(fs, group, &desc, report);
        free = free.saturating_add(desc.free_clusters.into());
        inodes = inodes.saturating_add(desc.free_inodes.into());
    }
    let (part, free) = (Part::Superblock(GroupNo(0)), free << fs.geom().cluster_bits);
    if free != fs.sb().free_blocks().0 {
        let found = fs.sb().free_blocks().0;
        report.note(part, What::Count { name: "s_free_blocks_count", found, counted: free });
    }
    if inodes != u64::from(fs.sb().free_inodes()) {
        let found = fs.sb().free_inodes().into();
        report.note(part, What::Count { name: "s_free_inodes_count", found, counted: inodes });
    }
    Ok(())
}

fn one<D: ReadAt>(fs: &Ext<D>, group: GroupNo, desc: &Descriptor, report: &mut Report) {
    let (part, geom) = (Part::Descriptor(group), fs.geom());
    let bytes = fs.groups().bytes_of(group).unwrap_or_default();
    if let Err(mismatch) = fs.sb().sums().verify(Object::Descriptor(group), bytes) {
        report.damaged(part, What::Checksum(mismatch));
    }
    for (name, at, count) in places(fs, desc) {
        if !inside(fs, group, at, count) {
            report.damaged(part, What::field(name, at.0, "a place in the filesystem, or in the group"));
        }
    }
    let mut most = |name, found: u32, max: u32| {
        if found > max {
            report.damaged(part, What::field(name, found, format!("at most {max}")));
        }
    };
    most("bg_free_blocks_count", desc.free_clusters, geom.blocks_per_group);
    most("bg_free_inodes_count", desc.free_inodes, geom.inodes_per_group);
    most("bg_used_dirs_count", desc.used_dirs, geom.inodes_per_group);
    if fs.sb().has_group_flags() {
        most("bg_itable_unused", desc.itable_unused, desc.free_inodes.min(geom.inodes_per_group));
        if group == geom.last_group() && desc.block_uninit() {
            report.damaged(
                part,
                What::Broken("is the last one and says that its block bitmap is not initialised"),
            );
        }
    } else if raw_flags(bytes) & 3 != 0 || desc.itable_unused != 0 {
        report.damaged(part, What::Broken("has parts marked as not initialised without uninit_bg"));
    }
}

/// What a descriptor places.
pub(super) fn places<D: ReadAt>(fs: &Ext<D>, desc: &Descriptor) -> [(&'static str, BlockNo, BlockCount); 3] {
    [
        ("bg_block_bitmap", desc.block_bitmap, BlockCount(1)),
        ("bg_inode_bitmap", desc.inode_bitmap, BlockCount(1)),
        ("bg_inode_table", desc.inode_table, fs.geom().table_blocks()),
    ]
}

/// Whether metadata of a group may lie there: anywhere with `flex_bg`, else in the group.
pub(super) fn inside<D: ReadAt>(fs: &Ext<D>, group: GroupNo, at: BlockNo, count: BlockCount) -> bool {
    let geom = fs.geom();
    let flex = fs.sb().incompat().has(Incompat::FLEX_BG);
    let (first, end) = match flex {
        true => (geom.first_data_block, BlockNo(geom.blocks.0)),
        false => (geom.first_block(group), geom.end_block(group)),
    };
    at.0 != 0 && at >= first && at.plus(count.0) <= end
}

/// `bg_flags`, whether it counts or not.
fn raw_flags(bytes: &[u8]) -> u16 {
    bytes.get(0x12..).and_then(<[u8]>::first_chunk).map_or(0, |b| u16::from_le_bytes(*b))
}
