//! Where the bytes of a volume lie on the disk.

use disk::{Disk, Linear, ReadAt, Result, Slice, Stripes};
use ondisk::{Len, Offset, Span};

/// The place of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Region {
    /// One span: a partition, or the whole disk.
    Span(Span),
    /// Runs of extents in order, each on its own or striped: a logical volume.
    Logical {
        /// The runs.
        parts: Vec<Stripes>,
        /// All of them together.
        len: Len,
    },
}

impl Region {
    /// How long the volume is.
    #[must_use]
    pub const fn len(&self) -> Len {
        match self {
            Self::Span(span) => span.len(),
            Self::Logical { len, .. } => *len,
        }
    }

    /// Whether it has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len().is_zero()
    }

    /// Where on the disk its first byte lies.
    #[must_use]
    pub fn start(&self) -> Offset {
        match self {
            Self::Span(span) => span.start(),
            Self::Logical { parts, .. } => {
                parts.first().and_then(|part| part.spans.first()).map_or(Offset::ZERO, |span| span.start())
            }
        }
    }

    /// The volume as a disk of its own, for reading.
    ///
    /// # Errors
    /// Where it does not lie on `disk`.
    pub fn reader<'d>(&self, disk: &'d dyn ReadAt) -> Result<Box<dyn ReadAt + 'd>> {
        match self {
            Self::Span(span) => Ok(Box::new(Slice::new(disk, *span)?)),
            Self::Logical { parts, .. } => Ok(Box::new(Linear::new(disk, parts.iter().cloned())?)),
        }
    }

    /// The volume as a disk of its own, for changing.
    ///
    /// # Errors
    /// As [`Self::reader`].
    pub fn writer<'d>(&self, disk: &'d mut dyn Disk) -> Result<Box<dyn Disk + 'd>> {
        match self {
            Self::Span(span) => Ok(Box::new(Slice::new(disk, *span)?)),
            Self::Logical { parts, .. } => Ok(Box::new(Linear::new(disk, parts.iter().cloned())?)),
        }
    }
}
