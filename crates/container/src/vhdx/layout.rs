//! The records of a VHDX, byte by byte. All integers are little-endian, GUIDs as Microsoft stores them.
//!
//! Source: Microsoft's open specification MS-VHDX; the names are the specification's.

use core::mem::{offset_of, size_of};
use ondisk::guid::MixedGuid;
use ondisk::{Mismatch, sum};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub const FILE_SIGNATURE: [u8; 8] = *b"vhdxfile";
pub const HEADER_SIGNATURE: [u8; 4] = *b"head";
pub const REGION_SIGNATURE: [u8; 4] = *b"regi";
pub const METADATA_SIGNATURE: [u8; 8] = *b"metadata";
pub const LOG_SIGNATURE: [u8; 4] = *b"loge";
pub const ZERO_SIGNATURE: [u8; 4] = *b"zero";
pub const DATA_SIGNATURE: [u8; 4] = *b"desc";
pub const SECTOR_SIGNATURE: [u8; 4] = *b"data";

/// The two headers, of which the one with the higher sequence number rules.
pub const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
/// The two region tables, which are equal.
pub const REGION_TABLES: [u64; 2] = [192 << 10, 256 << 10];
/// The bytes that the checksum of a region table covers.
pub const REGION_TABLE_LEN: u64 = 64 << 10;
/// Entries of a region table or of the metadata table.
pub const ENTRIES_MAX: u16 = 2047;

/// A GUID as it is written: `2dc27766-f623-4200-9d64-115e9bfd4a08`.
const fn guid(a: u32, b: u16, c: u16, d: [u8; 8]) -> MixedGuid {
    let ([a0, a1, a2, a3], [b0, b1], [c0, c1]) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
    let [d0, d1, d2, d3, d4, d5, d6, d7] = d;
    MixedGuid([a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, d2, d3, d4, d5, d6, d7])
}

pub const BAT_REGION: MixedGuid =
    guid(0x2dc2_7766, 0xf623, 0x4200, [0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08]);
pub const METADATA_REGION: MixedGuid =
    guid(0x8b7c_a206, 0x4790, 0x4b9a, [0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e]);
pub const FILE_PARAMETERS: MixedGuid =
    guid(0xcaa1_6737, 0xfa36, 0x4d43, [0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b]);
pub const VIRTUAL_DISK_SIZE: MixedGuid =
    guid(0x2fa5_4224, 0xcd1b, 0x4876, [0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8]);
pub const VIRTUAL_DISK_ID: MixedGuid =
    guid(0xbeca_12ab, 0xb2e6, 0x4523, [0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46]);
pub const LOGICAL_SECTOR_SIZE: MixedGuid =
    guid(0x8141_bf1d, 0xa96f, 0x4709, [0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f]);
pub const PHYSICAL_SECTOR_SIZE: MixedGuid =
    guid(0xcda3_48c7, 0x445d, 0x4471, [0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56]);
pub const PARENT_LOCATOR: MixedGuid =
    guid(0xa8d3_5f2d, 0xb30b, 0x454d, [0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c]);

/// The states of a block in the BAT.
pub mod state {
    /// The low bits of an entry are its state.
    pub const MASK: u64 = 7;
    /// From here up an entry is a position in units of 1 MiB: as it stands, one in bytes.
    pub const POSITION: u64 = !0xf_ffff;
    pub const NOT_PRESENT: u64 = 0;
    pub const UNDEFINED: u64 = 1;
    pub const ZERO: u64 = 2;
    pub const UNMAPPED: u64 = 3;
    /// What drafts of the format called unmapped.
    pub const UNMAPPED_DRAFT: u64 = 5;
    pub const FULLY_PRESENT: u64 = 6;
}

/// At 64 and 128 KiB.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    pub signature: [u8; 4],
    pub checksum: U32,
    pub sequence_number: U64,
    pub file_write_guid: MixedGuid,
    pub data_write_guid: MixedGuid,
    /// Not zero: the log of that identity is to be replayed.
    pub log_guid: MixedGuid,
    pub log_version: U16,
    pub version: U16,
    pub log_length: U32,
    pub log_offset: U64,
    pub reserved: [u8; 4016],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RegionTableHeader {
    pub signature: [u8; 4],
    /// Over the 64 KiB that the table may take.
    pub checksum: U32,
    pub entry_count: U32,
    pub reserved: U32,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RegionEntry {
    pub guid: MixedGuid,
    pub file_offset: U64,
    pub length: U32,
    /// Bit 0: who does not know the region must not open the image.
    pub required: U32,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct MetadataTableHeader {
    pub signature: [u8; 8],
    pub reserved: U16,
    pub entry_count: U16,
    pub reserved2: [u8; 20],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct MetadataEntry {
    pub item_id: MixedGuid,
    /// From the start of the region.
    pub offset: U32,
    pub length: U32,
    /// Bit 0: a user's, bit 1: about the virtual disk, bit 2: required.
    pub flags: U32,
    pub reserved2: U32,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct FileParameters {
    pub block_size: U32,
    /// Bit 0: blocks stay allocated (fixed), bit 1: there is a parent.
    pub flags: U32,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LogEntryHeader {
    pub signature: [u8; 4],
    /// Over the whole entry.
    pub checksum: U32,
    pub entry_length: U32,
    /// Where in the log the sequence begins that this entry ends.
    pub tail: U32,
    pub sequence_number: U64,
    pub descriptor_count: U32,
    pub reserved: U32,
    pub log_guid: MixedGuid,
    /// The file was at least so long when the entry was written.
    pub flushed_file_offset: U64,
    /// The file is to be so long at least.
    pub last_file_offset: U64,
}

/// Of data or of zeros.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LogDescriptor {
    pub signature: [u8; 4],
    /// Data: the last four bytes of the sector.
    pub trailing_bytes: [u8; 4],
    /// Data: its first eight bytes. Zeros: how many.
    pub leading_bytes: [u8; 8],
    pub file_offset: U64,
    pub sequence_number: U64,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LogDataSector {
    pub signature: [u8; 4],
    pub sequence_high: U32,
    pub data: [u8; 4084],
    pub sequence_low: U32,
}

const _: () = {
    assert!(size_of::<Header>() == 4096);
    assert!(offset_of!(Header, log_guid) == 48);
    assert!(offset_of!(Header, log_length) == 68);
    assert!(size_of::<RegionTableHeader>() == 16);
    assert!(size_of::<RegionEntry>() == 32);
    assert!(size_of::<MetadataTableHeader>() == 32);
    assert!(size_of::<MetadataEntry>() == 32);
    assert!(size_of::<LogEntryHeader>() == 64);
    assert!(offset_of!(LogEntryHeader, log_guid) == 32);
    assert!(size_of::<LogDescriptor>() == 32);
    assert!(size_of::<LogDataSector>() == 4096);
};

/// Compares the CRC-32C of a structure, whose second word it is, with what is stored there.
pub fn verify(bytes: &[u8]) -> Result<(), Mismatch> {
    let (head, rest) = bytes.split_at_checked(8).unwrap_or((bytes, &[]));
    let (signature, stored) = head.split_at_checked(4).unwrap_or((head, &[]));
    let crc = sum::crc32c(sum::crc32c(sum::crc32c(!0, signature), &[0; 4]), rest);
    let stored = U32::read_from_bytes(stored).unwrap_or_default();
    let (stored, computed) = (stored.get().into(), u64::from(!crc));
    if stored == computed { Ok(()) } else { Err(Mismatch { stored, computed }) }
}
