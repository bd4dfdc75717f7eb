//! Disks made of parts of other disks. Each is a few lines, and each passes every verb on.

use crate::traits::{bounded, within};
use crate::{Disk, Error, ExtentMap, ReadAt, Result};
use ondisk::{Len, Offset, Span, SpanSet};

/// One span of a disk: a partition, the data of a fixed VHD.
#[derive(Debug)]
pub struct Slice<D> {
    inner: D,
    span: Span,
}

impl<D: ReadAt> Slice<D> {
    /// The part of `inner` at `span`.
    ///
    /// # Errors
    /// Where `span` does not lie on `inner`.
    pub fn new(inner: D, span: Span) -> Result<Self> {
        within(span, inner.len())?;
        Ok(Self { inner, span })
    }

    fn outer(&self, at: Offset, len: usize) -> Result<Offset> {
        let span = bounded(at, len, self.span.len())?;
        self.outer_span(span).map(Span::start)
    }

    fn outer_span(&self, span: Span) -> Result<Span> {
        within(span, self.span.len())?;
        span.shifted(Len::new(self.span.start().get()))
            .ok_or(Error::OutOfBounds { span, len: self.span.len() })
    }
}

impl<D: ReadAt> ReadAt for Slice<D> {
    fn len(&self) -> Len {
        self.span.len()
    }
    fn read_at(&self, at: Offset, buf: &mut [u8]) -> Result<()> {
        self.inner.read_at(self.outer(at, buf.len())?, buf)
    }
    fn extents(&self, within: Span) -> Result<ExtentMap> {
        Ok(self.inner.extents(self.outer_span(within)?)?.rebased(self.span.start(), Offset::ZERO))
    }
}

impl<D: Disk> Disk for Slice<D> {
    fn write_at(&mut self, at: Offset, buf: &[u8]) -> Result<()> {
        self.inner.write_at(self.outer(at, buf.len())?, buf)
    }
    fn zero(&mut self, span: Span) -> Result<()> {
        self.inner.zero(self.outer_span(span)?)
    }
    fn discard(&mut self, span: Span) -> Result<()> {
        self.inner.discard(self.outer_span(span)?)
    }
    fn copy(&mut self, from: Span, to: Offset) -> Result<()> {
        let to = self.outer(to, from.len().to_usize())?;
        self.inner.copy(self.outer_span(from)?, to)
    }
    fn resize(&mut self, _: Len) -> Result<()> {
        Err(Error::Unsupported { what: "a slice of a disk cannot change its length" })
    }
    fn mark_fresh(&mut self, span: Span) -> Result<()> {
        self.inner.mark_fresh(self.outer_span(span)?)
    }
}

/// A disk that refuses writes outside given spans: the belt to the braces of a plan.
#[derive(Debug)]
pub struct Limited<D> {
    inner: D,
    allowed: SpanSet,
}

impl<D: Disk> Limited<D> {
    /// `inner`, writable only within `allowed`.
    pub const fn new(inner: D, allowed: SpanSet) -> Self {
        Self { inner, allowed }
    }

    fn check(&self, span: Span) -> Result<()> {
        if self.allowed.contains(span) { Ok(()) } else { Err(Error::NotOwned { span }) }
    }
}

impl<D: ReadAt> ReadAt for Limited<D> {
    fn len(&self) -> Len {
        self.inner.len()
    }
    fn read_at(&self, at: Offset, buf: &mut [u8]) -> Result<()> {
        self.inner.read_at(at, buf)
    }
    fn extents(&self, within: Span) -> Result<ExtentMap> {
        self.inner.extents(within)
    }
}

impl<D: Disk> Disk for Limited<D> {
    fn write_at(&mut self, at: Offset, buf: &[u8]) -> Result<()> {
        self.check(bounded(at, buf.len(), self.len())?)?;
        self.inner.write_at(at, buf)
    }
    fn zero(&mut self, span: Span) -> Result<()> {
        self.check(span)?;
        self.inner.zero(span)
    }
    fn discard(&mut self, span: Span) -> Result<()> {
        self.check(span)?;
        self.inner.discard(span)
    }
    fn copy(&mut self, from: Span, to: Offset) -> Result<()> {
        self.check(bounded(to, from.len().to_usize(), self.len())?)?;
        self.inner.copy(from, to)
    }
    fn resize(&mut self, _: Len) -> Result<()> {
        Err(Error::Unsupported { what: "a limited disk cannot change its length" })
    }
    fn mark_fresh(&mut self, span: Span) -> Result<()> {
        self.check(span)?;
        self.inner.mark_fresh(span)
    }
}
