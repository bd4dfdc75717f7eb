//! A metadata area: a header of one sector, and a ring of text.
//!
//! ```text
//! header | ... older text ... | current text | free, or older ... |
//! ```
//!
//! 1. The header's first location names the current text; writing the header is what makes a new text count.
//! 2. A text that passes the end of the area goes on behind the header.
//! 3. A new text lies behind the current one, from a sector's start, and does not touch it.

use crate::layout::{IGNORED, MDA_MAGIC, MDA_VERSION, MdaHeader, RawLocn, SECTOR, same, sum};
use crate::{Error, Result};
use disk::{Limits, ReadAt, read_record};
use ondisk::num::{round_up, to_u64};
use ondisk::{Len, Offset, Sealed, Span};
use zerocopy::little_endian::{U32, U64};

/// A metadata area as found.
#[derive(Clone, Debug)]
pub(crate) struct Mda {
    /// Where its entry stands in the label's sector.
    pub(crate) slot: usize,
    pub(crate) span: Span,
    pub(crate) header: MdaHeader,
    pub(crate) content: Content,
}

/// What a metadata area holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A text, which may or may not be metadata.
    Text(Vec<u8>),
    /// No text: no volume group has the device.
    Empty,
    /// Others hold the text.
    Ignored,
    /// It cannot be read: why.
    Bad(String),
}

/// Reads the area at `span`, whose entry in the label's sector stands at `slot`.
pub(crate) fn read(disk: &dyn ReadAt, (slot, span): (usize, Span), limits: &Limits) -> Result<Mda> {
    let bad = |header, why: String| Ok(Mda { slot, span, header, content: Content::Bad(why) });
    let empty: MdaHeader = zerocopy::FromZeros::new_zeroed();
    if !Span::whole(disk.len()).contains(span) || span.len() <= Len::new(SECTOR) {
        return bad(empty, format!("takes bytes {span} of a device of {}", disk.len()));
    }
    let header: MdaHeader = read_record(disk, span.start())?;
    let sound = if header.magic != MDA_MAGIC {
        Err("has no header".to_owned())
    } else if let Err(mismatch) = header.verify(&()) {
        Err(format!("the header's {mismatch}"))
    } else if header.version.get() != MDA_VERSION {
        Err(format!("is of version {}, expected {MDA_VERSION}", header.version))
    } else if (header.start.get(), header.size.get()) != (span.start().get(), span.len().get()) {
        Err(format!("says that it takes bytes {}+{}, expected {span}", header.start, header.size))
    } else {
        Ok(())
    };
    if let Err(why) = sound {
        return bad(header, why);
    }
    let locn = header.committed;
    if locn.flags.get() & IGNORED != 0 {
        return Ok(Mda { slot, span, header, content: Content::Ignored });
    }
    if locn.size.get() == 0 {
        return Ok(Mda { slot, span, header, content: Content::Empty });
    }
    let Some(pieces) = Ring::of(span).pieces(&locn) else {
        return bad(
            header,
            format!("its text takes {} bytes from {}, outside of it", locn.size, locn.offset),
        );
    };
    let mut text = limits.buffer("the text of a metadata area", Len::new(locn.size.get()))?;
    let (head, tail) = text.split_at_mut_checked(pieces[0].len().to_usize()).unwrap_or_default();
    disk.read_at(pieces[0].start(), head)?;
    disk.read_at(pieces[1].start(), tail)?;
    let content = match same(locn.checksum.get(), sum([&text, &[]])) {
        Ok(()) => Content::Text(text),
        Err(mismatch) => Content::Bad(format!("the text's {mismatch}")),
    };
    Ok(Mda { slot, span, header, content })
}

/// The bytes of an area behind its header.
#[derive(Clone, Copy, Debug)]
struct Ring {
    area: Span,
    len: u64,
}

impl Ring {
    const fn of(area: Span) -> Self {
        Self { area, len: area.len().get().saturating_sub(SECTOR) }
    }

    /// The two ranges of the device that a text takes; the second is empty where it does not wrap.
    fn pieces(self, locn: &RawLocn) -> Option<[Span; 2]> {
        let from = locn.offset.get().checked_sub(SECTOR).filter(|from| *from < self.len)?;
        self.pieces_at(from, locn.size.get())
    }

    fn pieces_at(self, from: u64, size: u64) -> Option<[Span; 2]> {
        if size > self.len {
            return None;
        }
        let start = self.area.start().checked_add(Len::new(SECTOR))?;
        let head = size.min(self.len.checked_sub(from)?);
        let tail = size.checked_sub(head)?;
        let head = Span::new(start.checked_add(Len::new(from))?, Len::new(head))?;
        Some([head, Span::new(start, Len::new(tail))?])
    }

    /// Where a text behind this one begins, from the ring's start.
    fn behind(self, locn: &RawLocn) -> Option<u64> {
        if locn.size.get() == 0 {
            return Some(0);
        }
        let end = locn.offset.get().checked_add(locn.size.get())?.checked_sub(SECTOR)?;
        let end = round_up(end.checked_sub(self.len).unwrap_or(end), SECTOR)?;
        Some(if end < self.len { end } else { 0 })
    }
}

/// A text to be written into an area.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    /// Where its parts go; the second may be empty.
    pub(crate) pieces: [Span; 2],
    /// The header that makes it count.
    pub(crate) header: MdaHeader,
}

impl Mda {
    /// The bytes that the present state refers to: the header and its texts.
    pub(crate) fn referenced(&self) -> impl Iterator<Item = Span> + '_ {
        let head = Span::new(self.span.start(), Len::new(SECTOR));
        let texts = [self.header.committed, self.header.precommitted];
        let texts = texts.into_iter().filter_map(|locn| Ring::of(self.span).pieces(&locn));
        head.into_iter().chain(texts.flatten())
    }

    /// Where a text goes behind the current one, or first in the area where it moves to `span`.
    pub(crate) fn place(&self, text: &[u8], span: Span) -> Result<Placed> {
        let (size, ring) = (to_u64(text.len()), Ring::of(span));
        let none = RawLocn { size: U64::ZERO, ..self.header.committed };
        let current = if span == self.span { self.header.committed } else { none };
        if size > ring.len / 2 {
            return Err(Error::NoRoomForText { need: Len::new(size), limit: Len::new(ring.len / 2) });
        }
        let old = ring.pieces(&current).unwrap_or_default();
        let place = ring.behind(&current).and_then(|from| Some((from, ring.pieces_at(from, size)?)));
        // Only in an area of a few sectors the rounding can push one text into the other.
        let apart = |pieces: &[Span; 2]| {
            !pieces.iter().any(|new| old.iter().any(|old| new.intersect(*old).is_some()))
        };
        let Some((from, pieces)) = place.filter(|(_, pieces)| apart(pieces)) else {
            return Err(Error::NoRoomForText { need: Len::new(size), limit: Len::new(ring.len / 2) });
        };
        let mut header = self.header;
        header.start = U64::new(span.start().get());
        header.size = U64::new(span.len().get());
        header.committed = RawLocn {
            offset: U64::new(from.saturating_add(SECTOR)),
            size: U64::new(size),
            checksum: U32::new(sum([text, &[]])),
            flags: self.header.committed.flags,
        };
        header.precommitted = zerocopy::FromZeros::new_zeroed();
        header.seal(&());
        Ok(Placed { pieces, header })
    }

    /// The header of an ignored area that moves to `span`.
    pub(crate) fn moved(&self, span: Span) -> MdaHeader {
        let mut header = self.header;
        header.start = U64::new(span.start().get());
        header.size = U64::new(span.len().get());
        header.committed.offset = U64::ZERO;
        header.committed.size = U64::ZERO;
        header.committed.checksum = U32::ZERO;
        header.precommitted = zerocopy::FromZeros::new_zeroed();
        header.seal(&());
        header
    }

    /// The first sector of the area.
    pub(crate) fn head(span: Span) -> Span {
        Span::new(span.start(), Len::new(SECTOR)).unwrap_or_default()
    }

    /// Where the area begins.
    pub(crate) const fn at(&self) -> Offset {
        self.span.start()
    }
}
