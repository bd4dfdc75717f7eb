//! Positional reading and writing.
//!
//! Reads take `&self` and writes `&mut self`: a plan holds a shared reference, an apply the only mutable one. There is
//! no cursor, hence no hidden state that two users of one disk could disturb.

use crate::{Error, ExtentMap, Limits, Result};
use ondisk::{Len, Offset, Span};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Something with bytes at positions: an image file, a container's virtual disk, a partition, a logical volume.
pub trait ReadAt: Sync {
    /// How many bytes there are.
    fn len(&self) -> Len;

    /// Fills `buf` from position `at`, wholly or not at all.
    ///
    /// # Errors
    /// Where the range does not lie on the disk, or cannot be read.
    fn read_at(&self, at: Offset, buf: &mut [u8]) -> Result<()>;

    /// What is stored in `within` and what merely reads as zero. The map covers `within` exactly, in order. May be
    /// coarse: calling zeros `Data` costs time, the reverse would be a lie.
    ///
    /// # Errors
    /// As [`ReadAt::read_at`].
    fn extents(&self, within: Span) -> Result<ExtentMap>;

    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len().is_zero()
    }
}

/// A [`ReadAt`] that can be changed. None of the verbs promises durability.
pub trait Disk: ReadAt {
    /// Replaces the bytes from `at`.
    ///
    /// # Errors
    /// Where the range does not lie on the disk, or cannot be written.
    fn write_at(&mut self, at: Offset, buf: &[u8]) -> Result<()>;

    /// Makes `span` read as zero.
    ///
    /// # Errors
    /// As [`Disk::write_at`].
    fn zero(&mut self, span: Span) -> Result<()>;

    /// Makes `span` read as zero and gives its space back where the disk can.
    ///
    /// # Errors
    /// As [`Disk::write_at`].
    fn discard(&mut self, span: Span) -> Result<()>;

    /// Copies `from` to `to`, without carrying the bytes through memory where possible. The ranges must not overlap.
    ///
    /// # Errors
    /// As [`Disk::write_at`].
    fn copy(&mut self, from: Span, to: Offset) -> Result<()>;

    /// Changes the length. New bytes read as zero.
    ///
    /// # Errors
    /// Where the disk cannot have that length.
    fn resize(&mut self, len: Len) -> Result<()>;

    /// Promises that no valid structure of the old state refers to these bytes, so that they may be written before
    /// the commit point. Forgetting it costs bytes in the journal, a wrong promise would cost the old state.
    ///
    /// # Errors
    /// Where the range does not lie on the disk.
    fn mark_fresh(&mut self, span: Span) -> Result<()>;
}

/// A [`Disk`] that takes bytes of the disk that lies beside it, without carrying them through memory.
pub trait PourInto: Disk {
    /// Makes `span` read as what lies beside from `from` on.
    ///
    /// # Errors
    /// Where one of the ranges does not lie on its disk, or as [`Disk::write_at`].
    fn pour(&mut self, span: Span, from: Offset) -> Result<()>;
}

macro_rules! forward_read_at {
    ($([$($bound:tt)*] $target:ty),*) => {$(
        impl<T: $($bound)* + ?Sized> ReadAt for $target {
            fn len(&self) -> Len { (**self).len() }
            fn read_at(&self, at: Offset, buf: &mut [u8]) -> Result<()> { (**self).read_at(at, buf) }
            fn extents(&self, within: Span) -> Result<ExtentMap> { (**self).extents(within) }
        }
    )*};
}
forward_read_at!([ReadAt] &T, [ReadAt] &mut T, [ReadAt + Send] Box<T>, [ReadAt + Send] std::sync::Arc<T>);

impl<T: Disk + ?Sized> Disk for &mut T {
    fn write_at(&mut self, at: Offset, buf: &[u8]) -> Result<()> {
        (**self).write_at(at, buf)
    }
    fn zero(&mut self, span: Span) -> Result<()> {
        (**self).zero(span)
    }
    fn discard(&mut self, span: Span) -> Result<()> {
        (**self).discard(span)
    }
    fn copy(&mut self, from: Span, to: Offset) -> Result<()> {
        (**self).copy(from, to)
    }
    fn resize(&mut self, len: Len) -> Result<()> {
        (**self).resize(len)
    }
    fn mark_fresh(&mut self, span: Span) -> Result<()> {
        (**self).mark_fresh(span)
    }
}

impl<T: PourInto + ?Sized> PourInto for &mut T {
    fn pour(&mut self, span: Span, from: Offset) -> Result<()> {
        (**self).pour(span, from)
    }
}

/// The range that `buf_len` bytes at `at` take, if it lies on a disk of `len` bytes.
///
/// # Errors
/// Where it does not.
pub fn bounded(at: Offset, buf_len: usize, len: Len) -> Result<Span> {
    let want = Len::new(ondisk::num::to_u64(buf_len));
    match Span::new(at, want) {
        Some(span) if Span::whole(len).contains(span) => Ok(span),
        other => Err(Error::OutOfBounds { span: other.unwrap_or_default(), len }),
    }
}

/// Whether `span` lies on a disk of `len` bytes.
///
/// # Errors
/// Where it does not.
pub fn within(span: Span, len: Len) -> Result<()> {
    if Span::whole(len).contains(span) { Ok(()) } else { Err(Error::OutOfBounds { span, len }) }
}

/// Copies `from` up by `by` bytes, where the source may overlap the target: piece by piece from the end, so that what a
/// piece overwrites has been copied before.
///
/// # Errors
/// As [`Disk::copy`].
pub fn copy_up(disk: &mut (impl Disk + ?Sized), from: Span, by: Len) -> Result<()> {
    let outside = Error::OutOfBounds { span: from, len: disk.len() };
    let mut rest = if by.is_zero() { Span::default() } else { from };
    while !rest.is_empty() {
        let start = rest.end().checked_sub(rest.len().min(by)).unwrap_or(rest.start());
        let piece = Span::between(start, rest.end()).unwrap_or(rest);
        let Some(to) = start.checked_add(by) else { return Err(outside) };
        disk.copy(piece, to)?;
        rest = Span::between(rest.start(), start).unwrap_or_default();
    }
    Ok(())
}

/// Reads a range into new memory, bounded by the limits and by the length of the disk.
///
/// # Errors
/// Where the range does not lie on the disk, is larger than `limits.memory`, or cannot be read.
pub fn read_vec(disk: &(impl ReadAt + ?Sized), span: Span, limits: &Limits) -> Result<Vec<u8>> {
    within(span, disk.len())?;
    let mut buf = limits.buffer("a structure of the image", span.len())?;
    disk.read_at(span.start(), &mut buf)?;
    Ok(buf)
}

/// Reads one fixed-layout record.
///
/// # Errors
/// As [`ReadAt::read_at`].
pub fn read_record<T: FromBytes + IntoBytes>(disk: &(impl ReadAt + ?Sized), at: Offset) -> Result<T> {
    let mut record = T::new_zeroed();
    disk.read_at(at, record.as_mut_bytes())?;
    Ok(record)
}

/// Writes one fixed-layout record.
///
/// # Errors
/// As [`Disk::write_at`].
pub fn write_record<T: IntoBytes + Immutable>(
    disk: &mut (impl Disk + ?Sized),
    at: Offset,
    record: &T,
) -> Result<()> {
    disk.write_at(at, record.as_bytes())
}
