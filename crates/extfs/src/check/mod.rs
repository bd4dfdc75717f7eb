//! The checker: everything that the rest of the program, a kernel or a repair would rely on.
//!
//! ```text
//! sb, group    superblock, descriptors, backups
//! special      resize inode, journal, multiple mount protection, orphans
//! ```
//!
//! 1. What `e2fsck -f` calls clean is clean here, and what it would repair is damage.
//! 2. The checker reads only; it is given the filesystem as it looks after its journal was replayed.
//! 3. Memory is bounded by a few bits for each block and a few bytes for each inode in use.

mod finding;
mod group;
mod sb;
mod special;

pub use finding::{Finding, Report, Severity, Stats, What};

use crate::Ext;
use crate::error::{Part, Result};
use crate::unit::GroupNo;
use disk::{Cx, ReadAt};

/// How much to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    Full,
    /// What growing relies on: superblock, descriptors, the bitmaps of the last groups, the resize inode, a backup.
    Touched,
}

/// Checks a filesystem.
///
/// # Errors
/// Where the disk cannot be read, memory does not suffice, or the operator interrupts. Damage is no error.
pub fn check<D: ReadAt>(fs: &Ext<D>, scope: Scope, cx: &Cx<'_>) -> Result<Report> {
    let mut report = Report::default();
    sb::check(fs, cx, &mut report);
    group::check(fs, cx, &mut report)?;
    special::resize_inode(fs, &mut report)?;
    if scope == Scope::Touched {
        touched(fs, &mut report)?;
    }
    Ok(report)
}

/// The bitmaps of the groups at both ends, against their own counts, and the last backup.
fn touched<D: ReadAt>(fs: &Ext<D>, report: &mut Report) -> Result<()> {
    let last = fs.geom().last_group();
    let mut groups = vec![GroupNo(0), GroupNo(last.0.saturating_sub(1)), last];
    groups.dedup();
    for group in groups {
        let Some(desc) = fs.groups().unverified(group) else { continue };
        match fs.block_bitmap(group) {
            Ok(bitmap) if bitmap.count_clear() != desc.free_clusters => {
                let what = What::Count {
                    name: "bg_free_blocks_count",
                    found: desc.free_clusters.into(),
                    counted: bitmap.count_clear().into(),
                };
                report.damaged(Part::Descriptor(group), what);
            }
            Ok(_) => {}
            Err(error) => report.error(Part::BlockBitmap(group), error)?,
        }
        match fs.inode_bitmap(group) {
            Ok(bitmap) if bitmap.count_clear() != desc.free_inodes => {
                let what = What::Count {
                    name: "bg_free_inodes_count",
                    found: desc.free_inodes.into(),
                    counted: bitmap.count_clear().into(),
                };
                report.damaged(Part::Descriptor(group), what);
            }
            Ok(_) => {}
            Err(error) => report.error(Part::InodeBitmap(group), error)?,
        }
    }
    match fs.geom().backup_groups().last() {
        Some(group) => sb::backup(fs, group, report),
        None => Ok(()),
    }
}
