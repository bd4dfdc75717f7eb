//! One L2 entry: bytes and truth.
//!
//! A cluster has one part, or 32 with extended L2 entries. Of each part three things may be true:
//! 1. it is *stored* in the host cluster;
//! 2. it *reads as zero*, wherever the host cluster may be;
//! 3. neither: it is the parent's.

use super::geom::Geometry;
use super::layout::{COMPRESSED, COPIED, OFFSET_MASK, ZERO};
use ondisk::num::low32;
use ondisk::{Len, Offset, Span};

/// What an entry says about its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Parts that are stored, zero, or the parent's.
    Plain(Plain),
    /// A compressed stream somewhere in these bytes of the file.
    Packed(Span),
}

/// A cluster that is not compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plain {
    /// The host cluster.
    pub host: Option<Offset>,
    /// Parts that are stored in it, by bit.
    pub stored: u32,
    /// Parts that read as zero, by bit.
    pub zero: u32,
}

/// An entry as it stands in the table: the second word is always 0 without subclusters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Raw {
    /// Flags and place.
    pub word: u64,
    /// Subclusters: stored in the low half, zero in the high half.
    pub parts: u64,
}

impl Raw {
    /// The truth, or what is wrong.
    pub fn decode(self, geo: Geometry, version: u32) -> Result<Entry, &'static str> {
        if self.word & COMPRESSED != 0 {
            return self.decode_packed(geo).map(Entry::Packed);
        }
        let place = self.word & OFFSET_MASK;
        let flags = if geo.extended() || version < 3 { COPIED } else { COPIED | ZERO };
        if self.word & !(OFFSET_MASK | flags) != 0 {
            return Err("has reserved bits set");
        }
        if !place.is_multiple_of(geo.bytes()) {
            return Err("points into the middle of a cluster");
        }
        let host = Some(Offset::new(place)).filter(|at| at.get() != 0);
        let (stored, zero) = if geo.extended() {
            (low32(self.parts), low32(self.parts >> 32))
        } else {
            let zero = low32(self.word & ZERO);
            (if host.is_some() && zero == 0 { 1 } else { 0 }, zero)
        };
        if stored & zero != 0 {
            return Err("has a subcluster that is both stored and zero");
        }
        if host.is_none() && stored != 0 {
            return Err("has stored subclusters but no host cluster");
        }
        Ok(Entry::Plain(Plain { host, stored, zero }))
    }

    /// The entry of a stream: how many sectors it takes behind the one that it begins in, and where it begins.
    pub const fn packed(geo: Geometry, at: Offset, len: Len) -> Self {
        let more = (at.get() & 511).saturating_add(len.get()).div_ceil(512).saturating_sub(1);
        let shift = 62_u32.saturating_sub(geo.cluster_bits().saturating_sub(8));
        Self { word: COMPRESSED | more.wrapping_shl(shift) | at.get(), parts: 0 }
    }

    /// Offset bits up to `x`, above them the number of additional sectors.
    fn decode_packed(self, geo: Geometry) -> Result<Span, &'static str> {
        let x = 62_u32.saturating_sub(geo.cluster_bits().saturating_sub(8));
        let low = 1_u64.wrapping_shl(x).wrapping_sub(1);
        let start = self.word & low;
        let more = (self.word & (COMPRESSED - 1)).wrapping_shr(x);
        let first_end = (start & !511).saturating_add(512);
        let end = first_end.saturating_add(more.saturating_mul(512));
        if self.parts != 0 {
            return Err("is compressed and has subclusters");
        }
        if start == 0 || start >= 1 << 56 {
            return Err("is compressed and points nowhere");
        }
        Span::between(Offset::new(start), Offset::new(end)).ok_or("is compressed and points nowhere")
    }
}

impl Plain {
    /// All parts by bit.
    pub const fn all(geo: Geometry) -> u32 {
        if geo.extended() { u32::MAX } else { 1 }
    }

    /// The entry as it stands in the table; `exclusive` where the host cluster has this one user.
    pub fn encode(self, geo: Geometry, exclusive: bool) -> Raw {
        let copied = if self.host.is_some() && exclusive { COPIED } else { 0 };
        let word = self.host.unwrap_or_default().get() | copied;
        if geo.extended() {
            Raw { word, parts: u64::from(self.zero) << 32 | u64::from(self.stored) }
        } else {
            Raw { word: word | u64::from(self.zero), parts: 0 }
        }
    }

    /// The parts that `span` touches, which lies within one cluster and is seen from its beginning.
    pub fn touched(geo: Geometry, from: u64, len: Len) -> u32 {
        let first = from.checked_div(geo.part_bytes()).unwrap_or_default();
        let end = from.saturating_add(len.get()).div_ceil(geo.part_bytes());
        let upto = |part: u64| low32(1_u64.checked_shl(low32(part)).unwrap_or_default().wrapping_sub(1));
        upto(end) & !upto(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_entries_of_the_default_cluster() {
        let geo = Geometry::new(16, false);
        let word = COMPRESSED | 3 << 54 | 0x12_3456;
        let Ok(Entry::Packed(span)) = (Raw { word, parts: 0 }).decode(geo, 3) else { panic!() };
        assert_eq!(span.start().get(), 0x12_3456);
        assert_eq!(span.end().get(), 0x12_3400 + 512 + 3 * 512);
    }

    #[test]
    fn encoding_is_the_reverse_of_decoding() {
        let standard = Geometry::new(16, false);
        let extended = Geometry::new(16, true);
        let host = Some(Offset::new(0x50_0000));
        for (geo, plain) in [
            (standard, Plain { host, stored: 1, zero: 0 }),
            (standard, Plain { host, stored: 0, zero: 1 }),
            (standard, Plain { host: None, stored: 0, zero: 1 }),
            (extended, Plain { host, stored: 0xff, zero: 0xff00 }),
            (extended, Plain { host: None, stored: 0, zero: 7 }),
        ] {
            assert_eq!(plain.encode(geo, true).decode(geo, 3), Ok(Entry::Plain(plain)));
        }
        assert!((Raw { word: ZERO, parts: 0 }).decode(standard, 2).is_err());
        assert!((Raw { word: 0, parts: 1 }).decode(extended, 3).is_err());
        assert!((Raw { word: 1 << 20, parts: 1 << 32 | 1 }).decode(extended, 3).is_err());
    }

    #[test]
    fn parts_that_a_range_touches() {
        let geo = Geometry::new(16, true);
        assert_eq!(Plain::touched(geo, 0, Len::new(65536)), u32::MAX);
        assert_eq!(Plain::touched(geo, 2047, Len::new(2)), 3);
        assert_eq!(Plain::touched(geo, 2048, Len::new(1)), 2);
        assert_eq!(Plain::touched(Geometry::new(9, false), 5, Len::new(1)), 1);
    }
}
