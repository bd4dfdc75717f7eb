//! Inodes, and the extent trees that begin in them.

use super::record;
use zerocopy::little_endian::{U16, U32};

/// The magic number of an extent header.
pub const EXTENT_MAGIC: u16 = 0xf30a;
/// An extent longer than this is unwritten, and that much shorter.
pub const EXTENT_MAX: u16 = 32768;

record! {
    /// The first 128 bytes of an inode: all there is in ext2 and ext3.
    Inode [128] {
        0x00 i_mode: U16,
        0x02 i_uid: U16,
        0x04 i_size_lo: U32,
        0x08 i_atime: U32,
        0x0c i_ctime: U32,
        0x10 i_mtime: U32,
        0x14 i_dtime: U32,
        0x18 i_gid: U16,
        0x1a i_links_count: U16,
        0x1c i_blocks_lo: U32,
        0x20 i_flags: U32,
        0x24 i_version: U32,
        0x28 i_block: [u8; 60],
        0x64 i_generation: U32,
        0x68 i_file_acl_lo: U32,
        0x6c i_size_high: U32,
        0x70 i_obso_faddr: U32,
        0x74 i_blocks_high: U16,
        0x76 i_file_acl_high: U16,
        0x78 i_uid_high: U16,
        0x7a i_gid_high: U16,
        0x7c i_checksum_lo: U16,
        0x7e i_reserved: U16,
    }
}

record! {
    /// What follows at byte 128; `i_extra_isize` says how much of it is there.
    InodeExtra [32] {
        0x00 i_extra_isize: U16,
        0x02 i_checksum_hi: U16,
        0x04 i_ctime_extra: U32,
        0x08 i_mtime_extra: U32,
        0x0c i_atime_extra: U32,
        0x10 i_crtime: U32,
        0x14 i_crtime_extra: U32,
        0x18 i_version_hi: U32,
        0x1c i_projid: U32,
    }
}

record! {
    /// At the head of every node of an extent tree.
    ExtentHeader [12] {
        0x0 eh_magic: U16,
        0x2 eh_entries: U16,
        0x4 eh_max: U16,
        0x6 eh_depth: U16,
        0x8 eh_generation: U32,
    }
}

record! {
    /// An entry of an inner node.
    ExtentIdx [12] {
        0x0 ei_block: U32,
        0x4 ei_leaf_lo: U32,
        0x8 ei_leaf_hi: U16,
        0xa ei_unused: U16,
    }
}

record! {
    /// An entry of a leaf.
    Extent [12] {
        0x0 ee_block: U32,
        0x4 ee_len: U16,
        0x6 ee_start_hi: U16,
        0x8 ee_start_lo: U32,
    }
}

record! {
    /// Behind the `eh_max` entries of a tree block.
    ExtentTail [4] {
        0x0 et_checksum: U32,
    }
}
