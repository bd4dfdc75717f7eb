//! What goes into the dictionary of a frame.
//!
//! 1. Short runs of literals lie between copies: what the bases have beside these is their older version, to the byte.
//! 2. Of files that were written anew as a whole, it is what the older version of the file has at the same place, and
//!    around it.
//! 3. What lies beside a copy before a long run is most often somebody else's; it is taken where no files are known.

use super::matching::Run;
use super::pairs::Pairs;
use crate::format::frame::{DICTIONARY, Like, SPANS};
use disk::ReadAt;
use ondisk::{Len, Span, SpanSet};
use std::collections::BTreeMap;

/// A run of literals so long was not changed from what is beside it.
const LONG: usize = 64 << 10;
/// So much around the same place in the older version of a file.
const AROUND: Len = Len::kib(64);

/// Spans of bases.
type Spans = BTreeMap<usize, SpanSet>;

/// Spans of bases that literals may be like, the best ones first.
#[derive(Default)]
pub struct Likes([Spans; 3]);

impl Likes {
    /// Adds what these bytes of the target, of that run of literals, may be like.
    pub fn add(&mut self, target: Span, run: Option<&Run>, pairs: &Pairs) {
        let [near, older, around] = &mut self.0;
        let add = |to: &mut Spans, like: Like| to.entry(like.base).or_default().insert(like.span);
        let beside = run.filter(|run| run.range.len() <= LONG || pairs.is_empty());
        if let Some(like) = beside.and_then(|run| run.like) {
            add(near, like);
        }
        pairs.older(target, Len::ZERO, |like| add(older, like));
        pairs.older(target, AROUND, |like| add(around, like));
    }

    /// Those that fit, in the order of the bases.
    pub fn chosen(&self, bases: &[&dyn ReadAt], most: Len) -> Vec<Like> {
        let mut left = most.min(DICTIONARY);
        let mut chosen = Spans::new();
        for (base, spans) in self.0.iter().flatten() {
            let Some(whole) = bases.get(*base).map(|base| Span::whole(base.len())) else { continue };
            let known = chosen.entry(*base).or_default();
            for span in spans.intersect(whole) {
                let missing: Vec<Span> = known.gaps(span).collect();
                for gap in missing {
                    let len = gap.len().min(left);
                    left = left.saturating_sub(len);
                    known.insert(Span::new(gap.start(), len).unwrap_or_default());
                }
            }
        }
        let like = |(base, spans): (&usize, &SpanSet)| {
            let base = *base;
            spans.iter().map(move |span| Like { base, span }).collect::<Vec<Like>>()
        };
        let mut list: Vec<Like> = chosen.iter().flat_map(like).collect();
        list.truncate(SPANS);
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create::pairs::Piece;
    use disk::{Limits, MemDisk};
    use ondisk::Offset;

    fn span(start: u64, len: u64) -> Span {
        Span::new(Offset::new(start), Len::new(len)).unwrap()
    }

    fn run(len: usize, like: Span) -> Run {
        Run { range: 0..len, like: Some(Like { base: 0, span: like }) }
    }

    #[test]
    fn the_best_fit_first_and_nothing_twice() {
        let disk = MemDisk::from_bytes(&vec![1; 1 << 20]);
        let bases: [&dyn ReadAt; 1] = [&disk];
        let mut pairs = Pairs::within(&Limits::default());
        let piece = |start, len| Piece { at: 0, span: span(start, len) };
        assert!(pairs.add(&[piece(0, 200_000)], 0, &[piece(300_000, 200_000)]));
        // Behind the end of the base, as a wrong hint may be.
        assert!(pairs.add(&[piece(500_000, 100)], 0, &[piece((1 << 20) - 40, 100)]));
        assert!(pairs.add(&[piece(600_000, 100)], 7, &[piece(0, 100)]));
        let mut likes = Likes::default();
        likes.add(span(100_000, 1000), Some(&run(1000, span(399_500, 2000))), &pairs);
        likes.add(span(150_000, 100_000), Some(&run(100_000, span(900_000, 100_000))), &pairs);
        likes.add(span(500_000, 100), None, &pairs);
        likes.add(span(600_000, 100), None, &pairs);
        let chosen = |most: u64| -> Vec<(u64, u64)> {
            let list = likes.chosen(&bases, Len::new(most));
            list.iter().map(|like| (like.span.start().get(), like.span.len().get())).collect()
        };
        assert_eq!(chosen(1500), [(399_500, 1500)]);
        assert_eq!(chosen(12_000), [(399_500, 2000), (450_000, 10_000)]);
        assert_eq!(chosen(52_000), [(399_500, 2000), (450_000, 50_000)]);
        let all = 400_000 - 65_536;
        assert_eq!(chosen(1 << 20), [(all, 500_000 - all), ((1 << 20) - 40, 40)]);
        // Where no files are known, what lies beside a long run is all that there is.
        let mut likes = Likes::default();
        likes.add(span(150_000, 100_000), Some(&run(100_000, span(900_000, 100_000))), &Pairs::default());
        assert_eq!(likes.chosen(&bases, Len::mib(1)).len(), 1);
    }
}
