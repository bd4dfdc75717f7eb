//! The records of a journal as they lie in the file. Little-endian.

use core::mem::{offset_of, size_of};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub(crate) const JOURNAL_MAGIC: [u8; 8] = *b"IMGTJNL1";
pub(crate) const UNDO_MAGIC: [u8; 8] = *b"IMGTUND1";
pub(crate) const COMMIT_MAGIC: [u8; 8] = *b"IMGTCMT1";
pub(crate) const VERSION: u32 = 1;

/// The first sector.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Header {
    pub magic: [u8; 8],
    pub version: U32,
    /// None are known; any set bit refuses.
    pub flags: U32,
    pub old_len: U64,
    pub new_len: U64,
    pub device: U64,
    pub inode: U64,
    pub created: U64,
    pub about_len: U32,
    pub reserved: U32,
    pub about: [u8; 256],
    pub padding: [u8; 192],
}

/// One line of the table.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Entry {
    pub what: U32,
    pub flags: U32,
    pub at: U64,
    pub len: U64,
    pub reserved: U64,
    pub digest: [u8; 32],
}

/// The last sector.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Commit {
    pub magic: [u8; 8],
    pub count: U64,
    pub table_at: U64,
    pub digest: [u8; 32],
    pub padding: [u8; 456],
}

impl Commit {
    /// What the digest covers of this record itself: everything before the digest.
    pub fn covered(&self) -> &[u8] {
        self.as_bytes().get(..offset_of!(Self, digest)).unwrap_or_default()
    }
}

const _: () = {
    assert!(size_of::<Header>() == 512);
    assert!(offset_of!(Header, old_len) == 16);
    assert!(offset_of!(Header, about) == 64);
    assert!(size_of::<Entry>() == 64);
    assert!(offset_of!(Entry, digest) == 32);
    assert!(size_of::<Commit>() == 512);
    assert!(offset_of!(Commit, digest) == 24);
};
