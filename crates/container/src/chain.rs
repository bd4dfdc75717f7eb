//! Parents: what a child says about its parent, and what the parent must be to be accepted.
//!
//! 1. A name that comes out of an image is text. Nothing here opens a file; the caller decides which candidate he
//!    may open (threat model, G2).
//! 2. A parent is only read.

use crate::Format;
use disk::ReadAt;
use ondisk::guid::Uuid;
use ondisk::text::Printable;
use std::fmt;

/// An opened parent: its virtual disk.
pub type Parent = Box<dyn ReadAt + Send>;

/// What a child says about its parent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParentRef {
    /// Where it may be, in order of preference; `/` separates folders; relative names start at the child's folder.
    pub names: Vec<String>,
    /// The parent's own identity, where the format knows one.
    pub id: Option<Uuid>,
    /// The parent's format, where the child says it.
    pub format: Option<Format>,
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
