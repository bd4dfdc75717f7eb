//! A disk made of parts of another one, in order: a logical volume.
//!
//! ```text
//! part 0: one span          |aaaaaaaa|
//! part 1: three stripes              |b0|c0|d0|b1|c1|d1|
//! ```
//!
//! 1. A range of a striped part is one range on each of its spans: zeroing a terabyte does not take a call a stripe.

use crate::traits::{bounded, within};
use crate::{Disk, Error, ExtentKind, ExtentMap, ReadAt, Result};
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset, Span};

/// Spans of equal length that take turns; a single one has no turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stripes {
    /// How many bytes before it is the next one's turn.
    pub stripe: Len,
    /// The spans.
    pub spans: Vec<Span>,
}

/// Spans of a disk in order, each by itself or striped.
#[derive(Debug)]
pub struct Linear<D> {
    inner: D,
    parts: Vec<Part>,
    len: Len,
}

/// Stripes, and where they begin on the disk that they make.
#[derive(Debug)]
struct Part {
    at: Offset,
    len: Len,
    stripes: Stripes,
}

/// Up to so many turns the extents of striped parts are told one by one.
const TURNS_MAX: u64 = 1 << 16;

impl From<Span> for Stripes {
    fn from(span: Span) -> Self {
        Self { stripe: Len::ZERO, spans: vec![span] }
    }
}

impl Stripes {
    fn count(&self) -> u64 {
        to_u64(self.spans.len())
    }

    /// The bytes of all spans together; `None` where turns do not come out even.
    fn len(&self) -> Option<Len> {
        let (first, rest) = self.spans.split_first()?;
        let stripe = self.stripe.get();
        let even = rest.is_empty()
            || stripe > 0
                && first.len().is_aligned(stripe)
                && rest.iter().all(|span| span.len() == first.len());
        first.len().get().checked_mul(self.count()).filter(|_| even).map(Len::new)
    }

    /// How many of the first `at` bytes lie on the span of that number.
    fn before(&self, at: Len, number: u64) -> Option<Len> {
        if self.spans.len() == 1 {
            return Some(at);
        }
        let (stripe, row) = (self.stripe.get(), self.stripe.get().checked_mul(self.count())?);
        let full = at.get().checked_div(row)?.checked_mul(stripe)?;
        let rest = at.get().checked_rem(row)?.saturating_sub(number.checked_mul(stripe)?);
        full.checked_add(rest.min(stripe)).map(Len::new)
    }

    /// Where the bytes from `from` to `to` lie, one range on each span.
    fn ranges(&self, from: Len, to: Len) -> impl Iterator<Item = Span> + '_ {
        let range = move |(number, span): (u64, &Span)| {
            let (from, to) = (self.before(from, number)?, self.before(to, number)?);
            Span::between(span.start().checked_add(from)?, span.start().checked_add(to)?)
        };
        (0..).zip(&self.spans).filter_map(range).filter(|range| !range.is_empty())
    }

    /// The bytes from `from` that lie in one piece, up to `to`.
    fn piece(&self, from: Len, to: Len) -> Option<Span> {
        let left = to.checked_sub(from)?;
        let turn = from.get().checked_div(self.stripe.get()).filter(|_| self.spans.len() > 1).unwrap_or(0);
        let number = turn.checked_rem(self.count())?;
        let span = self.spans.get(to_usize(number))?;
        let len = match from.get().checked_rem(self.stripe.get()).filter(|_| self.spans.len() > 1) {
            Some(done) => left.min(Len::new(self.stripe.get().saturating_sub(done))),
            None => left,
        };
        Span::new(span.start().checked_add(self.before(from, number)?)?, len)
    }
}

impl<D: ReadAt> Linear<D> {
    /// Parts of `inner` one behind the other.
    ///
    /// # Errors
    /// Where a span does not lie on `inner`, stripes are not of equal length, or all together are too long for a disk.
    pub fn new<T: Into<Stripes>>(inner: D, parts: impl IntoIterator<Item = T>) -> Result<Self> {
        let mut all = Vec::new();
        let mut len = Len::ZERO;
        for stripes in parts {
            let stripes = stripes.into();
            stripes.spans.iter().try_for_each(|span| within(*span, inner.len()))?;
            let uneven = Error::Unsupported { what: "stripes do not come out even" };
            let part = Part { at: len.end(), len: stripes.len().ok_or(uneven)?, stripes };
            let span =
                Span::new(part.at, part.len).ok_or(Error::OutOfBounds { span: Span::default(), len })?;
            len = Len::new(span.end().get());
            all.push(part);
        }
        all.retain(|part| !part.len.is_zero());
        Ok(Self { inner, parts: all, len })
    }

    /// The parts that `span` touches, each with the range of its own bytes.
    fn touched(&self, span: Span) -> Result<impl Iterator<Item = (&Part, Len, Len)> + use<'_, D>> {
        within(span, self.len)?;
        let first = self.parts.partition_point(|part| part.at <= span.start()).saturating_sub(1);
        let parts = self.parts.get(first..).unwrap_or_default().iter();
        Ok(parts.take_while(move |part| part.at < span.end()).filter_map(move |part| {
            let here = Span::new(part.at, part.len)?.intersect(span)?;
            Some((part, here.start().since(part.at)?, here.end().since(part.at)?))
        }))
    }

    /// The pieces of `span` on the inner disk, in order.
    fn pieces(&self, span: Span) -> Result<impl Iterator<Item = Span> + use<'_, D>> {
        Ok(self.touched(span)?.flat_map(|(part, from, to)| {
            let mut at = from;
            std::iter::from_fn(move || {
                let piece = part.stripes.piece(at, to).filter(|piece| !piece.is_empty())?;
                at = at.checked_add(piece.len())?;
                Some(piece)
            })
        }))
    }

    /// The ranges of `span` on the inner disk, in no order.
    ///
    /// # Errors
    /// Where `span` does not lie on this one.
    pub fn ranges(&self, span: Span) -> Result<Vec<Span>> {
        Ok(self.touched(span)?.flat_map(|(part, from, to)| part.stripes.ranges(from, to)).collect())
    }

    /// The extents of a part's bytes.
    fn extents_of(&self, part: &Part, from: Len, to: Len, map: &mut ExtentMap) -> Result<()> {
        let here = (part.at.checked_add(from)).zip(part.at.checked_add(to));
        let here = here.and_then(|(start, end)| Span::between(start, end)).unwrap_or_default();
        let turns = here.len().get().checked_div(part.stripes.stripe.get()).unwrap_or_default();
        if part.stripes.spans.len() > 1 && turns > TURNS_MAX {
            let mut zero = true;
            for range in part.stripes.ranges(from, to) {
                zero = zero && self.inner.extents(range)?.all_zero();
            }
            map.push(here, if zero { ExtentKind::Zero } else { ExtentKind::Data });
            return Ok(());
        }
        let mut at = here.start();
        for piece in self.pieces(here)? {
            map.append(&self.inner.extents(piece)?.rebased(piece.start(), at));
            at = at.checked_add(piece.len()).unwrap_or(at);
        }
        Ok(())
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
        for (part, from, to) in self.touched(within)? {
            self.extents_of(part, from, to, &mut map)?;
        }
        Ok(map)
    }
}

impl<D: Disk> Disk for Linear<D> {
    fn write_at(&mut self, at: Offset, buf: &[u8]) -> Result<()> {
        let pieces: Vec<Span> = self.pieces(bounded(at, buf.len(), self.len)?)?.collect();
        let mut rest = buf;
        for piece in pieces {
            let (head, tail) = rest.split_at(piece.len().to_usize());
            self.inner.write_at(piece.start(), head)?;
            rest = tail;
        }
        Ok(())
    }
    fn zero(&mut self, span: Span) -> Result<()> {
        self.ranges(span)?.into_iter().try_for_each(|range| self.inner.zero(range))
    }
    fn discard(&mut self, span: Span) -> Result<()> {
        self.ranges(span)?.into_iter().try_for_each(|range| self.inner.discard(range))
    }
    fn copy(&mut self, from: Span, to: Offset) -> Result<()> {
        within(from, self.len)?;
        bounded(to, from.len().to_usize(), self.len)?;
        let (mut from, mut to) = (from, to);
        while !from.is_empty() {
            let there = Span::new(to, from.len()).unwrap_or_default();
            let heads = (self.pieces(from)?.next()).zip(self.pieces(there)?.next());
            let Some((source, target)) = heads else { break };
            let len = source.len().min(target.len());
            self.inner.copy(Span::new(source.start(), len).unwrap_or_default(), target.start())?;
            to = to.checked_add(len).unwrap_or(to);
            let start = from.start().checked_add(len).unwrap_or(from.end());
            from = Span::between(start, from.end()).unwrap_or_default();
        }
        Ok(())
    }
    fn resize(&mut self, _: Len) -> Result<()> {
        Err(Error::Unsupported { what: "a volume made of spans cannot change its length" })
    }
    fn mark_fresh(&mut self, span: Span) -> Result<()> {
        self.ranges(span)?.into_iter().try_for_each(|range| self.inner.mark_fresh(range))
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        reason = "a mistake here must stop the test"
    )]

    use super::*;
    use crate::MemDisk;

    fn span(start: u64, len: u64) -> Span {
        Span::new(Offset::new(start), Len::new(len)).unwrap()
    }

    /// A plain part, three stripes, two stripes of larger turns; and where each of their bytes lies.
    fn parts() -> (Vec<Stripes>, Vec<usize>) {
        let three = Stripes { stripe: Len::new(4), spans: vec![span(100, 16), span(20, 16), span(60, 16)] };
        let two = Stripes { stripe: Len::new(8), spans: vec![span(200, 16), span(150, 16)] };
        let mut map: Vec<usize> = (5..12).collect();
        for (stripes, turns) in [(&three, 12), (&two, 4)] {
            let (stripe, n) = (usize::try_from(stripes.stripe.get()).unwrap(), stripes.spans.len());
            for turn in 0..turns {
                let at = usize::try_from(stripes.spans[turn % n].start().get()).unwrap() + turn / n * stripe;
                map.extend(at..at + stripe);
            }
        }
        (vec![span(5, 7).into(), three, two], map)
    }

    #[test]
    fn every_verb_goes_where_the_bytes_lie() {
        let (parts, map) = parts();
        let bytes: Vec<u8> = (0..=255).collect();
        for from in 0..map.len() {
            for to in from..=map.len() {
                let here = span(from as u64, (to - from) as u64);
                let mut base = MemDisk::from_bytes(&bytes);
                let mut linear = Linear::new(&mut base, parts.clone()).unwrap();
                assert_eq!(linear.len(), Len::new(map.len() as u64));
                let mut buf = vec![0; to - from];
                linear.read_at(here.start(), &mut buf).unwrap();
                assert!(buf.iter().zip(&map[from..to]).all(|(byte, at)| usize::from(*byte) == *at));
                linear.mark_fresh(here).unwrap();
                linear.zero(here).unwrap();
                let extents = linear.extents(here).unwrap();
                assert_eq!(
                    extents.iter().map(|extent| extent.span.len().get()).sum::<u64>(),
                    here.len().get()
                );
                linear.write_at(here.start(), &vec![1; (to - from) / 2]).unwrap();
                let mut expect = bytes.clone();
                map[from..to].iter().for_each(|at| expect[*at] = 0);
                map[from..from + (to - from) / 2].iter().for_each(|at| expect[*at] = 1);
                assert_eq!(base.to_vec(), expect, "{here}");
            }
        }
    }

    #[test]
    fn copies_go_piece_by_piece() {
        let (parts, map) = parts();
        let bytes: Vec<u8> = (0..=255).collect();
        let half = map.len() / 2;
        for len in 0..half {
            let mut base = MemDisk::from_bytes(&bytes);
            let mut linear = Linear::new(&mut base, parts.clone()).unwrap();
            linear.copy(span(1, len as u64), Offset::new(half as u64)).unwrap();
            let mut expect = bytes.clone();
            (0..len).for_each(|i| expect[map[half + i]] = bytes[map[1 + i]]);
            assert_eq!(base.to_vec(), expect, "{len}");
        }
    }

    #[test]
    fn a_terabyte_of_small_stripes_takes_a_few_calls() {
        let mut base = MemDisk::from_bytes(&[]);
        base.resize(Len::gib(2048)).unwrap();
        let stripes = Stripes { stripe: Len::kib(4), spans: vec![span(0, 1 << 40), span(1 << 40, 1 << 40)] };
        let mut linear = Linear::new(&mut base, [stripes]).unwrap();
        let all = Span::whole(linear.len());
        linear.zero(all).unwrap();
        linear.mark_fresh(all).unwrap();
        assert!(linear.extents(all).unwrap().all_zero());
        linear.write_at(Offset::new(1 << 35), &[1]).unwrap();
        assert!(!linear.extents(all).unwrap().all_zero());
    }

    #[test]
    fn what_is_no_volume() {
        let base = MemDisk::from_bytes(&[0; 64]);
        let stripes = |stripe, spans: Vec<Span>| Stripes { stripe: Len::new(stripe), spans };
        for bad in [
            span(60, 5).into(),
            stripes(4, vec![span(0, 8), span(8, 4)]),
            stripes(4, vec![span(0, 6), span(8, 6)]),
            stripes(0, vec![span(0, 8), span(8, 8)]),
            stripes(4, vec![]),
        ] {
            assert!(Linear::new(&base, [bad.clone()]).is_err(), "{bad:?}");
        }
        let linear = Linear::new(&base, [span(0, 8)]).unwrap();
        assert!(linear.read_at(Offset::new(7), &mut [0; 2]).is_err());
    }
}
