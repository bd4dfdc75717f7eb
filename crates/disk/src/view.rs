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

/// Spans of a disk in order: a logical volume.
#[derive(Debug)]
pub struct Linear<D> {
    inner: D,
    /// Each part with its position on this disk, ascending.
    parts: Vec<(Offset, Span)>,
    len: Len,
}

impl<D: ReadAt> Linear<D> {
    /// The spans of `inner` one behind the other.
    ///
    /// # Errors
    /// Where a span does not lie on `inner`, or all together are too long for a disk.
    pub fn new(inner: D, spans: impl IntoIterator<Item = Span>) -> Result<Self> {
        let mut parts = Vec::new();
        let mut len = Len::ZERO;
        for span in spans {
            within(span, inner.len())?;
            parts.push((len.end(), span));
            len = len.checked_add(span.len()).ok_or(Error::OutOfBounds { span, len: inner.len() })?;
        }
        Ok(Self { inner, parts, len })
    }

    /// The pieces of `span` on the inner disk, in order.
    fn pieces(&self, span: Span) -> Result<Vec<Span>> {
        within(span, self.len)?;
        let first = self.parts.partition_point(|(at, _)| *at <= span.start()).saturating_sub(1);
        let mut pieces = Vec::new();
        for &(at, part) in self.parts.get(first..).unwrap_or_default() {
            if at >= span.end() {
                break;
            }
            let here = Span::new(at, part.len()).and_then(|here| here.intersect(span));
            let piece = here.and_then(|here| here.relative_to(at)?.shifted(Len::new(part.start().get())));
            pieces.extend(piece);
        }
        Ok(pieces)
    }
}

impl<D: ReadAt> ReadAt for Linear<D> {
    fn len(&self) -> Len {
        self.len
    }
    fn read_at(&self, at: Offset, buf: &mut [u8]) -> Result<()> {
        let mut rest = buf;
        for piece in self.pieces(bounded(at, rest.len(), self.len)?)? {
            let (head, tail) = rest.split_at_mut(piece.len().to_usize());
            self.inner.read_at(piece.start(), head)?;
            rest = tail;
        }
        Ok(())
    }
    fn extents(&self, within: Span) -> Result<ExtentMap> {
        let mut map = ExtentMap::new();
        let mut at = within.start();
        for piece in self.pieces(within)? {
            map.append(&self.inner.extents(piece)?.rebased(piece.start(), at));
            at = at.checked_add(piece.len()).ok_or(Error::OutOfBounds { span: within, len: self.len })?;
        }
        Ok(map)
    }
}

impl<D: Disk> Disk for Linear<D> {
    fn write_at(&mut self, at: Offset, buf: &[u8]) -> Result<()> {
        let mut rest = buf;
        for piece in self.pieces(bounded(at, rest.len(), self.len)?)? {
            let (head, tail) = rest.split_at(piece.len().to_usize());
            self.inner.write_at(piece.start(), head)?;
            rest = tail;
        }
        Ok(())
    }
    fn zero(&mut self, span: Span) -> Result<()> {
        self.pieces(span)?.into_iter().try_for_each(|piece| self.inner.zero(piece))
    }
    fn discard(&mut self, span: Span) -> Result<()> {
        self.pieces(span)?.into_iter().try_for_each(|piece| self.inner.discard(piece))
    }
    fn copy(&mut self, from: Span, to: Offset) -> Result<()> {
        let mut to = to;
        for source in self.pieces(from)? {
            let mut at = source.start();
            for target in self.pieces(Span::new(to, source.len()).unwrap_or_default())? {
                let piece = Span::new(at, target.len()).unwrap_or_default();
                self.inner.copy(piece, target.start())?;
                at = piece.end();
            }
            to = to.checked_add(source.len()).ok_or(Error::OutOfBounds { span: from, len: self.len })?;
        }
        Ok(())
    }
    fn resize(&mut self, _: Len) -> Result<()> {
        Err(Error::Unsupported { what: "a volume made of spans cannot change its length" })
    }
    fn mark_fresh(&mut self, span: Span) -> Result<()> {
        self.pieces(span)?.into_iter().try_for_each(|piece| self.inner.mark_fresh(piece))
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
