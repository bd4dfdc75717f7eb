//! The journal: big-endian throughout.

use super::record;
use zerocopy::big_endian::{U16, U32, U64};

/// `h_magic`.
pub const MAGIC: u32 = 0xc03b_3998;
/// `h_blocktype`: tags of the blocks that follow.
pub const DESCRIPTOR: u32 = 1;
/// `h_blocktype`: the end of a transaction.
pub const COMMIT: u32 = 2;
/// `h_blocktype`: the first form of the superblock, without features.
pub const SUPERBLOCK_V1: u32 = 3;
/// `h_blocktype`: the superblock.
pub const SUPERBLOCK_V2: u32 = 4;
/// `h_blocktype`: blocks that must not be replayed.
pub const REVOKE: u32 = 5;

/// `t_flags`: the block began with the magic number.
pub const TAG_ESCAPE: u32 = 1;
/// `t_flags`: no UUID follows.
pub const TAG_SAME_UUID: u32 = 2;
/// `t_flags`: obsolete.
pub const TAG_DELETED: u32 = 4;
/// `t_flags`: the last tag of the block.
pub const TAG_LAST: u32 = 8;

/// `s_feature_compat`: commit blocks hold a CRC-32 of the transaction.
pub const COMPAT_CHECKSUM: u32 = 1;
/// `s_feature_incompat`: revoke blocks.
pub const INCOMPAT_REVOKE: u32 = 1;
/// `s_feature_incompat`: block numbers of 64 bits.
pub const INCOMPAT_64BIT: u32 = 2;
/// `s_feature_incompat`: commit blocks may be written before their transaction.
pub const INCOMPAT_ASYNC_COMMIT: u32 = 4;
/// `s_feature_incompat`: checksums of 16 bits in tags.
pub const INCOMPAT_CSUM_V2: u32 = 8;
/// `s_feature_incompat`: checksums of 32 bits in tags.
pub const INCOMPAT_CSUM_V3: u32 = 0x10;
/// `s_feature_incompat`: logical records at the end.
pub const INCOMPAT_FAST_COMMIT: u32 = 0x20;

record! {
    /// At the head of every block that the journal itself owns.
    Header [12] {
        0x0 h_magic: U32,
        0x4 h_blocktype: U32,
        0x8 h_sequence: U32,
    }
}

record! {
    /// The journal's superblock: its first block.
    Superblock [1024] {
        0x000 s_header: Header,
        0x00c s_blocksize: U32,
        0x010 s_maxlen: U32,
        0x014 s_first: U32,
        0x018 s_sequence: U32,
        0x01c s_start: U32,
        0x020 s_errno: U32,
        0x024 s_feature_compat: U32,
        0x028 s_feature_incompat: U32,
        0x02c s_feature_ro_compat: U32,
        0x030 s_uuid: [u8; 16],
        0x040 s_nr_users: U32,
        0x044 s_dynsuper: U32,
        0x048 s_max_transaction: U32,
        0x04c s_max_trans_data: U32,
        0x050 s_checksum_type: u8,
        0x051 s_padding2: [u8; 3],
        0x054 s_num_fc_blks: U32,
        0x058 s_head: U32,
        0x05c s_padding: [U32; 40],
        0x0fc s_checksum: U32,
        0x100 s_users: [u8; 768],
    }
}

record! {
    /// A tag with `csum_v3`.
    Tag3 [16] {
        0x0 t_blocknr: U32,
        0x4 t_flags: U32,
        0x8 t_blocknr_high: U32,
        0xc t_checksum: U32,
    }
}

record! {
    /// A tag without `csum_v3`; `t_blocknr_high` is there only with `64bit`.
    Tag [12] {
        0x0 t_blocknr: U32,
        0x4 t_checksum: U16,
        0x6 t_flags: U16,
        0x8 t_blocknr_high: U32,
    }
}

record! {
    /// At the end of descriptor and revoke blocks with `csum_v2` or `csum_v3`.
    BlockTail [4] {
        0x0 t_checksum: U32,
    }
}

record! {
    /// The head of a revoke block; block numbers follow.
    RevokeHeader [16] {
        0x0 r_header: Header,
        0xc r_count: U32,
    }
}

record! {
    /// A commit block.
    Commit [60] {
        0x00 h_header: Header,
        0x0c h_chksum_type: u8,
        0x0d h_chksum_size: u8,
        0x0e h_padding: [u8; 2],
        0x10 h_chksum: [U32; 8],
        0x30 h_commit_sec: U64,
        0x38 h_commit_nsec: U32,
    }
}
