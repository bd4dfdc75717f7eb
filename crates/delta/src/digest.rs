//! BLAKE3 of a disk, by windows.
//!
//! BLAKE3 is a tree. The value of the subtree over each aligned window of 4 MiB can be computed by itself, and the
//! digest of the disk follows from these values: windows are hashed by all threads, and one that is known need not be
//! hashed again.

use crate::error::Result;
use crate::format::patch::{BaseFacts, refuse_huge};
use blake3::Hasher;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use disk::{Cx, ReadAt, Total};
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
    each_window(disk, name, cx, |index, bytes| leaf(index, len, bytes), |batch| leaves.extend(batch))?;
    Ok(Leaves { len, leaves })
}

/// Does `work` with every window of a disk, on all threads of the pool around, and gives the results to `sink`, in
/// order. What is known to be zero is not read.
pub fn each_window<T: Send>(
    disk: &dyn ReadAt,
    name: &str,
    cx: &Cx<'_>,
    work: impl Fn(u64, &[u8]) -> T + Sync,
    mut sink: impl FnMut(Vec<T>),
) -> Result<()> {
    let (count, len) = (windows(disk.len()), disk.len());
    refuse_huge("a disk", len)?;
    let task = cx.progress.task(name, Total::Bytes(len));
    let mut first = 0_u64;
    while first < count {
        cx.cancel.check()?;
        let last = first.saturating_add(BATCH).min(count);
        let one = |buffer: &mut Vec<u8>, index: u64| {
            if buffer.is_empty() {
                *buffer = cx.limits.buffer("a window", WINDOW)?;
            }
            let span = window(index, len);
            let bytes = buffer.get_mut(..span.len().to_usize()).unwrap_or_default();
            fill(disk, span, bytes)?;
            Ok::<T, disk::Error>(work(index, bytes))
        };
        let made: Vec<T> =
            (first..last).into_par_iter().map_init(Vec::new, one).collect::<disk::Result<_>>()?;
        sink(made);
        task.advance(window(last, len).start().since(window(first, len).start()).map_or(0, Len::get));
        first = last;
    }
    Ok(())
}

/// Reads `span`, but not what is known to be zero.
pub fn fill(disk: &dyn ReadAt, span: Span, bytes: &mut [u8]) -> disk::Result<()> {
    for extent in disk.extents(span)?.iter() {
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
        }
    }
}
