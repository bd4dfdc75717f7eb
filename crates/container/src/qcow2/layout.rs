//! The records of qcow2, byte for byte. All numbers are big-endian.

use core::mem::{offset_of, size_of};
use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first bytes of every version.
pub const MAGIC: [u8; 4] = *b"QFI\xfb";

/// Bit 63 of an L1 or L2 entry: the refcount of its target is exactly 1.
pub const COPIED: u64 = 1 << 63;
/// Bit 62 of an L2 entry: the cluster is compressed.
pub const COMPRESSED: u64 = 1 << 62;
/// Bit 0 of a standard L2 entry: the cluster reads as zero.
pub const ZERO: u64 = 1;
/// Bits 9 to 55 of L1, L2, refcount table and bitmap table entries: a position in the file.
pub const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;

/// Incompatible feature bits.
pub mod incompatible {
    /// Refcounts may be stale.
    pub const DIRTY: u64 = 1;
    /// Metadata is known to be damaged.
    pub const CORRUPT: u64 = 1 << 1;
    /// Guest data is in another file.
    pub const DATA_FILE: u64 = 1 << 2;
    /// The compression type is not deflate.
    pub const COMPRESSION: u64 = 1 << 3;
    /// L2 entries have subclusters.
    pub const EXTENDED_L2: u64 = 1 << 4;
    /// All of the above.
    pub const KNOWN: u64 = 0x1f;
}

/// Compatible feature bits.
pub mod compatible {
    /// Refcounts are brought up to date when the image is closed.
    pub const LAZY_REFCOUNTS: u64 = 1;
}

/// Autoclear feature bits.
pub mod autoclear {
    /// The bitmaps belong to the content.
    pub const BITMAPS: u64 = 1;
}

/// Types of header extensions.
pub mod extension {
    /// No more of them.
    pub const END: u32 = 0;
    /// The format of the backing file.
    pub const BACKING_FORMAT: u32 = 0xe279_2aca;
    /// Names of feature bits.
    pub const FEATURE_NAMES: u32 = 0x6803_f857;
    /// XenServer's: whether the image is the parent of others.
    pub const HIDDEN: u32 = 0x7661_7465;
    /// Where the bitmaps are.
    pub const BITMAPS: u32 = 0x2385_2875;
}

/// The bytes of a version 2 header.
pub const V2_LENGTH: u32 = 72;
/// The bytes of the shortest version 3 header.
pub const V3_LENGTH: u32 = 104;

/// The header; of version 2, only what stands before `incompatible_features`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    pub magic: [u8; 4],
    pub version: U32,
    pub backing_file_offset: U64,
    pub backing_file_size: U32,
    pub cluster_bits: U32,
    pub size: U64,
    pub crypt_method: U32,
    pub l1_size: U32,
    pub l1_table_offset: U64,
    pub refcount_table_offset: U64,
    pub refcount_table_clusters: U32,
    pub nb_snapshots: U32,
    pub snapshots_offset: U64,
    pub incompatible_features: U64,
    pub compatible_features: U64,
    pub autoclear_features: U64,
    pub refcount_order: U32,
    pub header_length: U32,
    pub compression_type: u8,
    pub padding: [u8; 7],
}
const _: () = assert!(size_of::<Header>() == 112);
const _: () = assert!(offset_of!(Header, backing_file_offset) == 8);
const _: () = assert!(offset_of!(Header, cluster_bits) == 20);
const _: () = assert!(offset_of!(Header, size) == 24);
const _: () = assert!(offset_of!(Header, l1_size) == 36);
const _: () = assert!(offset_of!(Header, refcount_table_offset) == 48);
const _: () = assert!(offset_of!(Header, snapshots_offset) == 64);
const _: () = assert!(offset_of!(Header, incompatible_features) == 72);
const _: () = assert!(offset_of!(Header, refcount_order) == 96);
const _: () = assert!(offset_of!(Header, compression_type) == 104);

/// The beginning of a header extension; its data follow, padded to 8 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Extension {
    pub kind: U32,
    pub length: U32,
}
const _: () = assert!(size_of::<Extension>() == 8);

/// One entry of the feature name table.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct FeatureName {
    /// 0 incompatible, 1 compatible, 2 autoclear.
    pub kind: u8,
    pub bit: u8,
    pub name: [u8; 46],
}
const _: () = assert!(size_of::<FeatureName>() == 48);

/// The data of the bitmaps extension.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Bitmaps {
    pub nb_bitmaps: U32,
    pub reserved32: U32,
    pub bitmap_directory_size: U64,
    pub bitmap_directory_offset: U64,
}
const _: () = assert!(size_of::<Bitmaps>() == 24);

/// One entry of the bitmap directory; extra data and the name follow, padded to 8 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BitmapEntry {
    pub bitmap_table_offset: U64,
    pub bitmap_table_size: U32,
    pub flags: U32,
    pub kind: u8,
    pub granularity_bits: u8,
    pub name_size: U16,
    pub extra_data_size: U32,
}
const _: () = assert!(size_of::<BitmapEntry>() == 24);
const _: () = assert!(offset_of!(BitmapEntry, flags) == 12);
const _: () = assert!(offset_of!(BitmapEntry, name_size) == 18);

/// Bitmap flag: it was not saved, its content means nothing.
pub const BITMAP_IN_USE: u32 = 1;

/// One entry of the snapshot table; extra data, id and name follow, padded to 8 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Snapshot {
    pub l1_table_offset: U64,
    pub l1_size: U32,
    pub id_str_size: U16,
    pub name_size: U16,
    pub date_sec: U32,
    pub date_nsec: U32,
    pub vm_clock_nsec: U64,
    pub vm_state_size: U32,
    pub extra_data_size: U32,
}
const _: () = assert!(size_of::<Snapshot>() == 40);
const _: () = assert!(offset_of!(Snapshot, date_sec) == 16);
const _: () = assert!(offset_of!(Snapshot, extra_data_size) == 36);

/// What a snapshot's extra data begin with, where there are that many.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SnapshotExtra {
    pub vm_state_size: U64,
    pub virtual_disk_size: U64,
}
const _: () = assert!(size_of::<SnapshotExtra>() == 16);
