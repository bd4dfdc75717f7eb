//! What a volume holds, told from the signatures that its formats define.
//!
//! Recognising is not trusting: ext is validated by its own crate, and everything else is only named.

mod probe;

pub use probe::recognise;
pub(crate) use probe::{behind, hashes_behind};

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
    Bcachefs,
    Apfs,
    Hfs,
    HfsPlus,
    Vmfs,
    Nilfs2,
}

/// Parts of arrays, pools and encrypted containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Member {
    Luks,
    BitLocker,
    /// With its superblock at the start: versions 1.1 and 1.2.
    Md,
    /// With its superblock at the end: versions 0.90 and 1.0.
    MdAtEnd,
    /// Of a RAID that the firmware knows, described at the end.
    FirmwareRaid,
    Drbd,
    Zfs,
    Bcache,
    Lvm1,
    VmfsExtent,
    /// The hashes of dm-verity in a volume of their own.
    VerityHash,
    /// A volume that is verified when it is started, as a footer at its end tells.
    VerifiedBoot,
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
            Self::Bcachefs => "bcachefs",
            Self::Apfs => "apfs",
            Self::Hfs => "hfs",
            Self::HfsPlus => "hfsplus",
            Self::Vmfs => "VMFS",
            Self::Nilfs2 => "nilfs2",
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
            Self::Bcachefs => Some("bcachefs device resize"),
            Self::Apfs => Some("diskutil apfs resizeContainer DISK 0"),
            Self::HfsPlus => Some("diskutil resizeVolume / R"),
            Self::Nilfs2 => Some("nilfs-resize"),
            Self::Fat | Self::ExFat | Self::Squashfs | Self::Iso9660 | Self::Hfs | Self::Vmfs => None,
        }
    }
}

impl Member {
    /// The name as `blkid` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Luks => "crypto_LUKS",
            Self::BitLocker => "BitLocker",
            Self::Md | Self::MdAtEnd => "linux_raid_member",
            Self::FirmwareRaid => "isw_raid_member",
            Self::Drbd => "drbd",
            Self::Zfs => "zfs_member",
            Self::Bcache => "bcache",
            Self::Lvm1 => "LVM1_member",
            Self::VmfsExtent => "VMFS_volume_member",
            Self::VerityHash => "DM_verity_hash",
            Self::VerifiedBoot => "avb_footer",
        }
    }

    /// What it keeps at its end, where a larger volume would not be looked at.
    #[must_use]
    pub const fn at_its_end(self) -> Option<&'static str> {
        match self {
            Self::MdAtEnd => Some("is part of an md array, whose superblock lies at its end"),
            Self::FirmwareRaid => Some("is part of a RAID of the firmware, which is described at its end"),
            Self::Drbd => Some("is replicated by DRBD, whose metadata lie at its end"),
            Self::Zfs => Some("is part of a ZFS pool, whose labels lie at its end"),
            Self::VerifiedBoot => Some("is verified when it is started, by a footer at its end"),
            Self::Luks
            | Self::BitLocker
            | Self::Md
            | Self::Bcache
            | Self::Lvm1
            | Self::VmfsExtent
            | Self::VerityHash => None,
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
