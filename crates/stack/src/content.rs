//! What a volume holds, told from the signatures that its formats define.
//!
//! Recognising is not trusting: ext is validated by its own crate, and everything else is only named.

use disk::{ReadAt, Result};
use ondisk::{Len, Offset, Span};
use std::fmt;

/// The content of a partition, a logical volume or a whole disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// ext2, ext3 or ext4.
    Ext,
    /// Swap space; `hibernated` where it holds the image of a suspended system.
    Swap {
        /// A suspended system's memory lies in it.
        hibernated: bool,
    },
    /// A physical volume of LVM2.
    LvmPv,
    /// A filesystem that its own guest grows.
    Foreign(Foreign),
    /// A member of something larger, whose metadata would be lost or hidden by growing.
    Member(Member),
    /// Nothing but zeros where signatures would stand.
    Empty,
    /// Something that is not recognised.
    Unknown,
}

/// Filesystems that are named but not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Foreign {
    Xfs,
    Btrfs,
    Ntfs,
    Fat,
    ExFat,
    F2fs,
    ReiserFs,
    Jfs,
    Squashfs,
    Iso9660,
}

/// Parts of arrays, pools and encrypted containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Member {
    Luks,
    Md,
    Zfs,
    Bcache,
}

/// A signature: bytes at a place from the start.
struct Signature {
    at: u64,
    bytes: &'static [u8],
    content: Content,
}

const fn signature(at: u64, bytes: &'static [u8], content: Content) -> Signature {
    Signature { at, bytes, content }
}

const SWAP: Content = Content::Swap { hibernated: false };
const HIBERNATED: Content = Content::Swap { hibernated: true };

/// In this order: what contains other things comes before what may be left over from an earlier use.
static SIGNATURES: &[Signature] = &[
    signature(0, b"LUKS\xba\xbe", Content::Member(Member::Luks)),
    signature(0, b"\xfc\x4e\x2b\xa9", Content::Member(Member::Md)),
    signature(4096, b"\xfc\x4e\x2b\xa9", Content::Member(Member::Md)),
    signature(
        4120,
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
        Content::Member(Member::Bcache),
    ),
    signature(0, b"XFSB", Content::Foreign(Foreign::Xfs)),
    signature(0, b"hsqs", Content::Foreign(Foreign::Squashfs)),
    signature(1080, b"\x53\xef", Content::Ext),
    signature(0x1_0040, b"_BHRfS_M", Content::Foreign(Foreign::Btrfs)),
    signature(3, b"NTFS    ", Content::Foreign(Foreign::Ntfs)),
    signature(3, b"EXFAT   ", Content::Foreign(Foreign::ExFat)),
    signature(54, b"FAT1", Content::Foreign(Foreign::Fat)),
    signature(82, b"FAT32   ", Content::Foreign(Foreign::Fat)),
    signature(1024, b"\x10\x20\xf5\xf2", Content::Foreign(Foreign::F2fs)),
    signature(0x1_0034, b"ReIsErFs", Content::Foreign(Foreign::ReiserFs)),
    signature(0x1_0034, b"ReIsEr2Fs", Content::Foreign(Foreign::ReiserFs)),
    signature(0x8000, b"JFS1", Content::Foreign(Foreign::Jfs)),
    signature(0x8001, b"CD001", Content::Foreign(Foreign::Iso9660)),
];

/// The last ten bytes of swap's first page, whatever the page size of the machine that made it.
const SWAP_PAGES: [u64; 5] = [4096, 8192, 16384, 32768, 65536];
static SWAP_MARKS: &[(&[u8], Content)] = &[
    (b"SWAPSPACE2", SWAP),
    (b"SWAP-SPACE", SWAP),
    (b"S1SUSPEND", HIBERNATED),
    (b"S2SUSPEND", HIBERNATED),
    (b"ULSUSPEND", HIBERNATED),
    (b"LINHIB0001", HIBERNATED),
];

/// Recognises what `volume` holds.
///
/// # Errors
/// Where the volume cannot be read.
pub fn recognise(volume: &dyn ReadAt) -> Result<Content> {
    if let Some(content) = member_from_end(volume)? {
        return Ok(content);
    }
    if has_lvm_label(volume)? {
        return Ok(Content::LvmPv);
    }
    for signature in SIGNATURES {
        if holds(volume, signature.at, signature.bytes)? {
            return Ok(signature.content);
        }
    }
    for page in SWAP_PAGES {
        for (mark, content) in SWAP_MARKS {
            if holds(volume, page.saturating_sub(10), mark)? {
                return Ok(*content);
            }
        }
    }
    if is_zfs(volume)? {
        return Ok(Content::Member(Member::Zfs));
    }
    Ok(if starts_with_zeros(volume)? { Content::Empty } else { Content::Unknown })
}

fn holds(volume: &dyn ReadAt, at: u64, bytes: &[u8]) -> Result<bool> {
    let Some(span) =
        Span::new(Offset::new(at), Len::of(bytes)).filter(|s| Span::whole(volume.len()).contains(*s))
    else {
        return Ok(false);
    };
    let mut found = vec![0; bytes.len()];
    volume.read_at(span.start(), &mut found)?;
    Ok(found == bytes)
}

/// The label stands in one of the first four sectors.
fn has_lvm_label(volume: &dyn ReadAt) -> Result<bool> {
    for sector in 0..4_u64 {
        let at = sector << 9;
        if holds(volume, at, b"LABELONE")? && holds(volume, at.saturating_add(24), b"LVM2 001")? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// md's versions 0.90 and 1.0 keep their superblock near the end, where the start looks like the filesystem inside.
fn member_from_end(volume: &dyn ReadAt) -> Result<Option<Content>> {
    let len = volume.len().get();
    let v0_90 = (len & !0xffff).checked_sub(0x1_0000);
    let v1_0 = len.checked_sub(0x2000).map(|at| at & !0xfff);
    for at in [v0_90, v1_0].into_iter().flatten() {
        if holds(volume, at, b"\xfc\x4e\x2b\xa9")? {
            return Ok(Some(Content::Member(Member::Md)));
        }
    }
    Ok(None)
}

/// ZFS has no magic at a fixed place: its first label holds a ring of uberblocks from 128 KiB on, each with one.
fn is_zfs(volume: &dyn ReadAt) -> Result<bool> {
    for slot in 0..128_u64 {
        let at = (128_u64 << 10).saturating_add(slot << 10);
        if holds(volume, at, b"\x0c\xb1\xba\0\0\0\0\0")? || holds(volume, at, b"\0\0\0\0\0\xba\xb1\x0c")? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn starts_with_zeros(volume: &dyn ReadAt) -> Result<bool> {
    let head = Span::whole(volume.len().min(Len::kib(68)));
    let mut buf = vec![0; head.len().to_usize()];
    volume.read_at(head.start(), &mut buf)?;
    Ok(buf.iter().all(|&byte| byte == 0))
}

impl Content {
    /// The name that scripts see, as `blkid` has it where it has one.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext => "ext",
            Self::Swap { .. } => "swap",
            Self::LvmPv => "LVM2_member",
            Self::Foreign(foreign) => foreign.name(),
            Self::Member(member) => member.name(),
            Self::Empty => "empty",
            Self::Unknown => "unknown",
        }
    }
}

impl Foreign {
    /// The name as `blkid` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Ntfs => "ntfs",
            Self::Fat => "vfat",
            Self::ExFat => "exfat",
            Self::F2fs => "f2fs",
            Self::ReiserFs => "reiserfs",
            Self::Jfs => "jfs",
            Self::Squashfs => "squashfs",
            Self::Iso9660 => "iso9660",
        }
    }

    /// How the guest makes its filesystem take the space, where it can while it is mounted on `/`.
    #[must_use]
    pub const fn grown_by(self) -> Option<&'static str> {
        match self {
            Self::Xfs => Some("xfs_growfs /"),
            Self::Btrfs => Some("btrfs filesystem resize max /"),
            Self::Ntfs => Some("Extend Volume in Windows' disk management, or ntfsresize"),
            Self::F2fs => Some("resize.f2fs"),
            Self::ReiserFs => Some("resize_reiserfs"),
            Self::Jfs => Some("mount -o remount,resize /"),
            Self::Fat | Self::ExFat | Self::Squashfs | Self::Iso9660 => None,
        }
    }
}

impl Member {
    /// The name as `blkid` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Luks => "crypto_LUKS",
            Self::Md => "linux_raid_member",
            Self::Zfs => "zfs_member",
            Self::Bcache => "bcache",
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
