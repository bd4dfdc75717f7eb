//! Runs of bytes that are the same in two slices, and runs of zeros.

use std::ops::Range;

/// Bytes that are compared at once.
const WORD: usize = 8;

/// Where `a` and `b` are the same for at least `least` bytes, in order.
pub fn runs(a: &[u8], b: &[u8], least: usize) -> Vec<Range<usize>> {
    let (words, _) = a.as_chunks::<WORD>();
    let (others, _) = b.as_chunks::<WORD>();
    let equal = words.iter().zip(others).map(|(a, b)| a == b);
    let both = a.len().min(b.len());
    let widen = |run: Range<usize>| {
        let before = a.get(..run.start).unwrap_or_default().iter().rev();
        let before = before.zip(b.get(..run.start).unwrap_or_default().iter().rev());
        let start = run.start.saturating_sub(before.take(WORD).take_while(|(a, b)| a == b).count());
        let behind = a.get(run.end..both).unwrap_or_default().iter();
        let behind = behind.zip(b.get(run.end..both).unwrap_or_default());
        start..run.end.saturating_add(behind.take(WORD).take_while(|(a, b)| a == b).count())
    };
    of_words(equal, least).map(widen).collect()
}

/// Where `bytes` are zero for at least `least` bytes, in order: whole words.
pub fn zeros(bytes: &[u8], least: usize) -> Vec<Range<usize>> {
    let (words, _) = bytes.as_chunks::<WORD>();
    of_words(words.iter().map(|word| *word == [0; WORD]), least).collect()
}

/// Runs of true, of at least `least` bytes, as ranges of bytes.
fn of_words(words: impl Iterator<Item = bool>, least: usize) -> impl Iterator<Item = Range<usize>> {
    let mut start = None;
    let closed = words.map(Some).chain([None]).enumerate().filter_map(move |(at, word)| {
        let at = at.saturating_mul(WORD);
        match (start, word) {
            (None, Some(true)) => {
                start = Some(at);
                None
            }
            (Some(from), Some(false) | None) => {
                start = None;
                Some(from..at)
            }
            _ => None,
        }
    });
    // What is widened by a word on either side is long enough.
    let least = least.saturating_sub(WORD.saturating_mul(2)).max(WORD);
    closed.filter(move |run| run.len() >= least)
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
