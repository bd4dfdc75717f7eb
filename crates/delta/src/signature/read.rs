//! A signature that is read.

use super::layout::{BLOCK, Block, END_MAGIC, End, Header, MAGIC, Run, VERSION};
use crate::digest::{Digest, Leaves, windows};
use crate::error::{Error, Result};
use crate::format::patch::{BaseFacts, refuse_huge};
use disk::{Cx, ReadAt, read_record};
use ondisk::num::to_u64;
use ondisk::{Len, Offset, Span};
use std::mem::{offset_of, size_of};
use zerocopy::FromBytes;

/// Bytes that are read at once.
const CHUNK: Len = Len::mib(1);

/// A run of blocks, and where its records begin among all.
#[derive(Clone, Copy, Debug)]
struct Place {
    first: u64,
    count: u64,
    record: u64,
}

/// The signature of a disk. Values of windows and runs of blocks are at hand, blocks are read when they are needed.
#[derive(Debug)]
pub struct Signature<D> {
    file: D,
    leaves: Leaves,
    facts: BaseFacts,
    places: Vec<Place>,
    blocks: u64,
}

/// Where the records of blocks begin.
const BLOCKS: Offset = Offset::new(32);

impl<D: ReadAt> Signature<D> {
    /// Opens the signature in `file`, and compares it with its digest.
    ///
    /// # Errors
    /// Where it is none, is cut or altered, has a version that is not known, or needs more memory than allowed.
    pub fn open(file: D, cx: &Cx<'_>) -> Result<Self> {
        let none = || Error::NoSignature { why: "it does not begin and end like one" };
        let least = to_u64(size_of::<Header>().saturating_add(size_of::<End>()));
        let end_at = file.len().get().checked_sub(to_u64(size_of::<End>())).map(Offset::new);
        let end_at = end_at.filter(|_| file.len().get() >= least).ok_or_else(none)?;
        let header: Header = read_record(&file, Offset::ZERO)?;
        let end: End = read_record(&file, end_at)?;
        if header.magic != MAGIC || end.magic != END_MAGIC {
            return Err(none());
        }
        if header.version.get() != VERSION {
            return Err(Error::SignatureVersion { found: header.version.get(), known: VERSION });
        }
        let damaged = |why| Error::NoSignature { why };
        if header.flags.get() != 0 || header.block.get() != ondisk::num::low32(to_u64(BLOCK)) {
            return Err(damaged("it asks for what is not known"));
        }
        let len = Len::new(header.len.get());
        refuse_huge("a disk", len)?;
        let sizes = Sizes { blocks: end.blocks.get(), windows: windows(len), runs: end.runs.get() };
        let [leaves_at, runs_at, behind] = sizes.places().ok_or_else(|| damaged("its parts are too long"))?;
        if behind != end_at {
            return Err(damaged("its parts do not have its length"));
        }
        if whole(&file, end_at, &end, cx)? != end.digest {
            return Err(damaged("it does not have its digest"));
        }
        let mut bytes = cx.limits.buffer("the windows of a signature", between(leaves_at, runs_at))?;
        file.read_at(leaves_at, &mut bytes)?;
        let leaves = Leaves::new(len, bytes.as_chunks().0.to_vec());
        let facts = BaseFacts { len, digest: Digest::from_bytes(end.disk) };
        if leaves.digest() != facts.digest {
            return Err(damaged("the values of its windows do not lead to the digest of its disk"));
        }
        let mut bytes = cx.limits.buffer("the runs of a signature", between(runs_at, behind))?;
        file.read_at(runs_at, &mut bytes)?;
        let runs =
            <[Run]>::ref_from_bytes(&bytes).map_err(|_| damaged("its parts do not have its length"))?;
        let places = places(runs, sizes.blocks, len).ok_or_else(|| damaged("its blocks are out of order"))?;
        Ok(Self { file, leaves, facts, places, blocks: sizes.blocks })
    }

    /// What a patch says about the disk.
    pub const fn facts(&self) -> BaseFacts {
        self.facts
    }

    /// The values of its windows.
    pub(crate) const fn leaves(&self) -> &Leaves {
        &self.leaves
    }

    /// How many blocks are told.
    pub(crate) const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The file, to compare with.
    pub(crate) const fn file(&self) -> &D {
        &self.file
    }

    /// Tells the rolling checksums of all blocks, in order, many at once, with the number of the first.
    pub(crate) fn each(&self, cx: &Cx<'_>, mut tell: impl FnMut(u64, &[Block])) -> Result<()> {
        let all = Span::new(BLOCKS, Len::new(self.blocks.saturating_mul(to_u64(size_of::<Block>()))));
        let mut number = 0_u64;
        for chunk in all.unwrap_or_default().chunks(CHUNK) {
            cx.cancel.check()?;
            let mut bytes = vec![0; chunk.len().to_usize()];
            self.file.read_at(chunk.start(), &mut bytes)?;
            let blocks = <[Block]>::ref_from_bytes(&bytes).unwrap_or_default();
            tell(number, blocks);
            number = number.saturating_add(to_u64(blocks.len()));
        }
        Ok(())
    }

    /// Where the strong hash of a record stands in the file.
    pub(crate) fn strong_at(record: u64) -> u64 {
        let within = to_u64(offset_of!(Block, strong));
        record.saturating_mul(to_u64(size_of::<Block>())).saturating_add(BLOCKS.get()).saturating_add(within)
    }

    /// The record of a block, if it is told.
    pub(crate) fn record_of(&self, block: u64) -> Option<u64> {
        let last = self.places.partition_point(|place| place.first <= block).checked_sub(1)?;
        let place = self.places.get(last)?;
        let within = block.saturating_sub(place.first);
        (within < place.count).then_some(place.record.saturating_add(within))
    }

    /// The block of a record.
    pub(crate) fn block_of(&self, record: u64) -> Option<u64> {
        let last = self.places.partition_point(|place| place.record <= record).checked_sub(1)?;
        let place = self.places.get(last)?;
        Some(place.first.saturating_add(record.saturating_sub(place.record)))
    }
}

struct Sizes {
    blocks: u64,
    windows: u64,
    runs: u64,
}

impl Sizes {
    /// Where the values of windows begin, where the runs, and what is behind.
    fn places(&self) -> Option<[Offset; 3]> {
        let of = |count: u64, size: usize| count.checked_mul(to_u64(size)).map(Len::new);
        let leaves = BLOCKS.checked_add(of(self.blocks, size_of::<Block>())?)?;
        let runs = leaves.checked_add(of(self.windows, 32)?)?;
        Some([leaves, runs, runs.checked_add(of(self.runs, size_of::<Run>())?)?])
    }
}

fn between(start: Offset, end: Offset) -> Len {
    end.since(start).unwrap_or_default()
}

/// The digest of all that lies under it.
fn whole<D: ReadAt>(file: &D, end_at: Offset, end: &End, cx: &Cx<'_>) -> Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    for chunk in Span::between(Offset::ZERO, end_at).unwrap_or_default().chunks(CHUNK) {
        cx.cancel.check()?;
        let mut bytes = vec![0; chunk.len().to_usize()];
        file.read_at(chunk.start(), &mut bytes)?;
        hasher.update(&bytes);
    }
    hasher.update(end.sealed());
    Ok(*hasher.finalize().as_bytes())
}

/// Runs, in order and on the disk, with all blocks.
fn places(runs: &[Run], blocks: u64, len: Len) -> Option<Vec<Place>> {
    let most = len.get() >> BLOCK.ilog2();
    let (mut places, mut next, mut record) = (Vec::new(), 0, 0_u64);
    for run in runs {
        let (first, count) = (run.first.get(), run.count.get());
        let end = first.checked_add(count).filter(|end| *end <= most && count > 0 && first >= next)?;
        places.push(Place { first, count, record });
        record = record.checked_add(count)?;
        next = end;
    }
    (record == blocks).then_some(places)
}

impl<D> Signature<D> {
    /// Bytes of the disk.
    pub const fn len(&self) -> Len {
        self.facts.len
    }

    /// Whether the disk has no bytes.
    pub const fn is_empty(&self) -> bool {
        self.facts.len.is_zero()
    }
}
