//! Writing a journal: once, front to back, in large pieces.

use super::layout::{COMMIT_MAGIC, Commit, Entry, Header, JOURNAL_MAGIC, UNDO_MAGIC, VERSION};
use super::{Head, Journal, Record, Role, SECTOR, What, sectors, sum};
use crate::{Dev, Error, Limits, Result};
use ondisk::num::{low32, to_u64};
use ondisk::{Len, Offset, Span};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromZeros, IntoBytes};

/// Collected bytes are written when there are this many.
const PIECE: usize = 1 << 20;

/// A journal under way.
pub(crate) struct Writer {
    dev: Box<dyn Dev>,
    head: Head,
    records: Vec<Record>,
    hasher: blake3::Hasher,
    buf: Vec<u8>,
    /// Where `buf` goes.
    at: Offset,
    memory: crate::Budget,
}

impl Writer {
    pub fn new(dev: Box<dyn Dev>, role: Role, head: Head, limits: &Limits) -> Result<Self> {
        let mut header = Header::new_zeroed();
        header.magic = match role {
            Role::Journal => JOURNAL_MAGIC,
            Role::Undo => UNDO_MAGIC,
        };
        header.version = U32::new(VERSION);
        header.old_len = U64::new(head.old_len.get());
        header.new_len = U64::new(head.new_len.get());
        header.device = U64::new(head.identity.device);
        header.inode = U64::new(head.identity.inode);
        header.created = U64::new(head.created);
        let about = head.about.get(..head.about.len().min(header.about.len())).unwrap_or_default();
        header.about_len = U32::new(low32(to_u64(about.len())));
        header.about.iter_mut().zip(about).for_each(|(to, from)| *to = *from);
        let mut writer = Self {
            dev,
            head,
            records: Vec::new(),
            hasher: blake3::Hasher::new(),
            buf: Vec::new(),
            at: Offset::ZERO,
            memory: limits.budget("the journal's table"),
        };
        writer.put(header.as_bytes())?;
        Ok(writer)
    }

    /// A fresh range and what will be there.
    pub fn fresh(&mut self, span: Span, new: &[u8]) -> Result<()> {
        let summed = if span.start() < self.head.old_len.end() { new } else { &[] };
        self.record(What::Fresh, span, &[], summed, blake3::hash(new).into())
    }

    /// A range that is poured before the commit point.
    pub fn poured(&mut self, span: Span, shadowed: bool) -> Result<()> {
        let what = if shadowed { What::Shadowed } else { What::Poured };
        self.record(what, span, &[], &[], [0; 32])
    }

    /// A home range, what will be there, and what is there.
    pub fn home(&mut self, span: Span, new: &[u8], old: &[u8]) -> Result<()> {
        if new.iter().all(|&byte| byte == 0) {
            self.record(What::HomeZero, span, &[], old, [0; 32])
        } else {
            self.record(What::Home, span, new, old, [0; 32])
        }
    }

    /// Bytes that will be cut off.
    pub fn tail(&mut self, span: Span, bytes: &[u8]) -> Result<()> {
        self.record(What::Tail, span, bytes, &[], [0; 32])
    }

    fn record(
        &mut self,
        what: What,
        span: Span,
        bytes: &[u8],
        summed: &[u8],
        digest: [u8; 32],
    ) -> Result<()> {
        self.memory.take(Len::new(to_u64(size_of::<Record>())))?;
        let bytes = self.put(bytes)?;
        let mut sums = Vec::new();
        sectors(span, summed).for_each(|(_, sector)| sums.extend(sum(sector).to_le_bytes()));
        let sums = self.put(&sums)?;
        self.records.push(Record { what, span, bytes, sums, digest });
        Ok(())
    }

    /// Table and commit record. Nothing is flushed yet.
    pub fn finish(mut self) -> Result<Journal> {
        self.pad()?;
        let table_at = self.here();
        for index in 0..self.records.len() {
            let Some(entry) = self.records.get(index).map(entry_of) else { break };
            self.put(entry.as_bytes())?;
        }
        self.pad()?;
        let mut commit = Commit::new_zeroed();
        commit.magic = COMMIT_MAGIC;
        commit.count = U64::new(to_u64(self.records.len()));
        commit.table_at = U64::new(table_at.get());
        self.hasher.update(commit.covered());
        commit.digest = self.hasher.finalize().into();
        self.put(commit.as_bytes())?;
        self.drain()?;
        Ok(Journal { dev: self.dev, head: self.head, records: self.records })
    }

    fn here(&self) -> Offset {
        self.at.checked_add(Len::of(&self.buf)).unwrap_or(self.at)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<Span> {
        let span = Span::new(self.here(), Len::of(bytes));
        let span = span.ok_or(Error::Unsupported { what: "a journal of more than 2^64 bytes" })?;
        self.hasher.update(bytes);
        self.buf.extend_from_slice(bytes);
        if self.buf.len() >= PIECE {
            self.drain()?;
        }
        Ok(span)
    }

    fn pad(&mut self) -> Result<()> {
        let end = self.here().get();
        let gap = end.checked_next_multiple_of(SECTOR.get()).and_then(|next| next.checked_sub(end));
        let zeros = [0; 512];
        let gap = Len::new(gap.unwrap_or_default()).to_usize();
        self.put(zeros.get(..gap).unwrap_or_default()).map(drop)
    }

    fn drain(&mut self) -> Result<()> {
        self.dev.write_at(self.at, &self.buf)?;
        self.at = self.here();
        self.buf.clear();
        Ok(())
    }
}

fn entry_of(record: &Record) -> Entry {
    let mut entry = Entry::new_zeroed();
    entry.what = U32::new(match record.what {
        What::Fresh => 1,
        What::Home => 2,
        What::HomeZero => 3,
        What::Tail => 4,
        What::Poured => 5,
        What::Shadowed => 6,
    });
    entry.at = U64::new(record.span.start().get());
    entry.len = U64::new(record.span.len().get());
    entry.digest = record.digest;
    entry
}
