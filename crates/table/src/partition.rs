//! One partition, and what it is called.

use crate::Type;
use ondisk::guid::MixedGuid;
use ondisk::{Offset, Span};
use std::fmt;

/// What identifies the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskId {
    /// The disk signature.
    Mbr(u32),
    /// The disk GUID.
    Gpt(MixedGuid),
}

/// A PARTUUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartUuid {
    /// The disk signature and the partition's number.
    Mbr(u32, u32),
    /// The entry's own GUID.
    Gpt(MixedGuid),
}

/// What part a partition plays in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It holds data.
    Primary,
    /// It holds logical partitions.
    Extended,
    /// It lies in the extended partition.
    Logical {
        /// The record that describes it.
        ebr: Offset,
    },
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// As Linux numbers it.
    pub number: u32,
    /// The bytes it owns; may lie outside the disk where the table is damaged.
    pub span: Span,
    /// What it is for.
    pub kind: Type,
    /// Its GPT name; text of the image, to be escaped before it is shown. Empty in an MBR.
    pub name: String,
    /// Its PARTUUID.
    pub uuid: PartUuid,
    /// The attribute bits of a GPT entry.
    pub attributes: u64,
    /// Whether a BIOS boots from it: the active flag, or a GPT entry's bit 2.
    pub bootable: bool,
    /// What part it plays.
    pub role: Role,
    /// Where it is described: the MBR (0) or the n-th EBR, and the slot there; in a GPT the entry.
    pub(crate) slot: (usize, usize),
}

/// A partition in the way of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its number.
    pub number: u32,
    /// Its bytes.
    pub span: Span,
    /// Its type.
    pub kind: Type,
    /// Whether its type is swap.
    pub swap: bool,
}

impl Partition {
    pub(crate) fn as_neighbour(&self) -> Neighbour {
        Neighbour { number: self.number, span: self.span, kind: self.kind, swap: self.kind.is_swap() }
    }
}

/// As `sfdisk` shows it.
impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mbr(signature) => write!(f, "{signature:#010x}"),
            Self::Gpt(guid) => f.write_str(&guid.to_string().to_ascii_uppercase()),
        }
    }
}

/// As Linux shows it below `/dev/disk/by-partuuid`.
impl fmt::Display for PartUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mbr(signature, number) => write!(f, "{signature:08x}-{number:02x}"),
            Self::Gpt(guid) => guid.fmt(f),
        }
    }
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.swap {
            " (swap)"
        } else if self.kind.is_extended() {
            " (extended)"
        } else {
            ""
        };
        write!(f, "partition {}{what}", self.number)
    }
}
