//! Places that are chosen by the bytes before them, the same wherever these bytes lie.
//!
//! A gear hash of the last 32 bytes runs over the data. Where its upper bits are zero there is an anchor. Data that was
//! moved by whatever distance keeps its anchors.

/// The hash at an anchor depends on so many bytes before its end.
pub const CONTEXT: usize = 32;

/// A value for each byte, by `SplitMix64`: any would do, but a patch depends on them.
const GEAR: [u64; 256] = {
    let mut table = [0; 256];
    let mut state = 0_u64;
    let mut index = 0;
    while index < 256 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = state;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // Constants are evaluated when this is compiled: an index out of bounds would not get further.
        #[allow(clippy::indexing_slicing)]
        {
            table[index] = value ^ (value >> 31);
        }
        index = index.wrapping_add(1);
    }
    table
};

/// An anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Behind its last byte, in the data that was looked at.
    pub end: u32,
    /// What the bytes before it hash to.
    pub hash: u64,
}

impl Anchor {
    /// Whether it would be one if they were one in 2^`sparse` places.
    pub const fn is_one_in(self, sparse: u32) -> bool {
        self.hash & mask(sparse) == 0
    }
}

/// The bits of a hash that are zero at one place in 2^`sparse`.
const fn mask(sparse: u32) -> u64 {
    u64::MAX.wrapping_shl(64_u32.saturating_sub(sparse))
}

/// Finds anchors in `bytes`, one in 2^`sparse` places on average, and tells each: positions count from `start`.
pub fn anchors(bytes: &[u8], start: u32, sparse: u32, mut tell: impl FnMut(Anchor)) {
    let mask = mask(sparse);
    let mut hash = 0_u64;
    let mut end = start;
    let (warm, rest) = bytes.split_at(bytes.len().min(CONTEXT.saturating_sub(1)));
    for byte in warm {
        hash = step(hash, *byte);
        end = end.wrapping_add(1);
    }
    let mut last = !0;
    for byte in rest {
        hash = step(hash, *byte);
        end = end.wrapping_add(1);
        // A run of equal bytes would be one anchor after the other.
        if hash & mask == 0 && hash != last {
            last = hash;
            tell(Anchor { end, hash });
        }
    }
}

#[inline]
fn step(hash: u64, byte: u8) -> u64 {
    // Two bits per byte: after 32 bytes nothing is left of the first one.
    hash.wrapping_shl(2).wrapping_add(GEAR.get(usize::from(byte)).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_move_with_the_bytes() {
        let mut state = 1_u64;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ondisk::num::low8(state >> 56)
        })
        .take(1 << 16)
        .collect();
        let found = |bytes: &[u8], start| {
            let mut list = Vec::new();
            anchors(bytes, start, 6, |anchor| list.push(anchor));
            list
        };
        let all = found(&bytes, 0);
        assert!((700..1400).contains(&all.len()), "{}", all.len());
        let moved = found(&bytes[1000..], 1000);
        let later: Vec<Anchor> = all.iter().copied().filter(|anchor| anchor.end >= 1032).collect();
        assert_eq!(moved, later);
        assert!(found(&[7; 5000], 0).len() <= 1);
    }
}
