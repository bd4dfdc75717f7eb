//! Parents: what a child says about its parent, and what the parent must be to be accepted.
//!
//! 1. A name that comes out of an image is text. Nothing here opens a file; the caller decides which candidate he
//!    may open (threat model, G2).
//! 2. A parent is only read.

use crate::{BlockStatus, Format, Result};
use disk::ReadAt;
use ondisk::Span;
use ondisk::guid::Uuid;
use ondisk::text::Printable;
use std::fmt;
use std::sync::Arc;

/// A virtual disk that can say where its bytes are stored.
pub trait Mapped: ReadAt {
    /// The runs of `range`, in order. The caller keeps it small: there can be as many runs as sectors.
    ///
    /// # Errors
    /// As [`ReadAt::extents`].
    fn status(&self, range: Span) -> Result<Vec<BlockStatus>>;
}

impl<T: Mapped + ?Sized> Mapped for &T {
    fn status(&self, range: Span) -> Result<Vec<BlockStatus>> {
        (**self).status(range)
    }
}

impl<T: Mapped + Send + ?Sized> Mapped for Arc<T> {
    fn status(&self, range: Span) -> Result<Vec<BlockStatus>> {
        (**self).status(range)
    }
}

/// An opened parent: its virtual disk.
pub type Parent = Box<dyn Mapped + Send>;

/// What lies under a run that the child does not store. Behind the parent's end nobody has anything.
pub(crate) fn status_under(parent: &dyn Mapped, span: Span) -> Result<Vec<BlockStatus>> {
    let mut list = match span.intersect(Span::whole(parent.len())) {
        Some(there) => parent.status(there)?,
        None => Vec::new(),
    };
    for run in &mut list {
        run.depth = run.depth.saturating_add(1);
    }
    if let Some(beyond) = Span::between(span.start().max(parent.len().end()), span.end())
        && !beyond.is_empty()
    {
        list.push(BlockStatus::hole(beyond));
    }
    Ok(list)
}

/// What a child says about its parent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParentRef {
    /// Where it may be, in order of preference; `/` separates folders; relative names start at the child's folder.
    pub names: Vec<String>,
    /// The parent's own identity, where the format knows one.
    pub id: Option<Uuid>,
    /// The parent's format, where the child says it.
    pub format: Option<Format>,
    /// When the parent was last modified before the child was made, in seconds since 1970, where the child says it.
    pub timestamp: Option<u64>,
}

impl ParentRef {
    /// Adds a candidate, unless it is empty, holds a NUL or is there already.
    pub fn push(&mut self, name: String) {
        if !name.is_empty() && !name.contains('\0') && !self.names.contains(&name) {
            self.names.push(name);
        }
    }
}

impl fmt::Display for ParentRef {
    /// The best name and the identity, safe to print.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.names.first(), self.id) {
            (Some(name), Some(id)) => write!(f, "'{}' ({id})", Printable(name.as_bytes())),
            (Some(name), None) => write!(f, "'{}'", Printable(name.as_bytes())),
            (None, Some(id)) => write!(f, "{id}"),
            (None, None) => f.write_str("without a name"),
        }
    }
}
