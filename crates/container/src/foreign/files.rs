//! The files of an image: its own, as its log makes it, and those beside it that hold parts of the disk.

use crate::{Error, Result};
use disk::{ExtentKind, ExtentMap, ReadAt, Sparse};
use ondisk::{Len, Offset, Span, SpanSet};
use std::sync::Arc;
use zerocopy::{FromBytes, IntoBytes};

/// A file beside the image.
pub type Part = Arc<dyn ReadAt + Send>;

/// A position in one of the files: 0 is the image's own, 1 the first beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub part: usize,
    pub at: Offset,
}

impl Place {
    /// A position in the image's own file.
    pub const fn own(at: Offset) -> Self {
        Self { part: 0, at }
    }

    /// The position `by` bytes further on, in the same file.
    pub fn ahead(self, by: Len) -> Option<Self> {
        Some(Self { at: self.at.checked_add(by)?, ..self })
    }
}

/// Bytes that take the place of those in the file.
#[derive(Debug, Default)]
pub(crate) struct Patches {
    bytes: Sparse,
    there: SpanSet,
    /// How long the file becomes at least.
    pub len: Len,
}

impl Patches {
    /// Replaces the bytes from `at`.
    pub fn put(&mut self, at: Offset, bytes: &[u8]) {
        let span = Span::new(at, Len::of(bytes)).unwrap_or_default();
        self.grow(span);
        self.bytes.put(at, bytes);
        self.there.insert(span);
    }

    /// Makes `span` read as zero.
    pub fn clear(&mut self, span: Span) {
        self.grow(span);
        self.bytes.clear(span);
        self.there.insert(span);
    }

    fn grow(&mut self, span: Span) {
        self.len = self.len.max(Len::new(span.end().get()));
        self.bytes.set_len(self.len);
    }

    /// Puts what is replaced over the bytes of the file from `at`.
    fn apply(&self, at: Offset, buf: &mut [u8]) {
        let Some(all) = Span::new(at, Len::of(buf)) else { return };
        for span in self.there.intersect(all) {
            let from = span.start().since(at).unwrap_or_default().to_usize();
            let part = buf.get_mut(from..).and_then(|rest| rest.get_mut(..span.len().to_usize()));
            self.bytes.get(span.start(), part.unwrap_or_default());
        }
    }
}

/// All files of an image.
#[derive(Clone, Copy)]
pub(crate) struct Files<'a> {
    image: &'a dyn ReadAt,
    parts: &'a [Part],
    patches: Option<&'a Patches>,
}

impl<'a> Files<'a> {
    pub const fn new(image: &'a dyn ReadAt, parts: &'a [Part], patches: Option<&'a Patches>) -> Self {
        Self { image, parts, patches }
    }

    /// The image's own file alone.
    pub const fn own(image: &'a dyn ReadAt) -> Self {
        Self { image, parts: &[], patches: None }
    }

    fn file(&self, part: usize) -> Result<&dyn ReadAt> {
        match part.checked_sub(1) {
            None => Ok(self.image),
            Some(beside) => match self.parts.get(beside) {
                Some(file) => Ok(file),
                None => Err(Error::PartMissing { name: format!("part {part}") }),
            },
        }
    }

    /// How long a file is, as its log makes it.
    pub fn len(&self, part: usize) -> Result<Len> {
        let stored = self.file(part)?.len();
        Ok(self.log(part).map_or(stored, |log| log.len.max(stored)))
    }

    /// Whether the file has been opened.
    pub fn has(&self, part: usize) -> bool {
        part == 0 || part <= self.parts.len()
    }

    fn log(&self, part: usize) -> Option<&Patches> {
        self.patches.filter(|_| part == 0)
    }

    /// Whether all of `len` bytes from `place` on lie in the file.
    pub fn holds(&self, place: Place, len: Len) -> Result<bool> {
        let whole = Span::whole(self.len(place.part)?);
        Ok(Span::new(place.at, len).is_some_and(|span| whole.contains(span)))
    }

    /// Fills `buf` from `place` on.
    pub fn read(&self, place: Place, buf: &mut [u8]) -> Result<()> {
        let file = self.file(place.part)?;
        let Some(log) = self.log(place.part) else { return Ok(file.read_at(place.at, buf)?) };
        disk::traits::bounded(place.at, buf.len(), self.len(place.part)?)?;
        // What the log adds behind the end of the file reads as zero.
        let there = file.len().end().since(place.at).unwrap_or_default().to_usize().min(buf.len());
        let (stored, beyond) = buf.split_at_mut(there);
        beyond.fill(0);
        if !stored.is_empty() {
            file.read_at(place.at, stored)?;
        }
        log.apply(place.at, buf);
        Ok(())
    }

    /// What is stored of a run of the disk whose bytes begin at `place`. Holes of the file read as zero as well.
    pub fn extents(&self, place: Place, span: Span) -> Result<ExtentMap> {
        let stored = Span::new(place.at, span.len()).unwrap_or_default();
        if self.log(place.part).is_some() {
            return Ok(ExtentMap::single(span, ExtentKind::Data));
        }
        let mut map = ExtentMap::new();
        for extent in self.file(place.part)?.extents(stored)?.rebased(place.at, span.start()).iter() {
            let kind = if extent.kind.reads_zero() { ExtentKind::Zero } else { ExtentKind::Data };
            map.push(extent.span, kind);
        }
        Ok(map)
    }
}

/// Reads one record; its structure is blamed where the file ends before it.
pub(crate) fn record<T: FromBytes + IntoBytes>(
    files: &Files<'_>,
    structure: &'static str,
    place: Place,
) -> Result<T> {
    let mut record = T::new_zeroed();
    let bytes = record.as_mut_bytes();
    if !files.holds(place, Len::of(bytes))? {
        return Err(Error::corrupt(structure, place.at, "the file ends before it"));
    }
    files.read(place, bytes)?;
    Ok(record)
}
