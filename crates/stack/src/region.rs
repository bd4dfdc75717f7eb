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

/// Where the bytes of a volume lie on a disk.
pub(crate) struct Located<'d> {
    region: &'d Region,
    linear: Option<Linear<&'d dyn ReadAt>>,
}

impl<'d> Located<'d> {
    /// # Errors
    /// Where the volume does not lie on `disk`.
    pub(crate) fn of(disk: &'d dyn ReadAt, region: &'d Region) -> Result<Self> {
        let linear = match region {
            Region::Span(_) => None,
            Region::Logical { parts, .. } => Some(Linear::new(disk, parts.iter().cloned())?),
        };
        Ok(Self { region, linear })
    }

    /// The places of `span`, in its order; what lies behind the end of a partition has none.
    ///
    /// # Errors
    /// Where it lies behind the end of a logical volume.
    pub(crate) fn spans(&self, span: Span) -> Result<Vec<Span>> {
        match (&self.linear, self.region) {
            (Some(linear), _) => linear.ranges(span),
            (None, Region::Span(whole)) => {
                let there = span.shifted(Len::new(whole.start().get()));
                Ok(there.and_then(|span| span.intersect(*whole)).into_iter().collect())
            }
            (None, Region::Logical { .. }) => Ok(Vec::new()),
        }
    }
}
