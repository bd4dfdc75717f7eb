//! Orphans: files that were deleted while somebody had them open, and truncations that a crash cut short.

use crate::Ext;
use crate::error::{Error, Part, Result};
use crate::unit::InodeNo;
use disk::{Cx, Disk, ReadAt};

/// Everything that finishing with the orphans will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrphanPlan {}

impl OrphanPlan {
    /// Whether there is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        true
    }

    /// Files that will be freed.
    #[must_use]
    pub const fn deleted(&self) -> u32 {
        0
    }

    /// Files that will be truncated.
    #[must_use]
    pub const fn truncated(&self) -> u32 {
        0
    }

    /// The plan for people.
    #[must_use]
    pub const fn sentences(&self) -> Vec<String> {
        Vec::new()
    }

    /// Carries it out.
    ///
    /// # Errors
    /// Where the disk cannot be written.
    pub fn apply(self, _: &mut (impl Disk + ?Sized), _: &Cx<'_>) -> Result<()> {
        Ok(())
    }
}

/// Decides.
///
/// # Errors
/// For now, where there are any.
pub fn plan<D: ReadAt>(fs: &Ext<D>, _: &Cx<'_>) -> Result<OrphanPlan> {
    if fs.has_orphans() {
        return Err(Error::Unsupported { part: Part::Inode(InodeNo(fs.sb().raw().s_last_orphan.get())), what: "an orphan" });
    }
    Ok(OrphanPlan {})
}
