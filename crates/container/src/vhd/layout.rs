//! The records of a VHD, byte by byte. All integers are big-endian.

use core::mem::{offset_of, size_of};
use ondisk::num::low32;
use ondisk::{Mismatch, Sealed};
use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub const FOOTER_COOKIE: [u8; 8] = *b"conectix";
/// In the place of the footer's cookie while tapdisk's journal is open.
pub const POISON_COOKIE: [u8; 8] = *b"v_poison";
pub const HEADER_COOKIE: [u8; 8] = *b"cxsparse";
pub const BATMAP_COOKIE: [u8; 8] = *b"tdbatmap";
pub const VERSION: u32 = 0x0001_0000;
pub const FIXED: u32 = 2;
pub const DYNAMIC: u32 = 3;
pub const DIFFERENCING: u32 = 4;
/// A BAT entry of a block that is not there.
pub const UNALLOCATED: u32 = u32::MAX;

/// At the end of the file; dynamic and differencing images have a copy at byte 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Footer {
    pub cookie: [u8; 8],
    pub features: U32,
    pub file_format_version: U32,
    pub data_offset: U64,
    /// Seconds since 2000-01-01.
    pub timestamp: U32,
    pub creator_application: [u8; 4],
    pub creator_version: U32,
    pub creator_host_os: [u8; 4],
    pub original_size: U64,
    pub current_size: U64,
    pub cylinders: U16,
    pub heads: u8,
    pub sectors_per_track: u8,
    pub disk_type: U32,
    pub checksum: U32,
    pub unique_id: [u8; 16],
    pub saved_state: u8,
    /// Tapdisk's own: the image is a parent.
    pub hidden: u8,
    pub reserved: [u8; 426],
}

/// Where the name of the parent is written down once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ParentLocator {
    pub platform_code: [u8; 4],
    /// In sectors where it is below 512, else in bytes.
    pub platform_data_space: U32,
    pub platform_data_length: U32,
    pub reserved: U32,
    pub platform_data_offset: U64,
}

/// The dynamic disk header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DynamicHeader {
    pub cookie: [u8; 8],
    pub data_offset: U64,
    pub table_offset: U64,
    pub header_version: U32,
    pub max_table_entries: U32,
    pub block_size: U32,
    pub checksum: U32,
    pub parent_unique_id: [u8; 16],
    pub parent_timestamp: U32,
    pub reserved: U32,
    /// UTF-16, big-endian.
    pub parent_unicode_name: [u8; 512],
    pub parent_locators: [ParentLocator; 8],
    pub reserved2: [u8; 256],
}

/// Tapdisk's map of complete blocks: its header, directly behind the BAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BatmapHeader {
    pub cookie: [u8; 8],
    pub batmap_offset: U64,
    /// In sectors.
    pub batmap_size: U32,
    pub batmap_version: U32,
    /// Of the map, not of this header.
    pub checksum: U32,
    pub marker: u8,
    /// Not zero where the disk is encrypted.
    pub key_cookie: u8,
    pub key_nonce: [u8; 32],
    pub key_hash: [u8; 32],
    pub reserved: [u8; 418],
}

const _: () = {
    assert!(size_of::<Footer>() == 512);
    assert!(offset_of!(Footer, current_size) == 48);
    assert!(offset_of!(Footer, disk_type) == 60);
    assert!(offset_of!(Footer, checksum) == 64);
    assert!(offset_of!(Footer, unique_id) == 68);
    assert!(offset_of!(Footer, saved_state) == 84);
    assert!(size_of::<ParentLocator>() == 24);
    assert!(size_of::<DynamicHeader>() == 1024);
    assert!(offset_of!(DynamicHeader, table_offset) == 16);
    assert!(offset_of!(DynamicHeader, block_size) == 32);
    assert!(offset_of!(DynamicHeader, checksum) == 36);
    assert!(offset_of!(DynamicHeader, parent_unicode_name) == 64);
    assert!(offset_of!(DynamicHeader, parent_locators) == 576);
    assert!(offset_of!(DynamicHeader, reserved2) == 768);
    assert!(size_of::<BatmapHeader>() == 512);
    assert!(offset_of!(BatmapHeader, checksum) == 24);
};

/// The ones' complement of the sum of all bytes, the checksum field's own left out.
fn complement(bytes: &[u8], checksum: U32) -> u32 {
    let own = sum(checksum.as_bytes());
    !sum(bytes).wrapping_sub(own)
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum: u32, &byte| sum.wrapping_add(u32::from(byte)))
}

fn compare(stored: U32, computed: u32) -> Result<(), Mismatch> {
    if stored.get() == computed {
        Ok(())
    } else {
        Err(Mismatch { stored: stored.get().into(), computed: computed.into() })
    }
}

impl Sealed for Footer {
    type Key = ();
    fn seal(&mut self, (): &()) {
        self.checksum = complement(self.as_bytes(), self.checksum).into();
    }
    fn verify(&self, (): &()) -> Result<(), Mismatch> {
        compare(self.checksum, complement(self.as_bytes(), self.checksum))
    }
}

impl Sealed for DynamicHeader {
    type Key = ();
    fn seal(&mut self, (): &()) {
        self.checksum = complement(self.as_bytes(), self.checksum).into();
    }
    fn verify(&self, (): &()) -> Result<(), Mismatch> {
        compare(self.checksum, complement(self.as_bytes(), self.checksum))
    }
}

impl BatmapHeader {
    /// The checksum over map bytes `bytes`, to be chained by adding the sums of the pieces.
    pub fn sum_of(&self, bytes: &[u8]) -> u32 {
        bytes.iter().fold(0, |sum: u32, &byte| sum.wrapping_add(self.weight(byte)))
    }

    /// What a byte counts: version 1.1 took bytes as signed numbers.
    pub fn weight(&self, byte: u8) -> u32 {
        let negative = self.batmap_version.get() == 0x0001_0001 && byte >= 0x80;
        if negative { low32(0xffff_ff00 | u64::from(byte)) } else { byte.into() }
    }
}
