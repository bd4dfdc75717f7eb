//! The header of a member of a tar archive, byte by byte. Numbers are octal text, or binary where the first bit is set.
//!
//! Source: POSIX.1-1988 (ustar), and GNU tar's documentation for large numbers.

use core::mem::{offset_of, size_of};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The header of a member.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are those of POSIX")]
pub struct Header {
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

const _: () = {
    assert!(size_of::<Header>() == 512);
    assert!(offset_of!(Header, size) == 124);
    assert!(offset_of!(Header, chksum) == 148);
    assert!(offset_of!(Header, typeflag) == 156);
    assert!(offset_of!(Header, linkname) == 157);
    assert!(offset_of!(Header, magic) == 257);
    assert!(offset_of!(Header, devmajor) == 329);
    assert!(offset_of!(Header, prefix) == 345);
};

impl Header {
    /// Whether the sum of all bytes is what the header says, its own field counted as blanks.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let sum = |bytes: &[u8]| bytes.iter().fold(0_u64, |sum, &byte| sum.saturating_add(byte.into()));
        let all = sum(self.as_bytes()).saturating_sub(sum(&self.chksum)).saturating_add(8 * 32);
        number(&self.chksum) == Some(all)
    }
}

/// A number in a field; `None` where it is none, or larger than 2^63.
#[must_use]
pub fn number(field: &[u8]) -> Option<u64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let high = u64::from(first & 0x7f);
        let add = |sum: u64, byte: &u8| sum.checked_mul(256)?.checked_add(u64::from(*byte));
        return rest.iter().try_fold(high, add).filter(|n| *n < 1 << 63);
    }
    let text = field.trim_ascii_start();
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, behind) = text.split_at_checked(end)?;
    if !behind.iter().all(|byte| *byte == 0 || *byte == b' ') {
        return None;
    }
    let add = |sum: u64, digit: &u8| match digit {
        b'0'..=b'7' => sum.checked_mul(8)?.checked_add(u64::from(digit & 7)),
        _ => None,
    };
    digits.iter().try_fold(0, add).filter(|n| *n < 1 << 63)
}
