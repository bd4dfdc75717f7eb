//! Group descriptors. Without `64bit` only the first 32 bytes exist.

use super::record;
use zerocopy::little_endian::{U16, U32};

/// `bg_flags`: inode bitmap and table are not initialised.
pub const INODE_UNINIT: u16 = 1;
/// `bg_flags`: the block bitmap is not initialised.
pub const BLOCK_UNINIT: u16 = 2;
/// `bg_flags`: the inode table reads as zero where it is unused.
pub const INODE_ZEROED: u16 = 4;

/// The size of a descriptor without `64bit`.
pub const DESC_SIZE_32: usize = 32;

record! {
    /// A group descriptor.
    GroupDesc [64] {
        0x00 bg_block_bitmap_lo: U32,
        0x04 bg_inode_bitmap_lo: U32,
        0x08 bg_inode_table_lo: U32,
        0x0c bg_free_blocks_count_lo: U16,
        0x0e bg_free_inodes_count_lo: U16,
        0x10 bg_used_dirs_count_lo: U16,
        0x12 bg_flags: U16,
        0x14 bg_exclude_bitmap_lo: U32,
        0x18 bg_block_bitmap_csum_lo: U16,
        0x1a bg_inode_bitmap_csum_lo: U16,
        0x1c bg_itable_unused_lo: U16,
        0x1e bg_checksum: U16,
        0x20 bg_block_bitmap_hi: U32,
        0x24 bg_inode_bitmap_hi: U32,
        0x28 bg_inode_table_hi: U32,
        0x2c bg_free_blocks_count_hi: U16,
        0x2e bg_free_inodes_count_hi: U16,
        0x30 bg_used_dirs_count_hi: U16,
        0x32 bg_itable_unused_hi: U16,
        0x34 bg_exclude_bitmap_hi: U32,
        0x38 bg_block_bitmap_csum_hi: U16,
        0x3a bg_inode_bitmap_csum_hi: U16,
        0x3c bg_reserved: U32,
    }
}
