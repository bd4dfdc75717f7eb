//! Runs of bytes that are the same in two slices, and runs of zeros.

use std::ops::Range;

/// Bytes that are compared at once.
const WORD: usize = 8;

/// Where `a` and `b` are the same for at least `least` bytes, in order.
pub fn runs(a: &[u8], b: &[u8], least: usize) -> Vec<Range<usize>> {
    let (words, _) = a.as_chunks::<WORD>();
    let (others, _) = b.as_chunks::<WORD>();
    let words = words.get(..words.len().min(others.len())).unwrap_or_default();
    let same = |(a, b): (&[u8; WORD], &[u8; WORD])| a == b;
    let next = |from: usize, found: bool| {
        let rest = words.get(from..)?.iter().zip(others.get(from..)?);
        rest.map(same).position(|same| same == found)
    };
    let both = a.len().min(b.len());
    let widen = |run: Range<usize>| {
        let before = a.get(..run.start).unwrap_or_default().iter().rev();
        let before = before.zip(b.get(..run.start).unwrap_or_default().iter().rev());
        let start = run.start.saturating_sub(before.take(WORD).take_while(|(a, b)| a == b).count());
        let behind = a.get(run.end..both).unwrap_or_default().iter();
        let behind = behind.zip(b.get(run.end..both).unwrap_or_default());
        start..run.end.saturating_add(behind.take(WORD).take_while(|(a, b)| a == b).count())
    };
    of_words(words.len(), next, least).map(widen).collect()
}

/// Where `bytes` are zero for at least `least` bytes, in order: whole words.
pub fn zeros(bytes: &[u8], least: usize) -> Vec<Range<usize>> {
    let (words, _) = bytes.as_chunks::<WORD>();
    let next =
        |from: usize, found: bool| words.get(from..)?.iter().position(|word| (*word == [0; WORD]) == found);
    of_words(words.len(), next, least).collect()
}

/// Runs of words of which something is true, of at least `least` bytes, as ranges of bytes. `next` tells how many words
/// from one on it is not as it is told.
fn of_words(
    words: usize,
    next: impl Fn(usize, bool) -> Option<usize>,
    least: usize,
) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0_usize;
    let runs = std::iter::from_fn(move || {
        let start = at.saturating_add(next(at, true)?);
        at = next(start, false).map_or(words, |len| start.saturating_add(len));
        Some(start.saturating_mul(WORD)..at.saturating_mul(WORD))
    });
    // What is widened by a word on either side is long enough.
    let least = least.saturating_sub(WORD.saturating_mul(2)).max(WORD);
    runs.filter(move |run| run.len() >= least)
}

/// What `runs` leave of the bytes up to `len`.
pub fn gaps(runs: &[Range<usize>], len: usize) -> Vec<Range<usize>> {
    let mut at = 0;
    let mut gaps = Vec::new();
    for run in runs.iter().chain([&(len..len)]) {
        if at < run.start {
            gaps.push(at..run.start);
        }
        at = at.max(run.end);
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_reach_to_their_last_byte() {
        let a: Vec<u8> = (0..200).collect();
        let mut b = a.clone();
        b[50] = 0;
        b[121] = 0;
        assert_eq!(runs(&a, &b, 32), [0..50, 51..121, 122..200]);
        assert_eq!(gaps(&runs(&a, &b, 32), 203), [50..51, 121..122, 200..203]);
        assert_eq!(runs(&a, &b[..100], 32), [0..50, 51..100]);
        assert_eq!(zeros(&[0; 100], 64), vec![Range { start: 0, end: 96 }]);
        assert!(zeros(&[1; 100], 64).is_empty() && runs(&a, &[], 32).is_empty());
    }
}
