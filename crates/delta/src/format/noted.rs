//! The values of a disk's windows as a small file, for next time: docs/delta.md.
//!
//! Whoever writes such a file vouches for it: a digest at its end tells only that it is whole.

use super::layout::Noted;
use crate::digest::{Leaves, windows};
use ondisk::Len;
use ondisk::num::to_u64;
use std::mem::size_of;
use zerocopy::{FromBytes, IntoBytes};

const MAGIC: [u8; 8] = *b"imgvals1";
const DIGEST: usize = 32;

impl Leaves {
    /// As a file; `key` says of which disk in which state they are.
    #[must_use]
    pub fn noted(&self, key: &[u8; 32]) -> Vec<u8> {
        let head = Noted { magic: MAGIC, key: *key, len: self.len().get().into() };
        let mut bytes = head.as_bytes().to_vec();
        bytes.extend(self.values().as_flattened());
        let digest = *blake3::hash(&bytes).as_bytes();
        bytes.extend(digest);
        bytes
    }

    /// Takes them from such a file, if it is whole and of that disk in that state.
    #[must_use]
    pub fn from_noted(bytes: &[u8], key: &[u8; 32]) -> Option<Self> {
        let (bytes, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST)?)?;
        let (head, values) = Noted::read_from_prefix(bytes).ok()?;
        let (values, []) = values.as_chunks() else { return None };
        let len = Len::new(head.len.get());
        let whole = blake3::hash(bytes).as_bytes() == digest && to_u64(values.len()) == windows(len);
        (whole && head.magic == MAGIC && head.key == *key).then(|| Self::new(len, values.to_vec()))
    }

    /// How long the file of a disk of `len` bytes is.
    #[must_use]
    pub fn noted_len(len: Len) -> Len {
        let rest = to_u64(size_of::<Noted>()).saturating_add(to_u64(DIGEST));
        Len::new(windows(len).saturating_mul(32).saturating_add(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_or_not_at_all() {
        let key = [7; 32];
        for len in [0, 1, 4 << 20, (9 << 20) + 5] {
            let len = Len::new(len);
            let values = (0_u8..).map(|n| [n; 32]).take(ondisk::num::to_usize(windows(len))).collect();
            let leaves = Leaves::new(len, values);
            let bytes = leaves.noted(&key);
            assert_eq!(Len::of(&bytes), Leaves::noted_len(len));
            assert_eq!(Leaves::from_noted(&bytes, &key).unwrap(), leaves);
            assert_eq!(Leaves::from_noted(&bytes, &[8; 32]), None);
            for at in 0..bytes.len() {
                let mut other = bytes.clone();
                other[at] ^= 1;
                assert_eq!(Leaves::from_noted(&other, &key), None, "byte {at}");
                assert_eq!(Leaves::from_noted(&bytes[..at], &key), None, "cut to {at}");
            }
            // Under a right digest: the number of values must be that of the disk.
            let mut short = bytes[..bytes.len() - DIGEST].to_vec();
            short[40] ^= 0x40;
            short[43] ^= 0x40;
            let digest = *blake3::hash(&short).as_bytes();
            short.extend(digest);
            assert_eq!(Leaves::from_noted(&short, &key), None);
        }
    }
}
