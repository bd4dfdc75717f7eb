//! Mending the counts of a filesystem in which nothing else is wrong: what bitmaps and inodes say was verified by a full
//! check, and the descriptors only repeat it.

use crate::check::{self, Finding, Scope, What};
use crate::error::{Error, Part, Result};
use crate::settle::settle;
use crate::unit::{BlockCount, GroupNo};
use crate::{Ext, Groups};
use disk::{Cx, Disk, ReadAt};
use ondisk::Offset;

/// Corrects the counts of free blocks and inodes, and of folders, in the descriptors. Says what was done: nothing where
/// all is well, where anything else is wrong, or where the filesystem waits for its recovery.
///
/// # Errors
/// Where the disk cannot be read or written, or the filesystem cannot be opened.
pub fn recounted(disk: &mut dyn Disk, cx: &Cx<'_>) -> Result<Vec<String>> {
    let fs = Ext::open(&*disk, &cx.limits)?;
    if fs.needs_recovery() || fs.has_orphans() || fs.sb().writable().is_err() {
        return Ok(Vec::new());
    }
    let report = check::check(&fs, Scope::Full, cx)?;
    let wrong: Vec<Finding> = report.damage().cloned().collect();
    let told = u64::try_from(wrong.len()).unwrap_or_default() == report.damage_count();
    let mut groups = fs.groups().clone();
    if !told || wrong.is_empty() || !wrong.iter().all(|one| correct(&mut groups, one)) {
        return Ok(Vec::new());
    }
    let writes = changed_blocks(&fs, &groups)?;
    let says = wrong.iter().map(|one| format!("{one}: corrected")).collect();
    drop(fs);
    for (at, bytes) in writes {
        disk.write_at(at, &bytes)?;
    }
    settle(disk, cx, |_| {})?;
    Ok(says)
}

/// Corrects one count; whether the finding is about one.
fn correct(groups: &mut Groups, finding: &Finding) -> bool {
    let (Part::Descriptor(group), What::Count { name, counted, .. }) = (finding.part, &finding.what) else {
        return false;
    };
    let Some(mut desc) = groups.unverified(group) else { return false };
    let field = match *name {
        "bg_free_blocks_count" => &mut desc.free_clusters,
        "bg_free_inodes_count" => &mut desc.free_inodes,
        "bg_used_dirs_count" => &mut desc.used_dirs,
        _ => return false,
    };
    let Ok(counted) = u32::try_from(*counted) else { return false };
    *field = counted;
    groups.put(group, &desc).is_ok()
}

/// The descriptor blocks that are not as they were, and their places.
fn changed_blocks<D: ReadAt>(fs: &Ext<D>, groups: &Groups) -> Result<Vec<(Offset, Vec<u8>)>> {
    let geom = fs.geom();
    let mut writes = Vec::new();
    for k in 0..geom.desc_blocks() {
        let (Some(old), Some(new)) = (fs.groups().block(k), groups.block(k)) else { continue };
        if old == new {
            continue;
        }
        let block = geom.primary_desc_block(k).filter(|&block| geom.holds(block, BlockCount(1)));
        let at = block.and_then(|block| geom.block_size.offset_of(block));
        let lost = Error::broken(Part::Descriptor(GroupNo(0)), "has no place in the filesystem");
        writes.push((at.ok_or(lost)?, new.to_vec()));
    }
    Ok(writes)
}
