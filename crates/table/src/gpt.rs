//! The GUID partition table (UEFI 2.10, section 5.3).
//!
//! ```text
//! 0          protective MBR
//! 1          primary header ──► entries, mostly from 2
//! first usable … last usable    the partitions
//! last-32    the same entries ◄─┐
//! last       backup header ─────┘
//! ```
//! 1. A [`Copy`] exists only where header and entries match their checksums and the header's fields fit each other.
//! 2. Entries never lie in the usable sectors, and are never longer than [`ENTRIES_MAX`].
//! 3. Both copies say the same, except where they lie and which checksum follows from that.

use crate::copy::{Copies, Copy, Facts};
use crate::layout::{GPT_SIGNATURE, GptEntry, HeaderSector, MbrEntry};
use crate::overlap::overlaps;
use crate::partition::{DiskId, PartUuid, Partition, Role};
use crate::record::{PROTECTIVE, Record};
use crate::table::{Raw, Table};
use crate::{Error, Result, Type};
use disk::{Limits, ReadAt};
use ondisk::num::{round_up, to_u64, to_usize};
use ondisk::{Finding, Lba, Len, Sealed, SectorSize, Span};
use zerocopy::FromBytes;

/// The longest array of entries: what the kernel still reads.
const ENTRIES_MAX: Len = Len::mib(4);
const ENTRY_MAX: u64 = 4096;

/// A copy, or what is wrong with it.
pub type Found = std::result::Result<Copy, String>;

/// Whether a GPT header begins at that sector, valid or not.
pub fn is_signed(disk: &dyn ReadAt, size: SectorSize, at: Lba) -> Result<bool> {
    let mut magic = [0; 8];
    let span = size.offset(at).and_then(|start| Span::new(start, Len::of(&magic)));
    match span.filter(|&span| Span::whole(disk.len()).contains(span)) {
        Some(span) => disk.read_at(span.start(), &mut magic)?,
        None => return Ok(false),
    }
    Ok(magic == GPT_SIGNATURE)
}

/// Reads the copy whose header lies at `at`.
pub fn read_copy(disk: &dyn ReadAt, size: SectorSize, at: Lba, limits: &Limits) -> Result<Found> {
    let count = size.sectors_in(disk.len());
    if at.0 >= count {
        return Ok(Err(format!("sector {at} lies beyond the disk of {count} sectors")));
    }
    let sector = HeaderSector(Record::read(disk, size, at, limits)?.sector);
    let facts = match judge_header(&sector, size, at, count) {
        Ok(facts) => facts,
        Err(text) => return Ok(Err(text)),
    };
    let len = round_up(facts.array_bytes, size.bytes()).map(Len::new);
    let span = size.offset(facts.entries_at).and_then(|start| Span::new(start, len?));
    let array = disk::read_vec(disk, span.unwrap_or_default(), limits)?;
    let copy = Copy { at, sector, array, facts };
    Ok(match copy.sector.verify(copy.entries()) {
        Ok(()) => Ok(copy),
        Err(mismatch) => Err(format!("the {mismatch} over the entries")),
    })
}

/// Whether the signed header at `at` would be sound if only the disk were longer.
pub fn is_cut_off(disk: &dyn ReadAt, size: SectorSize, at: Lba, limits: &Limits) -> Result<bool> {
    let count = size.sectors_in(disk.len());
    if at.0 >= count {
        return Ok(true);
    }
    let sector = HeaderSector(Record::read(disk, size, at, limits)?.sector);
    let sound_on = |count| judge_header(&sector, size, at, count).is_ok();
    Ok(sound_on(u64::MAX) && !sound_on(count))
}

fn judge_header(
    sector: &HeaderSector,
    size: SectorSize,
    at: Lba,
    count: u64,
) -> std::result::Result<Facts, String> {
    let header = sector.header().ok_or("the sector is too short")?;
    if header.signature != GPT_SIGNATURE {
        return Err("no GPT signature".to_owned());
    }
    let header_size = u64::from(header.header_size.get());
    if header_size < 92 || header_size > size.bytes() {
        return Err(format!("header size {header_size}, expected 92 to {size}"));
    }
    sector.verify_header().map_err(|mismatch| format!("the header's {mismatch}"))?;
    if header.my_lba.get() != at.0 {
        return Err(format!("the header says that it lies at sector {}", header.my_lba));
    }
    let entry_bytes = u64::from(header.size_of_partition_entry.get());
    if !entry_bytes.is_power_of_two() || !(128..=ENTRY_MAX).contains(&entry_bytes) {
        return Err(format!(
            "entries of {entry_bytes} bytes, expected 128 to {ENTRY_MAX} and a power of two"
        ));
    }
    let entries = u64::from(header.number_of_partition_entries.get());
    let array_bytes = entries.saturating_mul(entry_bytes);
    if array_bytes == 0 || array_bytes > ENTRIES_MAX.get() {
        return Err(format!("{entries} entries of {entry_bytes} bytes, expected 1 byte to {ENTRIES_MAX}"));
    }
    let facts = Facts {
        alternate: Lba(header.alternate_lba.get()),
        first: Lba(header.first_usable_lba.get()),
        last: Lba(header.last_usable_lba.get()),
        entries_at: Lba(header.partition_entry_lba.get()),
        entry_bytes,
        array_bytes,
    };
    judge_places(&facts, size, at, count).map(|()| facts)
}

/// Header, entries and usable sectors lie on the disk and apart from each other.
fn judge_places(facts: &Facts, size: SectorSize, at: Lba, count: u64) -> std::result::Result<(), String> {
    let Facts { first, last, entries_at, .. } = *facts;
    if first < Lba(2) || first > last || last.0 >= count {
        return Err(format!("usable sectors {first} to {last} on a disk of {count}"));
    }
    let array_sectors = ondisk::num::div_up(facts.array_bytes, size.bytes()).unwrap_or_default();
    let array_end = entries_at.0.checked_add(array_sectors).filter(|&end| end <= count);
    let Some(array_end) = array_end.filter(|_| entries_at >= Lba(2)) else {
        return Err(format!("entries at sector {entries_at}, {array_sectors} long, on a disk of {count}"));
    };
    let in_usable = entries_at <= last && array_end > first.0;
    let over_header = entries_at <= at && array_end > at.0;
    if in_usable || over_header || (first..=last).contains(&at) {
        return Err(format!(
            "header at sector {at}, entries at {entries_at} to {array_end} and usable sectors {first} to {last} overlap"
        ));
    }
    Ok(())
}

/// Puts together what was found: the primary copy, and if that is damaged the backup.
pub fn parse(
    disk: &dyn ReadAt,
    size: SectorSize,
    protective: Record,
    primary: Found,
    limits: &Limits,
) -> Result<Table> {
    let last = Lba(size.sectors_in(disk.len()).saturating_sub(1));
    let backup_at = primary.as_ref().map_or(last, |copy| copy.facts.alternate);
    let backup = if backup_at == Lba(1) {
        Err("it would lie over the primary one".to_owned())
    } else {
        read_copy(disk, size, backup_at, limits)?
    };
    let mut findings = Vec::new();
    for (name, found) in [("primary", &primary), ("backup", &backup)] {
        findings.extend(found.as_ref().err().map(|text| Finding::damage(format!("{name} GPT: {text}"))));
    }
    if let (Err(first), Err(second)) = (&primary, &backup) {
        return Err(Error::Unreadable(format!("no valid GPT: primary: {first}; backup: {second}")));
    }
    if let (Ok(primary), Ok(backup)) = (&primary, &backup) {
        findings.extend(compare(primary, backup));
        if backup.at != last {
            let text =
                format!("the backup GPT lies at sector {}, the disk ends with sector {last}", backup.at);
            findings.push(Finding::note(text));
        }
    }
    let hybrid = judge_protective(&protective, size, disk.len(), &mut findings);
    let copies = Copies { protective, hybrid, primary: primary.ok(), backup: backup.ok() };
    let (id, partitions) = match copies.primary.as_ref().or(copies.backup.as_ref()) {
        Some(copy) => {
            let guid = copy.header().map(|header| header.disk_guid).unwrap_or_default();
            (DiskId::Gpt(guid), entries(copy, size, limits, &mut findings)?)
        }
        None => return Err(Error::Unreadable("no valid GPT".to_owned())),
    };
    Ok(Table { raw: Raw::Gpt(Box::new(copies)), sector_size: size, id, partitions, findings })
}

/// What differs between two valid copies and must not.
pub fn compare(primary: &Copy, backup: &Copy) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut differ =
        |what: &str| findings.push(Finding::damage(format!("the two copies of the GPT differ in {what}")));
    if primary.entries() != backup.entries() || primary.facts.entry_bytes != backup.facts.entry_bytes {
        differ("their entries");
    }
    if (primary.facts.first, primary.facts.last) != (backup.facts.first, backup.facts.last) {
        differ("the usable sectors");
    }
    if primary.header().map(|header| header.disk_guid) != backup.header().map(|header| header.disk_guid) {
        differ("the disk's GUID");
    }
    if backup.facts.alternate != primary.at {
        differ("where the primary one lies");
    }
    if primary.facts.entries_at >= primary.facts.first || backup.facts.entries_at <= backup.facts.last {
        differ("their order on the disk");
    }
    findings
}

/// Says what is strange about sector 0; whether it is a hybrid MBR.
fn judge_protective(record: &Record, size: SectorSize, len: Len, findings: &mut Vec<Finding>) -> bool {
    let slots = record.slots();
    let Some(guard) = slots.iter().find(|slot| slot.os_type == PROTECTIVE) else {
        findings.push(Finding::damage("the protective MBR is missing"));
        return slots.iter().any(MbrEntry::is_used);
    };
    let hybrid = slots.iter().any(|slot| slot.is_used() && slot.os_type != PROTECTIVE);
    if hybrid {
        findings.push(Finding::note("the MBR is a hybrid one: it describes partitions beside the GPT"));
    } else if guard.starting_lba.get() != 1 || u64::from(guard.size_in_lba.get()) != guarded(size, len) {
        findings.push(Finding::note(format!(
            "the protective MBR covers {} sectors from {}, expected {} from 1",
            guard.size_in_lba,
            guard.starting_lba,
            guarded(size, len)
        )));
    }
    hybrid
}

/// How many sectors the protective slot of a disk of that length covers.
pub fn guarded(size: SectorSize, len: Len) -> u64 {
    size.sectors_in(len).saturating_sub(1).min(u64::from(u32::MAX))
}

/// The used entries as partitions.
fn entries(
    copy: &Copy,
    size: SectorSize,
    limits: &Limits,
    findings: &mut Vec<Finding>,
) -> Result<Vec<Partition>> {
    let usable = inclusive(size, copy.facts.first, copy.facts.last).unwrap_or_default();
    let mut partitions = Vec::new();
    let chunks = copy.entries().chunks_exact(to_usize(copy.facts.entry_bytes));
    for (number, (index, bytes)) in (1..).zip(chunks.enumerate()) {
        let Ok((entry, _)) = GptEntry::ref_from_prefix(bytes) else { continue };
        if entry.partition_type_guid.is_nil() {
            continue;
        }
        if partitions.len() >= limits.partitions {
            let limit = to_u64(limits.partitions);
            return Err(Error::TooMany { what: "partitions", found: limit.saturating_add(1), limit });
        }
        let (first, last) = (Lba(entry.starting_lba.get()), Lba(entry.ending_lba.get()));
        let Some(span) = inclusive(size, first, last).filter(|span| !span.is_empty()) else {
            findings.push(Finding::damage(format!("partition {number} runs from sector {first} to {last}")));
            continue;
        };
        if !usable.contains(span) {
            findings.push(Finding::damage(format!(
                "partition {number} runs from sector {first} to {last}, usable are {} to {}",
                copy.facts.first, copy.facts.last
            )));
        }
        partitions.push(Partition {
            number,
            span,
            kind: Type::Gpt(entry.partition_type_guid),
            name: name_of(entry),
            uuid: PartUuid::Gpt(entry.unique_partition_guid),
            attributes: entry.attributes.get(),
            bootable: entry.attributes.get() & 4 != 0,
            role: Role::Primary,
            slot: (0, index),
        });
    }
    findings.extend(overlaps(
        partitions.iter().map(|part| (format!("partition {}", part.number), part.span)).collect(),
    ));
    findings.extend(twins(&partitions));
    Ok(partitions)
}

fn twins(partitions: &[Partition]) -> Option<Finding> {
    let mut uuids: Vec<_> = partitions.iter().map(|part| part.uuid.to_string()).collect();
    uuids.sort_unstable();
    let twin = uuids.windows(2).find(|pair| pair.first() == pair.last())?;
    Some(Finding::note(format!("more than one partition has the PARTUUID {}", twin.first()?)))
}

/// The bytes of the sectors `first` to `last`, both included.
fn inclusive(size: SectorSize, first: Lba, last: Lba) -> Option<Span> {
    Span::between(size.offset(first)?, size.offset(Lba(last.0.checked_add(1)?))?)
}

fn name_of(entry: &GptEntry) -> String {
    let units = entry.partition_name.iter().map(|unit| unit.get()).take_while(|&unit| unit != 0);
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}
