//! The bits of one group: which clusters, or which inodes, are in use.
//!
//! ```text
//! bit   0 … len-1           len … 8 × block size - 1
//!       one thing each      padding: all ones
//! ```

use crate::unit::BlockSize;
use ondisk::num::{low32, to_u64, to_usize};
use std::ops::Range;

/// A bitmap of one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    bytes: Vec<u8>,
    len: u32,
}

impl Bitmap {
    /// Nothing in use, padding set.
    #[must_use]
    pub fn empty(block: BlockSize, len: u32) -> Self {
        let mut this = Self::from_bytes(vec![0; block.to_usize()], len);
        this.pad();
        this
    }

    /// As read from disk: of the bits, the first `len` stand for something.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>, len: u32) -> Self {
        let len = len.min(low32(to_u64(bytes.len()).saturating_mul(8)));
        Self { bytes, len }
    }

    /// The whole block.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bits stand for something.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether no bit stands for anything.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Changes how many bits stand for something: new ones are clear, bits behind the end are set.
    pub fn resize(&mut self, len: u32) {
        let old = self.len;
        self.len = len.min(self.all());
        self.fill(old..self.len, false);
        self.pad();
    }

    /// Whether a bit is set; beyond the block all are.
    #[must_use]
    pub fn get(&self, bit: u32) -> bool {
        self.bytes.get(index(bit)).is_none_or(|byte| byte & mask(bit) != 0)
    }

    /// Sets a bit; whether it was clear.
    pub fn set(&mut self, bit: u32) -> bool {
        let was = self.get(bit);
        if let Some(byte) = self.bytes.get_mut(index(bit)) {
            *byte |= mask(bit);
        }
        !was
    }

    /// Clears a bit; whether it was set.
    pub fn clear(&mut self, bit: u32) -> bool {
        let was = self.get(bit);
        if let Some(byte) = self.bytes.get_mut(index(bit)) {
            *byte &= !mask(bit);
        }
        was
    }

    /// Sets or clears a range.
    pub fn fill(&mut self, range: Range<u32>, value: bool) {
        let mut bit = range.start;
        let end = range.end.min(self.all());
        while bit < end {
            let whole = bit.is_multiple_of(8) && end.saturating_sub(bit) >= 8;
            match self.bytes.get_mut(index(bit)) {
                Some(byte) if whole => *byte = if value { 0xff } else { 0 },
                Some(byte) if value => *byte |= mask(bit),
                Some(byte) => *byte &= !mask(bit),
                None => return,
            }
            bit = bit.saturating_add(if whole { 8 } else { 1 });
        }
    }

    /// How many bits that stand for something are clear.
    #[must_use]
    pub fn count_clear(&self) -> u32 {
        self.len.saturating_sub(self.count_set())
    }

    /// How many bits that stand for something are set.
    #[must_use]
    pub fn count_set(&self) -> u32 {
        let whole = self.bytes.get(..index(self.len)).unwrap_or(&self.bytes);
        let ones = whole.iter().fold(0_u32, |n, byte| n.saturating_add(byte.count_ones()));
        let rest = self.bytes.get(index(self.len)).map_or(0, |byte| byte & mask(self.len).wrapping_sub(1));
        ones.saturating_add(rest.count_ones())
    }

    /// The first bit from `from` that is set, or clear; `len` where there is none.
    #[must_use]
    pub fn next(&self, from: u32, value: bool) -> u32 {
        let skip = if value { 0 } else { 0xff };
        let mut bit = from;
        while bit < self.len {
            match self.bytes.get(index(bit)) {
                Some(&byte) if bit.is_multiple_of(8) && byte == skip => bit = bit.saturating_add(8),
                _ if self.get(bit) == value => return bit,
                _ => bit = bit.saturating_add(1),
            }
        }
        self.len
    }

    /// Runs of set, or of clear bits, ascending.
    pub fn runs(&self, value: bool) -> impl Iterator<Item = Range<u32>> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.next(at, value);
            at = self.next(start, !value);
            (start < self.len).then_some(start..at)
        })
    }

    /// Whether all bits behind the end are set.
    #[must_use]
    pub fn is_padded(&self) -> bool {
        let mut padded = self.clone();
        padded.pad();
        padded.bytes == self.bytes
    }

    /// Sets all bits behind the end.
    pub fn pad(&mut self) {
        self.fill(self.len..self.all(), true);
    }

    fn all(&self) -> u32 {
        low32(to_u64(self.bytes.len()).saturating_mul(8))
    }
}

fn index(bit: u32) -> usize {
    to_usize(u64::from(bit >> 3))
}

const fn mask(bit: u32) -> u8 {
    1 << (bit & 7)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, clippy::as_conversions)]
    use super::*;

    #[test]
    fn agrees_with_a_vector_of_bools() {
        let len = 1003;
        let mut bitmap = Bitmap::empty(BlockSize::from_log(0).unwrap(), len);
        let mut model = vec![false; 1003];
        let mut seed = 7_u64;
        for _ in 0..3000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let start = low32(seed >> 33) % len;
            let end = (start + low32(seed >> 50) % 70).min(len);
            let value = seed >> 63 == 1;
            bitmap.fill(start..end, value);
            model[start as usize..end as usize].fill(value);
            assert_eq!(bitmap.count_set() as usize, model.iter().filter(|b| **b).count());
        }
        let set: Vec<u32> = bitmap.runs(true).flatten().collect();
        let clear: Vec<u32> = bitmap.runs(false).flatten().collect();
        assert_eq!(set, (0..len).filter(|&i| model[i as usize]).collect::<Vec<_>>());
        assert_eq!(clear, (0..len).filter(|&i| !model[i as usize]).collect::<Vec<_>>());
        assert!(bitmap.is_padded());
        bitmap.clear(1003);
        assert!(!bitmap.is_padded());
        bitmap.resize(1010);
        assert!(bitmap.is_padded() && !bitmap.get(1009) && bitmap.get(1010));
    }
}
