//! The validated superblock of the journal, and where the journal's blocks are.

use crate::Ext;
use crate::error::{Error, Part, Result};
use crate::layout::jbd2::{
    self as raw, COMPAT_CHECKSUM, INCOMPAT_64BIT, INCOMPAT_ASYNC_COMMIT, INCOMPAT_CSUM_V2, INCOMPAT_CSUM_V3,
    INCOMPAT_FAST_COMMIT, INCOMPAT_REVOKE, MAGIC, SUPERBLOCK_V1, SUPERBLOCK_V2,
};
use crate::read::inode::{ENCRYPT, Kind};
use crate::read::map::Run;
use crate::unit::{BlockCount, BlockNo, InodeNo};
use disk::ReadAt;
use ondisk::num::to_u64;
use ondisk::sum::crc32c;
use ondisk::{Len, Sealed};
use zerocopy::FromBytes;

/// Linux makes no smaller log.
const LOG_MIN: u32 = 1024;
/// `s_num_fc_blks` where it is 0.
const FAST_DEFAULT: u32 = 256;
/// `s_checksum_type`: CRC-32C.
const CSUM_CRC32C: u8 = 4;
const INCOMPAT_KNOWN: u32 = INCOMPAT_REVOKE
    | INCOMPAT_64BIT
    | INCOMPAT_ASYNC_COMMIT
    | INCOMPAT_CSUM_V2
    | INCOMPAT_CSUM_V3
    | INCOMPAT_FAST_COMMIT;

/// Which checksums the journal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// None.
    Plain,
    /// A CRC-32 of each transaction in its commit block.
    V1,
    /// A CRC-32C of every block, 16 bits of it in tags.
    V2,
    /// All 32 bits in tags.
    V3,
}

/// A journal inside its filesystem.
pub(super) struct Log<'a, D> {
    pub(super) fs: &'a Ext<D>,
    pub(super) raw: raw::Superblock,
    pub(super) version: Version,
    pub(super) wide: bool,
    pub(super) fast: bool,
    pub(super) asynchronous: bool,
    /// The first block of the log.
    pub(super) first: u32,
    /// The block behind the log.
    pub(super) end: u32,
    /// The block behind the journal.
    pub(super) len: u32,
    seed: u32,
    runs: Vec<Run>,
}

impl<'a, D: ReadAt> Log<'a, D> {
    /// Reads and validates the journal's superblock and the map of its inode.
    pub(super) fn open(fs: &'a Ext<D>, ino: InodeNo) -> Result<Self> {
        let (runs, blocks) = runs(fs, ino)?;
        let place = place(&runs, 0).ok_or(Error::broken(Part::Journal, "has no first block"))?;
        let block = fs.read_block(Part::Journal, place)?;
        let (raw, _) = raw::Superblock::read_from_prefix(&block)
            .map_err(|_| Error::broken(Part::Journal, "is shorter than its superblock"))?;
        check_head(&raw, fs.geom().block_size.bytes())?;
        let (compat, incompat) = features(&raw)?;
        let version = version(&raw, compat, incompat)?;
        let has = |bit: u32| incompat & bit != 0;
        let len = raw.s_maxlen.get();
        if u64::from(len) > blocks {
            let expected = format!("at most {blocks}, the blocks of inode {ino}");
            return Err(Error::field(Part::Journal, "s_maxlen", len, expected));
        }
        let fast = has(INCOMPAT_FAST_COMMIT);
        let mut end = len;
        if fast {
            let count = Some(raw.s_num_fc_blks.get()).filter(|&n| n != 0).unwrap_or(FAST_DEFAULT);
            end = len.checked_sub(count).filter(|&end| end >= LOG_MIN).unwrap_or(len);
        }
        let first = raw.s_first.get();
        if first == 0 || end.saturating_sub(first) < LOG_MIN.saturating_sub(1) {
            let expected = format!("1 to {}", end.saturating_sub(LOG_MIN.saturating_sub(1)));
            return Err(Error::field(Part::Journal, "s_first", first, expected));
        }
        let (wide, asynchronous) = (has(INCOMPAT_64BIT), has(INCOMPAT_ASYNC_COMMIT));
        let seed = crc32c(!0, &raw.s_uuid);
        Ok(Self { fs, raw, version, wide, fast, asynchronous, first, end, len, seed, runs })
    }

    /// Where a block of the journal is.
    pub(super) fn place(&self, block: u32) -> Result<BlockNo> {
        let there = place(&self.runs, u64::from(block)).filter(|_| block < self.len);
        there.ok_or(Error::broken(Part::JournalBlock(block), "is a hole in the journal"))
    }

    /// Reads a block of the journal.
    pub(super) fn read(&self, block: u32) -> Result<Vec<u8>> {
        self.fs.read_block(Part::JournalBlock(block), self.place(block)?)
    }

    /// Whether a block of the filesystem belongs to the journal.
    pub(super) fn owns(&self, block: BlockNo) -> bool {
        self.runs.iter().any(|run| block >= run.start && block < run.start.plus(run.count.0))
    }

    /// Whether blocks carry checksums of their own.
    pub(super) const fn sums_blocks(&self) -> bool {
        matches!(self.version, Version::V2 | Version::V3)
    }

    /// Bytes at the end of descriptor and revoke blocks that are their checksum.
    pub(super) const fn tail_len(&self) -> usize {
        if self.sums_blocks() { size_of::<raw::BlockTail>() } else { 0 }
    }

    /// Whether the checksum at the end of a descriptor or revoke block is right.
    pub(super) fn tail_is_right(&self, block: &[u8]) -> bool {
        if !self.sums_blocks() {
            return true;
        }
        let Some((body, tail)) = block.split_last_chunk::<4>() else { return false };
        crc32c(crc32c(self.seed, body), &[0; 4]) == u32::from_be_bytes(*tail)
    }

    /// Whether the checksum of a commit block is right (not that of the whole transaction in version 1).
    pub(super) fn commit_is_right(&self, block: &[u8], commit: &raw::Commit) -> bool {
        if !self.sums_blocks() {
            return true;
        }
        let at = core::mem::offset_of!(raw::Commit, h_chksum);
        let head = crc32c(self.seed, block.get(..at).unwrap_or_default());
        let sum = crc32c(crc32c(head, &[0; 4]), block.get(at.saturating_add(4)..).unwrap_or_default());
        let [stored, ..] = commit.h_chksum;
        sum == stored.get()
    }

    /// The checksum of a block's copy in the log, as tags store it.
    pub(super) fn data_sum(&self, tid: u32, block: &[u8]) -> u32 {
        let sum = crc32c(crc32c(self.seed, &tid.to_be_bytes()), block);
        if self.version == Version::V2 { sum & 0xffff } else { sum }
    }

    /// The superblock of an empty journal that goes on behind transaction `end`.
    pub(super) fn emptied(&self, end: u32) -> raw::Superblock {
        let mut raw = self.raw;
        raw.s_start.set(0);
        raw.s_sequence.set(end.wrapping_add(1));
        raw.s_errno.set(0);
        if self.sums_blocks() {
            raw.seal(&());
        }
        raw
    }
}

/// The runs of the journal's inode in order, and how many blocks it has.
fn runs<D: ReadAt>(fs: &Ext<D>, ino: InodeNo) -> Result<(Vec<Run>, u64)> {
    let part = Part::Journal;
    let inode = fs.inode(ino)?;
    if inode.kind() != Some(Kind::File) || inode.links() == 0 || inode.has(ENCRYPT) || !inode.has_map() {
        return Err(Error::broken(part, "is not in a plain file"));
    }
    let budget = fs.limits().budget("the map of the journal");
    let mut runs = Vec::new();
    for run in fs.map(&inode)? {
        budget.take(Len::new(to_u64(size_of::<Run>())))?;
        runs.push(run?);
    }
    let blocks = fs.geom().block_size.blocks_in(inode.size()).0;
    Ok((runs, blocks))
}

fn place(runs: &[Run], block: u64) -> Option<BlockNo> {
    let index = runs.partition_point(|run| run.at.0 <= block).checked_sub(1)?;
    let run = runs.get(index)?;
    let ahead = block.checked_sub(run.at.0).filter(|&ahead| BlockCount(ahead) < run.count)?;
    Some(run.start.plus(ahead))
}

fn check_head(raw: &raw::Superblock, block_size: u64) -> Result<()> {
    let (magic, kind) = (raw.s_header.h_magic.get(), raw.s_header.h_blocktype.get());
    if magic != MAGIC {
        return Err(Error::field(Part::Journal, "h_magic", magic, MAGIC));
    }
    if kind != SUPERBLOCK_V1 && kind != SUPERBLOCK_V2 {
        return Err(Error::field(Part::Journal, "h_blocktype", kind, "3 or 4"));
    }
    if u64::from(raw.s_blocksize.get()) != block_size {
        return Err(Error::field(Part::Journal, "s_blocksize", raw.s_blocksize.get(), block_size));
    }
    Ok(())
}

/// The features, none in the first form of the superblock.
fn features(raw: &raw::Superblock) -> Result<(u32, u32)> {
    if raw.s_header.h_blocktype.get() == SUPERBLOCK_V1 {
        return Ok((0, 0));
    }
    let incompat = raw.s_feature_incompat.get();
    if incompat & !INCOMPAT_KNOWN != 0 || raw.s_feature_ro_compat.get() != 0 {
        return Err(Error::Unsupported { part: Part::Journal, what: "a feature without a name" });
    }
    Ok((raw.s_feature_compat.get(), incompat))
}

fn version(raw: &raw::Superblock, compat: u32, incompat: u32) -> Result<Version> {
    let bits =
        (compat & COMPAT_CHECKSUM != 0, incompat & INCOMPAT_CSUM_V2 != 0, incompat & INCOMPAT_CSUM_V3 != 0);
    let version = match bits {
        (false, false, false) => Version::Plain,
        (true, false, false) => Version::V1,
        (false, true, false) => Version::V2,
        (false, false, true) => Version::V3,
        _ => return Err(Error::broken(Part::Journal, "has checksums of two versions")),
    };
    if matches!(version, Version::V2 | Version::V3) {
        if raw.s_checksum_type != CSUM_CRC32C {
            return Err(Error::field(Part::Journal, "s_checksum_type", raw.s_checksum_type, CSUM_CRC32C));
        }
        raw.verify(&()).map_err(Error::checksum(Part::Journal))?;
    }
    Ok(version)
}
