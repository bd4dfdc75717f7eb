//! Reading a journal back, as if an enemy had written it.

use super::layout::{COMMIT_MAGIC, Commit, Entry, Header, JOURNAL_MAGIC, UNDO_MAGIC, VERSION};
use super::{Head, RECORD_MAX, Record, Role, SECTOR, What, sector_count};
use crate::{Dev, Error, Identity, Limits, ReadAt, Result, read_record, read_vec};
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset, Span};
use zerocopy::FromBytes;

/// A whole journal.
pub(crate) struct Journal {
    pub dev: Box<dyn Dev>,
    pub head: Head,
    pub records: Vec<Record>,
}

/// What lies in a journal's place.
pub(crate) enum Found {
    /// A journal without a valid commit record.
    Void,
    /// A whole one.
    Whole(Journal),
}

impl Journal {
    /// Reads and checks a journal.
    pub fn open(dev: Box<dyn Dev>, role: Role, limits: &Limits) -> Result<Found> {
        let Some(header) = header(&*dev, role)? else { return Ok(Found::Void) };
        let Some(commit) = commit(&*dev)? else { return Ok(Found::Void) };
        if header.flags.get() != 0 {
            return Err(Error::Unsupported {
                what: "the journal uses features that this version does not know",
            });
        }
        let head = Head {
            old_len: Len::new(header.old_len.get()),
            new_len: Len::new(header.new_len.get()),
            identity: Identity { device: header.device.get(), inode: header.inode.get() },
            created: header.created.get(),
            about: header
                .about
                .get(..to_usize(u64::from(header.about_len.get())))
                .unwrap_or_default()
                .to_vec(),
        };
        let records = table(&*dev, role, &head, &commit, limits)?;
        Ok(Found::Whole(Self { dev, head, records }))
    }

    /// The new bytes of a record.
    pub fn bytes(&self, record: &Record) -> Result<Vec<u8>> {
        let mut bytes = vec![0; record.span.len().to_usize()];
        if !record.bytes.is_empty() {
            self.dev.read_at(record.bytes.start(), &mut bytes)?;
        }
        Ok(bytes)
    }

    /// The checksums of a record's sectors.
    pub fn sums(&self, record: &Record) -> Result<Vec<u32>> {
        let mut raw = vec![0; record.sums.len().to_usize()];
        self.dev.read_at(record.sums.start(), &mut raw)?;
        let (words, _) = raw.as_chunks::<4>();
        Ok(words.iter().map(|word| u32::from_le_bytes(*word)).collect())
    }

    pub fn fresh(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| record.what == What::Fresh)
    }

    /// What has been written where there was nothing, and is taken away when the change is undone.
    pub fn added(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| matches!(record.what, What::Fresh | What::Poured))
    }

    /// Whether something is poured, of which only a home write that is there tells that it is whole.
    pub fn pours(&self) -> bool {
        self.records.iter().any(|record| matches!(record.what, What::Poured | What::Shadowed))
    }

    /// Bytes that are overwritten.
    pub fn home_len(&self) -> Len {
        Len::new(self.home().map(|record| record.span.len().get()).fold(0, u64::saturating_add))
    }

    pub fn home(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.records.iter().filter(|record| matches!(record.what, What::Home | What::HomeZero))
    }
}

/// The header; `None` where it never got to the medium.
fn header(dev: &dyn Dev, role: Role) -> Result<Option<Header>> {
    let magic = match role {
        Role::Journal => JOURNAL_MAGIC,
        Role::Undo => UNDO_MAGIC,
    };
    let mut head = [0; 512];
    let there = to_usize(dev.len().get().min(SECTOR.get()));
    dev.read_at(Offset::ZERO, head.get_mut(..there).unwrap_or_default())?;
    let header = Header::read_from_bytes(&head).unwrap_or_else(|_| zerocopy::FromZeros::new_zeroed());
    // Zeros, or less than a header: its first sector was lost. Anything else is not ours to remove.
    let begun = magic.get(..there.min(magic.len())).unwrap_or_default();
    if !header.magic.starts_with(begun) && header.magic != [0; 8] {
        return Err(corrupt("does not begin as a journal"));
    }
    if header.magic != magic {
        return Ok(None);
    }
    match header.version.get() {
        0 => Ok(None),
        VERSION => Ok(Some(header)),
        _ => Err(Error::Unsupported { what: "the journal has a version that this program does not know" }),
    }
}

/// The commit record; `None` where there is none, or where it does not cover what lies before it.
fn commit(dev: &dyn Dev) -> Result<Option<Commit>> {
    let Some(at) = dev.len().checked_sub(SECTOR).filter(|at| at.is_aligned(SECTOR.get())) else {
        return Ok(None);
    };
    if at.is_zero() {
        return Ok(None);
    }
    let commit: Commit = read_record(dev, at.end())?;
    if commit.magic != COMMIT_MAGIC {
        return Ok(None);
    }
    let mut hasher = blake3::Hasher::new();
    let mut buf = vec![0; RECORD_MAX.to_usize()];
    for part in Span::whole(at).chunks(RECORD_MAX) {
        let buf = buf.get_mut(..part.len().to_usize()).unwrap_or_default();
        dev.read_at(part.start(), buf)?;
        hasher.update(buf);
    }
    hasher.update(commit.covered());
    Ok(Some(commit).filter(|commit| *hasher.finalize().as_bytes() == commit.digest))
}

fn table(dev: &dyn Dev, role: Role, head: &Head, commit: &Commit, limits: &Limits) -> Result<Vec<Record>> {
    let bad = || corrupt("has a table that does not fit");
    let entry = to_u64(size_of::<Entry>());
    let bytes = commit.count.get().checked_mul(entry).map(Len::new).ok_or_else(bad)?;
    let span = Span::new(Offset::new(commit.table_at.get()), bytes).ok_or_else(bad)?;
    let end = span.end().get().checked_next_multiple_of(SECTOR.get()).ok_or_else(bad)?;
    if end.checked_add(SECTOR.get()) != Some(dev.len().get()) || span.start().get() < SECTOR.get() {
        return Err(bad());
    }
    limits.budget("the journal's table").take(Len::new(bytes.get().saturating_mul(3)))?;
    let raw = read_vec(dev, span, limits)?;
    let mut records: Vec<Record> = Vec::new();
    let mut at = SECTOR.end();
    for raw in raw.chunks_exact(size_of::<Entry>()) {
        let entry = Entry::read_from_bytes(raw).map_err(|_| bad())?;
        let record = record(&entry, role, head, at)?;
        if records.last().is_some_and(|last| last.span.end() > record.span.start()) {
            return Err(corrupt("has records that overlap or are not in order"));
        }
        at = record.sums.end();
        records.push(record);
    }
    let payload = at.get().checked_next_multiple_of(SECTOR.get());
    if payload == Some(span.start().get()) { Ok(records) } else { Err(bad()) }
}

/// A validated record whose payload begins at `at`.
fn record(entry: &Entry, role: Role, head: &Head, at: Offset) -> Result<Record> {
    let bad = |what| corrupt(what);
    let what = match (entry.what.get(), role) {
        (1, Role::Journal) => What::Fresh,
        (2, _) => What::Home,
        (3, _) => What::HomeZero,
        (4, Role::Undo) => What::Tail,
        (5, Role::Journal) => What::Poured,
        (6, Role::Journal) => What::Shadowed,
        _ => return Err(bad("has a record of an unknown kind")),
    };
    let span = Span::new(Offset::new(entry.at.get()), Len::new(entry.len.get()));
    let span = span.filter(|span| !span.is_empty() && span.len() <= RECORD_MAX);
    let span = span.ok_or_else(|| bad("has a record of an impossible length"))?;
    let room = match what {
        What::Fresh | What::Poured => Span::whole(head.new_len),
        What::Home | What::HomeZero | What::Shadowed => Span::whole(head.old_len.min(head.new_len)),
        What::Tail => Span::between(head.old_len.end(), head.new_len.end()).unwrap_or_default(),
    };
    // A fresh range that straddles the old end would be half zeroed, half cut off when undone.
    let early = matches!(what, What::Fresh | What::Poured);
    let straddles = early && span.start() < head.old_len.end() && span.end() > head.old_len.end();
    if !room.contains(span) || straddles {
        return Err(bad("has a record outside the image"));
    }
    let bytes = if matches!(what, What::Home | What::Tail) { span.len() } else { Len::ZERO };
    let cut_off = what == What::Fresh && span.start() >= head.old_len.end();
    let unsummed = cut_off || matches!(what, What::Tail | What::Poured | What::Shadowed);
    let sums = if unsummed { 0 } else { sector_count(span).saturating_mul(4) };
    let bytes = Span::new(at, bytes).ok_or_else(|| bad("is too long"))?;
    let sums = Span::new(bytes.end(), Len::new(sums)).ok_or_else(|| bad("is too long"))?;
    Ok(Record { what, span, bytes, sums, digest: entry.digest })
}

fn corrupt(what: &'static str) -> Error {
    Error::Journal { what }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("head", &self.head).field("records", &self.records.len()).finish()
    }
}
