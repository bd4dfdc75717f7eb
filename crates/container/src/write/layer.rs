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
    /// The disk is made in units of this length: whoever reads a part of one reads the others next.
    pub made_in: Option<Len>,
}

impl<'a> Layer<'a> {
    /// All of a disk, whichever image of the chain holds it.
    #[must_use]
    pub const fn flat(disk: &'a dyn Mapped) -> Self {
        Self { disk, own: false, made_in: None }
    }

    /// What the first image of the chain holds.
    #[must_use]
    pub const fn own(disk: &'a dyn Mapped) -> Self {
        Self { disk, own: true, made_in: None }
    }

    /// A disk that is made while it is read, in units of a power of two: no two threads read parts of one unit.
    #[must_use]
    pub const fn made_in(self, unit: Len) -> Self {
        Self { made_in: Some(unit), ..self }
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
