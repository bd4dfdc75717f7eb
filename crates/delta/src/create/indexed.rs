//! The bases of a patch with their index, read now or kept from the last time.
//!
//! An index that was kept is a hint, whoever has written it: what it leads to is compared byte by byte, and what has not
//! changed is told by the values of the bases' windows, which come from elsewhere. A wrong one makes a larger patch.

use super::index::Index;
use super::pairs::Pairs;
use super::table::Table;
use crate::digest::Leaves;
use crate::error::Result;
use crate::format::layout::{self, INDEX_MAGIC};
use disk::{Cx, ReadAt, read_record};
use ondisk::num::to_u64;
use ondisk::{Len, Offset};
use std::io::{self, Write};
use std::mem::size_of;
use zerocopy::IntoBytes;

/// Bytes of the digest at the end.
const DIGEST: usize = 32;

/// Where in the bases which bytes are, and the values of their windows.
pub struct Indexed {
    pub(crate) index: Index,
    pub(crate) leaves: Vec<Leaves>,
    pub(crate) pairs: Pairs,
}

impl Indexed {
    /// Reads all bases. The index takes a quarter of the memory.
    ///
    /// # Errors
    /// Where one cannot be read, memory does not suffice, or the operator interrupts.
    pub fn of(bases: &[&dyn ReadAt], cx: &Cx<'_>) -> Result<Self> {
        let (index, leaves) = Index::of(bases, room(cx), cx)?;
        Ok(Self { index, leaves, pairs: Pairs::default() })
    }

    /// Takes the index that `file` keeps, if it is whole, of these bases in this order, and as [`Indexed::of`] would make
    /// it. `leaves` are the values of their windows.
    ///
    /// # Errors
    /// Where the file or a map of the bases cannot be read, memory does not suffice, or the operator interrupts.
    pub fn kept(
        file: &dyn ReadAt,
        bases: &[&dyn ReadAt],
        leaves: Vec<Leaves>,
        cx: &Cx<'_>,
    ) -> Result<Option<Self>> {
        let mut index = Index::empty(bases, room(cx), cx)?;
        let head = head(&index, &leaves);
        let slots = Len::new(to_u64(index.table.slots().len()).saturating_mul(8));
        let digest = Len::new(to_u64(DIGEST));
        let ends = [Len::of(&head), slots, digest].into_iter().try_fold(Len::ZERO, Len::checked_add);
        if ends != Some(file.len()) {
            return Ok(None);
        }
        let mut there = vec![0; head.len()];
        file.read_at(Offset::ZERO, &mut there)?;
        if there != head {
            return Ok(None);
        }
        file.read_at(Len::of(&head).end(), index.table.slots_mut().as_mut_bytes())?;
        let mut told = [0; DIGEST];
        file.read_at(file.len().saturating_sub(digest).end(), &mut told)?;
        cx.cancel.check()?;
        let whole = digest_of(&head, &index.table).as_bytes() == &told;
        index.table.slots_mut().iter_mut().for_each(|slot| *slot = u64::from_le(*slot));
        Ok(whole.then(|| Self { index, leaves, pairs: Pairs::default() }))
    }

    /// Writes the index for the next time.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let head = head(&self.index, &self.leaves);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&head);
        out.write_all(&head)?;
        for slots in self.index.table.slots().chunks(4096) {
            let slots: Vec<u64> = slots.iter().map(|slot| slot.to_le()).collect();
            hasher.update(slots.as_bytes());
            out.write_all(slots.as_bytes())?;
        }
        out.write_all(hasher.finalize().as_bytes())?;
        out.flush()
    }

    /// With what is known of older versions of the target's files.
    #[must_use]
    pub fn paired(self, pairs: Pairs) -> Self {
        Self { pairs, ..self }
    }

    /// The values of the windows of each base.
    #[must_use]
    pub fn leaves(&self) -> &[Leaves] {
        &self.leaves
    }
}

/// Whether a file begins as one that [`Indexed::write`] has made.
///
/// # Errors
/// Where it cannot be read.
pub fn is_index(file: &dyn ReadAt) -> disk::Result<bool> {
    if file.len() < Len::new(to_u64(size_of::<layout::Index>())) {
        return Ok(false);
    }
    let head: layout::Index = read_record(file, Offset::ZERO)?;
    Ok(head.magic == INDEX_MAGIC)
}

/// What the index may take.
fn room(cx: &Cx<'_>) -> Len {
    Len::new(cx.limits.memory.get() >> 2)
}

/// What tells an index of these bases, made in this way, from any other.
fn head(index: &Index, leaves: &[Leaves]) -> Vec<u8> {
    let head = layout::Index {
        magic: INDEX_MAGIC,
        sparse: index.sparse().into(),
        bases: ondisk::num::low32(to_u64(leaves.len())).into(),
        slots: to_u64(index.table.slots().len()).into(),
    };
    let mut bytes = head.as_bytes().to_vec();
    for facts in leaves.iter().map(Leaves::facts) {
        let base = layout::Base { len: facts.len.get().into(), digest: *facts.digest.as_bytes() };
        bytes.extend(base.as_bytes());
    }
    bytes
}

/// The digest of a file with this head and these slots, as they stand there.
fn digest_of(head: &[u8], table: &Table) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(head);
    hasher.update(table.slots().as_bytes());
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create::{Literals, Options, create, create_indexed};
    use crate::format::codec::Codec;
    use disk::{Cancel, Disk, Limits, MemDisk, Quiet};

    const OPTIONS: Options = Options { codec: Codec::Zstd, level: 3, drop_free: false };

    fn with_cx<T>(memory: Len, look: impl FnOnce(&Cx<'_>) -> T) -> T {
        let limits = Limits { memory, threads: 2, ..Limits::default() };
        look(&Cx { progress: &Quiet, cancel: &Cancel::new(), limits, now: 0 })
    }

    /// A base, a target, and a patch as it is made without an index.
    fn disks(cx: &Cx<'_>) -> (MemDisk, MemDisk, Vec<u8>) {
        let base = MemDisk::from_bytes(&testkit::images::noise(1, 9 << 20));
        let mut target = MemDisk::from_bytes(&base.to_vec());
        target.write_at(Offset::new(5 << 20), &testkit::images::noise(2, 10_000)).unwrap();
        let moved = base.to_vec()[1000..400_000].to_vec();
        target.write_at(Offset::new((8 << 20) + 77), &moved).unwrap();
        let mut patch = Vec::new();
        create(&[&base], &target, OPTIONS, &mut patch, cx).unwrap();
        (base, target, patch)
    }

    #[test]
    fn what_was_kept_makes_the_same_patch() {
        with_cx(Len::mib(64), |cx| {
            let (base, target, patch) = disks(cx);
            let bases: [&dyn ReadAt; 1] = [&base];
            let made = Indexed::of(&bases, cx).unwrap();
            let mut file = Vec::new();
            made.write(&mut file).unwrap();
            let kept = |bytes: &[u8], leaves: &[Leaves], cx: &Cx<'_>| {
                Indexed::kept(&MemDisk::from_bytes(bytes), &bases, leaves.to_vec(), cx).unwrap()
            };
            let again = kept(&file, made.leaves(), cx).unwrap();
            let mut same = Vec::new();
            create_indexed(&again, &bases, &target, OPTIONS, &mut Literals::nowhere(), &mut same, cx)
                .unwrap();
            assert_eq!(same, patch);
            assert!(is_index(&MemDisk::from_bytes(&file)).unwrap());
            // Of another base, made with other memory, altered anywhere, cut.
            let other = crate::digest::survey(&target, "base", cx).unwrap();
            assert!(kept(&file, &[other], cx).is_none());
            with_cx(Len::mib(1), |less| assert!(kept(&file, made.leaves(), less).is_none()));
            for at in (0..file.len()).step_by(file.len() / 61).chain([file.len() - 1]) {
                let mut altered = file.clone();
                altered[at] ^= 4;
                assert!(kept(&altered, made.leaves(), cx).is_none(), "byte {at}");
                assert!(kept(&file[..at], made.leaves(), cx).is_none(), "cut to {at}");
            }
        });
    }

    /// Whoever writes an index cannot make a patch wrong: positions anywhere, under a right digest.
    #[test]
    fn a_lying_index_makes_no_wrong_patch() {
        with_cx(Len::mib(64), |cx| {
            let (base, target, patch) = disks(cx);
            let bases: [&dyn ReadAt; 1] = [&base];
            for lie in [0_u64, 1, 4095, (9 << 20) - 1, (9 << 20) + 3, 1 << 40, (1 << 48) - 1] {
                let mut indexed = Indexed::of(&bases, cx).unwrap();
                for slot in indexed.index.table.slots_mut() {
                    *slot = (*slot >> 48 << 48) | lie;
                }
                let mut larger = Vec::new();
                create_indexed(&indexed, &bases, &target, OPTIONS, &mut Literals::nowhere(), &mut larger, cx)
                    .unwrap();
                assert!(larger.len() > patch.len());
                let given = vec![(&base, crate::digest::survey(&base, "base", cx).unwrap())];
                let patch = crate::Patch::open(MemDisk::from_bytes(&larger), &cx.limits).unwrap();
                let made = crate::Patched::verified(patch, given, cx).unwrap();
                let mut bytes = vec![0; target.len().to_usize()];
                made.read_at(Offset::ZERO, &mut bytes).unwrap();
                assert!(bytes == target.to_vec(), "{lie}");
            }
        });
    }
}
