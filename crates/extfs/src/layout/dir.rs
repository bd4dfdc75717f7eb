//! Directories: linear entries, and the hash tree that hides in empty ones.

use super::record;
use zerocopy::little_endian::{U16, U32};

/// The file type of the fake entry that holds a directory block's checksum.
pub const TAIL_TYPE: u8 = 0xde;

record! {
    /// The head of a directory entry; the name follows. Without `filetype`, `file_type` is the high byte of the
    /// length of the name.
    Dirent [8] {
        0x0 inode: U32,
        0x4 rec_len: U16,
        0x6 name_len: u8,
        0x7 file_type: u8,
    }
}

record! {
    /// The last entry of a directory block with a checksum.
    DirTail [12] {
        0x0 det_reserved_zero1: U32,
        0x4 det_rec_len: U16,
        0x6 det_reserved_zero2: u8,
        0x7 det_reserved_ft: u8,
        0x8 det_checksum: U32,
    }
}

record! {
    /// Behind the two entries of an htree root, at byte 24.
    DxRootInfo [8] {
        0x0 reserved_zero: U32,
        0x4 hash_version: u8,
        0x5 info_length: u8,
        0x6 indirect_levels: u8,
        0x7 unused_flags: u8,
    }
}

record! {
    /// In the place of the first entry's hash.
    DxCountLimit [4] {
        0x0 limit: U16,
        0x2 count: U16,
    }
}

record! {
    /// An entry of an htree node.
    DxEntry [8] {
        0x0 hash: U32,
        0x4 block: U32,
    }
}

record! {
    /// Behind the `limit` entries of an htree node.
    DxTail [8] {
        0x0 dt_reserved: U32,
        0x4 dt_checksum: U32,
    }
}
