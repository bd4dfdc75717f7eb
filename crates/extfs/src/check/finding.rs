//! What a check finds, in words.
//!
//! 1. Damage contradicts the format, a note does not: a journal to replay, totals that the kernel recomputes.
//! 2. However much is damaged, only so many findings are kept; all are counted.

use crate::error::{Error, Part};
use crate::unit::{BlockNo, InodeNo};
use ondisk::text::Printable;
use ondisk::{Class, Classified, Mismatch};
use std::fmt;

/// So many findings are kept.
const KEPT: usize = 1000;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The format is violated.
    Damage,
    /// Worth knowing; nothing is wrong.
    Note,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A checksum differs.
    Checksum(Mismatch),
    /// A field has an impossible value.
    Field {
        /// Its name in the specification.
        name: &'static str,
        /// As found.
        found: u64,
        /// What would be right.
        expected: String,
    },
    /// A number on disk differs from what was counted.
    Count {
        /// What is counted.
        name: &'static str,
        /// As found.
        found: u64,
        /// As counted.
        counted: u64,
    },
    /// A contradiction that is not one field's.
    Broken(&'static str),
    /// A block that something else has, too.
    Claimed {
        /// The first one.
        block: BlockNo,
    },
    /// Bits of a bitmap that differ from what is in use.
    Bits {
        /// What a bit stands for.
        of: &'static str,
        /// The first one.
        first: u64,
        /// How many are set and should not be.
        leaked: u64,
        /// How many are clear and should not be.
        missing: u64,
    },
    /// An entry of a directory.
    Entry {
        /// What it names.
        ino: InodeNo,
        /// Its name.
        name: Vec<u8>,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// It could not be read.
    Unreadable(String),
}

/// One thing that a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub part: Part,
    /// What.
    pub what: What,
    /// How bad.
    pub severity: Severity,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part, self.what)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checksum(mismatch) => mismatch.fmt(f),
            Self::Field { name, found, expected } => write!(f, "{name} is {found}, expected {expected}"),
            Self::Count { name, found, counted } => write!(f, "{name} is {found}, counted {counted}"),
            Self::Broken(problem) => f.write_str(problem),
            Self::Claimed { block } => write!(f, "block {block} is also used by something else"),
            Self::Bits { of, first, leaked, missing } => write!(
                f,
                "{leaked} {of} marked in use that nobody has, {missing} in use that are marked free; the first is {first}"
            ),
            Self::Entry { ino, name, problem } => {
                write!(f, "entry \"{}\" for inode {ino} {problem}", Printable(name))
            }
            Self::Unreadable(error) => f.write_str(error),
        }
    }
}

impl What {
    /// A field with an impossible value.
    pub(super) fn field(name: &'static str, found: impl Into<u64>, expected: impl fmt::Display) -> Self {
        Self::Field { name, found: found.into(), expected: expected.to_string() }
    }
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Inodes in use.
    pub inodes: u64,
    /// Directories among them.
    pub dirs: u64,
    /// Clusters in use.
    pub clusters: u64,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    findings: Vec<Finding>,
    damage: u64,
    notes: Vec<Finding>,
    /// How much was looked at.
    pub stats: Stats,
}

impl Report {
    /// Whether there is no damage.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.damage == 0
    }

    /// The damage, in the order found; of a lot only the first part.
    pub fn damage(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter()
    }

    /// How much damage there is, also that which was not kept.
    #[must_use]
    pub const fn damage_count(&self) -> u64 {
        self.damage
    }

    /// What is worth knowing.
    pub fn notes(&self) -> impl Iterator<Item = &Finding> {
        self.notes.iter()
    }

    /// Adds damage.
    pub(super) fn damaged(&mut self, part: Part, what: What) {
        self.damage = self.damage.saturating_add(1);
        if self.findings.len() < KEPT {
            self.findings.push(Finding { part, what, severity: Severity::Damage });
        }
    }

    /// Adds a note.
    pub(super) fn note(&mut self, part: Part, what: What) {
        if self.notes.len() < KEPT {
            self.notes.push(Finding { part, what, severity: Severity::Note });
        }
    }

    /// Adds what a reader stumbled over, unless it is not the filesystem's fault.
    pub(super) fn error(&mut self, part: Part, error: Error) -> Result<(), Error> {
        let (part, what) = match error {
            Error::Checksum { part, mismatch } => (part, What::Checksum(mismatch)),
            Error::Field { part, field, found, expected } => {
                (part, What::Field { name: field, found, expected })
            }
            Error::Broken { part, problem } => (part, What::Broken(problem)),
            other if other.class() == Class::Corrupt || other.class() == Class::Unsupported => {
                (part, What::Unreadable(other.to_string()))
            }
            other => return Err(other),
        };
        self.damaged(part, what);
        Ok(())
    }
}
