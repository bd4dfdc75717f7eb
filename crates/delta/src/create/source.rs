//! A disk that is compared with, in chunks that are kept for a while.

use disk::ReadAt;
use ondisk::num::{to_u64, to_usize};
use ondisk::{Offset, Span};

/// Bytes of a chunk.
const CHUNK: u64 = 64 << 10;
/// Chunks that are kept.
const CHUNKS: usize = 64;

/// A disk and some of its chunks.
pub struct Source<'a> {
    disk: &'a dyn ReadAt,
    /// Each chunk has one place: its number, and its bytes.
    chunks: Vec<(u64, Vec<u8>)>,
}

impl<'a> Source<'a> {
    /// Nothing is read yet.
    pub fn new(disk: &'a dyn ReadAt) -> Self {
        Self { disk, chunks: vec![(u64::MAX, Vec::new()); CHUNKS] }
    }

    /// The bytes of chunk `number`.
    fn chunk(&mut self, number: u64) -> disk::Result<&[u8]> {
        let place = to_usize(number) & (CHUNKS.wrapping_sub(1));
        let Some((kept, bytes)) = self.chunks.get_mut(place) else { return Ok(&[]) };
        if *kept != number {
            let start = number.saturating_mul(CHUNK);
            let end = start.saturating_add(CHUNK).min(self.disk.len().get());
            let span = Span::between(Offset::new(start), Offset::new(end)).unwrap_or_default();
            // Whatever happens, what is in `bytes` from here on is not the old chunk.
            *kept = u64::MAX;
            bytes.resize(span.len().to_usize(), 0);
            self.disk.read_at(span.start(), bytes)?;
            *kept = number;
        }
        Ok(bytes)
    }

    /// How many bytes from `at` on are those of `bytes`.
    pub fn forward(&mut self, at: u64, bytes: &[u8]) -> disk::Result<usize> {
        let mut same = 0;
        while let Some(rest) = bytes.get(same..).filter(|rest| !rest.is_empty()) {
            let at = at.saturating_add(to_u64(same));
            let there = self.chunk(at >> CHUNK.ilog2())?;
            let there = there.get(to_usize(at & CHUNK.wrapping_sub(1))..).unwrap_or_default();
            let more = common_prefix(rest, there);
            same = same.saturating_add(more);
            if more == 0 || more < there.len() {
                break;
            }
        }
        Ok(same)
    }

    /// How many bytes before `end` are the last ones of `bytes`.
    pub fn backward(&mut self, end: u64, bytes: &[u8]) -> disk::Result<usize> {
        let mut same = 0_usize;
        loop {
            let rest = bytes.get(..bytes.len().saturating_sub(same)).unwrap_or_default();
            let Some(last) = end.checked_sub(to_u64(same)).and_then(|end| end.checked_sub(1)) else { break };
            if rest.is_empty() {
                break;
            }
            let there = self.chunk(last >> CHUNK.ilog2())?;
            let within = to_usize(last & CHUNK.wrapping_sub(1)).saturating_add(1);
            let there = there.get(..within).unwrap_or_default();
            let more = common_suffix(rest, there);
            same = same.saturating_add(more);
            if more == 0 || more < there.len() {
                break;
            }
        }
        Ok(same)
    }
}

/// Bytes that are compared at once.
const STRIDE: usize = 32;

/// How many bytes two slices have in common at their beginning.
pub fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let (whole, _) = a.as_chunks::<STRIDE>();
    let (other, _) = b.as_chunks::<STRIDE>();
    let strides = whole.iter().zip(other).take_while(|(a, b)| a == b).count();
    let start = strides.saturating_mul(STRIDE);
    let rest = a.get(start..).unwrap_or_default().iter().zip(b.get(start..).unwrap_or_default());
    start.saturating_add(rest.take_while(|(a, b)| a == b).count())
}

/// How many bytes two slices have in common at their end.
pub fn common_suffix(a: &[u8], b: &[u8]) -> usize {
    let (_, whole) = a.as_rchunks::<STRIDE>();
    let (_, other) = b.as_rchunks::<STRIDE>();
    let strides = whole.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
    let behind = strides.saturating_mul(STRIDE);
    let before = |bytes: &[u8]| bytes.len().saturating_sub(behind);
    let (a, b) = (a.get(..before(a)).unwrap_or_default(), b.get(..before(b)).unwrap_or_default());
    let rest = a.iter().rev().zip(b.iter().rev());
    behind.saturating_add(rest.take_while(|(a, b)| a == b).count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use disk::MemDisk;

    #[test]
    fn common_bytes() {
        for same in [0, 1, 31, 32, 33, 100] {
            let a = vec![1; 100];
            let mut b = vec![2; 100];
            b[..same].fill(1);
            assert_eq!(
                (common_prefix(&a, &b), common_suffix(&b, &a)),
                (same, if same == 100 { 100 } else { 0 })
            );
            b.reverse();
            assert_eq!(common_suffix(&a, &b), same);
        }
    }

    #[test]
    fn across_chunks_and_up_to_the_ends() {
        let bytes: Vec<u8> = (0..200_000_u64).map(|at| ondisk::num::low8(at / 3 % 251)).collect();
        let disk = MemDisk::from_bytes(&bytes);
        let mut source = Source::new(&disk);
        assert_eq!(source.forward(10, &bytes[10..]).unwrap(), 199_990);
        assert_eq!(source.backward(200_000, &bytes).unwrap(), 200_000);
        let mut other = bytes.clone();
        other[150_000] ^= 1;
        other[70_000] ^= 1;
        assert_eq!(source.forward(70_001, &other[70_001..]).unwrap(), 79_999);
        assert_eq!(source.backward(150_000, &other[..150_000]).unwrap(), 79_999);
        assert_eq!(source.forward(199_999, &[bytes[199_999], 0]).unwrap(), 1);
        assert_eq!(source.backward(0, &bytes).unwrap(), 0);
    }
}
