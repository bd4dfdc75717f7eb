//! The log: what a machine had promised before it stopped. It is replayed in memory.
//!
//! ```text
//! circle of entries, 4 KiB sectors:  header with descriptors … data sectors │ header … │
//! active sequence: the entries from the newest one's `tail` up to the newest one itself
//! ```
//!
//! 1. An entry counts if its checksum, its log's identity, its place and all its descriptors are right.
//! 2. A sequence counts if its numbers follow each other and its last entry's tail is one of its entries. The one with
//!    the highest number is replayed, in order.
//! 3. A log that is to be replayed and holds no sequence is damage: nothing of the image can be trusted.
//! 4. The checksums of entries that overlap are not computed without end.

use super::layout::{
    DATA_SIGNATURE, Header, LOG_SIGNATURE, LogDataSector, LogDescriptor, LogEntryHeader, SECTOR_SIGNATURE,
    ZERO_SIGNATURE, verify,
};
use crate::foreign::{Files, Patches, Place};
use crate::{Error, Result};
use disk::Limits;
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset, Span};
use std::collections::BTreeSet;
use zerocopy::FromBytes;
use zerocopy::little_endian::U64;

const LOG: &str = "VHDX log";
const SECTOR: usize = 4096;
const MIB: u64 = 1 << 20;
/// So many times the log's length may be checksummed.
const PASSES: u64 = 8;

/// What the log of an image makes of its file; `None` where there is nothing to replay.
pub fn replay(files: &Files<'_>, header: &Header, limits: &Limits) -> Result<Option<Patches>> {
    if header.log_guid.is_nil() {
        return Ok(None);
    }
    let at = Offset::new(header.log_offset.get());
    let len = Len::new(header.log_length.get().into());
    let bad = |problem: String| Error::corrupt(LOG, at, problem);
    if header.log_version.get() != 0 {
        return Err(Error::unsupported(format!(
            "VHDX logs of version {} are not supported",
            header.log_version
        )));
    }
    if len.is_zero() || !len.is_aligned(MIB) || !at.is_aligned(MIB) || at.get() < MIB {
        return Err(bad(format!("{len} bytes are no log")));
    }
    if !files.holds(Place::own(at), len)? {
        return Err(bad(format!("{len} bytes from there do not lie in the file of {} bytes", files.len(0)?)));
    }
    // The log, an entry of it, what that entry does, and what all of them do.
    limits.budget("replaying the log of a VHDX").take(Len::new(len.get().saturating_mul(4)))?;
    let mut bytes = limits.buffer("the log of a VHDX", len)?;
    files.read(Place::own(at), &mut bytes)?;
    let log = Log { bytes, header: *header };
    let sequence =
        log.active()?.ok_or_else(|| bad("it is to be replayed, and has no valid entries".to_owned()))?;
    let stored = files.len(0)?;
    let mut patches = Patches::default();
    for entry in &sequence {
        if entry.flushed > stored {
            let problem =
                format!("the file has {stored} bytes, and had {} when the log was written", entry.flushed);
            return Err(bad(problem));
        }
        log.apply(entry, &mut patches).map_err(bad)?;
        patches.len = patches.len.max(entry.last);
    }
    Ok(Some(patches))
}

struct Log {
    bytes: Vec<u8>,
    header: Header,
}

/// An entry that counts.
#[derive(Clone, Debug)]
struct Entry {
    /// Its first sector.
    start: usize,
    sectors: usize,
    /// The sector of the tail.
    tail: usize,
    number: u64,
    descriptors: usize,
    flushed: Len,
    last: Len,
}

impl Log {
    fn sectors(&self) -> usize {
        self.bytes.len() / SECTOR
    }

    /// A sector, counted around the circle.
    fn sector(&self, index: usize) -> &[u8] {
        let at = index.checked_rem(self.sectors()).unwrap_or_default().saturating_mul(SECTOR);
        self.bytes.get(at..).and_then(|rest| rest.get(..SECTOR)).unwrap_or_default()
    }

    fn gather(&self, start: usize, sectors: usize) -> Vec<u8> {
        (0..sectors).flat_map(|ahead| self.sector(start.saturating_add(ahead))).copied().collect()
    }

    /// The sequence to be replayed.
    fn active(&self) -> Result<Option<Vec<Entry>>> {
        let mut budget = to_u64(self.bytes.len()).saturating_mul(PASSES);
        let mut best: Option<Vec<Entry>> = None;
        let mut start = 0;
        while start < self.sectors() {
            let mut sequence: Vec<Entry> = Vec::new();
            let (mut at, mut left) = (start, self.sectors());
            while let Some(entry) = self.entry(at, left, &mut budget)?
                && sequence.last().is_none_or(|last| last.number.checked_add(1) == Some(entry.number))
            {
                at = at.saturating_add(entry.sectors);
                left = left.saturating_sub(entry.sectors);
                sequence.push(entry);
            }
            start = at.max(start.saturating_add(1));
            let Some(head) = sequence.last() else { continue };
            let places: BTreeSet<usize> = sequence.iter().map(|entry| entry.start).collect();
            let newer =
                best.as_ref().and_then(|best| best.last()).is_none_or(|best| best.number < head.number);
            if newer && places.contains(&head.tail) {
                let tail = head.tail;
                sequence.retain({
                    let mut begun = false;
                    move |entry| {
                        begun |= entry.start == tail;
                        begun
                    }
                });
                best = Some(sequence);
            }
        }
        Ok(best)
    }

    /// The entry at a sector, if it counts and takes at most `left` sectors.
    fn entry(&self, at: usize, left: usize, budget: &mut u64) -> Result<Option<Entry>> {
        let Ok((header, _)) = LogEntryHeader::read_from_prefix(self.sector(at)) else { return Ok(None) };
        let sectors = to_usize(u64::from(header.entry_length.get())) / SECTOR;
        let descriptors = to_usize(header.descriptor_count.get().into());
        let start = at.checked_rem(self.sectors()).unwrap_or_default();
        let tail = to_usize(header.tail.get().into());
        let plausible = header.signature == LOG_SIGNATURE
            && header.log_guid == self.header.log_guid
            && header.sequence_number.get() != 0
            && u64::from(header.entry_length.get()).is_multiple_of(to_u64(SECTOR))
            && (1..=left).contains(&sectors)
            && tail.is_multiple_of(SECTOR)
            && tail / SECTOR < self.sectors()
            && head_sectors(descriptors) <= sectors;
        if !plausible {
            return Ok(None);
        }
        *budget = budget.checked_sub(to_u64(sectors.saturating_mul(SECTOR))).ok_or_else(|| {
            Error::corrupt(LOG, Offset::new(self.header.log_offset.get()), "its entries overlap without end")
        })?;
        let entry = Entry {
            start,
            sectors,
            tail: tail / SECTOR,
            number: header.sequence_number.get(),
            descriptors,
            flushed: Len::new(header.flushed_file_offset.get()),
            last: Len::new(header.last_file_offset.get()),
        };
        let whole = verify(&self.gather(start, sectors)).is_ok();
        // That the descriptors are right is seen by going through them.
        Ok((whole && self.apply(&entry, &mut Patches::default()).is_ok()).then_some(entry))
    }

    /// Does what the descriptors of an entry say.
    fn apply(&self, entry: &Entry, patches: &mut Patches) -> std::result::Result<(), String> {
        let bytes = self.gather(entry.start, entry.sectors);
        let head = head_sectors(entry.descriptors);
        let mut data = bytes.get(head.saturating_mul(SECTOR)..).unwrap_or_default().chunks_exact(SECTOR);
        let descriptors = bytes.get(size_of::<LogEntryHeader>()..).unwrap_or_default();
        for index in 0..entry.descriptors {
            let at = index.saturating_mul(size_of::<LogDescriptor>());
            let descriptor = LogDescriptor::read_from_prefix(descriptors.get(at..).unwrap_or_default());
            let (descriptor, _) =
                descriptor.map_err(|_| "an entry ends before its descriptors".to_owned())?;
            let start = Offset::new(descriptor.file_offset.get());
            let wrong = |what: &str| format!("descriptor {index} of entry {} {what}", entry.number);
            if descriptor.sequence_number.get() != entry.number || !start.is_aligned(to_u64(SECTOR)) {
                return Err(wrong("belongs to another entry, or to no sector"));
            }
            match descriptor.signature {
                ZERO_SIGNATURE => {
                    let len = Len::new(U64::from_bytes(descriptor.leading_bytes).get());
                    let span = Span::new(start, len).filter(|span| span.end().get() < 1 << 62);
                    let span = span.filter(|span| span.len().is_aligned(to_u64(SECTOR)));
                    patches.clear(span.ok_or_else(|| wrong("has no sensible length"))?);
                }
                DATA_SIGNATURE => {
                    let sector = data.next().and_then(|sector| LogDataSector::read_from_bytes(sector).ok());
                    let sector = sector.ok_or_else(|| wrong("has no data"))?;
                    let number =
                        u64::from(sector.sequence_high.get()) << 32 | u64::from(sector.sequence_low.get());
                    if sector.signature != SECTOR_SIGNATURE
                        || number != entry.number
                        || start.get() >= 1 << 62
                    {
                        return Err(wrong("has the data of another entry"));
                    }
                    let all =
                        [&descriptor.leading_bytes[..], &sector.data, &descriptor.trailing_bytes].concat();
                    patches.put(start, &all);
                }
                _ => return Err(wrong("is of an unknown kind")),
            }
        }
        Ok(())
    }
}

/// The sectors that the header of an entry and its descriptors take.
fn head_sectors(descriptors: usize) -> usize {
    let bytes = descriptors.saturating_mul(size_of::<LogDescriptor>());
    bytes.saturating_add(size_of::<LogEntryHeader>()).div_ceil(SECTOR)
}
