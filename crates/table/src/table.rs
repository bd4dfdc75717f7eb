//! A partition table as the kernel sees it.
//!
//! 1. Partitions have the numbers that Linux gives them: slots of the MBR 1 to 4, logical ones from 5 in the order of
//!    their chain, entries of a GPT by their place in the array.
//! 2. A table can be read although it is damaged; then `findings` says so, and no change of it is planned.

use crate::copy::Copies;
use crate::partition::{DiskId, Neighbour, Partition, Role};
use crate::record::Records;
use crate::{Error, Result};
use ondisk::{Finding, Len, Offset, SectorSize, Severity, SpanSet};
use std::fmt;

/// Which of the two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Four slots, and a chain of more.
    Mbr,
    /// An array, in two copies.
    Gpt,
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
    Mbr(Records),
    Gpt(Box<Copies>),
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

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mbr => "MBR",
            Self::Gpt => "GPT",
        })
    }
}
