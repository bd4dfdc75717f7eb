//! Positions by the hash of the bytes before them.
//!
//! Buckets of eight slots. A slot holds a position, and a part of the hash as its tag. Of positions with the same tag
//! in a bucket the first one stays, and of more than eight the first eight: what is found does not depend on the number
//! of threads.

use disk::Limits;
use ondisk::Len;
use ondisk::num::{to_u64, to_usize};
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

/// Slots of a bucket: those of a cache line.
const BUCKET: usize = 8;
/// Slots of the smallest table.
const LEAST: u64 = 4096;
/// Bits of a position: 256 TiB.
pub const POSITION: u32 = 48;

/// A hash and a position.
pub type Place = (u64, u64);

/// The table.
pub struct Table {
    slots: Vec<u64>,
}

impl Table {
    /// A table for about so many positions, in at most so much memory.
    pub fn new(positions: u64, memory: Len, limits: &Limits) -> disk::Result<Self> {
        let count = wanted(positions).clamp(LEAST, room(memory)).next_multiple_of(to_u64(BUCKET));
        let bytes = limits.buffer("the index", Len::new(count.saturating_mul(8)))?;
        Ok(Self { slots: vec![0; bytes.len() >> 3] })
    }

    /// All slots: positions, and what tells whose they are.
    pub fn slots(&self) -> &[u64] {
        &self.slots
    }

    /// As [`Table::slots`], to be filled.
    pub fn slots_mut(&mut self) -> &mut [u64] {
        &mut self.slots
    }

    /// Adds positions, all lists by all threads. None is 0.
    pub fn extend(&mut self, lists: &[Vec<Place>]) {
        let shards = rayon::current_num_threads().max(1);
        let shard = self.slots.len().div_ceil(shards).next_multiple_of(BUCKET);
        let all = self.slots.len();
        self.slots.par_chunks_mut(shard).enumerate().for_each(|(number, slots)| {
            let first = number.saturating_mul(shard);
            for (hash, position) in lists.iter().flatten() {
                let at = bucket(*hash, all).wrapping_sub(first);
                let slots = at.checked_add(BUCKET).and_then(|end| slots.get_mut(at..end));
                put(slots.unwrap_or_default(), *hash, *position);
            }
        });
    }

    /// Adds a position, which is not 0.
    pub fn insert(&mut self, (hash, position): Place) {
        let at = bucket(hash, self.slots.len());
        let slots = at.checked_add(BUCKET).and_then(|end| self.slots.get_mut(at..end));
        put(slots.unwrap_or_default(), hash, position);
    }

    /// The position that was added for a hash.
    pub fn find(&self, hash: u64) -> Option<u64> {
        self.find_all([hash]).first().copied().filter(|found| *found != 0)
    }

    /// The positions that were added for several hashes; 0 where none was. Without branches: while one bucket is waited
    /// for, the next ones are asked for.
    pub fn find_all<const N: usize>(&self, hashes: [u64; N]) -> [u64; N] {
        hashes.map(|hash| {
            let tag = tag(hash);
            let slots = self.slots.get(bucket(hash, self.slots.len())..);
            let slots = slots.and_then(<[u64]>::first_chunk::<BUCKET>).unwrap_or(&[0; BUCKET]);
            let found = slots.iter().rev().fold(0, |found, slot| {
                let this = u64::from(*slot >> POSITION == tag).wrapping_neg();
                found & !this | *slot & this
            });
            found & 1_u64.wrapping_shl(POSITION).wrapping_sub(1)
        })
    }
}

/// Slots for so many positions: three eighths more, so that few buckets are full before all are there.
pub const fn wanted(positions: u64) -> u64 {
    positions.saturating_mul(11) >> 3
}

/// The first slot of the bucket of a hash, of so many slots. The upper bits of the product depend on all bits of the
/// hash: what they are of all that they can be, the bucket is of all buckets.
fn bucket(hash: u64, slots: usize) -> usize {
    let mixed = u128::from(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let bucket = mixed.wrapping_mul(u128::from(to_u64(slots))) >> 64;
    to_usize(u64::try_from(bucket).unwrap_or_default()) & !(BUCKET.wrapping_sub(1))
}

const fn tag(hash: u64) -> u64 {
    (hash ^ hash >> 31).wrapping_mul(0xd6e8_feb8_6659_fd93) >> POSITION
}

fn put(slots: &mut [u64], hash: u64, position: u64) {
    let entry = tag(hash).wrapping_shl(POSITION) | position;
    for slot in slots {
        if *slot == 0 {
            *slot = entry;
            return;
        }
        if *slot >> POSITION == tag(hash) {
            return;
        }
    }
}

/// How many positions a table of so much memory has room for.
pub fn room(memory: Len) -> u64 {
    (memory.get() >> 3).max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_is_found() {
        let places: Vec<Place> = (1_u64..3000).map(|n| (n.wrapping_mul(0x1234_5678_9abc_def1), n)).collect();
        let mut table = Table::new(3000, Len::mib(1), &Limits::default()).unwrap();
        table.extend(&[places.clone(), places.iter().map(|(hash, at)| (*hash, at + 5000)).collect()]);
        let found = places.iter().filter(|(hash, at)| table.find(*hash) == Some(*at)).count();
        assert!(found > 2900, "{found}");
        assert!(places.iter().all(|(hash, _)| table.find(*hash).is_none_or(|at| at < 5000)));
    }
}
