//! Which size is the disk's, and which geometry goes with a size.
//!
//! 1. Virtual PC and plain qemu-img read cylinders × heads × sectors; everybody else reads `current_size`.
//! 2. The largest geometry means "more than this can say": then everybody reads `current_size`.
//! 3. No image leaves our hands whose geometry says more than its `current_size`, except the largest one.

use super::layout::Footer;
use ondisk::Len;
use ondisk::num::{low8, low16};
use std::fmt;

/// Sectors of the largest geometry, 65535 × 16 × 255.
const SECTORS_MAX: u64 = 65_535 * 16 * 255;

/// 32-bit sector numbers for the blocks and their bitmaps leave so much for the disk: 2040 GiB.
pub const LEN_MAX: Len = Len::gib(2040);

/// Cylinders, heads, sectors per track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Cylinders.
    pub cylinders: u16,
    /// Heads.
    pub heads: u8,
    /// Sectors per track.
    pub sectors: u8,
}

impl Geometry {
    /// "More than a geometry can say."
    pub const LARGEST: Self = Self { cylinders: 65_535, heads: 16, sectors: 255 };

    /// As the footer has it.
    #[must_use]
    pub fn of(footer: &Footer) -> Self {
        Self { cylinders: footer.cylinders.get(), heads: footer.heads, sectors: footer.sectors_per_track }
    }

    /// The geometry for a disk of `len`: the largest of the customary ones that is not larger than the disk.
    #[must_use]
    pub fn for_len(len: Len) -> Self {
        let sectors = (len.get() >> 9).min(SECTORS_MAX);
        let (per_track, heads) = if sectors >= 65_535 * 16 * 63 { (255, 16) } else { small(sectors) };
        let cylinders = quotient(quotient(sectors, per_track), heads);
        Self { cylinders: low16(cylinders.min(65_535)), heads: low8(heads), sectors: low8(per_track) }
    }

    /// What it multiplies to.
    #[must_use]
    pub fn len(self) -> Len {
        let tracks = u64::from(self.cylinders).saturating_mul(self.heads.into());
        Len::new(tracks.saturating_mul(self.sectors.into()) << 9)
    }

    /// Whether no cylinder exists.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len().is_zero()
    }

    /// One cylinder.
    fn cylinder(self) -> Len {
        Len::new(u64::from(self.heads).saturating_mul(self.sectors.into()) << 9)
    }

    /// Puts it into a footer.
    pub fn store(self, footer: &mut Footer) {
        footer.cylinders = self.cylinders.into();
        footer.heads = self.heads;
        footer.sectors_per_track = self.sectors;
    }
}

impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.cylinders, self.heads, self.sectors)
    }
}

fn quotient(n: u64, by: u64) -> u64 {
    n.checked_div(by).unwrap_or_default()
}

/// Sectors per track and heads below the size that needs 255 sectors.
fn small(sectors: u64) -> (u64, u64) {
    let tracks = quotient(sectors, 17);
    let heads = tracks.div_ceil(1024).max(4);
    if heads <= 16 && tracks < heads << 10 {
        return (17, heads);
    }
    if quotient(sectors, 31) < 16 << 10 { (31, 16) } else { (63, 16) }
}

/// Who decides on the size of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeBy {
    /// Cylinders × heads × sectors.
    Geometry,
    /// `current_size`.
    CurrentSize,
}

/// The rule for the creator that a footer names.
#[must_use]
pub fn rule(footer: &Footer) -> SizeBy {
    let by_geometry = matches!(&footer.creator_application, b"vpc " | b"qemu");
    if by_geometry { SizeBy::Geometry } else { SizeBy::CurrentSize }
}

/// The size of the virtual disk. A geometry that is empty, the largest, or says more than `current_size` says nothing.
#[must_use]
pub fn virtual_len(footer: &Footer) -> Len {
    let current = Len::new(footer.current_size.get());
    let geometry = Geometry::of(footer);
    let usable = !geometry.is_empty() && geometry != Geometry::LARGEST && geometry.len() <= current;
    if rule(footer) == SizeBy::Geometry && usable { geometry.len() } else { current }
}

/// A size that the format can have, and its geometry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// `current_size`; what every reader takes the disk's size for.
    pub len: Len,
    /// What goes with it.
    pub geometry: Geometry,
}

/// The smallest size that is at least `want` and that all readers of this creator's images agree on.
#[must_use]
pub fn fitting(footer: &Footer, want: Len) -> Option<Size> {
    let unit = if &footer.creator_application == b"tap\0" { 2 << 20 } else { 512 };
    let want = Len::new(want.get().checked_next_multiple_of(unit)?);
    match rule(footer) {
        SizeBy::CurrentSize => Some(Size { len: want, geometry: Geometry::for_len(want) }),
        SizeBy::Geometry => expressible(want),
    }
}

/// A size that a geometry expresses exactly; where there is none, the largest geometry, with which nobody computes.
fn expressible(want: Len) -> Option<Size> {
    let mut probe = want;
    // Each round adds one cylinder; where that changes the shape, one or two more rounds settle it.
    for _ in 0..8 {
        let geometry = Geometry::for_len(probe);
        if geometry.len() >= want && geometry != Geometry::LARGEST {
            return Some(Size { len: geometry.len(), geometry });
        }
        if geometry == Geometry::LARGEST || geometry.cylinders == 65_535 {
            break;
        }
        probe = geometry.len().checked_add(geometry.cylinder())?.max(probe.checked_add(Len::new(512))?);
    }
    Some(Size { len: want, geometry: Geometry::LARGEST })
}
