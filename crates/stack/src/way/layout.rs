//! The boot sector of FAT and NTFS, as far as it tells where the volume lies.
//!
//! Microsoft's FAT specification 1.03, section 3; NTFS has the same first fields.

use core::mem::{offset_of, size_of};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first 512 bytes of a volume.
#[derive(Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BootSector {
    pub jump: [u8; 3],
    pub oem_name: [u8; 8],
    pub bytes_per_sector: U16,
    pub sectors_per_cluster: u8,
    pub reserved_sectors: U16,
    pub fats: u8,
    pub root_entries: U16,
    pub sectors_16: U16,
    pub media: u8,
    pub fat_sectors_16: U16,
    pub sectors_per_track: U16,
    pub heads: U16,
    /// The sectors before the volume.
    pub hidden_sectors: U32,
    pub sectors_32: U32,
    pub fat_sectors_32: U32,
    /// In NTFS: the sectors of the volume, whose copy of this one lies behind them.
    pub ntfs_sectors: U64,
    pub fs_info: U16,
    /// In FAT32: where the copy of this one lies.
    pub backup: U16,
    pub rest: [u8; 458],
    pub signature: U16,
}

/// The end of a boot sector.
pub const BOOT_SIGNATURE: u16 = 0xaa55;

const _: () = {
    assert!(size_of::<BootSector>() == 512);
    assert!(offset_of!(BootSector, hidden_sectors) == 28);
    assert!(offset_of!(BootSector, ntfs_sectors) == 40);
    assert!(offset_of!(BootSector, backup) == 50);
    assert!(offset_of!(BootSector, signature) == 510);
};
