//! The records of a signature of a disk, byte by byte. All integers are little-endian.
//!
//! Source: docs/delta-format.md.

use core::mem::{offset_of, size_of};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// At the beginning.
pub const MAGIC: [u8; 8] = *b"imgdsign";
/// At the end.
pub const END_MAGIC: [u8; 8] = *b"imgdsig.";
/// The version that is written.
pub const VERSION: u16 = 1;
/// Bytes of a block.
pub const BLOCK: usize = 4096;

/// At byte 0. Blocks follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    pub magic: [u8; 8],
    pub version: U16,
    pub flags: U16,
    /// Bytes of a block.
    pub block: U32,
    /// Bytes of the disk.
    pub len: U64,
    pub reserved: [u8; 8],
}

/// A whole block that is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Block {
    /// The rolling checksum.
    pub weak: U32,
    /// The first bytes of BLAKE3 of the block.
    pub strong: [u8; 12],
}

/// Blocks that follow each other. The values of all windows stand before the runs.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Run {
    /// Number of the first block.
    pub first: U64,
    /// How many.
    pub count: U64,
}

/// The last bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct End {
    /// How many blocks there are.
    pub blocks: U64,
    /// How many runs there are.
    pub runs: U64,
    /// Of the disk.
    pub disk: [u8; 32],
    /// BLAKE3 of everything before.
    pub digest: [u8; 32],
    pub magic: [u8; 8],
}

impl End {
    /// What of it is under its digest.
    pub fn sealed(&self) -> &[u8] {
        self.as_bytes().get(..offset_of!(Self, digest)).unwrap_or_default()
    }
}

const _: () = {
    assert!(size_of::<Header>() == 32);
    assert!(size_of::<Block>() == 16);
    assert!(size_of::<Run>() == 16);
    assert!(size_of::<End>() == 88);
};
