//! BLAKE3 of a disk, by windows.
//!
//! BLAKE3 is a tree. The value of the subtree over each aligned window of 4 MiB can be computed by itself, and the
//! digest of the disk follows from these values: windows are hashed by all threads, and one that is known need not be
//! hashed again.

use crate::error::Result;
use crate::format::patch::{BaseFacts, refuse_huge};
use crate::pool::Pool;
use blake3::Hasher;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use disk::{Cx, ExtentMap, ReadAt, Total};
use ondisk::num::to_u64;
use ondisk::{Len, Offset, Span};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

/// A disk is handled in windows of this length.
pub const WINDOW: Len = Len::mib(4);

/// So many windows are hashed before anybody is told.
const BATCH: u64 = 64;

/// The digest of a disk.
pub type Digest = blake3::Hash;

/// The value of a window's subtree. The only window of a disk has the digest itself.
pub type Leaf = [u8; 32];

/// How many windows a disk of `len` bytes has.
pub fn windows(len: Len) -> u64 {
    len.get().div_ceil(WINDOW.get())
}

/// Window `index` of a disk of `len` bytes.
pub fn window(index: u64, len: Len) -> Span {
    let start = index.saturating_mul(WINDOW.get()).min(len.get());
    let end = start.saturating_add(WINDOW.get()).min(len.get());
    Span::between(Offset::new(start), Offset::new(end)).unwrap_or_default()
}

/// The value of window `index` of a disk of `len` bytes.
pub fn leaf(index: u64, len: Len, bytes: &[u8]) -> Leaf {
    if windows(len) <= 1 {
        return *blake3::hash(bytes).as_bytes();
    }
    let mut hasher = Hasher::new();
    hasher.set_input_offset(index.saturating_mul(WINDOW.get()));
    hasher.update(bytes);
    hasher.finalize_non_root()
}

/// Zeros: few enough to stay in the cache of the processor, enough for it to hash as fast as it can.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The value of window `index` of a disk of `len` bytes, if it is zero.
pub fn leaf_of_zeros(index: u64, len: Len) -> Leaf {
    let mut rest = window(index, len).len().to_usize();
    let alone = windows(len) <= 1;
    let mut hasher = Hasher::new();
    if !alone {
        hasher.set_input_offset(index.saturating_mul(WINDOW.get()));
    }
    while let Some(zeros) = ZEROS.get(..rest.min(ZEROS.len())).filter(|zeros| !zeros.is_empty()) {
        hasher.update(zeros);
        rest = rest.saturating_sub(zeros.len());
    }
    if alone { *hasher.finalize().as_bytes() } else { hasher.finalize_non_root() }
}

/// The value of window `index` of a disk of `len` bytes; without bytes, it is zero.
pub fn leaf_of(index: u64, len: Len, bytes: Option<&[u8]>) -> Leaf {
    bytes.map_or_else(|| leaf_of_zeros(index, len), |bytes| leaf(index, len, bytes))
}

/// Values of windows, in order, on their way to the digest.
#[derive(Debug, Default)]
pub struct Tree {
    /// Whole subtrees, each at least twice as large as the next.
    stack: Vec<Leaf>,
    count: u64,
}

impl Tree {
    /// Takes the value of the next window.
    pub fn push(&mut self, leaf: Leaf) {
        // The last two subtrees are left apart until it is known that they are not the root's own.
        while to_u64(self.stack.len()) > u64::from(self.count.count_ones()) {
            self.merge();
        }
        self.stack.push(leaf);
        self.count = self.count.saturating_add(1);
    }

    fn merge(&mut self) {
        if let (Some(right), Some(left)) = (self.stack.pop(), self.stack.pop()) {
            self.stack.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
        }
    }

    /// The digest of all that was pushed.
    pub fn finish(mut self) -> Digest {
        while self.stack.len() > 2 {
            self.merge();
        }
        match self.stack.as_slice() {
            [] => blake3::hash(&[]),
            [left, right] => merge_subtrees_root(left, right, Mode::Hash),
            [only, ..] => Digest::from_bytes(*only),
        }
    }
}

/// The values of all windows of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaves {
    len: Len,
    leaves: Vec<Leaf>,
}

impl Leaves {
    /// Of a disk of `len` bytes.
    pub(crate) const fn new(len: Len, leaves: Vec<Leaf>) -> Self {
        Self { len, leaves }
    }

    /// The digest of the disk.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut tree = Tree::default();
        self.leaves.iter().for_each(|leaf| tree.push(*leaf));
        tree.finish()
    }

    /// What a patch says about a disk.
    pub(crate) fn facts(&self) -> BaseFacts {
        BaseFacts { len: self.len, digest: self.digest() }
    }

    /// One after the other.
    pub(crate) fn values(&self) -> &[Leaf] {
        &self.leaves
    }

    /// The length of the disk.
    #[must_use]
    pub const fn len(&self) -> Len {
        self.len
    }

    /// Whether the disk has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len.is_zero()
    }

    /// The value of window `index` as a part of a disk of `len` bytes, where that is the same.
    pub(crate) fn as_part_of(&self, index: u64, len: Len) -> Option<Leaf> {
        let same = window(index, self.len) == window(index, len);
        let alone = (windows(self.len) <= 1) == (windows(len) <= 1);
        self.leaves.get(ondisk::num::to_usize(index)).copied().filter(|_| same && alone)
    }
}

/// Reads a disk and hashes it, on all threads.
///
/// # Errors
/// Where it cannot be read, or the operator interrupts.
pub fn survey(disk: &dyn ReadAt, name: &str, cx: &Cx<'_>) -> Result<Leaves> {
    let len = disk.len();
    let mut leaves = Vec::new();
    let look = |index, bytes: Option<&[u8]>| leaf_of(index, len, bytes);
    each_window(disk, name, cx, look, |batch| leaves.extend(batch))?;
    Ok(Leaves { len, leaves })
}

/// Does `work` with every window of a disk, on all threads of the pool around, and gives the results to `sink`, in
/// order. What is known to be zero is not read; a window that is nothing else comes without bytes.
pub fn each_window<T: Send>(
    disk: &dyn ReadAt,
    name: &str,
    cx: &Cx<'_>,
    work: impl Fn(u64, Option<&[u8]>) -> T + Sync,
    mut sink: impl FnMut(Vec<T>),
) -> Result<()> {
    let (count, len) = (windows(disk.len()), disk.len());
    refuse_huge("a disk", len)?;
    let task = cx.progress.task(name, Total::Bytes(len));
    let pool = Pool::new();
    let mut first = 0_u64;
    while first < count {
        cx.cancel.check()?;
        let last = first.saturating_add(BATCH).min(count);
        let one = |index: u64| {
            let span = window(index, len);
            let map = disk.extents(span)?;
            if map.iter().all(|extent| extent.kind.reads_zero()) {
                return Ok(work(index, None));
            }
            let mut bytes = pool.sized("a window", span.len(), &cx.limits)?;
            fill_by(&map, disk, span, &mut bytes)?;
            Ok::<T, disk::Error>(work(index, Some(&bytes)))
        };
        let made: Vec<T> = (first..last).into_par_iter().map(one).collect::<disk::Result<_>>()?;
        sink(made);
        task.advance(window(last, len).start().since(window(first, len).start()).map_or(0, Len::get));
        first = last;
    }
    Ok(())
}

/// Reads `span`, but not what is known to be zero.
pub fn fill(disk: &dyn ReadAt, span: Span, bytes: &mut [u8]) -> disk::Result<()> {
    fill_by(&disk.extents(span)?, disk, span, bytes)
}

fn fill_by(map: &ExtentMap, disk: &dyn ReadAt, span: Span, bytes: &mut [u8]) -> disk::Result<()> {
    for extent in map.iter() {
        let Some(place) = extent.span.relative_to(span.start()) else { continue };
        let range = place.start().get()..place.end().get();
        let range = ondisk::num::to_usize(range.start)..ondisk::num::to_usize(range.end);
        let part = bytes.get_mut(range).unwrap_or_default();
        if extent.kind.reads_zero() {
            part.fill(0);
        } else {
            disk.read_at(extent.span.start(), part)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ondisk::num::{low8, to_usize};

    /// The tree over windows yields what hashing all bytes yields, whatever the number of windows.
    #[test]
    fn the_digest_is_that_of_the_bytes() {
        let bytes: Vec<u8> = (0..9 * WINDOW.get() + 5).map(|at| low8(at / 7 % 251)).collect();
        let mib = WINDOW.to_usize();
        let lengths = (0..10).flat_map(|n| [n * mib, n * mib + 1, (n * mib).saturating_sub(1)]);
        for len in lengths.filter(|len| *len <= bytes.len()) {
            let part = &bytes[..len];
            let disk_len = Len::new(to_u64(len));
            let leaves = (0..windows(disk_len))
                .map(|index| {
                    let span = window(index, disk_len);
                    let range = to_usize(span.start().get())..to_usize(span.end().get());
                    leaf(index, disk_len, &part[range])
                })
                .collect();
            assert_eq!(Leaves { len: disk_len, leaves }.digest(), blake3::hash(part), "{len} bytes");
            for index in 0..windows(disk_len) {
                let zeros = vec![0; window(index, disk_len).len().to_usize()];
                assert_eq!(leaf_of_zeros(index, disk_len), leaf(index, disk_len, &zeros));
            }
        }
    }
}
