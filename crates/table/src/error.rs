//! Errors of partition tables.

use crate::partition::Neighbour;
use ondisk::size::Human;
use ondisk::{Class, Classified, Len, Offset};

/// What can go wrong with a partition table.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes cannot be read.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// There is a table, but not enough of it is left to be read.
    #[error("{0}")]
    Unreadable(String),
    /// A size that the format allows and we do not.
    #[error("{what}: {found}, the limit is {limit}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        found: u64,
        /// How much is allowed.
        limit: u64,
    },
    /// The table can be read, but contradicts itself: it must be mended before it is changed.
    #[error("the partition table is damaged: {first}{}", others(*.more))]
    Damaged {
        /// The first thing found.
        first: String,
        /// How many more there are.
        more: usize,
    },
    /// GPT and MBR both describe partitions, and a change would have to keep them in step.
    #[error("the disk has a hybrid MBR beside its GPT")]
    Hybrid,
    /// A partition that is not there.
    #[error("there is no partition {number}")]
    NoPartition {
        /// As asked for.
        number: u32,
    },
    /// The disk would become shorter than the table needs.
    #[error("a disk of {len} bytes is shorter than the {need} bytes that its partition table describes")]
    Short {
        /// As asked for.
        len: Len,
        /// As described.
        need: Len,
    },
    /// The new end lies before the present one.
    #[error("partition {number} ends at {end}, growing cannot move its end to {wanted}")]
    Backwards {
        /// Which.
        number: u32,
        /// Its end.
        end: Offset,
        /// As asked for.
        wanted: Offset,
    },
    /// Something is in the way.
    #[error("partition {number} can end at {limit} at most, not at {wanted}: {}", barrier(.behind.as_ref()))]
    NoRoom {
        /// Which.
        number: u32,
        /// As asked for.
        wanted: Offset,
        /// The last possible end.
        limit: Offset,
        /// What begins there, if it is a partition.
        behind: Option<Neighbour>,
    },
    /// An MBR has 32 bits for a sector number.
    #[error(
        "partition {number} can end at {limit} at most, not at {wanted}: an MBR cannot describe more than {}",
        Human(*.reach)
    )]
    MbrLimit {
        /// Which.
        number: u32,
        /// As asked for.
        wanted: Offset,
        /// The last possible end.
        limit: Offset,
        /// How far the 32 bits reach with sectors of this size.
        reach: Len,
    },
}

fn others(more: usize) -> String {
    if more == 0 { String::new() } else { format!(" (and {more} more)") }
}

fn barrier(behind: Option<&Neighbour>) -> String {
    match behind {
        Some(neighbour) => format!("{neighbour} lies behind it"),
        None => "the usable space ends there".to_owned(),
    }
}

impl Classified for Error {
    fn class(&self) -> Class {
        match self {
            Self::Disk(inner) => inner.class(),
            Self::Unreadable(_) | Self::Damaged { .. } => Class::Corrupt,
            Self::TooMany { .. } | Self::Hybrid => Class::Unsupported,
            Self::NoPartition { .. } => Class::Usage,
            Self::Short { .. } | Self::Backwards { .. } | Self::NoRoom { .. } | Self::MbrLimit { .. } => {
                Class::Refused
            }
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Disk(inner) => inner.help(),
            Self::Damaged { .. } => {
                Some("`imgtool check` lists everything; `--repair` mends what a copy proves, sgdisk or fdisk the rest".to_owned())
            }
            Self::MbrLimit { .. } => {
                Some("a GPT lifts the limit: `sgdisk --mbrtogpt` makes one of an MBR".to_owned())
            }
            Self::NoRoom { behind: Some(_), .. } => Some("`grow --move` moves what lies behind".to_owned()),
            _ => None,
        }
    }
}
