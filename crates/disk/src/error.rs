//! Errors of reading and writing bytes.

use ondisk::{Class, Classified, Len, Span};
use std::io;

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
    /// A layer below, for example a container whose table is damaged where the read had to go.
    #[error("{0}")]
    Layer(Box<dyn Classified>),
}

impl Error {
    /// Wraps the error of a format that reads through this interface.
    pub fn layer(error: impl Classified) -> Self {
        Self::Layer(Box::new(error))
    }
}

impl Classified for Error {
    fn class(&self) -> Class {
        match self {
            Self::Io { .. } | Self::Memory { .. } | Self::NotOwned { .. } => Class::Io,
            Self::OutOfBounds { .. } => Class::Corrupt,
            Self::Unsupported { .. } => Class::Unsupported,
            Self::Cancelled => Class::Cancelled,
            Self::Layer(inner) => inner.class(),
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Memory { .. } => Some("allow more with --memory SIZE".to_owned()),
            Self::Layer(inner) => inner.help(),
            _ => None,
        }
    }
}
