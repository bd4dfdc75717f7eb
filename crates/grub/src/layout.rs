//! The records of boot loaders, exactly as on disk, with the names of their sources. All are little-endian, all sectors
//! have 512 bytes and count from the start of the disk.

use core::mem::{offset_of, size_of};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The boot sector of GRUB 2 (`boot.img`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BootImg {
    /// A jump over the area that belongs to the filesystem.
    pub jump: [u8; 3],
    /// Kept from the sector that was there before.
    pub bpb: [u8; 87],
    /// Where the next sector is loaded.
    pub kernel_address: U16,
    /// Which sector that is: the first of the core.
    pub kernel_sector: U64,
    /// The BIOS's number of the drive, or 0xff for the one that was booted from.
    pub boot_drive: u8,
    /// Code, then what the table owns.
    pub rest: [u8; 411],
}

/// The boot sector of GRUB 0.9x (`stage1`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Stage1 {
    /// A jump over the area that belongs to the filesystem.
    pub jump: [u8; 3],
    /// Kept from the sector that was there before.
    pub bpb: [u8; 59],
    /// The version of the interface: 3 and 2.
    pub compat_version: [u8; 2],
    /// The BIOS's number of the drive, or 0xff for the one that was booted from.
    pub boot_drive: u8,
    /// Whether the drive is read by sector number without asking.
    pub force_lba: u8,
    /// Where the next sector is loaded: 0x2000 for stage 1.5, 0x8000 for stage 2.
    pub stage2_address: U16,
    /// Which sector that is.
    pub stage2_sector: U32,
    /// Its segment.
    pub stage2_segment: U16,
    /// Code, then what the table owns.
    pub rest: [u8; 438],
}

/// A run of sectors in the list at the end of `diskboot.img`. The list grows downwards and ends with a count of 0.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BlockList {
    /// The first sector.
    pub start: U64,
    /// How many.
    pub len: U16,
    /// Where they are loaded.
    pub segment: U16,
}

/// The same in the first sector of stage 1.5 and stage 2.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LegacyBlockList {
    /// The first sector.
    pub start: U32,
    /// How many.
    pub len: U16,
    /// Where they are loaded.
    pub segment: U16,
}

/// The start of the second sector of a core: the program that decompresses the rest.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Decompressor {
    /// A far jump, padded.
    pub jump: [u8; 8],
    /// Bytes of the LZMA stream.
    pub compressed_size: U32,
    /// Bytes that come out.
    pub uncompressed_size: U32,
    /// Bytes that correct errors, behind the stream.
    pub reed_solomon_redundancy: U32,
    /// Bytes at the start that are not corrected.
    pub no_reed_solomon_length: U32,
}

/// The head of the module area behind the kernel.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ModuleInfo {
    /// [`MODULE_MAGIC`].
    pub magic: [u8; 4],
    /// Where the first object begins, from here.
    pub offset: U32,
    /// Bytes of the area, this head included.
    pub size: U32,
}

/// [`ModuleInfo::magic`].
pub const MODULE_MAGIC: [u8; 4] = *b"mimg";

/// The head of an object in the module area.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ModuleHeader {
    /// One of `OBJ_TYPE_*`.
    pub kind: U32,
    /// Bytes, this head and padding included.
    pub size: U32,
}

/// A module, in ELF.
pub const OBJ_TYPE_ELF: u32 = 0;
/// Commands that run before anything else.
pub const OBJ_TYPE_CONFIG: u32 = 2;
/// Where GRUB's own folder is.
pub const OBJ_TYPE_PREFIX: u32 = 3;

/// An ELF header of 32 bits (System V ABI, chapter 4).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ElfHeader {
    /// Magic and class.
    pub e_ident: [u8; 16],
    /// Type, machine, version, entry and program headers.
    pub skipped: [u8; 16],
    /// Where the section headers begin.
    pub e_shoff: U32,
    /// Flags and sizes of other headers.
    pub skipped_too: [u8; 10],
    /// Bytes of a section header.
    pub e_shentsize: U16,
    /// How many there are.
    pub e_shnum: U16,
    /// Which section holds the names of sections.
    pub e_shstrndx: U16,
}

/// An ELF section header of 32 bits.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ElfSection {
    /// Where its name begins in the section of names.
    pub sh_name: U32,
    /// Type, flags and address.
    pub skipped: [u8; 12],
    /// Where it begins in the file.
    pub sh_offset: U32,
    /// Its bytes.
    pub sh_size: U32,
    /// Links and alignment.
    pub skipped_too: [u8; 16],
}

/// The start of the second sector of stage 1.5 and stage 2; behind it stands the version, and a text behind that.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Stage2 {
    /// A far jump, padded.
    pub jump: [u8; 6],
    /// The version of the interface: 3 and 2.
    pub compat_version: [u8; 2],
    /// The partition that it was installed from: the third byte counts from 0.
    pub install_partition: U32,
    /// The entry of the menu that was saved.
    pub saved_entryno: U32,
    /// 0 for stage 2, others for the filesystems of stage 1.5.
    pub stage2_id: u8,
    /// Whether the drive is read by sector number without asking.
    pub force_lba: u8,
}

/// Where the lists of [`BlockList`] begin, and grow down from.
pub const BLOCK_LIST_AT: usize = 0x1f4;
/// Where the lists of [`LegacyBlockList`] begin, and grow down from.
pub const LEGACY_BLOCK_LIST_AT: usize = 0x1f8;
/// [`Stage1::compat_version`] and [`Stage2::compat_version`].
pub const COMPAT_VERSION: [u8; 2] = [3, 2];
/// [`Stage1::stage2_address`] where stage 1.5 is next.
pub const STAGE1_5_ADDRESS: u16 = 0x2000;
/// [`Stage1::stage2_address`] where stage 2 is next.
pub const STAGE2_ADDRESS: u16 = 0x8000;

const _: () = {
    assert!(size_of::<BootImg>() == 512);
    assert!(offset_of!(BootImg, kernel_address) == 0x5a && offset_of!(BootImg, kernel_sector) == 0x5c);
    assert!(offset_of!(BootImg, boot_drive) == 0x64);
    assert!(size_of::<Stage1>() == 512);
    assert!(offset_of!(Stage1, compat_version) == 0x3e && offset_of!(Stage1, boot_drive) == 0x40);
    assert!(offset_of!(Stage1, stage2_address) == 0x42 && offset_of!(Stage1, stage2_sector) == 0x44);
    assert!(size_of::<BlockList>() == 12 && size_of::<LegacyBlockList>() == 8);
    assert!(
        offset_of!(Decompressor, compressed_size) == 8 && offset_of!(Decompressor, uncompressed_size) == 12
    );
    assert!(offset_of!(Decompressor, reed_solomon_redundancy) == 16);
    assert!(offset_of!(Decompressor, no_reed_solomon_length) == 20);
    assert!(size_of::<ModuleInfo>() == 12 && size_of::<ModuleHeader>() == 8);
    assert!(size_of::<ElfHeader>() == 52 && size_of::<ElfSection>() == 40);
    assert!(offset_of!(ElfHeader, e_shoff) == 32 && offset_of!(ElfHeader, e_shentsize) == 46);
    assert!(offset_of!(ElfSection, sh_offset) == 16);
    assert!(offset_of!(Stage2, install_partition) == 8 && offset_of!(Stage2, stage2_id) == 16);
    assert!(size_of::<Stage2>() == 18);
};
