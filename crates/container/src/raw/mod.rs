//! Raw: the file is the disk.
//!
//! Growing it only lengthens the file; nothing is written.

pub(crate) mod fill;

use crate::{BlockStatus, Error, Result};
use disk::{Disk, ExtentKind, ReadAt};
use ondisk::{Len, Span};

/// The map of `range`.
pub(crate) fn status(file: &dyn ReadAt, range: Span) -> disk::Result<Vec<BlockStatus>> {
    let run = |extent: disk::Extent| BlockStatus {
        span: extent.span,
        present: true,
        zero: extent.kind.reads_zero(),
        data: extent.kind == ExtentKind::Data,
        offset: Some(extent.span.start()),
        depth: 0,
    };
    Ok(file.extents(range)?.iter().map(run).collect())
}

/// The change that makes a raw image longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrowPlan {
    old: Len,
    new: Len,
}

impl GrowPlan {
    /// The size afterwards.
    #[must_use]
    pub const fn new_len(&self) -> Len {
        self.new
    }

    /// What happens.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        vec![format!("the file grows from {} to {} bytes", self.old, self.new)]
    }

    /// Does it.
    ///
    /// # Errors
    /// Where the file cannot have that length.
    pub fn apply(self, file: &mut dyn Disk) -> disk::Result<()> {
        file.resize(self.new)
    }
}

/// Plans to make the disk `to` bytes long, or up to the next whole sector.
///
/// # Errors
/// Where the disk is larger already, or ends within a sector.
pub fn plan_grow(file: &dyn ReadAt, to: Len) -> Result<GrowPlan> {
    let old = file.len();
    let new = ondisk::num::round_up(to.get(), 512).map(Len::new);
    let new =
        new.ok_or_else(|| Error::Usage { what: format!("{to} bytes are more than a file can have") })?;
    if to < old {
        return Err(smaller(old, to));
    }
    Ok(GrowPlan { old, new })
}

/// Growing does not make anything smaller.
pub(crate) fn smaller(old: Len, to: Len) -> Error {
    Error::Usage { what: format!("the disk has {old} bytes already, {to} would be less") }
}
