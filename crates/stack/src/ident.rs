//! What a volume calls itself: label, UUID and size, as its first sectors tell them.
//!
//! Formats: the superblocks of swap, XFS, Btrfs, NTFS, FAT, exFAT, F2FS and LUKS, told as `blkid` tells them. The bytes
//! are believed for a name and a number to be shown, and for nothing else.

use crate::content::{Content, Foreign, Member};
use disk::{ReadAt, Result};
use ondisk::guid::Uuid;
use ondisk::{Len, Offset};
use std::fmt::Write as _;

/// How a volume is named, and how much it says it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ident {
    /// Its label; bytes of the image.
    pub label: Option<Vec<u8>>,
    /// Its UUID, or what its kind has instead, as `blkid` writes it.
    pub uuid: Option<String>,
    /// The size of the filesystem, which may be less than that of its volume.
    pub size: Option<Len>,
    /// What is free in it, as it was last written down.
    pub free: Option<Len>,
}

/// Reads what `volume`, which holds `content`, says of itself.
///
/// # Errors
/// Where the volume cannot be read.
pub fn identify(volume: &dyn ReadAt, content: Content) -> Result<Ident> {
    // The furthest field lies in the superblock of Btrfs.
    let len = volume.len().min(Len::kib(66));
    let mut head = vec![0; len.to_usize()];
    volume.read_at(Offset::ZERO, &mut head)?;
    let head = Head(&head);
    Ok(match content {
        Content::Swap { .. } => swap(head),
        Content::Foreign(Foreign::Xfs) => xfs(head),
        Content::Foreign(Foreign::Btrfs) => btrfs(head),
        Content::Foreign(Foreign::Ntfs) => ntfs(head),
        Content::Foreign(Foreign::Fat) => fat(head),
        Content::Foreign(Foreign::ExFat) => exfat(head),
        Content::Foreign(Foreign::F2fs) => f2fs(head),
        Content::Member(Member::Luks) => luks(head),
        _ => return Ok(Ident::default()),
    }
    .unwrap_or_default())
}

/// The head of a volume.
#[derive(Clone, Copy)]
struct Head<'a>(&'a [u8]);

impl<'a> Head<'a> {
    fn bytes(self, at: usize, len: usize) -> Option<&'a [u8]> {
        self.0.get(at..at.checked_add(len)?)
    }

    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.bytes(at, N)?.try_into().ok()
    }

    fn le16(self, at: usize) -> Option<u64> {
        self.array(at).map(|bytes| u64::from(u16::from_le_bytes(bytes)))
    }

    fn le32(self, at: usize) -> Option<u64> {
        self.array(at).map(|bytes| u64::from(u32::from_le_bytes(bytes)))
    }

    fn le64(self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }

    fn be32(self, at: usize) -> Option<u64> {
        self.array(at).map(|bytes| u64::from(u32::from_be_bytes(bytes)))
    }

    fn be64(self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_be_bytes)
    }

    /// A name that ends with a zero or with its field.
    fn label(self, at: usize, len: usize) -> Option<Vec<u8>> {
        let name = self.bytes(at, len)?.split(|&byte| byte == 0).next()?;
        (!name.is_empty()).then(|| name.to_vec())
    }

    fn uuid(self, at: usize) -> Option<String> {
        let bytes = self.array::<16>(at)?;
        (bytes != [0; 16]).then(|| Uuid(bytes).to_string())
    }
}

fn product(count: Option<u64>, size: Option<u64>) -> Option<Len> {
    count?.checked_mul(size?).map(Len::new)
}

/// From the second KiB on, whatever the page size.
fn swap(head: Head<'_>) -> Option<Ident> {
    // The signature ends the first page, so its place tells the size of a page.
    let page = [4096_u64, 8192, 16384, 32768, 65536].into_iter().find(|page| {
        let at = usize::try_from(page.saturating_sub(10)).unwrap_or(usize::MAX);
        head.bytes(at, 10).is_some_and(|mark| mark == b"SWAPSPACE2")
    });
    let last_page = head.le32(1028)?;
    Some(Ident {
        label: head.label(1052, 16),
        uuid: head.uuid(1036),
        size: product(last_page.checked_add(1), page),
        free: None,
    })
}

fn xfs(head: Head<'_>) -> Option<Ident> {
    let block = head.be32(4);
    Some(Ident {
        label: head.label(108, 12),
        uuid: head.uuid(32),
        size: product(head.be64(8), block),
        free: product(head.be64(144), block),
    })
}

fn btrfs(head: Head<'_>) -> Option<Ident> {
    let sb = Head(head.0.get(0x1_0000..)?);
    let size = sb.le64(0x70)?;
    let used = sb.le64(0x78)?;
    Some(Ident {
        label: sb.label(0x12b, 256),
        uuid: sb.uuid(0x20),
        size: Some(Len::new(size)),
        free: size.checked_sub(used).map(Len::new),
    })
}

fn ntfs(head: Head<'_>) -> Option<Ident> {
    let serial = head.le64(0x48)?;
    Some(Ident {
        uuid: Some(format!("{serial:016X}")),
        size: product(head.le64(0x28), head.le16(0x0b)),
        ..Ident::default()
    })
}

fn fat(head: Head<'_>) -> Option<Ident> {
    let is_32 = head.bytes(82, 8)? == b"FAT32   ";
    let (serial, label) = if is_32 { (67, 71) } else { (39, 43) };
    let sectors = head.le16(19).filter(|count| *count != 0).or(head.le32(32));
    let name = head.bytes(label, 11)?.trim_ascii_end();
    Some(Ident {
        label: (!matches!(name, b"" | b"NO NAME")).then(|| name.to_vec()),
        uuid: head.le32(serial).map(dos_serial),
        size: product(sectors, head.le16(11)),
        free: None,
    })
}

fn exfat(head: Head<'_>) -> Option<Ident> {
    let shift = u32::from(*head.bytes(0x6c, 1)?.first()?);
    Some(Ident {
        uuid: head.le32(0x64).map(dos_serial),
        size: product(head.le64(0x48), 1_u64.checked_shl(shift)),
        ..Ident::default()
    })
}

/// As DOS writes a volume's serial number: `ABCD-1234`.
fn dos_serial(serial: u64) -> String {
    format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff)
}

fn f2fs(head: Head<'_>) -> Option<Ident> {
    let sb = Head(head.0.get(1024..)?);
    let shift = u32::try_from(sb.le32(16)?).ok()?;
    let units = sb.bytes(124, 1024)?.chunks_exact(2).map(|pair| match pair {
        [low, high] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    });
    let label: String = char::decode_utf16(units.take_while(|unit| *unit != 0))
        .map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    Some(Ident {
        label: (!label.is_empty()).then(|| label.into_bytes()),
        uuid: sb.uuid(108),
        size: product(sb.le64(36), 1_u64.checked_shl(shift)),
        free: None,
    })
}

fn luks(head: Head<'_>) -> Option<Ident> {
    let version = head.array(6).map(u16::from_be_bytes)?;
    let uuid = head.label(168, 40)?;
    let mut text = String::new();
    for byte in uuid.iter().filter(|byte| byte.is_ascii_graphic()) {
        let _ = write!(text, "{}", char::from(*byte));
    }
    Some(Ident {
        label: (version == 2).then(|| head.label(24, 48)).flatten(),
        uuid: Some(text),
        ..Ident::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_volumes_have_no_names() {
        for content in [Content::Swap { hibernated: false }, Content::Foreign(Foreign::Btrfs), Content::Ext] {
            let tiny = disk::MemDisk::from_bytes(&[0; 600]);
            assert_eq!(identify(&tiny, content).unwrap(), Ident::default());
        }
    }
}
