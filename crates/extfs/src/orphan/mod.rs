//! Orphans: files that were deleted while somebody had them open, and truncations that a crash cut short.
//!
//! ```text
//! s_last_orphan → inode → i_dtime → inode → i_dtime → … → 0
//! orphan file     [inode][0][inode] … [magic, checksum]      one block after the other
//! ```
//!
//! 1. An orphan without links is freed: contents, map, attributes, inode. One with links is cut to its size.
//! 2. An orphan is a file in use, named once; anything else is damage, and nothing is written.
//! 3. Only what is in use is freed, and nothing that the filesystem itself lives on.
//! 4. Changes gather in an `edit::Edit`, so that each orphan sees what those before it have left.
//! 5. With errors on record the orphans are left alone, as the kernel does: a full check has to look at them.

mod cut;
mod edit;
mod list;
mod quota;
mod xattr;

use crate::Ext;
use crate::error::Result;
use crate::feature::RoCompat;
use crate::layout::Inode as RawInode;
use crate::settle::settle;
use disk::{Cx, Disk, ReadAt};
use edit::Edit;
use ondisk::Offset;
use ondisk::num::low32;
use std::collections::BTreeMap;

/// Everything that finishing with the orphans will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrphanPlan {
    /// Deleted files that are freed.
    pub deleted: u32,
    /// Files whose truncation is finished.
    pub truncated: u32,
    /// All bytes that change, but for the superblock.
    pub writes: BTreeMap<Offset, Vec<u8>>,
    /// Whether the superblock names orphans.
    noted: bool,
}

impl OrphanPlan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.noted && self.writes.is_empty()
    }

    /// The plan for people.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        if self.is_empty() {
            return Vec::new();
        }
        let (deleted, truncated) = (self.deleted, self.truncated);
        vec![format!("orphans: deleted files freed {deleted}, truncations finished {truncated}")]
    }

    /// Carries it out on the disk that it was planned for. Open the filesystem anew afterwards.
    ///
    /// # Errors
    /// Where the disk cannot be read or written, or work is cancelled.
    pub fn apply(self, disk: &mut (impl Disk + ?Sized), cx: &Cx<'_>) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        for (at, bytes) in &self.writes {
            cx.cancel.check()?;
            disk.write_at(*at, bytes)?;
        }
        settle(disk, cx, |raw| {
            let features = RoCompat(raw.s_feature_ro_compat.get());
            raw.s_feature_ro_compat.set(features.without(RoCompat::ORPHAN_PRESENT).0);
            raw.s_last_orphan.set(0);
        })
    }
}

/// Finds the orphans and decides what becomes of them. The journal must have been replayed.
///
/// # Errors
/// Where an orphan is none, or its map or attributes are damaged.
pub fn plan<D: ReadAt>(fs: &Ext<D>, cx: &Cx<'_>) -> Result<OrphanPlan> {
    if fs.sb().has_errors() {
        return Ok(OrphanPlan::default());
    }
    let mut edit = Edit::new(fs, cx);
    let orphans = list::orphans(&mut edit)?;
    let mut plan = OrphanPlan { noted: fs.has_orphans(), ..OrphanPlan::default() };
    if orphans.is_empty() && !plan.noted {
        return Ok(plan);
    }
    fs.sb().writable()?;
    edit.guard()?;
    for ino in orphans {
        cx.cancel.check()?;
        let inode = edit.inode(ino)?;
        if inode.links() > 0 {
            cut::truncate(&mut edit, &inode)?;
            plan.truncated = plan.truncated.saturating_add(1);
            continue;
        }
        plan.deleted = plan.deleted.saturating_add(1);
        for value in delete(&mut edit, &inode)? {
            let inode = edit.inode(value)?;
            delete(&mut edit, &inode)?;
        }
    }
    quota::settle(&mut edit)?;
    plan.writes = edit.finish()?;
    Ok(plan)
}

/// Frees a file without links. Returns the inodes of attribute values that nobody refers to any more.
fn delete<D: ReadAt>(edit: &mut Edit<'_, D>, inode: &crate::Inode) -> Result<Vec<crate::InodeNo>> {
    quota::charge(edit, inode, edit.bytes_of(inode), 1)?;
    cut::free_all(edit, inode)?;
    let values = xattr::release(edit, inode)?;
    let now = edit.now();
    let mapped = inode.has_map();
    edit.change(inode, |raw: &mut RawInode| {
        if mapped {
            cut::clear_root(raw);
        }
        raw.i_size_lo.set(0);
        raw.i_size_high.set(0);
        raw.i_blocks_lo.set(0);
        raw.i_blocks_high.set(0);
        raw.i_file_acl_lo.set(0);
        raw.i_file_acl_high.set(0);
        raw.i_dtime.set(low32(now));
    })?;
    edit.free_inode(inode)?;
    Ok(values)
}
