//! The binary records of LVM2, exactly as on disk: label, physical volume header, metadata area header.
//!
//! Format: `lib/format_text/layout.h` and `lib/label/label.h` of LVM2 2.03. Little-endian.

use core::mem::{offset_of, size_of};
use ondisk::sum::crc32_raw;
use ondisk::{Mismatch, Sealed};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Labels and headers take a sector of 512 bytes, whatever the device's own sectors.
pub const SECTOR: u64 = 512;
/// The label is in one of so many sectors.
pub const LABEL_SECTORS: u64 = 4;
/// The start of a label.
pub const LABEL_ID: [u8; 8] = *b"LABELONE";
/// What kind of label.
pub const LABEL_TYPE: [u8; 8] = *b"LVM2 001";
/// The start of a metadata area, behind its checksum.
pub const MDA_MAGIC: [u8; 16] = *b" LVM2 x[5A%r0N*>";
/// The only version of metadata areas.
pub const MDA_VERSION: u32 = 1;
/// Bit of [`RawLocn::flags`]: this area holds no current text, others do.
pub const IGNORED: u32 = 1;
/// Bit of [`PvExtension::flags`]: a volume group has the physical volume.
pub const IN_USE: u32 = 1;
/// Where every checksum starts.
const SEED: u32 = 0xf597_a6cf;

/// The checksum of LVM2, continued from `start`.
pub fn sum(parts: [&[u8]; 2]) -> u32 {
    parts.into_iter().fold(SEED, crc32_raw)
}

/// The start of a label's sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LabelHeader {
    /// [`LABEL_ID`].
    pub id: [u8; 8],
    /// The sector that the label is in.
    pub sector: U64,
    /// Checksum of the sector behind this field.
    pub crc: U32,
    /// Where in the sector the [`PvHeader`] begins.
    pub offset: U32,
    /// [`LABEL_TYPE`].
    pub label_type: [u8; 8],
}

/// The whole sector of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LabelSector {
    /// Its start.
    pub header: LabelHeader,
    /// The physical volume header and its lists.
    pub rest: [u8; 480],
}

/// The start of a physical volume header. Two lists of [`DiskLocn`] follow, data areas and metadata areas, each ended
/// by an entry of zeros; then a [`PvExtension`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct PvHeader {
    /// The physical volume's identifier, without dashes.
    pub pv_uuid: [u8; 32],
    /// The size of the device in bytes, as it once was.
    pub device_size: U64,
}

/// A range of bytes of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DiskLocn {
    /// Where it begins.
    pub offset: U64,
    /// How many bytes; a data area of 0 reaches to the end.
    pub size: U64,
}

/// What newer versions add; a list of bootloader areas follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct PvExtension {
    /// 1 or 2; 0 where there is none.
    pub version: U32,
    /// [`IN_USE`].
    pub flags: U32,
}

/// Where a text lies in its metadata area.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawLocn {
    /// From the start of the metadata area.
    pub offset: U64,
    /// With the final NUL.
    pub size: U64,
    /// Checksum of the text.
    pub checksum: U32,
    /// [`IGNORED`].
    pub flags: U32,
}

/// The first sector of a metadata area.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct MdaHeader {
    /// Checksum of the sector behind this field.
    pub checksum: U32,
    /// [`MDA_MAGIC`].
    pub magic: [u8; 16],
    /// [`MDA_VERSION`].
    pub version: U32,
    /// Where this area begins on the device.
    pub start: U64,
    /// Its size, this sector included.
    pub size: U64,
    /// The committed text.
    pub committed: RawLocn,
    /// The text of a commit under way.
    pub precommitted: RawLocn,
    /// Unknown.
    pub unknown: [u8; 424],
}

const _: () = {
    assert!(size_of::<LabelHeader>() == 32 && size_of::<LabelSector>() == 512);
    assert!(offset_of!(LabelHeader, crc) == 16 && offset_of!(LabelHeader, label_type) == 24);
    assert!(size_of::<PvHeader>() == 40 && offset_of!(PvHeader, device_size) == 32);
    assert!(size_of::<DiskLocn>() == 16 && size_of::<PvExtension>() == 8);
    assert!(size_of::<RawLocn>() == 24 && offset_of!(RawLocn, checksum) == 16);
    assert!(size_of::<MdaHeader>() == 512 && offset_of!(MdaHeader, version) == 20);
    assert!(offset_of!(MdaHeader, start) == 24 && offset_of!(MdaHeader, committed) == 40);
    assert!(offset_of!(MdaHeader, precommitted) == 64);
};

impl LabelSector {
    fn sum(&self) -> u32 {
        sum([self.as_bytes().get(20..).unwrap_or_default(), &[]])
    }
}

impl Sealed for LabelSector {
    type Key = ();

    fn seal(&mut self, (): &()) {
        self.header.crc = U32::new(self.sum());
    }

    fn verify(&self, (): &()) -> Result<(), Mismatch> {
        same(self.header.crc.get(), self.sum())
    }
}

impl MdaHeader {
    fn sum(&self) -> u32 {
        sum([self.as_bytes().get(4..).unwrap_or_default(), &[]])
    }
}

impl Sealed for MdaHeader {
    type Key = ();

    fn seal(&mut self, (): &()) {
        self.checksum = U32::new(self.sum());
    }

    fn verify(&self, (): &()) -> Result<(), Mismatch> {
        same(self.checksum.get(), self.sum())
    }
}

/// A checksum as stored, and as computed.
pub fn same(stored: u32, computed: u32) -> Result<(), Mismatch> {
    if stored == computed {
        Ok(())
    } else {
        Err(Mismatch { stored: u64::from(stored), computed: u64::from(computed) })
    }
}
