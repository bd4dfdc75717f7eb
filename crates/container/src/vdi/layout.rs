//! The header of a VDI, byte by byte. All integers are little-endian.
//!
//! Source: the layout as VirtualBox publishes it in its storage library, versions 1.1 and 1.1 with a longer header.

use core::mem::{offset_of, size_of};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub const SIGNATURE: u32 = 0xbeda_107f;
/// The high half of the version is the major one.
pub const VERSION_1_1: u32 = 0x0001_0001;
pub const DYNAMIC: u32 = 1;
pub const FIXED: u32 = 2;
pub const UNDO: u32 = 3;
pub const DIFFERENCING: u32 = 4;
/// An entry of a block that reads as zero.
pub const ZERO: u64 = 0xffff_fffe;
/// An entry of a block that is not there.
pub const FREE: u64 = 0xffff_ffff;

/// At byte 0.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    pub text: [u8; 64],
    pub signature: U32,
    pub version: U32,
    /// From here on, without what stands before.
    pub header_size: U32,
    pub image_type: U32,
    pub image_flags: U32,
    pub description: [u8; 256],
    pub offset_blocks: U32,
    pub offset_data: U32,
    pub cylinders: U32,
    pub heads: U32,
    pub sectors: U32,
    pub sector_size: U32,
    pub unused1: U32,
    pub disk_size: U64,
    pub block_size: U32,
    /// Bytes before the data of each block.
    pub block_extra: U32,
    pub blocks_in_image: U32,
    pub blocks_allocated: U32,
    pub uuid_image: [u8; 16],
    pub uuid_last_snapshot: [u8; 16],
    pub uuid_link: [u8; 16],
    pub uuid_parent: [u8; 16],
    pub unused2: [u8; 56],
}

const _: () = {
    assert!(size_of::<Header>() == 512);
    assert!(offset_of!(Header, signature) == 64);
    assert!(offset_of!(Header, offset_blocks) == 340);
    assert!(offset_of!(Header, disk_size) == 368);
    assert!(offset_of!(Header, blocks_in_image) == 384);
    assert!(offset_of!(Header, uuid_image) == 392);
    assert!(offset_of!(Header, uuid_parent) == 440);
};
