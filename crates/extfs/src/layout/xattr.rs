//! Extended attributes.

use super::record;
use zerocopy::little_endian::{U16, U32};

/// The magic number of attributes, in an inode and in a block.
pub const XATTR_MAGIC: u32 = 0xea02_0000;

record! {
    /// The head of an attribute block.
    XattrHeader [32] {
        0x00 h_magic: U32,
        0x04 h_refcount: U32,
        0x08 h_blocks: U32,
        0x0c h_hash: U32,
        0x10 h_checksum: U32,
        0x14 h_reserved: [U32; 3],
    }
}

record! {
    /// The head of an entry; the name follows, padded to four bytes.
    XattrEntry [16] {
        0x0 e_name_len: u8,
        0x1 e_name_index: u8,
        0x2 e_value_offs: U16,
        0x4 e_value_inum: U32,
        0x8 e_value_size: U32,
        0xc e_hash: U32,
    }
}
