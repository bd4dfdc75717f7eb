//! What a partition says it is for.

use ondisk::guid::MixedGuid;
use std::fmt;

/// A partition's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// A byte of an MBR slot.
    Mbr(u8),
    /// A GUID of a GPT entry.
    Gpt(MixedGuid),
}

impl Type {
    /// Its name, where it is a known one.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Mbr(byte) => MBR.iter().find(|(known, _)| *known == byte).map(|(_, name)| *name),
            Self::Gpt(guid) => {
                let text = guid.to_string();
                GPT.iter().find(|(known, _)| *known == text).map(|(_, name)| *name)
            }
        }
    }

    /// Whether it is for Linux swap.
    #[must_use]
    pub fn is_swap(self) -> bool {
        self == Self::Mbr(0x82) || self.name() == Some(SWAP)
    }

    /// Whether it is for Linux LVM.
    #[must_use]
    pub fn is_lvm(self) -> bool {
        self == Self::Mbr(0x8e) || self.name() == Some(LVM)
    }

    /// Whether it holds a chain of logical partitions.
    #[must_use]
    pub const fn is_extended(self) -> bool {
        matches!(self, Self::Mbr(0x05 | 0x0f | 0x85))
    }
}

/// As `sfdisk` writes types: `83`, or a GUID in capitals.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mbr(byte) => write!(f, "{byte:x}"),
            Self::Gpt(guid) => f.write_str(&guid.to_string().to_ascii_uppercase()),
        }
    }
}

const SWAP: &str = "Linux swap";
const LVM: &str = "Linux LVM";

static MBR: &[(u8, &str)] = &[
    (0x01, "FAT12"),
    (0x04, "FAT16 <32M"),
    (0x05, "Extended"),
    (0x06, "FAT16"),
    (0x07, "NTFS/exFAT"),
    (0x0b, "FAT32"),
    (0x0c, "FAT32 (LBA)"),
    (0x0e, "FAT16 (LBA)"),
    (0x0f, "Extended (LBA)"),
    (0x27, "Windows recovery"),
    (0x82, SWAP),
    (0x83, "Linux"),
    (0x85, "Linux extended"),
    (0x8e, LVM),
    (0xa5, "FreeBSD"),
    (0xee, "GPT protective"),
    (0xef, "EFI system"),
    (0xfd, "Linux RAID"),
];

static GPT: &[(&str, &str)] = &[
    ("0fc63daf-8483-4772-8e79-3d69d8477de4", "Linux"),
    ("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", SWAP),
    ("e6d6d379-f507-44c2-a23c-238f2a3df928", LVM),
    ("a19d880f-05fc-4d3b-a006-743f0f84911e", "Linux RAID"),
    ("ca7d7ccb-63ed-4c53-861c-1742536059cc", "Linux LUKS"),
    ("933ac7e1-2eb4-4f13-b844-0e14e2aef915", "Linux home"),
    ("3b8f8425-20e0-4f3b-907f-1a25a76f98e8", "Linux server data"),
    ("bc13c2ff-59e6-4262-a352-b275fd6f7172", "Linux extended boot"),
    ("44479540-f297-41b2-9af7-d131d5f0458a", "Linux root (x86)"),
    ("4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "Linux root (x86-64)"),
    ("69dad710-2ce4-4e3c-b16c-21a1d49abed3", "Linux root (ARM)"),
    ("b921b045-1df0-41c3-af44-4c6f280d3fae", "Linux root (ARM-64)"),
    ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "EFI system"),
    ("21686148-6449-6e6f-744e-656564454649", "BIOS boot"),
    ("9e1a2d38-c612-4316-aa26-8b49521e5a8b", "PowerPC PReP boot"),
    ("e3c9e316-0b5c-4db8-817d-f92df00215ae", "Microsoft reserved"),
    ("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", "Microsoft basic data"),
    ("de94bba4-06d1-4d40-a16a-bfd50179d6ac", "Windows recovery"),
    ("516e7cb6-6ecf-11d6-8ff8-00022d09712b", "FreeBSD UFS"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use ondisk::guid::Uuid;

    #[test]
    fn every_guid_of_the_list_is_one() {
        for (text, name) in GPT {
            let uuid: Uuid = text.parse().unwrap();
            let kind = Type::Gpt(MixedGuid::from(uuid));
            assert_eq!(kind.name(), Some(*name));
            assert_eq!(kind.to_string(), text.to_ascii_uppercase());
        }
        assert!(Type::Mbr(0x82).is_swap() && Type::Mbr(0x85).is_extended() && !Type::Mbr(0x83).is_swap());
    }
}
