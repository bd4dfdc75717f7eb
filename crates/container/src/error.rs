//! What can go wrong between an image file and its virtual disk.

use crate::Format;
use crate::foreign::Choice;
use ondisk::{Class, Classified, Len, Offset};

/// The result of dealing with a container.
pub type Result<T> = std::result::Result<T, Error>;

/// Errors of all containers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file below.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// A structure of the container is damaged, or lies.
    #[error("{structure} at byte {at}: {problem}")]
    Corrupt {
        /// The structure: `VHD footer`, `qcow2 L1 table`.
        structure: &'static str,
        /// Where it is in the file.
        at: Offset,
        /// What was found and what was expected.
        problem: String,
    },
    /// The container uses something that we cannot deal with.
    #[error("{what}")]
    Unsupported {
        /// What it is, and that it is not supported.
        what: String,
    },
    /// The file makes an image of others, and is none.
    #[error("the file is a patch, and no image by itself")]
    Patch,
    /// We will not do it.
    #[error("{why}")]
    Refused {
        /// What would be wrong with it.
        why: String,
        /// The way out, where there is one.
        help: Option<String>,
    },
    /// The file carries the signatures of several formats, or one that its name does not admit.
    #[error("{why}")]
    Ambiguous {
        /// What speaks for what.
        why: String,
        /// The formats that can be told with `-f`.
        choices: Vec<Format>,
    },
    /// Nothing can be read here without the parent.
    #[error("the parent {parent} is needed and has not been opened")]
    ParentMissing {
        /// Its name, made safe to print.
        parent: String,
    },
    /// The file that was found is not the parent.
    #[error("{problem}")]
    WrongParent {
        /// How they differ.
        problem: String,
    },
    /// A file that holds a part of the disk has not been opened.
    #[error("the file '{name}', which holds a part of the disk, is needed and has not been opened")]
    PartMissing {
        /// Its name, made safe to print.
        name: String,
    },
    /// The archive holds several disks.
    #[error("{}", several(.disks))]
    Choose {
        /// What they are called, safe to print.
        disks: Vec<Choice>,
    },
    /// The virtual disk would be larger than the format can have it.
    #[error("{want} bytes are more than {format} can hold ({limit} bytes)")]
    TooLarge {
        /// The format, with the property that limits it.
        format: String,
        /// Asked for.
        want: Len,
        /// Possible.
        limit: Len,
    },
    /// A size that makes no sense.
    #[error("{what}")]
    Usage {
        /// What is wrong with it.
        what: String,
    },
}

impl Error {
    /// A damaged structure.
    pub(crate) fn corrupt(structure: &'static str, at: Offset, problem: impl Into<String>) -> Self {
        Self::Corrupt { structure, at, problem: problem.into() }
    }

    /// Something that we cannot deal with.
    pub(crate) fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into() }
    }

    /// A format that is not written.
    pub(crate) fn read_only(format: Format) -> Self {
        let why = format!("{} is only read, never changed", format.described());
        Self::Refused { why, help: Some(CONVERT.to_owned()) }
    }

    /// Something that we will not do.
    pub(crate) fn refused(why: impl Into<String>, help: Option<&str>) -> Self {
        Self::Refused { why: why.into(), help: help.map(str::to_owned) }
    }
}

/// What to do with an image that cannot be changed.
const CONVERT: &str = "convert it first: imgtool convert IMAGE NEW.qcow2";

/// What to do with a patch, and with a disk whose guest makes it look like one.
const PATCH: &str = "make the image: imgtool delta apply --base BASE IMAGE -o NEW\n\
    commands that only read take it with --base BASE; if it is a raw disk all the same, say so: -f raw";

/// At most so many disks are listed.
const LISTED: usize = 16;

fn several(disks: &[Choice]) -> String {
    let mut names: Vec<String> = disks.iter().take(LISTED).map(ToString::to_string).collect();
    if let Some(more) = disks.len().checked_sub(LISTED).filter(|more| *more > 0) {
        names.push(format!("{more} more"));
    }
    format!("the archive holds {} disks: {}", disks.len(), names.join("; "))
}

impl Classified for Error {
    fn class(&self) -> Class {
        match self {
            Self::Disk(inner) => inner.class(),
            Self::Corrupt { .. } | Self::WrongParent { .. } => Class::Corrupt,
            Self::Unsupported { .. } => Class::Unsupported,
            Self::Patch
            | Self::Refused { .. }
            | Self::Ambiguous { .. }
            | Self::ParentMissing { .. }
            | Self::PartMissing { .. }
            | Self::Choose { .. }
            | Self::TooLarge { .. } => Class::Refused,
            Self::Usage { .. } => Class::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Disk(inner) => inner.help(),
            Self::Refused { help, .. } => help.clone(),
            Self::Ambiguous { choices, .. } => {
                let told: Vec<_> = choices.iter().map(|format| format!("-f {format}")).collect();
                Some(format!("say which it is: {}", told.join(" or ")))
            }
            Self::Patch => Some(PATCH.to_owned()),
            Self::Choose { .. } => Some("say which one: --disk NAME, by any of these names".to_owned()),
            Self::ParentMissing { .. } | Self::WrongParent { .. } => {
                Some("name the parent with --parent PATH".to_owned())
            }
            _ => None,
        }
    }
}

impl From<Error> for disk::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Disk(inner) => inner,
            other => Self::layer(other),
        }
    }
}
