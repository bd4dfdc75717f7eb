//! Small records: multiple mount protection and the orphan file.

use super::record;
use zerocopy::little_endian::{U16, U32, U64};

/// `mmp_magic`.
pub const MMP_MAGIC: u32 = 0x004d_4d50;
/// `mmp_seq`: nobody has the filesystem mounted.
pub const MMP_SEQ_CLEAN: u32 = 0xff4d_4d50;
/// `mmp_seq`: a checker is running.
pub const MMP_SEQ_FSCK: u32 = 0xe24d_4d50;
/// `ob_magic`.
pub const ORPHAN_MAGIC: u32 = 0x0b10_ca04;

record! {
    /// Multiple mount protection: who has the filesystem.
    Mmp [1024] {
        0x000 mmp_magic: U32,
        0x004 mmp_seq: U32,
        0x008 mmp_time: U64,
        0x010 mmp_nodename: [u8; 64],
        0x050 mmp_bdevname: [u8; 32],
        0x070 mmp_check_interval: U16,
        0x072 mmp_pad1: U16,
        0x074 mmp_pad2: [U32; 226],
        0x3fc mmp_checksum: U32,
    }
}

record! {
    /// At the end of each block of the orphan file.
    OrphanTail [8] {
        0x0 ob_magic: U32,
        0x4 ob_checksum: U32,
    }
}
