//! What a mount does before anybody sees the files: the journal, then the orphans.
//!
//! 1. Each step is planned on what the step before has left, read anew.
//! 2. Of the superblock, only what a mount and an unmount change is written; backups stay as they are.

use crate::error::Result;
use crate::layout;
use crate::sb::SUPER_OFFSET;
use crate::unit::BlockCount;
use crate::{Ext, jbd2, orphan};
use disk::{Cx, Disk};
use ondisk::num::{low8, low32};
use zerocopy::IntoBytes;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Transactions that were replayed.
    pub transactions: u32,
    /// Blocks that were written from the journal.
    pub blocks: BlockCount,
    /// Deleted files whose space was freed.
    pub deleted: u32,
    /// Files whose truncation was finished.
    pub truncated: u32,
    said: Vec<String>,
}

impl Recovery {
    /// Whether there was nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    /// What was done, for people; empty when there was nothing to do.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        self.said.clone()
    }
}

/// Replays the journal of the filesystem on `disk` and finishes with its orphans.
///
/// # Errors
/// Where the filesystem is damaged where this relies on it, or has what is not supported: then `disk` must be thrown
/// away. Give an overlay.
pub fn recovered(disk: &mut dyn Disk, cx: &Cx<'_>) -> Result<Recovery> {
    let replay = jbd2::plan_replay(&Ext::open(&*disk, &cx.limits)?, &cx.limits)?;
    let mut done = Recovery {
        transactions: replay.transactions,
        blocks: BlockCount(ondisk::num::to_u64(replay.copies.len())),
        said: replay.sentences(),
        ..Recovery::default()
    };
    if !replay.is_empty() {
        replay.apply(disk, cx)?;
    }
    let orphans = orphan::plan(&Ext::open(&*disk, &cx.limits)?, cx)?;
    done.deleted = orphans.deleted;
    done.truncated = orphans.truncated;
    done.said.extend(orphans.sentences());
    if !orphans.is_empty() {
        orphans.apply(disk, cx)?;
    }
    Ok(done)
}

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
