//! Physical and logical extents: the unit in which volume groups hand out space.

use ondisk::num::to_usize;
use ondisk::size::Human;
use ondisk::{Len, Offset, Span};
use std::fmt;

/// An extent's number, on its physical volume or within its logical volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtentNo(pub u64);

/// A number of extents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtentCount(pub u64);

/// The size of every extent of a volume group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtentSize(Len);

/// Extents in a row: from `first`, so many. Counts and numbers have 32 bits, so that ends do not overflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExtentRange {
    /// The first one.
    pub first: ExtentNo,
    /// How many.
    pub count: ExtentCount,
}

/// No tool counts further.
pub const EXTENTS_MAX: u64 = 0xffff_ffff;

impl ExtentSize {
    /// From 512-byte sectors: a power of two, or a multiple of 128 KiB.
    #[must_use]
    pub fn from_sectors(sectors: u64) -> Option<Self> {
        let fits = sectors.is_power_of_two() || (sectors > 0 && sectors.is_multiple_of(256));
        let bytes = sectors.checked_mul(512).filter(|_| fits && sectors <= EXTENTS_MAX)?;
        Some(Self(Len::new(bytes)))
    }

    /// In bytes.
    #[must_use]
    pub const fn len(self) -> Len {
        self.0
    }

    /// So many extents in bytes; `None` beyond the end of all numbers.
    #[must_use]
    pub const fn len_of(self, count: ExtentCount) -> Option<Len> {
        match self.0.get().checked_mul(count.0) {
            Some(bytes) => Some(Len::new(bytes)),
            None => None,
        }
    }

    /// How many extents fit.
    #[must_use]
    pub const fn whole_in(self, len: Len) -> ExtentCount {
        match len.get().checked_div(self.0.get()) {
            Some(n) => ExtentCount(n),
            None => ExtentCount(0),
        }
    }

    /// How many extents are needed for that many bytes.
    #[must_use]
    pub fn needed_for(self, len: Len) -> ExtentCount {
        ExtentCount(ondisk::num::div_up(len.get(), self.0.get()).unwrap_or_default())
    }

    /// The bytes of a range of extents, the first of which begins at `base`.
    #[must_use]
    pub fn span_of(self, base: Offset, range: ExtentRange) -> Option<Span> {
        let start = base.checked_add(self.len_of(ExtentCount(range.first.0))?)?;
        Span::new(start, self.len_of(range.count)?)
    }
}

impl ExtentRange {
    /// Just behind its last extent.
    #[must_use]
    pub const fn end(self) -> ExtentNo {
        ExtentNo(self.first.0.saturating_add(self.count.0))
    }
}

impl ExtentCount {
    /// Divided by a number of stripes; `None` where a rest is left.
    #[must_use]
    pub fn split(self, stripes: usize) -> Option<Self> {
        let stripes = ondisk::num::to_u64(stripes);
        self.0.is_multiple_of(stripes).then(|| self.0.checked_div(stripes)).flatten().map(Self)
    }

    /// As a number of things in memory.
    #[must_use]
    pub const fn to_usize(self) -> usize {
        to_usize(self.0)
    }
}

impl fmt::Display for ExtentNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ExtentCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ExtentSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Human(self.0).fmt(f)
    }
}

/// As LVM2's own tools show ranges: with the last extent.
impl fmt::Display for ExtentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.end().0.saturating_sub(1))
    }
}
