//! A checksum of a block that is known for the next byte on without looking at all of it again.
//!
//! The bytes are the digits of a number to an odd base, modulo 2^64. Only its upper half is used: the lower bits depend
//! on the lower bits of the bytes alone.

use super::layout::BLOCK;

/// Any odd number of many bits would do, but a signature depends on it.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

/// What the first byte of a block counts.
const FIRST: u64 = {
    let mut power = 1_u64;
    let mut at = 1;
    while at < BLOCK {
        power = power.wrapping_mul(BASE);
        at = at.wrapping_add(1);
    }
    power
};

/// The checksum of the block that the bytes so far end with.
#[derive(Clone, Copy)]
pub struct Rolling(u64);

impl Rolling {
    /// Of a whole block.
    pub fn of(block: &[u8]) -> Self {
        Self(block.iter().fold(0, |sum, byte| sum.wrapping_mul(BASE).wrapping_add(u64::from(*byte))))
    }

    /// One byte on.
    #[inline]
    pub fn step(&mut self, out: u8, new: u8) {
        let rest = self.0.wrapping_sub(u64::from(out).wrapping_mul(FIRST));
        self.0 = rest.wrapping_mul(BASE).wrapping_add(u64::from(new));
    }

    /// What is stored.
    #[inline]
    pub const fn weak(self) -> u32 {
        ondisk::num::low32(self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rolls() {
        let bytes: Vec<u8> =
            (0..ondisk::num::to_u64(3 * BLOCK)).map(|at| ondisk::num::low8(at * at / 7)).collect();
        let mut rolling = Rolling::of(&bytes[..BLOCK]);
        for at in 0..BLOCK {
            assert_eq!(rolling.weak(), Rolling::of(&bytes[at..at + BLOCK]).weak(), "at {at}");
            rolling.step(bytes[at], bytes[at + BLOCK]);
        }
    }
}
