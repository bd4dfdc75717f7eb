//! Signatures, and where formats have them.

use super::{Content, Foreign, Member};
use disk::{ReadAt, Result};
use ondisk::{Len, Offset, Span};

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
    signature(3, b"-FVE-FS-", Content::Member(Member::BitLocker)),
    signature(
        0x1a8,
        b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01",
        Content::Member(Member::BitLocker),
    ),
    signature(0, b"verity\0\0", Content::Member(Member::VerityHash)),
    signature(0, b"HM\x01\0", Content::Member(Member::Lvm1)),
    signature(0, b"HM\x02\0", Content::Member(Member::Lvm1)),
    signature(0x10_0000, b"\x0d\xd0\x01\xc0", Content::Member(Member::VmfsExtent)),
    signature(0x20_0000, b"\x5e\xf1\xab\x2f", Content::Foreign(Foreign::Vmfs)),
    signature(0, b"\xfc\x4e\x2b\xa9", Content::Member(Member::Md)),
    signature(4096, b"\xfc\x4e\x2b\xa9", Content::Member(Member::Md)),
    signature(
        4120,
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
        Content::Member(Member::Bcache),
    ),
    signature(
        4120,
        b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef",
        Content::Foreign(Foreign::Bcachefs),
    ),
    signature(0, b"XFSB", Content::Foreign(Foreign::Xfs)),
    signature(0, b"hsqs", Content::Foreign(Foreign::Squashfs)),
    signature(1080, b"\x53\xef", Content::Ext),
    signature(0x1_0040, b"_BHRfS_M", Content::Foreign(Foreign::Btrfs)),
    signature(3, b"NTFS    ", Content::Foreign(Foreign::Ntfs)),
    signature(3, b"EXFAT   ", Content::Foreign(Foreign::ExFat)),
    signature(54, b"FAT1", Content::Foreign(Foreign::Fat)),
    signature(54, b"FAT     ", Content::Foreign(Foreign::Fat)),
    signature(54, b"MSDOS", Content::Foreign(Foreign::Fat)),
    signature(82, b"FAT32   ", Content::Foreign(Foreign::Fat)),
    signature(82, b"MSWIN", Content::Foreign(Foreign::Fat)),
    signature(32, b"NXSB", Content::Foreign(Foreign::Apfs)),
    signature(1024, b"H+\0\x04", Content::Foreign(Foreign::HfsPlus)),
    signature(1024, b"HX\0\x05", Content::Foreign(Foreign::HfsPlus)),
    signature(1024, b"BD", Content::Foreign(Foreign::Hfs)),
    signature(1030, b"\x34\x34", Content::Foreign(Foreign::Nilfs2)),
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
    if let Some((member, _)) = behind(volume)? {
        return Ok(Content::Member(member));
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

/// What keeps its description near the end, where the start looks like what is inside of it, and the place of that.
///
/// md 0.90 and 1.0; the metadata of Intel's firmware RAID and of DDF; DRBD 8.3, 8.4 (perhaps not shut down) and 9 in the
/// last whole 4096 bytes; the footer of Android's verified boot.
pub(crate) fn behind(volume: &dyn ReadAt) -> Result<Option<(Member, Offset)>> {
    let len = volume.len().get();
    let before = |back: u64| len.checked_sub(back);
    let md_0_90 = before(len & 0xffff).and_then(|at| at.checked_sub(0x1_0000));
    let md_1_0 = before(0x2000).map(|at| at & !0xfff);
    let drbd = (len & !0xfff).checked_sub(0x1000).and_then(|at| at.checked_add(60));
    let marks: [(Member, Option<u64>, &[u8]); 10] = [
        (Member::MdAtEnd, md_0_90, b"\xfc\x4e\x2b\xa9"),
        (Member::MdAtEnd, md_0_90, b"\xa9\x2b\x4e\xfc"),
        (Member::MdAtEnd, md_1_0, b"\xfc\x4e\x2b\xa9"),
        (Member::FirmwareRaid, before(1024), b"Intel Raid ISM Cfg Sig. "),
        (Member::FirmwareRaid, before(512), b"\xde\x11\xde\x11"),
        (Member::FirmwareRaid, before(512), b"\x11\xde\x11\xde"),
        (Member::Drbd, drbd, b"\x83\x74\x02\x6b"),
        (Member::Drbd, drbd, b"\x83\x74\x02\x6c"),
        (Member::Drbd, drbd, b"\x83\x74\x02\x6d"),
        (Member::VerifiedBoot, before(64), b"AVBf\0\0\0\x01"),
    ];
    for (member, at, mark) in marks {
        if let Some(at) = at
            && holds(volume, at, mark)?
            && (Some(at) != md_1_0 || Some(at) == md_0_90 || names_itself(volume, at)?)
        {
            return Ok(Some((member, Offset::new(at))));
        }
    }
    Ok(None)
}

/// Whether a superblock of md 1.0 says that it lies there: else it belongs to something that ends here as well.
fn names_itself(volume: &dyn ReadAt, at: u64) -> Result<bool> {
    holds(volume, at.saturating_add(144), &at.wrapping_shr(9).to_le_bytes())
}

/// Whether the hashes of dm-verity lie directly behind what takes the first `used` bytes: with its superblock, or with
/// the table that Android puts there.
pub(crate) fn hashes_behind(volume: &dyn ReadAt, used: Len) -> Result<bool> {
    Ok(holds(volume, used.get(), b"verity\0\0")? || holds(volume, used.get(), b"\x01\xb0\x01\xb0")?)
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
