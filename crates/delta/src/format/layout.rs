//! The records of a patch, byte by byte. All integers are little-endian.
//!
//! Source: docs/delta-format.md.

use core::mem::size_of;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// At the beginning of a patch.
pub const MAGIC: [u8; 8] = *b"imgdelta";
/// At the beginning of its end record.
pub const END_MAGIC: [u8; 8] = *b"imgdelt.";
/// At the end of a seal.
pub const SEAL_MAGIC: [u8; 8] = *b"imgdelts";
/// At the beginning of a kept index.
pub const INDEX_MAGIC: [u8; 8] = *b"imgtidx1";
/// The version that is written.
pub const VERSION: u16 = 1;

pub mod flag {
    /// Blocks that the filesystems of the target do not use read as zero in the result.
    pub const DROP_FREE: u16 = 1;
    /// All that are known.
    pub const ALL: u16 = DROP_FREE;
}

pub mod codec {
    /// As they are.
    pub const STORED: u8 = 0;
    /// One zstd frame.
    pub const ZSTD: u8 = 1;
    /// One LZMA2 stream.
    pub const LZMA2: u8 = 2;
    /// Beside one of these: the list of the dictionary's parts is a zstd frame, too.
    pub const PACKED_LIST: u8 = 0x80;
}

/// At byte 0. The bases follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    pub magic: [u8; 8],
    pub version: U16,
    pub flags: U16,
    pub bases: U32,
    /// Bytes of the target.
    pub target: U64,
    pub reserved: [u8; 8],
}

/// A base.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Base {
    pub len: U64,
    pub digest: [u8; 32],
}

/// At the beginning of the trailer. Frames and sections follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Trailer {
    /// Of the target.
    pub digest: [u8; 32],
    pub frames: U32,
    pub sections: U32,
}

/// A piece of the literal stream. Frames follow each other in the stream.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Frame {
    /// Where its record begins.
    pub at: U64,
    /// Bytes of the record.
    pub stored: U32,
    /// Literal bytes.
    pub len: U32,
    /// Literal bytes that must be decoded for it: its own, and those of the frames in its dictionary.
    pub work: U64,
    /// How many dictionaries name each other: 0 where its own has bytes of bases and zeros only.
    pub depth: U32,
    pub reserved: U32,
    /// BLAKE3 of the record.
    pub digest: [u8; 32],
}

/// A list of windows. Sections follow each other in the order of the disk.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Section {
    /// Where its record begins.
    pub at: U64,
    /// Bytes of the record: one zstd frame.
    pub stored: U32,
    /// Bytes of the list.
    pub len: U32,
    /// Number of its first window.
    pub first: U64,
    /// How many windows it lists.
    pub count: U32,
    pub reserved: U32,
    /// Where in the literal stream its first window begins to take fresh bytes.
    pub literals: U64,
    /// BLAKE3 of the record.
    pub digest: [u8; 32],
}

/// The head of a file with the values of a disk's windows. They follow, 32 bytes each, and BLAKE3 of all before it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Noted {
    pub magic: [u8; 8],
    /// BLAKE3 of what tells one state of the image from another.
    pub key: [u8; 32],
    /// Bytes of the disk.
    pub len: U64,
}

/// The head of a kept index. The bases follow, then the slots, 8 bytes each, and BLAKE3 of all before it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Index {
    pub magic: [u8; 8],
    /// An anchor in 2^n bytes.
    pub sparse: U32,
    pub bases: U32,
    /// Their number.
    pub slots: U64,
}

/// The last bytes of a patch.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct End {
    /// Where the trailer begins. It ends where this record begins.
    pub trailer: U64,
    /// BLAKE3 of header, bases and trailer.
    pub digest: [u8; 32],
    pub magic: [u8; 8],
}

/// Behind the end and the text of a signature, which lies between.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Seal {
    /// Bytes of the text.
    pub len: U64,
    /// BLAKE3 of the text.
    pub digest: [u8; 32],
    pub magic: [u8; 8],
}

const _: () = {
    assert!(size_of::<Header>() == 32);
    assert!(size_of::<Base>() == 40);
    assert!(size_of::<Trailer>() == 40);
    assert!(size_of::<Frame>() == 64);
    assert!(size_of::<Section>() == 72);
    assert!(size_of::<Noted>() == 48);
    assert!(size_of::<Index>() == 24);
    assert!(size_of::<End>() == 48);
    assert!(size_of::<Seal>() == 48);
};
