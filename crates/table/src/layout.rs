//! The records of both tables, exactly as on disk.
//!
//! MBR and EBR are little-endian and take the first 512 bytes of their sector, whatever its size. GPT: UEFI 2.10, 5.3.

use core::mem::{offset_of, size_of};
use ondisk::guid::MixedGuid;
use ondisk::num::to_usize;
use ondisk::sum::crc32;
use ondisk::{Mismatch, Sealed};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The end of an MBR, of an EBR, and of many a boot sector that is neither.
pub const BOOT_SIGNATURE: u16 = 0xaa55;
/// The start of a GPT header.
pub const GPT_SIGNATURE: [u8; 8] = *b"EFI PART";

/// A sector as cylinder, head and sector, packed into 24 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(transparent)]
pub struct Chs(pub [u8; 3]);

/// One of the four slots of an MBR or EBR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct MbrEntry {
    /// 0x80 where the BIOS boots from it, else 0.
    pub boot_indicator: u8,
    /// The first sector.
    pub starting_chs: Chs,
    /// What it is for.
    pub os_type: u8,
    /// The last sector.
    pub ending_chs: Chs,
    /// The first sector; in an EBR relative to the EBR, in a link relative to the extended partition.
    pub starting_lba: U32,
    /// The number of sectors.
    pub size_in_lba: U32,
}

/// The first 512 bytes of a sector that holds an MBR or EBR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Mbr {
    /// Somebody else's.
    pub boot_code: [u8; 440],
    /// The number that PARTUUIDs begin with.
    pub unique_mbr_disk_signature: U32,
    /// Unknown.
    pub unknown: U16,
    /// The slots.
    pub partition_record: [MbrEntry; 4],
    /// [`BOOT_SIGNATURE`].
    pub signature: U16,
}

/// The start of a GPT header's sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct GptHeader {
    /// [`GPT_SIGNATURE`].
    pub signature: [u8; 8],
    /// 1.0 as 0x10000.
    pub revision: U32,
    /// How many bytes the checksum covers.
    pub header_size: U32,
    /// Checksum of the header, computed with this field zero.
    pub header_crc32: U32,
    /// Zero.
    pub reserved: U32,
    /// Where this copy lies.
    pub my_lba: U64,
    /// Where the other copy lies.
    pub alternate_lba: U64,
    /// The first sector a partition may have.
    pub first_usable_lba: U64,
    /// The last one, inclusive.
    pub last_usable_lba: U64,
    /// The disk's identifier.
    pub disk_guid: MixedGuid,
    /// Where this copy's entries begin.
    pub partition_entry_lba: U64,
    /// How many there are, used or not.
    pub number_of_partition_entries: U32,
    /// The size of one: 128·2ⁿ.
    pub size_of_partition_entry: U32,
    /// Checksum of all entries.
    pub partition_entry_array_crc32: U32,
}

/// The start of a GPT entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct GptEntry {
    /// What it is for; all zero where the entry is unused.
    pub partition_type_guid: MixedGuid,
    /// Which one it is.
    pub unique_partition_guid: MixedGuid,
    /// The first sector.
    pub starting_lba: U64,
    /// The last one, inclusive.
    pub ending_lba: U64,
    /// Flags.
    pub attributes: U64,
    /// UTF-16, NUL-padded.
    pub partition_name: [U16; 36],
}

const _: () = {
    assert!(size_of::<MbrEntry>() == 16);
    assert!(offset_of!(MbrEntry, os_type) == 4 && offset_of!(MbrEntry, starting_lba) == 8);
    assert!(size_of::<Mbr>() == 512);
    assert!(offset_of!(Mbr, unique_mbr_disk_signature) == 440);
    assert!(offset_of!(Mbr, partition_record) == 446 && offset_of!(Mbr, signature) == 510);
    assert!(size_of::<GptHeader>() == 92);
    assert!(offset_of!(GptHeader, header_crc32) == 16 && offset_of!(GptHeader, my_lba) == 24);
    assert!(offset_of!(GptHeader, first_usable_lba) == 40 && offset_of!(GptHeader, disk_guid) == 56);
    assert!(offset_of!(GptHeader, partition_entry_lba) == 72);
    assert!(offset_of!(GptHeader, partition_entry_array_crc32) == 88);
    assert!(size_of::<GptEntry>() == 128);
    assert!(offset_of!(GptEntry, starting_lba) == 32 && offset_of!(GptEntry, partition_name) == 56);
};

impl MbrEntry {
    /// Whether it describes anything.
    pub fn is_used(&self) -> bool {
        self.os_type != 0 && self.size_in_lba.get() != 0
    }
}

/// A whole sector that holds a GPT header; its checksum covers `header_size` bytes of it.
#[derive(Clone, PartialEq, Eq)]
pub struct HeaderSector(pub Vec<u8>);

impl HeaderSector {
    /// The fields.
    pub fn header(&self) -> Option<&GptHeader> {
        GptHeader::ref_from_prefix(&self.0).ok().map(|(header, _)| header)
    }

    /// The fields, to be changed; seal afterwards.
    pub fn header_mut(&mut self) -> Option<&mut GptHeader> {
        GptHeader::mut_from_prefix(&mut self.0).ok().map(|(header, _)| header)
    }

    /// The checksum over the header with its own field zero.
    fn sum(&self) -> u32 {
        let size = self.header().map_or(0, |header| header.header_size.get());
        let mut bytes = self.0.get(..to_usize(u64::from(size))).unwrap_or_default().to_vec();
        if let Ok((header, _)) = GptHeader::mut_from_prefix(&mut bytes) {
            header.header_crc32 = U32::ZERO;
        }
        crc32(&bytes)
    }
}

impl std::fmt::Debug for HeaderSector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.header().fmt(f)
    }
}

impl Sealed for HeaderSector {
    /// The bytes of all entries.
    type Key = [u8];

    fn seal(&mut self, entries: &[u8]) {
        if let Some(header) = self.header_mut() {
            header.partition_entry_array_crc32 = U32::new(crc32(entries));
        }
        let sum = self.sum();
        if let Some(header) = self.header_mut() {
            header.header_crc32 = U32::new(sum);
        }
    }

    fn verify(&self, entries: &[u8]) -> Result<(), Mismatch> {
        self.verify_header()?;
        let stored = self.header().map_or(0, |header| header.partition_entry_array_crc32.get());
        same(stored, crc32(entries))
    }
}

impl HeaderSector {
    /// The header's own checksum alone: what must hold before its other fields may lead to the entries.
    pub fn verify_header(&self) -> Result<(), Mismatch> {
        same(self.header().map_or(0, |header| header.header_crc32.get()), self.sum())
    }
}

fn same(stored: u32, computed: u32) -> Result<(), Mismatch> {
    if stored == computed {
        Ok(())
    } else {
        Err(Mismatch { stored: u64::from(stored), computed: u64::from(computed) })
    }
}
