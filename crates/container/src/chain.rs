//! Parents: what a child says about its parent, and what the parent must be to be accepted.
//!
//! 1. A name that comes out of an image is text. Nothing here opens a file; the caller decides which candidate he
//!    may open (threat model, G2).
//! 2. A parent is only read.

use crate::{BlockStatus, Format, Result};
use disk::ReadAt;
use ondisk::guid::Uuid;
use ondisk::text::Printable;
use ondisk::{Len, Span};
use std::fmt;
use std::sync::Arc;

/// A virtual disk that can say where its bytes are stored.
pub trait Mapped: ReadAt {
    /// The runs of `range`, in order. The caller keeps it small: there can be as many runs as sectors.
    ///
    /// # Errors
    /// As [`ReadAt::extents`].
    fn status(&self, range: Span) -> Result<Vec<BlockStatus>>;

    /// The run at the start of `range`, which is not empty. It may be shorter than it could be, but costs what the
    /// tables hold, not what they leave out: a disk of which nothing is stored is gone through in a few calls.
    ///
    /// # Errors
    /// As [`ReadAt::extents`].
    fn first(&self, range: Span) -> Result<BlockStatus> {
        let near = near(range);
        Ok(self.status(near)?.first().copied().unwrap_or(BlockStatus::hole(near)))
    }
}

impl<T: Mapped + ?Sized> Mapped for &T {
    fn status(&self, range: Span) -> Result<Vec<BlockStatus>> {
        (**self).status(range)
    }
    fn first(&self, range: Span) -> Result<BlockStatus> {
        (**self).first(range)
    }
}

impl<T: Mapped + Send + ?Sized> Mapped for Arc<T> {
    fn status(&self, range: Span) -> Result<Vec<BlockStatus>> {
        (**self).status(range)
    }
    fn first(&self, range: Span) -> Result<BlockStatus> {
        (**self).first(range)
    }
}

/// So far ahead of `range` looks who only knows the runs of a range.
pub(crate) fn near(range: Span) -> Span {
    range.chunks(Len::mib(1)).next().unwrap_or(range)
}

/// So many table entries are gone through in one call, so that the operator can stop between two.
const STEPS: u32 = 1 << 16;

/// The run at the start of `range` out of pieces of it that `piece` tells, each at the start of what it is asked for.
/// Only zeros are joined: what is stored is soon looked at anyway.
pub(crate) fn first_of(range: Span, piece: impl Fn(Span) -> Result<BlockStatus>) -> Result<BlockStatus> {
    let mut run = piece(range)?;
    for _ in 0..STEPS {
        let rest = Span::between(run.span.end(), range.end()).unwrap_or_default();
        if rest.is_empty() || !run.zero {
            break;
        }
        match run.joined(piece(rest)?) {
            Some(joined) => run = joined,
            None => break,
        }
    }
    Ok(run)
}

/// The zeros at the start of `range` that the tables tell, if there are any; behind its end a disk is zero.
///
/// # Errors
/// As [`Mapped::first`].
pub fn zeros_ahead(disk: &dyn Mapped, range: Span) -> Result<Span> {
    let there = range.intersect(Span::whole(disk.len())).unwrap_or_default();
    if there.is_empty() {
        return Ok(range);
    }
    let run = disk.first(there)?;
    Ok(if run.zero { run.span } else { Span::default() })
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

/// The first of the runs that [`status_under`] tells.
pub(crate) fn first_under(parent: &dyn Mapped, span: Span) -> Result<BlockStatus> {
    match span.intersect(Span::whole(parent.len())) {
        Some(there) if !there.is_empty() => {
            let run = parent.first(there)?;
            Ok(BlockStatus { depth: run.depth.saturating_add(1), ..run })
        }
        _ => Ok(BlockStatus::hole(span)),
    }
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
