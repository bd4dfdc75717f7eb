//! Writing past the system's cache: several threads at once, and no byte is copied on its way to the medium.
//!
//! 1. Only whole pages go this way, from memory that begins where a page does: no page is written in both ways.
//! 2. It is the file that was opened, told to leave the cache out for a while: a second opening would go by a name, and
//!    would break the lease. So nobody uses the file otherwise meanwhile.
//! 3. Nothing is durable before the flush, as ever.

use super::target::{DIRECT, suits};
use crate::{Error, Limits, Result};
use ondisk::num::to_u64;
use ondisk::{Len, Offset, Span};
use rustix::fs::{self, OFlags};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What goes past the cache takes whole pages of this length.
pub const PAGE: usize = 4096;

/// A file that is written past the cache until this is dropped.
#[derive(Debug)]
pub struct PastCache<'f> {
    file: &'f File,
    len: Len,
    before: OFlags,
}

impl<'f> PastCache<'f> {
    /// Less is not worth it.
    pub const LEAST: Len = DIRECT;

    /// Begins; `None` where the system cannot do that.
    pub(super) fn begin(file: &'f File, len: Len) -> Option<Self> {
        let before = fs::fcntl_getfl(file).ok().filter(|_| rustix::param::page_size() == PAGE)?;
        fs::fcntl_setfl(file, before | OFlags::DIRECT).ok()?;
        Some(Self { file, len, before })
    }

    /// Replaces the bytes from `at`. Yields whether that went: the cache takes what does not go past it.
    ///
    /// # Errors
    /// Where the system fails; some of the bytes may be written then.
    pub fn write_at(&self, at: Offset, buf: &[u8]) -> Result<bool> {
        let span = Span::new(at, Len::of(buf)).unwrap_or_default();
        if !suits(span, buf) || !Span::whole(self.len).contains(span) {
            return Ok(false);
        }
        match self.file.write_all_at(buf, at.get()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(false),
            Err(source) => Err(Error::Io { op: "write", span, source }),
        }
    }
}

impl Drop for PastCache<'_> {
    fn drop(&mut self) {
        // What could be set can be taken back.
        let _ = fs::fcntl_setfl(self.file, self.before);
    }
}

/// Memory that begins where a page does.
#[derive(Debug)]
pub struct Pages {
    bytes: Vec<u8>,
    start: usize,
}

impl Pages {
    /// So many zeros.
    #[must_use]
    pub fn new(len: Len) -> Self {
        Self::of(vec![0; len.to_usize().saturating_add(PAGE)])
    }

    /// As [`Pages::new`], within the memory allowed.
    ///
    /// # Errors
    /// Where there is not so much of it.
    pub fn within(limits: &Limits, what: &'static str, len: Len) -> Result<Self> {
        let spare = Len::new(to_u64(PAGE));
        Ok(Self::of(limits.buffer(what, len.checked_add(spare).unwrap_or(len))?))
    }

    fn of(bytes: Vec<u8>) -> Self {
        let start = bytes.as_ptr().align_offset(PAGE).min(PAGE);
        Self { bytes, start }
    }

    /// The first `len` bytes.
    #[must_use]
    pub fn get(&self, len: usize) -> &[u8] {
        self.bytes.get(self.start..self.start.saturating_add(len)).unwrap_or_default()
    }

    /// The first `len` bytes, to be written.
    pub fn get_mut(&mut self, len: usize) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.start.saturating_add(len)).unwrap_or_default()
    }
}
