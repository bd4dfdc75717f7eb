//! Half-open byte ranges, and sets of them.

use crate::unit::{Len, Offset};
use std::collections::BTreeMap;
use std::fmt;

/// A range of bytes: from `start`, `len` bytes long. The only range type there is; its end never overflows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    start: Offset,
    len: Len,
}

impl Span {
    /// A range whose end is a valid position; `None` where it would overflow.
    #[must_use]
    pub const fn new(start: Offset, len: Len) -> Option<Self> {
        match start.checked_add(len) {
            Some(_) => Some(Self { start, len }),
            None => None,
        }
    }

    /// The range from `start` up to, not including, `end`; `None` where `end` lies before `start`.
    #[must_use]
    pub const fn between(start: Offset, end: Offset) -> Option<Self> {
        match end.since(start) {
            Some(len) => Some(Self { start, len }),
            None => None,
        }
    }

    /// Everything on a disk of that length.
    #[must_use]
    pub const fn whole(len: Len) -> Self {
        Self { start: Offset::ZERO, len }
    }

    /// Its first byte.
    #[must_use]
    pub const fn start(self) -> Offset {
        self.start
    }

    /// Its length.
    #[must_use]
    pub const fn len(self) -> Len {
        self.len
    }

    /// Just behind its last byte.
    #[must_use]
    pub const fn end(self) -> Offset {
        Offset::new(self.start.get().saturating_add(self.len.get()))
    }

    /// Whether it holds no byte.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len.is_zero()
    }

    /// Whether `other` lies wholly inside.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.start.get() <= other.start.get() && other.end().get() <= self.end().get()
    }

    /// The bytes that both have; `None` where there are none.
    #[must_use]
    pub fn intersect(self, other: Self) -> Option<Self> {
        let start = self.start.max(other.start);
        let end = self.end().min(other.end());
        Self::between(start, end).filter(|span| !span.is_empty())
    }

    /// The same range as seen from a disk on which `base` is byte 0; `None` where it starts before `base`.
    #[must_use]
    pub fn relative_to(self, base: Offset) -> Option<Self> {
        Some(Self { start: Offset::ZERO.checked_add(self.start.since(base)?)?, len: self.len })
    }

    /// The same range moved up by `by` bytes.
    #[must_use]
    pub fn shifted(self, by: Len) -> Option<Self> {
        Self::new(self.start.checked_add(by)?, self.len)
    }

    /// The range cut into pieces of at most `step` bytes.
    ///
    /// # Panics
    /// Never: a zero step yields the range whole.
    pub fn chunks(self, step: Len) -> impl Iterator<Item = Self> {
        let mut rest = self;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let len = if step.is_zero() { rest.len } else { rest.len.min(step) };
            let head = Self { start: rest.start, len };
            rest = Self { start: head.end(), len: rest.len.saturating_sub(len) };
            Some(head)
        })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.start, self.len)
    }
}

/// A set of bytes, kept as disjoint, non-adjacent spans in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpanSet {
    /// Start → end of each span.
    ends: BTreeMap<Offset, Offset>,
}

impl SpanSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { ends: BTreeMap::new() }
    }

    /// Adds every byte of `span`.
    pub fn insert(&mut self, span: Span) {
        if span.is_empty() {
            return;
        }
        let (mut start, mut end) = (span.start(), span.end());
        // Everything that overlaps or touches the new span melts into it.
        while let Some((&other_start, &other_end)) = self.ends.range(..=end).next_back() {
            if other_end < start {
                break;
            }
            start = start.min(other_start);
            end = end.max(other_end);
            self.ends.remove(&other_start);
        }
        self.ends.insert(start, end);
    }

    /// Takes every byte of `span` out.
    pub fn remove(&mut self, span: Span) {
        if span.is_empty() {
            return;
        }
        while let Some((&start, &end)) = self.ends.range(..span.end()).next_back() {
            if end <= span.start() {
                break;
            }
            self.ends.remove(&start);
            if start < span.start() {
                self.ends.insert(start, span.start());
            }
            if span.end() < end {
                self.ends.insert(span.end(), end);
            }
        }
    }

    /// Whether every byte of `span` is in the set.
    #[must_use]
    pub fn contains(&self, span: Span) -> bool {
        span.is_empty()
            || self.ends.range(..=span.start()).next_back().is_some_and(|(_, &end)| span.end() <= end)
    }

    /// Whether some byte of `span` is in the set.
    #[must_use]
    pub fn overlaps(&self, span: Span) -> bool {
        !span.is_empty()
            && self.ends.range(..span.end()).next_back().is_some_and(|(_, &end)| end > span.start())
    }

    /// The spans, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Span> + '_ {
        self.ends.iter().filter_map(|(&start, &end)| Span::between(start, end))
    }

    /// The parts of `within` that are in the set, ascending.
    pub fn intersect(&self, within: Span) -> impl Iterator<Item = Span> + '_ {
        let first =
            self.ends.range(..=within.start()).next_back().map_or(within.start(), |(&start, _)| start);
        self.ends
            .range(first..)
            .take_while(move |&(&start, _)| start < within.end())
            .filter_map(move |(&start, &end)| Span::between(start, end)?.intersect(within))
    }

    /// The parts of `within` that are not in the set, ascending.
    pub fn gaps(&self, within: Span) -> impl Iterator<Item = Span> + '_ {
        let mut at = within.start();
        let mut taken = self.intersect(within);
        let mut done = false;
        std::iter::from_fn(move || {
            while !done {
                let (gap, next) = match taken.next() {
                    Some(span) => (Span::between(at, span.start()), span.end()),
                    None => {
                        done = true;
                        (Span::between(at, within.end()), within.end())
                    }
                };
                at = next;
                if let Some(gap) = gap.filter(|gap| !gap.is_empty()) {
                    return Some(gap);
                }
            }
            None
        })
    }

    /// The number of bytes in the set.
    #[must_use]
    pub fn total(&self) -> Len {
        Len::new(self.iter().fold(0, |sum, span| sum.saturating_add(span.len().get())))
    }

    /// Whether the set holds no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

impl Extend<Span> for SpanSet {
    fn extend<I: IntoIterator<Item = Span>>(&mut self, spans: I) {
        for span in spans {
            self.insert(span);
        }
    }
}

impl FromIterator<Span> for SpanSet {
    fn from_iter<I: IntoIterator<Item = Span>>(spans: I) -> Self {
        let mut set = Self::new();
        set.extend(spans);
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: u64, len: u64) -> Span {
        Span::new(Offset::new(start), Len::new(len)).unwrap()
    }

    #[test]
    fn set_agrees_with_a_bit_vector() {
        // A model test: a tiny universe, a fixed pseudo-random sequence of operations.
        let mut model = [false; 64];
        let mut set = SpanSet::new();
        let mut seed = 12345_u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let start = (seed >> 33) % 60;
            let len = (seed >> 41) % (64 - start);
            let insert = (seed >> 60) & 1 == 1;
            let s = span(start, len);
            if insert {
                set.insert(s)
            } else {
                set.remove(s)
            }
            for i in start..start + len {
                model[usize::try_from(i).unwrap()] = insert;
            }
            let within = span(10, 40);
            let flat: Vec<bool> = (0..64).map(|i| set.contains(span(i, 1))).collect();
            assert_eq!(flat, model);
            let inside: u64 = set.intersect(within).map(|s| s.len().get()).sum();
            let gaps: u64 = set.gaps(within).map(|s| s.len().get()).sum();
            let expected = model[10..50].iter().filter(|b| **b).count();
            assert_eq!(inside, crate::num::to_u64(expected));
            assert_eq!(inside + gaps, 40);
            assert_eq!(set.overlaps(within), inside > 0);
        }
    }

    #[test]
    fn chunks_cover_the_span() {
        let got: Vec<_> = span(5, 10).chunks(Len::new(4)).collect();
        assert_eq!(got, [span(5, 4), span(9, 4), span(13, 2)]);
    }
}
