//! The superblock behind a step of recovery: only what a mount and an unmount change is written, backups stay as they
//! are.

use crate::error::Result;
use crate::sb::SUPER_OFFSET;
use crate::{Ext, layout};
use disk::{Cx, Disk};
use ondisk::num::{low8, low32};
use zerocopy::IntoBytes;

/// Writes the superblock with some fields changed, and its counts of what is free brought up to date: a running
/// kernel keeps them only in the descriptors.
pub(crate) fn settle(
    disk: &mut (impl Disk + ?Sized),
    cx: &Cx<'_>,
    edit: impl FnOnce(&mut layout::Superblock),
) -> Result<()> {
    let fs = Ext::open(&*disk, &cx.limits)?;
    let blocks = fs.free_blocks()?;
    let mut inodes = 0_u64;
    for group in fs.geom().all_groups() {
        inodes = inodes.saturating_add(fs.groups().get(group)?.free_inodes.into());
    }
    let sb = fs.sb().edited(|raw| {
        raw.set_free_blocks(blocks);
        raw.s_free_inodes_count.set(low32(inodes));
        raw.s_wtime.set(low32(cx.now));
        raw.s_wtime_hi = low8(cx.now >> 32);
        edit(raw);
    })?;
    disk.write_at(SUPER_OFFSET, sb.raw().as_bytes())?;
    Ok(())
}
