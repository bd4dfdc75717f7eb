//! A partition table as the kernel sees it.
//!
//! 1. Partitions have the numbers that Linux gives them: slots of the MBR 1 to 4, logical ones from 5 in the order of
//!    their chain, entries of a GPT by their place in the array.
//! 2. A table can be read although it is damaged; then `findings` says so, and no change of it is planned.

use crate::check::{Finding, Severity};
use crate::{Error, Result, Type, gpt, mbr};
use ondisk::guid::MixedGuid;
use ondisk::{Len, Offset, SectorSize, Span, SpanSet};
use std::fmt;

/// Which of the two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Four slots, and a chain of more.
    Mbr,
    /// An array, in two copies.
    Gpt,
}

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

/// A partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub(crate) raw: Raw,
    pub(crate) sector_size: SectorSize,
    pub(crate) id: DiskId,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) findings: Vec<Finding>,
}

/// The bytes it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Raw {
    Mbr(mbr::Records),
    Gpt(Box<gpt::Copies>),
}

impl Table {
    /// Which of the two formats.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self.raw {
            Raw::Mbr(_) => Kind::Mbr,
            Raw::Gpt(_) => Kind::Gpt,
        }
    }

    /// The unit in which the table counts.
    #[must_use]
    pub const fn sector_size(&self) -> SectorSize {
        self.sector_size
    }

    /// What identifies the disk.
    #[must_use]
    pub const fn id(&self) -> DiskId {
        self.id
    }

    /// The partitions, by number.
    #[must_use]
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// What is wrong or strange about it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether an MBR describes partitions beside the GPT.
    #[must_use]
    pub fn is_hybrid(&self) -> bool {
        match &self.raw {
            Raw::Gpt(copies) => copies.hybrid,
            Raw::Mbr(_) => false,
        }
    }

    /// The partition of that number.
    ///
    /// # Errors
    /// Where there is none.
    pub fn partition(&self, number: u32) -> Result<&Partition> {
        self.partitions.iter().find(|part| part.number == number).ok_or(Error::NoPartition { number })
    }

    /// The partitions that begin behind the start of this one, nearest first. An extended partition does not lie
    /// behind its logical ones, nor they behind it; but what lies behind it lies behind them.
    ///
    /// # Errors
    /// Where there is no such partition.
    pub fn behind(&self, number: u32) -> Result<Vec<Neighbour>> {
        let of = self.partition(number)?;
        let outer = !matches!(of.role, Role::Logical { .. });
        let mut behind: Vec<Neighbour> = self
            .partitions
            .iter()
            .filter(|part| part.span.start() > of.span.start())
            .filter(|part| !(outer && matches!(part.role, Role::Logical { .. })))
            .map(Partition::as_neighbour)
            .collect();
        behind.sort_by_key(|neighbour| neighbour.span.start());
        Ok(behind)
    }

    /// The bytes that the table itself takes: what no layer above may call fresh.
    #[must_use]
    pub fn metadata(&self) -> SpanSet {
        match &self.raw {
            Raw::Mbr(records) => records.spans(self.sector_size).collect(),
            Raw::Gpt(copies) => copies.spans(self.sector_size).collect(),
        }
    }

    /// Refuses where something is damaged.
    pub(crate) fn require_sound(&self) -> Result<()> {
        let mut damage = self.findings.iter().filter(|finding| finding.severity == Severity::Damage);
        match damage.next() {
            None => Ok(()),
            Some(first) => Err(Error::Damaged { first: first.text.clone(), more: damage.count() }),
        }
    }

    /// How long a disk must be for this table: up to the end of the last partition, or of the backup GPT.
    pub(crate) fn needs(&self) -> Len {
        let ends = self.partitions.iter().map(|part| part.span.end());
        let own = self.metadata().iter().map(|span| span.end()).max();
        let end = ends.chain(own).max().unwrap_or_default();
        end.since(Offset::ZERO).unwrap_or_default()
    }
}

impl Partition {
    pub(crate) fn as_neighbour(&self) -> Neighbour {
        Neighbour { number: self.number, span: self.span, kind: self.kind, swap: self.kind.is_swap() }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mbr => "MBR",
            Self::Gpt => "GPT",
        })
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
