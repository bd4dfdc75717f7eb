//! The header of POSIX (ustar).

use core::mem::offset_of;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The header of a member: numbers as octal digits.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Header {
    pub name: [u8; 100],
    pub mode: [u8; 8],
    pub uid: [u8; 8],
    pub gid: [u8; 8],
    pub size: [u8; 12],
    pub mtime: [u8; 12],
    pub chksum: [u8; 8],
    pub typeflag: u8,
    pub linkname: [u8; 100],
    pub magic: [u8; 6],
    pub version: [u8; 2],
    pub uname: [u8; 32],
    pub gname: [u8; 32],
    pub devmajor: [u8; 8],
    pub devminor: [u8; 8],
    pub prefix: [u8; 155],
    pub padding: [u8; 12],
}

const _: () = assert!(size_of::<Header>() == 512);
const _: () = assert!(offset_of!(Header, size) == 124 && offset_of!(Header, chksum) == 148);
const _: () = assert!(offset_of!(Header, linkname) == 157 && offset_of!(Header, magic) == 257);
const _: () = assert!(offset_of!(Header, devmajor) == 329 && offset_of!(Header, prefix) == 345);
