//! Three walks through the log: where it ends, what is revoked, what is to be written.

use super::log::{Log, Version};
use crate::error::{Error, Part, Result};
use crate::layout::jbd2::{COMMIT, Commit, DESCRIPTOR, Header, MAGIC, REVOKE};
use crate::unit::BlockNo;
use disk::{Budget, Limits, ReadAt};

use ondisk::sum::crc32_be;
use ondisk::{Len, Mismatch};
use std::collections::{BTreeMap, HashMap};
use zerocopy::FromBytes;

/// `h_chksum_type` and `h_chksum_size` of version 1.
const CRC32: (u8, u8) = (1, 4);
/// What an entry of a map takes, roughly.
const ENTRY: Len = Len::new(64);

/// The last copy of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// The block of the journal that holds it.
    pub(super) at: u32,
    /// Its first four bytes are to be the magic number.
    pub(super) escaped: bool,
}

/// A block of the log that is the journal's own.
struct Record {
    at: u32,
    kind: u32,
    bytes: Vec<u8>,
}

/// A walk through the log.
struct Cursor<'a, D> {
    log: &'a Log<'a, D>,
    at: u32,
    tid: u32,
    /// Blocks of the log that the walk has not come by.
    left: u32,
}

impl<'a, D: ReadAt> Cursor<'a, D> {
    fn new(log: &'a Log<'a, D>) -> Result<Self> {
        let (at, tid) = (log.raw.s_start.get(), log.raw.s_sequence.get());
        if at < log.first || at >= log.end {
            let expected = format!("0, or {} to {}", log.first, log.end.saturating_sub(1));
            return Err(Error::field(Part::Journal, "s_start", at, expected));
        }
        Ok(Self { log, at, tid, left: log.end.saturating_sub(log.first) })
    }

    /// Passes a block and says which.
    fn step(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        let at = self.at;
        let next = at.saturating_add(1);
        self.at = if next >= self.log.end { self.log.first } else { next };
        Some(at)
    }

    /// The next record of the present transaction; `None` at the end of what was written.
    fn next(&mut self) -> Result<Option<Record>> {
        let Some(at) = self.step() else { return Ok(None) };
        let bytes = self.log.read(at)?;
        let Ok((head, _)) = Header::ref_from_prefix(&bytes) else { return Ok(None) };
        let kind = head.h_blocktype.get();
        let ours = head.h_magic.get() == MAGIC && head.h_sequence.get() == self.tid;
        let known = matches!(kind, DESCRIPTOR | COMMIT | REVOKE);
        Ok((ours && known).then_some(Record { at, kind, bytes }))
    }
}

/// What the first walk remembers.
#[derive(Default)]
struct Doubt {
    /// A descriptor or revoke block of the present transaction has a wrong checksum.
    block: bool,
    /// When the last transaction was committed.
    time: u64,
    /// The first transaction whose own checksum is wrong, where commits may come early.
    failed: Option<u32>,
}

/// What a commit block means for the end of the log.
enum Verdict {
    Good,
    /// Left over from an earlier round.
    Stale,
    /// Perhaps the last one, cut short.
    Cut,
}

/// The transaction behind the last one that counts.
pub(super) fn end<D: ReadAt>(log: &Log<'_, D>) -> Result<u32> {
    let mut cursor = Cursor::new(log)?;
    let mut doubt = Doubt::default();
    let mut crc = !0;
    while let Some(record) = cursor.next()? {
        if record.kind != COMMIT {
            doubt.block |= !log.tail_is_right(&record.bytes);
        }
        match record.kind {
            DESCRIPTOR => {
                crc = crc32_of(log, crc, &record.bytes);
                for _ in 0..log.targets(&record.bytes).len() {
                    let Some(at) = cursor.step() else { break };
                    if log.version == Version::V1 && doubt.failed.is_none() {
                        crc = crc32_of(log, crc, &log.read(at)?);
                    }
                }
            }
            COMMIT => {
                match judge(log, &record, &doubt, crc)? {
                    Verdict::Good => {}
                    Verdict::Stale => break,
                    Verdict::Cut => doubt.failed = Some(cursor.tid),
                }
                doubt.time = commit(&record)?.h_commit_sec.get();
                crc = !0;
                cursor.tid = cursor.tid.wrapping_add(1);
            }
            _ => {}
        }
    }
    Ok(doubt.failed.unwrap_or(cursor.tid))
}

fn crc32_of<D: ReadAt>(log: &Log<'_, D>, crc: u32, bytes: &[u8]) -> u32 {
    if log.version == Version::V1 { crc32_be(crc, bytes) } else { crc }
}

fn commit(record: &Record) -> Result<Commit> {
    let head = Commit::read_from_prefix(&record.bytes).map(|(head, _)| head);
    head.map_err(|_| Error::broken(Part::JournalBlock(record.at), "is shorter than its header"))
}

/// A wrong checksum is damage, unless the clock shows that the block is from an earlier round, or commits were allowed
/// to reach the disk before their transactions.
fn judge<D: ReadAt>(log: &Log<'_, D>, record: &Record, doubt: &Doubt, crc: u32) -> Result<Verdict> {
    let commit = commit(record)?;
    let part = Part::JournalBlock(record.at);
    let stale = commit.h_commit_sec.get() < doubt.time;
    if doubt.block {
        let problem = "commits a transaction of which a block has a wrong checksum";
        return if stale { Ok(Verdict::Stale) } else { Err(Error::broken(part, problem)) };
    }
    let [stored, ..] = commit.h_chksum;
    let kind = (commit.h_chksum_type, commit.h_chksum_size);
    let good = match log.version {
        Version::Plain => true,
        Version::V1 => kind == CRC32 && stored.get() == crc || kind == (0, 0) && stored.get() == 0,
        Version::V2 | Version::V3 => log.commit_is_right(&record.bytes, &commit),
    };
    let second = doubt.failed.is_some() && (log.version == Version::V1 || !good);
    match good {
        _ if second => Err(Error::broken(part, "commits a transaction behind one with a wrong checksum")),
        true => Ok(Verdict::Good),
        false if stale => Ok(Verdict::Stale),
        false if log.asynchronous => Ok(Verdict::Cut),
        false => Err(Error::broken(part, "commits a transaction with a wrong checksum")),
    }
}

/// Blocks and the last transaction that revokes them.
pub(super) fn revokes<D: ReadAt>(
    log: &Log<'_, D>,
    end: u32,
    limits: &Limits,
) -> Result<HashMap<BlockNo, u32>> {
    let budget = limits.budget("the revoked blocks of the journal");
    let mut all = HashMap::new();
    each(log, end, |cursor, record| {
        if record.kind == REVOKE {
            for block in log.revoked(record.at, &record.bytes)? {
                budget.take(ENTRY)?;
                all.insert(block, cursor.tid);
            }
        } else if record.kind == DESCRIPTOR {
            for _ in 0..log.targets(&record.bytes).len() {
                cursor.step();
            }
        }
        Ok(())
    })?;
    Ok(all)
}

/// Blocks and their last copy that is not revoked.
pub(super) fn copies<D: ReadAt>(
    log: &Log<'_, D>,
    end: u32,
    revoked: &HashMap<BlockNo, u32>,
    limits: &Limits,
) -> Result<BTreeMap<BlockNo, Source>> {
    let budget = limits.budget("the blocks of the journal");
    let mut all = BTreeMap::new();
    each(log, end, |cursor, record| {
        if record.kind == DESCRIPTOR {
            copies_of(log, cursor, &record, revoked, &budget, &mut all)?;
        }
        Ok(())
    })?;
    Ok(all)
}

fn copies_of<D: ReadAt>(
    log: &Log<'_, D>,
    cursor: &mut Cursor<'_, D>,
    record: &Record,
    revoked: &HashMap<BlockNo, u32>,
    budget: &Budget,
    all: &mut BTreeMap<BlockNo, Source>,
) -> Result<()> {
    for target in log.targets(&record.bytes) {
        let Some(at) = cursor.step() else { break };
        let later = revoked.get(&target.block).is_some_and(|&tid| !is_behind(cursor.tid, tid));
        if later {
            continue;
        }
        if log.sums_blocks() {
            let computed = log.data_sum(cursor.tid, &log.read(at)?);
            if computed != target.sum {
                let mismatch = Mismatch { stored: target.sum.into(), computed: computed.into() };
                return Err(Error::checksum(Part::JournalBlock(at))(mismatch));
            }
        }
        budget.take(ENTRY)?;
        all.insert(target.block, Source { at, escaped: target.escaped });
    }
    Ok(())
}

/// Whether transaction `a` came after `b`; numbers wrap.
pub(super) const fn is_behind(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

/// Visits the records of all transactions up to `end`; the visitor passes the data of descriptors.
fn each<D: ReadAt>(
    log: &Log<'_, D>,
    end: u32,
    mut visit: impl FnMut(&mut Cursor<'_, D>, Record) -> Result<()>,
) -> Result<()> {
    let mut cursor = Cursor::new(log)?;
    while cursor.tid != end {
        let Some(record) = cursor.next()? else {
            return Err(Error::broken(Part::JournalBlock(cursor.at), "was there a moment ago"));
        };
        if record.kind == COMMIT {
            cursor.tid = cursor.tid.wrapping_add(1);
        } else {
            visit(&mut cursor, record)?;
        }
    }
    Ok(())
}
