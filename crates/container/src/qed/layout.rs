//! The header of a QED image, byte by byte. All integers are little-endian.
//!
//! Source: the format's specification in QEMU's documentation.

use core::mem::{offset_of, size_of};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub const MAGIC: [u8; 4] = *b"QED\0";

pub mod features {
    /// There is a backing file.
    pub const BACKING: u64 = 1;
    /// The image was not closed.
    pub const NEED_CHECK: u64 = 2;
    /// The backing file is raw, whatever it looks like.
    pub const BACKING_RAW: u64 = 4;
}

/// At byte 0.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    pub magic: [u8; 4],
    pub cluster_size: U32,
    /// Of L1 and L2 tables, in clusters.
    pub table_size: U32,
    /// In clusters.
    pub header_size: U32,
    pub features: U64,
    pub compat_features: U64,
    pub autoclear_features: U64,
    pub l1_table_offset: U64,
    pub image_size: U64,
    pub backing_filename_offset: U32,
    pub backing_filename_size: U32,
}

const _: () = {
    assert!(size_of::<Header>() == 64);
    assert!(offset_of!(Header, features) == 16);
    assert!(offset_of!(Header, l1_table_offset) == 40);
    assert!(offset_of!(Header, backing_filename_offset) == 56);
};
