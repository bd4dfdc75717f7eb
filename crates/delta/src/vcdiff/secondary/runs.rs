//! What of a section is worth compressing. What has been compressed already (packages, pictures) takes LZMA longest and
//! becomes no smaller, unless it is there twice.

use crate::format::kinds::{self, Kind};
use std::collections::HashSet;

/// Dense bytes are looked at in pieces. Shorter ones are compressed with what is around them: what comes after those that
/// are stored begins anew.
const PIECE: usize = 128 << 10;
/// A piece is there twice where so many of its marks are: one in so many.
const SEEN: usize = 16;
/// Bytes of a mark.
const MARK: usize = 8;
/// One in 2^n places has a mark.
const RARE: u32 = 9;

/// What is done with a run of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// It stays as it is.
    Stored,
    /// It is compressed.
    Plain,
    /// It is compressed, and some of it was there before, at any distance.
    Again,
}

/// Splits a section, of which `before` ends what comes before it.
pub fn runs(bytes: &[u8], before: &[u8]) -> Vec<(usize, Run)> {
    let mut runs: Vec<(usize, Run)> = Vec::new();
    let mut seen: Option<HashSet<u64>> = None;
    let mut at = 0_usize;
    for (len, kind) in kinds::of(bytes) {
        let rest = bytes.get(at..).unwrap_or_default();
        let part = rest.get(..len).unwrap_or(rest);
        if kind == Kind::Stored && len >= PIECE {
            let seen = seen.get_or_insert_with(|| marks(before).collect());
            for piece in part.chunks(PIECE) {
                let run = if is_again(piece, seen) { Run::Again } else { Run::Stored };
                push(&mut runs, piece.len(), run);
                seen.extend(marks(piece));
            }
        } else {
            push(&mut runs, len, Run::Plain);
        }
        at = at.saturating_add(len);
    }
    runs
}

fn push(runs: &mut Vec<(usize, Run)>, len: usize, run: Run) {
    match runs.last_mut().filter(|(_, last)| (*last == Run::Stored) == (run == Run::Stored)) {
        Some((last, kind)) => {
            *last = last.saturating_add(len);
            if run == Run::Again {
                *kind = run;
            }
        }
        None => runs.push((len, run)),
    }
}

fn is_again(piece: &[u8], seen: &HashSet<u64>) -> bool {
    let (mut all, mut known) = (0_usize, 0_usize);
    for mark in marks(piece) {
        all = all.saturating_add(1);
        known = known.saturating_add(usize::from(seen.contains(&mark)));
    }
    known > all / SEEN
}

/// Some of the bytes, chosen by what they are and not by where.
fn marks(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let marks =
        bytes.windows(MARK).filter_map(|window| window.first_chunk().map(|mark| u64::from_le_bytes(*mark)));
    marks.filter(|mark| mark.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - RARE) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::images::noise;

    #[test]
    fn what_is_there_twice_is_compressed() {
        let (noise, other) = (noise(1, 4 * PIECE), noise(2, 4 * PIECE));
        let text: Vec<u8> = b"words and words ".repeat(PIECE / 8);
        let bytes = [&noise[..], &text, &other, &noise[1000..], &noise[..PIECE / 2]].concat();
        let found = runs(&bytes, &[]);
        let kinds: Vec<Run> = found.iter().map(|(_, run)| *run).collect();
        assert_eq!(kinds, [Run::Stored, Run::Plain, Run::Stored, Run::Again], "{found:?}");
        assert_eq!(found.iter().map(|(len, _)| *len).sum::<usize>(), bytes.len());
        let again = runs(&other, &bytes);
        assert_eq!(again, [(other.len(), Run::Again)]);
        assert_eq!(runs(&noise[..PIECE / 2], &[]), [(PIECE / 2, Run::Plain)]);
        assert_eq!(runs(&[], &[]), []);
    }
}
