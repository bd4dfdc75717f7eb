//! The header of a Parallels image, byte by byte. All integers are little-endian.
//!
//! Source: the format's specification in QEMU's documentation; OpenVZ's ploop keeps the same header.

use core::mem::{offset_of, size_of};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Entries of the BAT count sectors.
pub const MAGIC_V1: [u8; 16] = *b"WithoutFreeSpace";
/// Entries of the BAT count clusters.
pub const MAGIC_V2: [u8; 16] = *b"WithouFreSpacExt";
/// The only version of either.
pub const VERSION: u32 = 2;
/// Somebody has the image open, or had when the machine stopped.
pub const IN_USE: u32 = 0x746f_6e59;

/// At byte 0; the BAT follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    pub magic: [u8; 16],
    pub version: U32,
    pub heads: U32,
    pub cylinders: U32,
    /// Sectors of a cluster.
    pub tracks: U32,
    pub bat_entries: U32,
    /// The low half alone in version 1.
    pub nb_sectors: U64,
    pub in_use: U32,
    /// Where the first cluster may be, in sectors.
    pub data_off: U32,
    pub flags: U32,
    pub ext_off: U64,
}

const _: () = {
    assert!(size_of::<Header>() == 64);
    assert!(offset_of!(Header, tracks) == 28);
    assert!(offset_of!(Header, nb_sectors) == 36);
    assert!(offset_of!(Header, in_use) == 44);
    assert!(offset_of!(Header, ext_off) == 56);
};
