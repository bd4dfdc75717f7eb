//! What the literal bytes of a frame are, in parts: it decides what is done to them before they are compressed.

use super::varint;
use super::x86;
use ondisk::num::{to_u64, to_usize};

/// Bytes that are looked at together.
const PIECE: usize = 16 << 10;
/// What is shorter is as what is before it.
const LEAST: usize = 1 << 10;
/// Parts of a frame, at most.
const MOST: u64 = 1 << 12;

/// What is done with a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is compressed.
    Plain,
    /// It is turned by [`x86`] first.
    Code,
    /// It stays as it is: nothing makes it smaller.
    Stored,
}

/// How they are stored.
const KINDS: [Kind; 3] = [Kind::Plain, Kind::Code, Kind::Stored];
const BITS: u32 = 2;

/// A number of bytes, and what is done with them.
pub type Part = (usize, Kind);

/// Looks at literal bytes.
pub fn of(bytes: &[u8]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for piece in bytes.chunks(PIECE) {
        let kind = match piece.len() {
            LEAST.. => kind_of(piece),
            _ => parts.last().map_or(Kind::Plain, |(_, kind)| *kind),
        };
        match parts.last_mut().filter(|(_, last)| *last == kind) {
            Some((len, _)) => *len = len.saturating_add(piece.len()),
            None => parts.push((piece.len(), kind)),
        }
    }
    parts
}

fn kind_of(piece: &[u8]) -> Kind {
    match piece {
        _ if is_dense(piece) => Kind::Stored,
        _ if x86::is_code(piece) => Kind::Code,
        _ => Kind::Plain,
    }
}

/// Whether all bytes are about as frequent, so that their sequence is all that could be made smaller: by what has been
/// compressed already it is not.
fn is_dense(piece: &[u8]) -> bool {
    // By turns in four tables: a byte that comes twice in a row does not wait for itself.
    let mut counts = [[0_u32; 256]; 4];
    for bytes in piece.chunks(counts.len()) {
        for (counts, byte) in counts.iter_mut().zip(bytes) {
            if let Some(count) = counts.get_mut(usize::from(*byte)) {
                *count = count.wrapping_add(1);
            }
        }
    }
    let [mut sums, others @ ..] = counts;
    for counts in others {
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum = sum.wrapping_add(count));
    }
    // The sum of squares is n²/256 if they are equally frequent, and n more by chance.
    let square = |count: &u32| u64::from(*count).saturating_mul(u64::from(*count));
    let squares = sums.iter().fold(0_u64, |sum, count| sum.saturating_add(square(count)));
    let len = to_u64(piece.len());
    let even = len.saturating_mul(len) >> 8;
    squares < even.saturating_add(even >> 5).saturating_add(len)
}

/// Sorts literal bytes: those to be compressed go to the end of `rest`; yields what is stored.
pub fn split(bytes: &[u8], parts: &[Part], rest: &mut Vec<u8>) -> Vec<u8> {
    let mut stored = Vec::new();
    let mut left = bytes;
    for (len, kind) in parts {
        let (part, behind) = left.split_at(left.len().min(*len));
        left = behind;
        match kind {
            Kind::Stored => stored.extend(part),
            Kind::Plain => rest.extend(part),
            Kind::Code => {
                let from = rest.len();
                rest.extend(part);
                x86::encode(rest.get_mut(from..).unwrap_or_default());
            }
        }
    }
    stored
}

/// Puts literal bytes together again: those that were compressed are in `bytes`, and move to their places from the last
/// one on, so that no part goes over another that still has to move.
pub fn join(parts: &[Part], mut stored: &[u8], bytes: &mut Vec<u8>) {
    let mut rest = bytes.len();
    let mut at = rest.saturating_add(stored.len());
    bytes.resize(at, 0);
    for (len, kind) in parts.iter().rev() {
        let end = at;
        at = at.saturating_sub(*len);
        if *kind == Kind::Stored {
            let (before, part) = stored.split_at(stored.len().saturating_sub(*len));
            stored = before;
            if let Some(place) = bytes.get_mut(at..end).filter(|place| place.len() == part.len()) {
                place.copy_from_slice(part);
            }
            continue;
        }
        let source = rest.saturating_sub(*len)..rest;
        rest = source.start;
        bytes.copy_within(source, at);
        if *kind == Kind::Code {
            x86::decode(bytes.get_mut(at..end).unwrap_or_default());
        }
    }
}

/// How many bytes of the parts are stored.
pub fn stored(parts: &[Part]) -> usize {
    parts.iter().filter(|(_, kind)| *kind == Kind::Stored).fold(0, |sum, (len, _)| sum.saturating_add(*len))
}

/// Writes the list.
pub fn put(out: &mut Vec<u8>, parts: &[Part]) {
    varint::put(out, to_u64(parts.len()));
    for (len, kind) in parts {
        let number = KINDS.iter().position(|known| known == kind).unwrap_or_default();
        varint::put(out, to_u64(*len).wrapping_shl(BITS) | to_u64(number));
    }
}

/// Reads the list of a frame of `len` literal bytes.
pub fn take(record: &mut &[u8], len: usize) -> Result<Vec<Part>, &'static str> {
    let cut = "ends within its parts";
    let count = varint::take(record).ok_or(cut)?;
    if count > MOST {
        return Err("has too many parts");
    }
    let (mut parts, mut total) = (Vec::new(), 0_u64);
    for _ in 0..count {
        let head = varint::take(record).ok_or(cut)?;
        let part = head >> BITS;
        let kind = KINDS.get(to_usize(head & 3)).ok_or("has a part of an unknown kind")?;
        total = total.saturating_add(part);
        if part == 0 || total > to_u64(len) {
            return Err("has parts that are empty or too long");
        }
        parts.push((to_usize(part), *kind));
    }
    if total == to_u64(len) { Ok(parts) } else { Err("has parts that do not make its length") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ondisk::num::low8;
    use testkit::images::noise;

    #[test]
    fn each_kind_is_told_and_comes_back() {
        let text: Vec<u8> = b"text that has words in it and other words. ".repeat(1000)[..2 * PIECE].to_vec();
        let code: Vec<u8> = (0..to_u64(PIECE) / 16)
            .flat_map(|at| {
                [0xe8, low8(at), low8(at >> 8), 0, 0, 0x48, 0x89, 0xc7, 0x31, 0xc0, 1, 2, 3, 4, 5, 6]
            })
            .collect();
        let bytes = [text.as_slice(), &noise(1, 3 * PIECE), &code, &text[..100]].concat();
        let parts = of(&bytes);
        let expected = [(2 * PIECE, Kind::Plain), (3 * PIECE, Kind::Stored), (PIECE + 100, Kind::Code)];
        assert_eq!(parts, expected);
        let mut rest = Vec::new();
        let stored_bytes = split(&bytes, &parts, &mut rest);
        assert_eq!((stored_bytes.len(), stored(&parts)), (3 * PIECE, 3 * PIECE));
        join(&parts, &stored_bytes, &mut rest);
        assert_eq!(rest, bytes);
        let mut list = Vec::new();
        put(&mut list, &parts);
        assert_eq!(take(&mut list.as_slice(), bytes.len()), Ok(parts));
        for cut in 0..list.len() {
            assert!(take(&mut &list[..cut], bytes.len()).is_err());
        }
        assert!(take(&mut list.as_slice(), bytes.len() - 1).is_err());
        assert!(take(&mut list.as_slice(), bytes.len() + 1).is_err());
    }
}
