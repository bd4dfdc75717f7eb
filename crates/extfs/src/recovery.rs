//! What a mount does before anybody sees the files: the journal, then the orphans.
//!
//! Each step is planned on what the step before has left, read anew.

use crate::error::{Error, Part, Result};
use crate::unit::BlockCount;
use crate::{Ext, jbd2, orphan};
use disk::{Cx, Disk};

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
    let mut done = replay(disk, cx)?;
    let orphans = orphan::plan(&Ext::open(&*disk, &cx.limits)?, cx)?;
    done.deleted = orphans.deleted;
    done.truncated = orphans.truncated;
    done.said.extend(orphans.sentences());
    if !orphans.is_empty() {
        orphans.apply(disk, cx)?;
    }
    if !done.is_empty() {
        prove_recovered(disk, cx)?;
    }
    Ok(done)
}

/// A hostile log writes over the inode of its own journal: what it leaves is no filesystem that anybody could mount.
fn prove_recovered(disk: &mut dyn Disk, cx: &Cx<'_>) -> Result<()> {
    if jbd2::plan_replay(&Ext::open(&*disk, &cx.limits)?, &cx.limits)?.is_empty() {
        return Ok(());
    }
    Err(Error::broken(Part::Journal, "is not empty once it has been replayed"))
}

/// The first half: the journal.
pub(crate) fn replay(disk: &mut dyn Disk, cx: &Cx<'_>) -> Result<Recovery> {
    let replay = jbd2::plan_replay(&Ext::open(&*disk, &cx.limits)?, &cx.limits)?;
    let done = Recovery {
        transactions: replay.transactions,
        blocks: BlockCount(ondisk::num::to_u64(replay.copies.len())),
        said: replay.sentences(),
        ..Recovery::default()
    };
    if !replay.is_empty() {
        replay.apply(disk, cx)?;
    }
    Ok(done)
}
