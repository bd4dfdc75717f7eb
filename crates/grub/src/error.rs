//! What can be wrong with a boot loader. It never stops the look at a disk: it is a part of the picture.

use ondisk::{Class, Classified, Lba};

/// Errors of reading what a boot loader is made of.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes below.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// A filesystem, or the journal of one.
    #[error(transparent)]
    Stack(#[from] stack::Error),
    /// A structure that contradicts itself.
    #[error("{part} at sector {at} {what}")]
    Broken {
        /// Which: `the core`, `stage 2`.
        part: &'static str,
        /// Where it begins, in sectors of 512 bytes.
        at: Lba,
        /// What is wrong.
        what: String,
    },
    /// It lies on another disk.
    #[error("{part} lies on drive {drive:#04x} of the BIOS, which is another disk")]
    OtherDrive {
        /// Which.
        part: &'static str,
        /// The BIOS's number of the drive.
        drive: u8,
    },
}

impl Error {
    pub(crate) fn broken(part: &'static str, at: Lba, what: impl Into<String>) -> Self {
        Self::Broken { part, at, what: what.into() }
    }
}

impl Classified for Error {
    fn class(&self) -> Class {
        match self {
            Self::Disk(inner) => inner.class(),
            Self::Stack(inner) => inner.class(),
            Self::Broken { .. } => Class::Corrupt,
            Self::OtherDrive { .. } => Class::Unsupported,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Disk(inner) => inner.help(),
            Self::Stack(inner) => inner.help(),
            Self::Broken { .. } | Self::OtherDrive { .. } => None,
        }
    }
}
