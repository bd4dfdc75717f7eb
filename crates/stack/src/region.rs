//! Where the bytes of a volume lie on the disk.

use disk::{Disk, ReadAt, Result, Slice};
use ondisk::{Len, Offset, Span};

/// The place of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Region {
    /// One span: a partition, or the whole disk.
    Span(Span),
}

impl Region {
    /// How long the volume is.
    #[must_use]
    pub fn len(&self) -> Len {
        match self {
            Self::Span(span) => span.len(),
        }
    }

    /// Where on the disk it starts.
    #[must_use]
    pub fn start(&self) -> Offset {
        match self {
            Self::Span(span) => span.start(),
        }
    }

    /// The volume as a disk of its own, for reading.
    ///
    /// # Errors
    /// Where it does not lie on `disk`.
    pub fn reader<'d>(&self, disk: &'d dyn ReadAt) -> Result<Box<dyn ReadAt + 'd>> {
        match self {
            Self::Span(span) => Ok(Box::new(Slice::new(disk, *span)?)),
        }
    }

    /// The volume as a disk of its own, for changing.
    ///
    /// # Errors
    /// As [`Self::reader`].
    pub fn writer<'d>(&self, disk: &'d mut dyn Disk) -> Result<Box<dyn Disk + 'd>> {
        match self {
            Self::Span(span) => Ok(Box::new(Slice::new(disk, *span)?)),
        }
    }
}
