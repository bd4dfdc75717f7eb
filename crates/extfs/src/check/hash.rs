//! Hashes of names in hash trees.
//!
//! 1. Only the upper 31 bits count.
//! 2. Names count as signed or as unsigned characters, as the superblock says: an accident of history.

/// A hash function of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hash {
    pub(super) version: Version,
    pub(super) unsigned: bool,
    pub(super) seed: [u32; 4],
}

/// Which function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// The first one.
    Legacy,
    /// A cut-down MD4.
    HalfMd4,
    /// TEA as a hash.
    Tea,
    /// Stored with the name, which is encrypted.
    Stored,
}

impl Version {
    pub(super) const fn of(raw: u8) -> Option<Self> {
        match raw {
            0 => Some(Self::Legacy),
            1 => Some(Self::HalfMd4),
            2 => Some(Self::Tea),
            6 => Some(Self::Stored),
            _ => None,
        }
    }
}

impl Hash {
    /// The hash of a name; `None` where it is not computed.
    pub(super) fn of(&self, name: &[u8]) -> Option<u32> {
        let standard = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
        let mut state = if self.seed == [0; 4] { standard } else { self.seed };
        let hash = match self.version {
            Version::Stored => return None,
            Version::Legacy => self.legacy(name),
            Version::HalfMd4 => {
                let mut rest = name;
                while !rest.is_empty() {
                    half_md4(&mut state, &self.words::<8>(rest));
                    rest = rest.get(32..).unwrap_or_default();
                }
                state[1]
            }
            Version::Tea => {
                let mut rest = name;
                while !rest.is_empty() {
                    tea(&mut state, &self.words::<4>(rest));
                    rest = rest.get(16..).unwrap_or_default();
                }
                state[0]
            }
        };
        Some(hash & !1)
    }

    /// A character as a number of 32 bits.
    fn wide(&self, byte: u8) -> u32 {
        if self.unsigned { u32::from(byte) } else { i32::from(byte.cast_signed()).cast_unsigned() }
    }

    fn legacy(&self, name: &[u8]) -> u32 {
        let (mut hash, mut before) = (0x12a3_fe2d_u32, 0x37ab_e8f9_u32);
        for &byte in name {
            let mut next = before.wrapping_add(hash ^ self.wide(byte).wrapping_mul(7_152_373));
            if next & 0x8000_0000 != 0 {
                next = next.wrapping_sub(0x7fff_ffff);
            }
            before = hash;
            hash = next;
        }
        hash << 1
    }

    /// The first characters as big-endian words, filled up with the length of what is left of the name.
    fn words<const N: usize>(&self, rest: &[u8]) -> [u32; N] {
        let len = ondisk::num::low32(ondisk::num::to_u64(rest.len()));
        let pad = len | len << 8;
        let pad = pad | pad << 16;
        let mut words = [pad; N];
        for (word, piece) in words.iter_mut().zip(rest.chunks(4)) {
            *word = piece.iter().fold(pad, |word, &byte| self.wide(byte).wrapping_add(word << 8));
        }
        words
    }
}

fn tea(state: &mut [u32; 4], [a, b, c, d]: &[u32; 4]) {
    let (mut sum, mut left, mut right) = (0_u32, state[0], state[1]);
    for _ in 0..16 {
        sum = sum.wrapping_add(0x9e37_79b9);
        let mixed = |x: u32, k: u32, l: u32| {
            (x << 4).wrapping_add(k) ^ x.wrapping_add(sum) ^ (x >> 5).wrapping_add(l)
        };
        left = left.wrapping_add(mixed(right, *a, *b));
        right = right.wrapping_add(mixed(left, *c, *d));
    }
    state[0] = state[0].wrapping_add(left);
    state[1] = state[1].wrapping_add(right);
}

/// Three rounds over eight words: order of the words, rotations, and the constant of each round.
const ROUNDS: [([usize; 8], [u32; 4], u32); 3] = [
    ([0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19], 0),
    ([1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13], 0x5a82_7999),
    ([3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15], 0x6ed9_eba1),
];

fn half_md4(state: &mut [u32; 4], words: &[u32; 8]) {
    let [mut a, mut b, mut c, mut d] = *state;
    for (round, (order, shifts, constant)) in ROUNDS.iter().enumerate() {
        for (index, shift) in order.iter().zip(shifts.iter().cycle()) {
            let mixed = match round {
                0 => d ^ (b & (c ^ d)),
                1 => (b & c).wrapping_add((b ^ c) & d),
                _ => b ^ c ^ d,
            };
            let word = words.get(*index).copied().unwrap_or_default();
            let sum = a.wrapping_add(mixed).wrapping_add(word).wrapping_add(*constant);
            (a, b, c, d) = (d, sum.rotate_left(*shift), b, c);
        }
    }
    for (state, add) in state.iter_mut().zip([a, b, c, d]) {
        *state = state.wrapping_add(add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_e2fsprogs_computes_them() {
        // From `debugfs -R "dx_hash -h … [-s …] NAME"`, without and with a seed.
        let long = "a name that is longer than thirty-two characters";
        let known = [
            (Version::Legacy, [("lost+found", 0x5e2a_ba24, 0x5e2a_ba24), (long, 0xff07_6d70, 0xff07_6d70)]),
            (Version::HalfMd4, [("lost+found", 0x591d_e422, 0x694c_8bb4), (long, 0xc40f_f308, 0x729b_b066)]),
            (Version::Tea, [("lost+found", 0x2dbf_9e80, 0x3e95_424c), (long, 0x226f_ae22, 0xa667_27d6)]),
        ];
        let seeded = [0x0403_0201_u32, 0x0807_0605, 0x0c0b_0a09, 0x100f_0e0d];
        for (version, names) in known {
            for (name, plain, with_seed) in names {
                let hash = Hash { version, unsigned: false, seed: [0; 4] };
                assert_eq!(hash.of(name.as_bytes()), Some(plain), "{version:?} {name}");
                let hash = Hash { seed: seeded, ..hash };
                assert_eq!(hash.of(name.as_bytes()), Some(with_seed), "{version:?} {name}");
            }
        }
        let signed = Hash { version: Version::HalfMd4, unsigned: false, seed: [0; 4] };
        assert_eq!(signed.of("café".as_bytes()), Some(0xfb9c_5e5c));
        assert_ne!(Hash { unsigned: true, ..signed }.of("café".as_bytes()), signed.of("café".as_bytes()));
    }
}
