//! Errors of deltas.

use crate::format::patch::BaseFacts;
use ondisk::{Class, Classified, Len, Offset};

/// What can go wrong with a patch.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes cannot be read or written.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// The file is no patch.
    #[error("this is no patch: {why}")]
    NoPatch {
        /// What it lacks.
        why: &'static str,
    },
    /// A patch of a version that is not known here.
    #[error("the patch has version {found}, known is version {known}")]
    Version {
        /// As found.
        found: u16,
        /// The latest known.
        known: u16,
    },
    /// The patch contradicts itself, or was altered or cut.
    #[error("the patch is damaged: {what} at byte {at} {why}")]
    Damaged {
        /// Which part.
        what: &'static str,
        /// Where in the patch.
        at: Offset,
        /// What is wrong with it.
        why: String,
    },
    /// What a patch makes is not what it says.
    #[error("the patch is damaged: bytes {at} and following of the result do not have their digest")]
    WrongResult {
        /// Where on the disk.
        at: Offset,
    },
    /// What a patch makes has not the checksum that it says: nobody knows which of the two is the wrong one.
    #[error(
        "bytes {at} and following of the result do not have their checksum: the patch was made from another base, or is damaged"
    )]
    Mismatch {
        /// Where on the disk.
        at: Offset,
    },
    /// What a patch needs and is not known here.
    #[error("{what} cannot be read")]
    Unsupported {
        /// What.
        what: String,
    },
    /// A base that the patch was not made for, or too few of them.
    #[error("{found}; the patch needs {wanted}")]
    WrongBase {
        /// What there is.
        found: String,
        /// What the patch says.
        wanted: String,
    },
    /// The file is no signature of a disk, or a damaged one.
    #[error("this is no signature of a disk: {why}")]
    NoSignature {
        /// What it lacks.
        why: &'static str,
    },
    /// A signature of a version that is not known here.
    #[error("the signature has version {found}, known is version {known}")]
    SignatureVersion {
        /// As found.
        found: u16,
        /// The latest known.
        known: u16,
    },
    /// More bases than a patch has room for.
    #[error("{bases} bases are more than the 64 of a patch")]
    TooMany {
        /// How many.
        bases: usize,
    },
    /// A key of minisign that is none, or not unlocked.
    #[error("this is no {what} key of minisign, or not with this password: {why}")]
    Key {
        /// Secret or public.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A patch that the key has not signed.
    #[error("the patch is not signed by this key: {why}")]
    Signature {
        /// What is wrong.
        why: String,
    },
    /// Two patches of which the second does not go on where the first ends.
    #[error("the first patch makes a disk of {} bytes with digest {}, which is no base of the second", made.len, made.digest.to_hex())]
    NotInARow {
        /// What the first one makes.
        made: BaseFacts,
    },
    /// Two patches that cannot become one within the limits of a patch.
    #[error("the patches cannot become one: {what}")]
    Entangled {
        /// Which limit.
        what: &'static str,
    },
    /// A size beyond what a patch can express.
    #[error("{what} of {len} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// Its size.
        len: Len,
        /// The limit.
        limit: Len,
    },
}

/// The result of working with patches.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn damaged(what: &'static str, at: Offset, why: impl Into<String>) -> Self {
        Self::Damaged { what, at, why: why.into() }
    }
}

impl Classified for Error {
    fn class(&self) -> Class {
        match self {
            Self::Disk(error) => error.class(),
            Self::Version { .. } | Self::SignatureVersion { .. } | Self::Unsupported { .. } => {
                Class::Unsupported
            }
            Self::TooLarge { .. } | Self::TooMany { .. } | Self::Entangled { .. } | Self::Key { .. } => {
                Class::Refused
            }
            Self::NoPatch { .. }
            | Self::NoSignature { .. }
            | Self::Damaged { .. }
            | Self::WrongResult { .. }
            | Self::Signature { .. }
            | Self::NotInARow { .. }
            | Self::Mismatch { .. }
            | Self::WrongBase { .. } => Class::Corrupt,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Disk(error) => error.help(),
            Self::WrongBase { .. } | Self::Mismatch { .. } => {
                Some("give the images that the patch was made from, unchanged, with --base".to_owned())
            }
            Self::Signature { .. } => {
                Some("fetch the patch from whom you trust, with the signature".to_owned())
            }
            Self::NotInARow { .. } => {
                Some("give the patches in the order in which they are applied".to_owned())
            }
            Self::Entangled { .. } => Some(
                "apply one after the other, and have a patch made from the first base to the last target"
                    .to_owned(),
            ),
            Self::Version { .. } => Some("a later imgtool reads it".to_owned()),
            Self::Unsupported { .. } => Some("have it made by `xdelta3 -e`".to_owned()),
            Self::Damaged { .. } | Self::WrongResult { .. } => {
                Some("fetch the patch again, or have it made again".to_owned())
            }
            _ => None,
        }
    }
}
