//! Errors of reading and writing bytes.

use ondisk::size::Human;
use ondisk::{Class, Classified, Len, Span};
use std::fmt;
use std::io;
use std::path::PathBuf;

/// The result of touching bytes.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong between a position and its bytes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system failed.
    #[error("{op} of {span}: {source}")]
    Io {
        /// The operation, a noun: `read`, `write`, `flush`.
        op: &'static str,
        /// Where.
        span: Span,
        /// What the system said.
        source: io::Error,
    },
    /// A range that does not lie on the disk.
    #[error("bytes {span} lie outside the disk of {len} bytes")]
    OutOfBounds {
        /// The range asked for.
        span: Span,
        /// The length of the disk.
        len: Len,
    },
    /// A write that the caller was not entitled to: our own mistake, stopped before it costs data.
    #[error("write to {span}, which the plan does not own")]
    NotOwned {
        /// The range.
        span: Span,
    },
    /// The disk cannot do that, for example change its length.
    #[error("{what}")]
    Unsupported {
        /// What it cannot do.
        what: &'static str,
    },
    /// Working memory would grow beyond its bound.
    #[error("{what} needs {need} bytes of memory, the limit is {limit}")]
    Memory {
        /// What needs it.
        what: &'static str,
        /// Bytes needed in all.
        need: Len,
        /// Bytes allowed.
        limit: Len,
    },
    /// The operator interrupted.
    #[error("interrupted")]
    Cancelled,
    /// The system failed at a file.
    #[error("{op} {path:?}: {source}")]
    File {
        /// The operation, a verb.
        op: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A change that contradicts itself: our own mistake, stopped before it costs data.
    #[error("the change {what} at {span}")]
    BadChange {
        /// What is wrong with it.
        what: &'static str,
        /// Where.
        span: Span,
    },
    /// Something that we will not do.
    #[error("{what}")]
    Refused {
        /// What, and why.
        what: String,
        /// The way out.
        help: Option<String>,
    },
    /// Somebody else holds the image.
    #[error("in use{}", held_by(.by))]
    InUse {
        /// Who, as far as that can be known.
        by: String,
    },
    /// An interrupted change lies beside the image.
    #[error("an interrupted change lies in {journal:?}")]
    Pending {
        /// The journal.
        journal: PathBuf,
    },
    /// A change was begun and could neither be finished nor taken back.
    #[error("{source}; the change is not finished")]
    Unfinished {
        /// What stopped it.
        source: Box<Error>,
    },
    /// A journal or undo file that contradicts itself.
    #[error("the journal {what}")]
    Journal {
        /// What is wrong with it.
        what: &'static str,
    },
    /// Somebody has written to the image since.
    #[error("{what}{}", ranges(.spans))]
    Foreign {
        /// What was expected.
        what: &'static str,
        /// Where the image differs.
        spans: Vec<Span>,
    },
    /// A layer below, for example a container whose table is damaged where the read had to go.
    #[error("{0}")]
    Layer(Box<dyn Classified>),
}

impl Error {
    /// Wraps the error of a format that reads through this interface.
    pub fn layer(error: impl Classified) -> Self {
        Self::Layer(Box::new(error))
    }

    /// What does not fit where `path` lies; `need` says so with its numbers.
    #[must_use]
    pub fn full(path: PathBuf, need: &str, free: Len) -> Self {
        let why = format!("no space left: {need}, {} are free", Human(free));
        Self::File { op: "reserve", path, source: io::Error::new(io::ErrorKind::StorageFull, why) }
    }
}

impl Classified for Error {
    fn class(&self) -> Class {
        match self {
            Self::Io { .. }
            | Self::File { .. }
            | Self::Memory { .. }
            | Self::NotOwned { .. }
            | Self::BadChange { .. }
            | Self::Unfinished { .. } => Class::Io,
            Self::OutOfBounds { .. } | Self::Journal { .. } => Class::Corrupt,
            Self::Refused { .. } => Class::Refused,
            Self::InUse { .. } => Class::InUse,
            Self::Pending { .. } => Class::Pending,
            Self::Foreign { .. } => Class::Foreign,
            Self::Unsupported { .. } => Class::Unsupported,
            Self::Cancelled => Class::Cancelled,
            Self::Layer(inner) => inner.class(),
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Memory { .. } => Some("allow more with --memory SIZE".to_owned()),
            Self::Pending { .. } | Self::Unfinished { .. } => {
                Some("run `imgtool recover IMAGE`: it finishes the change or takes it back".to_owned())
            }
            Self::Foreign { .. } => {
                Some("restore the image, or delete the journal if the image is good as it is".to_owned())
            }
            Self::InUse { .. } => {
                Some("stop whoever holds it; --force skips this test and nothing else".to_owned())
            }
            Self::Refused { help, .. } => help.clone(),
            Self::Layer(inner) => inner.help(),
            _ => None,
        }
    }
}

/// At most so many ranges are listed.
const RANGES_MAX: usize = 8;

fn ranges(spans: &[Span]) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        for (i, span) in spans.iter().take(RANGES_MAX).enumerate() {
            write!(f, "{} {span}", if i == 0 { ": bytes" } else { "," })?;
        }
        match spans.len().saturating_sub(RANGES_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    })
}

fn held_by(holder: &str) -> impl fmt::Display {
    fmt::from_fn(move |f| if holder.is_empty() { Ok(()) } else { write!(f, " by {holder}") })
}
