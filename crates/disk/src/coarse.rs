//! A large set of bytes in little memory: which pieces of 4 KiB of a disk are in it.
//!
//! ```text
//! disk    |  128 MiB  |  128 MiB  |  128 MiB  | …
//! chunk      none        whole       32768 bits
//! ```
//!
//! 1. What is put in is rounded inwards, what is taken out outwards: the set never holds a byte that nobody put in. The
//!    last piece of a disk may be shorter than the others.
//! 2. A terabyte takes at most 32 MiB, and what is whole or empty takes nothing.

use crate::{Budget, Limits, Result};
use ondisk::num::{low32, round_up, to_u64, to_usize};
use ondisk::{Len, Offset, Span};
use std::collections::BTreeMap;

/// The bytes of a piece: what file systems keep apart, and can give back.
pub const PIECE: u64 = 4096;
const WORDS: usize = 512;
/// Pieces in a chunk: a bit for each.
const CHUNK: u64 = 64 * 512;

enum Chunk {
    Whole,
    Bits(Box<[u64; WORDS]>),
}

/// A set of pieces.
pub struct Coarse {
    len: Len,
    chunks: BTreeMap<u64, Chunk>,
    budget: Budget,
}

impl Coarse {
    /// Nothing of a disk of `len` bytes.
    #[must_use]
    pub const fn new(len: Len, limits: &Limits) -> Self {
        Self { len, chunks: BTreeMap::new(), budget: limits.budget("the map of free space") }
    }

    /// Adds the pieces that lie wholly in `span`.
    ///
    /// # Errors
    /// Where there is no memory for them.
    pub fn insert(&mut self, span: Span) -> Result<()> {
        let first = span.start().get().div_ceil(PIECE);
        let end = if span.end() >= self.len.end() { self.pieces() } else { span.end().get() / PIECE };
        self.fill(first, end, true)
    }

    /// Takes out the pieces that `span` touches.
    ///
    /// # Errors
    /// Where there is no memory for what is left.
    pub fn remove(&mut self, span: Span) -> Result<()> {
        if span.is_empty() {
            return Ok(());
        }
        self.fill(span.start().get() / PIECE, span.end().get().div_ceil(PIECE).min(self.pieces()), false)
    }

    /// Whether every byte of `span` is in the set.
    #[must_use]
    pub fn contains(&self, span: Span) -> bool {
        let (first, end) = (span.start().get() / PIECE, span.end().get().div_ceil(PIECE));
        span.is_empty() || (end <= self.pieces() && self.run(first, end) == (true, end))
    }

    /// The parts of `within` that are in the set, ascending.
    pub fn intersect(&self, within: Span) -> impl Iterator<Item = Span> + '_ {
        let end = if within.is_empty() { 0 } else { within.end().get().div_ceil(PIECE).min(self.pieces()) };
        let mut at = within.start().get() / PIECE;
        std::iter::from_fn(move || {
            while at < end {
                let (here, next) = self.run(at, end);
                let start = std::mem::replace(&mut at, next);
                if here {
                    return self.span(start, next)?.intersect(within);
                }
            }
            None
        })
    }

    /// All of it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Span> + '_ {
        self.intersect(Span::whole(self.len))
    }

    /// The number of bytes in the set.
    #[must_use]
    pub fn total(&self) -> Len {
        Len::new(self.iter().fold(0, |sum, span| sum.saturating_add(span.len().get())))
    }

    /// Whether the set holds no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    const fn pieces(&self) -> u64 {
        self.len.get().div_ceil(PIECE)
    }

    fn span(&self, first: u64, end: u64) -> Option<Span> {
        let at = |piece: u64| Offset::new(piece.saturating_mul(PIECE)).min(self.len.end());
        Span::between(at(first), at(end))
    }

    /// Whether piece `at` is in the set, and up to where, before `end`, the others are as it is.
    fn run(&self, at: u64, end: u64) -> (bool, u64) {
        let here = self.stretch(at).0;
        let mut next = at;
        while next < end {
            let (same, until) = self.stretch(next);
            if same != here {
                break;
            }
            next = until;
        }
        (here, next.min(end))
    }

    /// As [`Self::run`], no further than to the end of a word.
    fn stretch(&self, at: u64) -> (bool, u64) {
        let chunk = at / CHUNK;
        let chunk_end = chunk.saturating_add(1).saturating_mul(CHUNK);
        match self.chunks.get(&chunk) {
            Some(Chunk::Whole) => (true, chunk_end),
            Some(Chunk::Bits(words)) => {
                let bit = low32(at % 64);
                let word = words.get(to_usize(at % CHUNK / 64)).copied().unwrap_or_default() >> bit;
                let (here, same) =
                    if word & 1 == 1 { (true, word.trailing_ones()) } else { (false, word.trailing_zeros()) };
                (here, at.saturating_add(u64::from(same.min(64_u32.saturating_sub(bit)))))
            }
            // An empty chunk, and all empty ones behind it.
            None => {
                let next = self.chunks.range(chunk..).next();
                (false, next.map_or(u64::MAX, |(chunk, _)| chunk.saturating_mul(CHUNK)))
            }
        }
    }

    fn fill(&mut self, first: u64, end: u64, value: bool) -> Result<()> {
        let mut at = first;
        while at < end {
            let chunk = at / CHUNK;
            let base = chunk.saturating_mul(CHUNK);
            let until = base.saturating_add(CHUNK).min(end);
            let last = base.saturating_add(CHUNK).min(self.pieces());
            if at == base && until == last {
                self.replace(chunk, value.then_some(Chunk::Whole));
            } else {
                self.fill_part(chunk, at.saturating_sub(base)..until.saturating_sub(base), value)?;
            }
            at = until;
        }
        Ok(())
    }

    fn replace(&mut self, chunk: u64, new: Option<Chunk>) {
        let old = match new {
            Some(new) => self.chunks.insert(chunk, new),
            None => self.chunks.remove(&chunk),
        };
        if matches!(old, Some(Chunk::Bits(_))) {
            self.budget.give(Len::new(CHUNK >> 3));
        }
    }

    fn fill_part(&mut self, chunk: u64, range: std::ops::Range<u64>, value: bool) -> Result<()> {
        let old = match self.chunks.get(&chunk) {
            Some(Chunk::Whole) if value => return Ok(()),
            None if !value => return Ok(()),
            Some(Chunk::Bits(_)) => None,
            Some(Chunk::Whole) => Some(u64::MAX),
            None => Some(0),
        };
        if let Some(word) = old {
            self.budget.take(Len::new(CHUNK >> 3))?;
            self.chunks.insert(chunk, Chunk::Bits(Box::new([word; WORDS])));
        }
        let Some(Chunk::Bits(words)) = self.chunks.get_mut(&chunk) else { return Ok(()) };
        for (index, word) in (0_u64..).zip(words.iter_mut()) {
            let base = index.saturating_mul(64);
            let bits = |to: u64| {
                let bits = low32(to.saturating_sub(base).min(64));
                1_u64.checked_shl(bits).map_or(u64::MAX, |one| one.wrapping_sub(1))
            };
            let mask = bits(range.end) & !bits(range.start);
            *word = if value { *word | mask } else { *word & !mask };
        }
        Ok(())
    }
}

impl std::fmt::Debug for Coarse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().take(16)).finish()
    }
}

const _: () = assert!(to_u64(WORDS) * 64 == CHUNK, "a bit for each piece of a chunk");

/// `span` cut down to what a file system can give back: whole pieces, but for the end of a file of `len` bytes.
#[must_use]
pub fn inwards(span: Span, len: Len) -> Option<Span> {
    let start = Offset::new(round_up(span.start().get(), PIECE)?);
    let end = if span.end() >= len.end() { len.end() } else { Offset::new(span.end().get() & !(PIECE - 1)) };
    Span::between(start, end).filter(|span| !span.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
    use super::*;
    use ondisk::SpanSet;

    fn span(start: u64, len: u64) -> Span {
        Span::new(Offset::new(start), Len::new(len)).unwrap()
    }

    #[test]
    fn agrees_with_a_set_of_spans() {
        let len = 3 * CHUNK * PIECE + 5 * PIECE + 100;
        let mut coarse = Coarse::new(Len::new(len), &Limits::default());
        let mut model = SpanSet::new();
        let mut seed = 99_u64;
        for round in 0..400 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let start = (seed >> 20) % len;
            let want = if round % 3 == 0 { len } else { 1 << (12 + (seed >> 50) % 12) };
            let want = ((seed >> 7) % want).min(len - start);
            let some = span(start, want);
            if seed >> 63 == 0 {
                coarse.insert(some).unwrap();
                let end = if start + want == len { len } else { (start + want) & !(PIECE - 1) };
                model.extend(Span::between(Offset::new(start.next_multiple_of(PIECE)), Offset::new(end)));
            } else {
                coarse.remove(some).unwrap();
                let end = (start + want).next_multiple_of(PIECE).min(len);
                if want > 0 {
                    model.remove(Span::between(Offset::new(start & !(PIECE - 1)), Offset::new(end)).unwrap());
                }
            }
            assert!(coarse.iter().eq(model.iter()), "round {round}: {coarse:?}");
            let within = span(start / 2, want);
            assert!(coarse.intersect(within).eq(model.intersect(within)));
            assert_eq!(coarse.contains(within), model.contains(within));
            assert_eq!(coarse.total(), model.total());
        }
        coarse.insert(span(0, len)).unwrap();
        assert!(coarse.contains(span(0, len)) && !coarse.contains(span(len, PIECE)));
        assert!(coarse.budget.take(Limits::default().memory).is_ok(), "what is whole takes nothing");
    }
}
