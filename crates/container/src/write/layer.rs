//! What of a chain is poured into a new image.

use crate::Mapped;
use ondisk::Len;

/// A virtual disk, or what one image of a chain adds to it.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    /// The disk, seen through its whole chain.
    pub disk: &'a dyn Mapped,
    /// Only what the image itself holds; the rest stays the parent's.
    pub own: bool,
}

impl<'a> Layer<'a> {
    /// All of a disk, whichever image of the chain holds it.
    #[must_use]
    pub const fn flat(disk: &'a dyn Mapped) -> Self {
        Self { disk, own: false }
    }

    /// What the first image of the chain holds.
    #[must_use]
    pub const fn own(disk: &'a dyn Mapped) -> Self {
        Self { disk, own: true }
    }

    /// The size of the disk.
    #[must_use]
    pub fn len(&self) -> Len {
        self.disk.len()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len().is_zero()
    }
}
