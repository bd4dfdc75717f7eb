//! The records of sparse VMDK extents, byte by byte. All integers are little-endian.
//!
//! Source: VMware's "Virtual Disk Format 5.0" technical note.

use core::mem::{offset_of, size_of};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub const MAGIC: [u8; 4] = *b"KDMV";
pub const COWD_MAGIC: [u8; 4] = *b"COWD";
/// In the place of the directory's position where only the footer knows it.
pub const AT_END: u64 = u64::MAX;
/// The type of the marker before a footer.
pub const FOOTER: u32 = 3;
/// The compression algorithm that there is.
pub const DEFLATE: u16 = 1;

pub mod flags {
    /// There is a second directory with tables of its own.
    pub const REDUNDANT: u32 = 1 << 1;
    /// An entry of 1 is a grain of zeros.
    pub const ZERO_GRAIN: u32 = 1 << 2;
    /// Grains are compressed.
    pub const COMPRESSED: u32 = 1 << 16;
    /// Grains and tables have markers before them.
    pub const MARKERS: u32 = 1 << 17;
}

/// At byte 0 of a hosted sparse extent, and again at its end where it is a stream. Positions and sizes in sectors.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SparseHeader {
    pub magic: [u8; 4],
    pub version: U32,
    pub flags: U32,
    pub capacity: U64,
    pub grain_size: U64,
    pub descriptor_offset: U64,
    pub descriptor_size: U64,
    pub num_gtes_per_gt: U32,
    pub rgd_offset: U64,
    pub gd_offset: U64,
    pub over_head: U64,
    pub unclean_shutdown: u8,
    /// A line feed, a blank, a carriage return and a line feed: damaged where somebody sent the file as text.
    pub line_ends: [u8; 4],
    pub compress_algorithm: U16,
    pub pad: [u8; 433],
}

/// At byte 0 of ESX's copy-on-write extent. Positions and sizes in sectors.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct CowdHeader {
    pub magic: [u8; 4],
    pub version: U32,
    pub flags: U32,
    pub num_sectors: U32,
    pub grain_size: U32,
    pub gd_offset: U32,
    pub num_gd_entries: U32,
    pub free_sector: U32,
}

/// Before each compressed grain.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct GrainMarker {
    /// The grain's first sector in the extent.
    pub lba: U64,
    /// Of the compressed data that follow, in bytes.
    pub size: U32,
}

/// Before tables, directories and footers.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Marker {
    pub num_sectors: U64,
    /// 0: this is no grain.
    pub size: U32,
    pub kind: U32,
}

const _: () = {
    assert!(size_of::<SparseHeader>() == 512);
    assert!(offset_of!(SparseHeader, capacity) == 12);
    assert!(offset_of!(SparseHeader, num_gtes_per_gt) == 44);
    assert!(offset_of!(SparseHeader, gd_offset) == 56);
    assert!(offset_of!(SparseHeader, line_ends) == 73);
    assert!(offset_of!(SparseHeader, compress_algorithm) == 77);
    assert!(size_of::<CowdHeader>() == 32);
    assert!(size_of::<GrainMarker>() == 12);
    assert!(size_of::<Marker>() == 16);
};
