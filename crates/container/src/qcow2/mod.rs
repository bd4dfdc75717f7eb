//! The copy-on-write format of QEMU, versions 2 and 3.
//!
//! ```text
//! L1 (one array) ──► L2 table (one cluster) ──► host cluster     of the virtual disk
//! refcount table ──► refcount block         ──► users per host cluster
//! ```
//!
//! 1. Every cluster of the file that anything refers to has a refcount that is not lower than its references. Too high
//!    is a leak, too low is damage.
//! 2. A host cluster with one user is written in place; all others are copied first.
//! 3. New clusters come from behind everything that is in use, and are zero before anything refers to them.
//! 4. What an entry does not store is the parent's, or zero behind the parent's end and without one.
//! 5. Before the first write all references are counted; with any damage there is no write.

mod accounts;
mod around;
mod cache;
mod check;
mod clear;
mod compact;
mod count;
mod create;
mod entry;
mod facts;
mod file;
pub(crate) mod fill;
mod geom;
mod grow;
mod header;
mod layout;
pub(crate) mod link;
mod pack;
mod read;
mod refcount;
pub(crate) mod repair;
mod sparsify;
mod store;
mod streams;
mod table;
mod tally;
mod unpack;
mod write;

pub use create::{Backing, Create, CreatePlan};
pub use facts::{BitmapFacts, Facts, SnapshotFacts};
pub use grow::GrowPlan;
pub use header::Compression;

use crate::{Error, Format, Mapped, Parent, ParentRef, Result};
use cache::Cache;
use disk::{Limits, ReadAt};
use header::Header;
use ondisk::num::to_usize;
use ondisk::{Len, Offset, Span};
use refcount::Refcounts;
use std::sync::{Arc, Mutex};
use table::{Bitmap, Snapshot};
use zerocopy::FromBytes;
use zerocopy::big_endian::U64;

/// An opened image.
pub struct Qcow2<D> {
    file: D,
    header: Header,
    limits: Limits,
    parent: Option<Arc<dyn Mapped + Send>>,
    /// The active L1 table, as it stands in the file.
    l1: Vec<u64>,
    snapshots: Vec<Snapshot>,
    bitmaps: Vec<Bitmap>,
    cache: Mutex<Cache>,
    /// There once the image has been found fit for writing.
    refcounts: Option<Refcounts>,
}

impl<D: ReadAt> Qcow2<D> {
    /// Opens the image in `file`: header, L1, and the lists of snapshots and bitmaps.
    ///
    /// # Errors
    /// Where these are damaged, need more memory than allowed, or use a feature that is not supported.
    pub fn open(file: D, limits: &Limits) -> Result<Self> {
        let header = Header::read(&file, limits)?;
        Self::with_header(file, header, limits)
    }

    fn with_header(file: D, header: Header, limits: &Limits) -> Result<Self> {
        let l1 = read_l1(&file, header.l1_at, header.l1_entries, limits)?;
        let snapshots = table::snapshots(&file, &header, limits)?;
        let bitmaps = match header.valid_bitmaps() {
            Some(directory) => table::bitmaps(&file, directory, header.geo, limits)?,
            None => Vec::new(),
        };
        let cache = Mutex::new(Cache::new(header.geo));
        Ok(Self {
            file,
            header,
            limits: *limits,
            parent: None,
            l1,
            snapshots,
            bitmaps,
            cache,
            refcounts: None,
        })
    }

    /// The parent, if the header names one. Only a plain file's name becomes a candidate, and only a stated format
    /// counts: a format that is guessed from a guest's bytes would let the guest choose its parent.
    #[must_use]
    pub fn parent_ref(&self) -> Option<ParentRef> {
        let backing = self.header.backing.as_ref()?;
        let mut parent = ParentRef::default();
        if let Some(name) = plain_name(&backing.name) {
            parent.push(name.to_owned());
        }
        let stated = backing.format.as_deref().unwrap_or_default();
        parent.format = Format::ALL.into_iter().find(|format| format.qemu_name().as_bytes() == stated);
        Some(parent)
    }

    /// Gives the image its parent.
    pub fn set_parent(&mut self, parent: Parent) {
        self.parent = Some(Arc::from(parent));
    }

    /// The file below.
    #[must_use]
    pub const fn file(&self) -> &D {
        &self.file
    }

    /// Back to the file.
    #[must_use]
    pub fn into_file(self) -> D {
        self.file
    }

    /// How far the parent's bytes reach.
    fn parent_len(&self) -> Result<Len> {
        match (&self.parent, &self.header.backing) {
            (Some(parent), _) => Ok(parent.len()),
            (None, None) => Ok(Len::ZERO),
            (None, Some(_)) => Err(self.parent_missing()),
        }
    }

    fn parent_missing(&self) -> Error {
        let name = self.header.backing.as_ref().map(|backing| backing.name.clone()).unwrap_or_default();
        Error::ParentMissing { parent: format!("'{}'", ondisk::text::Printable(&name)) }
    }
}

/// The name of a plain file: no protocol, no JSON.
pub(crate) fn plain_name(name: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(name).ok()?;
    match name.strip_prefix("file:") {
        Some(rest) => Some(rest).filter(|rest| !rest.starts_with("//")),
        None => {
            let first = name.split('/').next().unwrap_or_default();
            Some(name).filter(|_| !first.contains(':'))
        }
    }
}

/// The entries of an L1 table; the caller has bounded their number.
/// So much of a table is read at once.
const PIECE: Len = Len::kib(64);

fn read_l1(file: &(impl ReadAt + ?Sized), at: Offset, entries: u64, limits: &Limits) -> Result<Vec<u64>> {
    let len = Len::new(entries.saturating_mul(8));
    limits.budget("the L1 table").take(len)?;
    let end = || Error::corrupt("qcow2 L1 table", at, format!("{len} bytes from there on end behind 2^64"));
    let whole = Span::new(at, len).ok_or_else(end)?;
    // Piece by piece: the largest table is not held twice.
    let mut l1 = Vec::new();
    l1.reserve_exact(to_usize(entries));
    let mut bytes = Vec::new();
    for piece in whole.chunks(PIECE) {
        bytes.resize(piece.len().to_usize(), 0);
        file::read(file, piece.start(), &mut bytes)?;
        l1.extend(words(&bytes));
    }
    Ok(l1)
}

/// A table of big-endian words.
fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks_exact(8).filter_map(|chunk| Some(U64::read_from_bytes(chunk).ok()?.get()))
}

/// The bytes of `span` in a buffer that begins at `origin`.
fn part_of(buf: &mut [u8], span: Span, origin: Offset) -> &mut [u8] {
    let start = to_usize(span.start().since(origin).unwrap_or_default().get());
    buf.get_mut(start..).and_then(|rest| rest.get_mut(..span.len().to_usize())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::plain_name;

    #[test]
    fn names_that_could_open_something_else_are_no_names() {
        assert_eq!(plain_name(b"base.qcow2"), Some("base.qcow2"));
        assert_eq!(plain_name(b"dir/a:b.raw"), Some("dir/a:b.raw"));
        assert_eq!(plain_name(b"file:base.raw"), Some("base.raw"));
        for name in
            [&b"json:{\"driver\":\"file\"}"[..], b"nbd://host/x", b"fat:/etc", b"file:///etc/shadow", b"\xff"]
        {
            assert_eq!(plain_name(name), None, "{name:?}");
        }
    }
}
