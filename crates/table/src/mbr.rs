//! The MBR and its chain of extended boot records.
//!
//! ```text
//! sector 0     boot code | signature | slot 1..4 | 55 aa
//! slot with type 05, 0f or 85 = the extended partition
//!   EBR        slot 1: the logical partition, relative to this EBR
//!              slot 2: the link to the next EBR, relative to the extended partition
//! ```
//! 1. Each EBR is visited once, lies in the extended partition, and is counted against the limit.
//! 2. Logical partitions are numbered from 5 in the order of the chain; empty slots take no number.

use crate::layout::MbrEntry;
use crate::overlap::overlaps;
use crate::partition::{DiskId, PartUuid, Partition, Role};
use crate::record::{Record, Records, sectors};
use crate::table::{Raw, Table};
use crate::{Error, Result, Type};
use disk::{Limits, ReadAt};
use ondisk::{Finding, Lba, SectorSize, Span};
use std::collections::BTreeSet;

/// Whether these slots are those of a partition table rather than the code of a boot sector: what the kernel asks, and
/// more where a filesystem begins at the same place (`shared`).
pub fn plausible(slots: &[MbrEntry], disk: Span, shared: bool) -> bool {
    let known = slots.iter().all(MbrEntry::boots_or_not);
    if known && !shared {
        return !slots.is_empty();
    }
    let used: Vec<Span> = slots
        .iter()
        .filter(|slot| slot.is_used())
        .filter_map(|slot| slot.span(SectorSize::B512, Lba(0)))
        .collect();
    let placed = used.iter().all(|span| span.start() > disk.start() && span.start() < disk.end());
    let apart = overlaps(used.iter().map(|span| (String::new(), *span)).collect()).is_empty();
    // A filesystem's boot code may well have four bytes that are 0 or 0x80, hardly a whole table that fits.
    !used.is_empty() && placed && apart && (known || !shared)
}

/// Reads the table whose first sector is `head`.
pub fn parse(disk: &dyn ReadAt, size: SectorSize, head: Record, limits: &Limits) -> Result<Table> {
    let signature = head.mbr().map_or(0, |mbr| mbr.unique_mbr_disk_signature.get());
    let mut reader = Reader {
        disk,
        size,
        limits,
        signature,
        records: Records(Vec::new()),
        partitions: Vec::new(),
        findings: Vec::new(),
    };
    reader.primaries(head)?;
    reader.judge();
    Ok(Table {
        raw: Raw::Mbr(reader.records),
        sector_size: size,
        id: DiskId::Mbr(signature),
        partitions: reader.partitions,
        findings: reader.findings,
    })
}

struct Reader<'a> {
    disk: &'a dyn ReadAt,
    size: SectorSize,
    limits: &'a Limits,
    signature: u32,
    records: Records,
    partitions: Vec<Partition>,
    findings: Vec<Finding>,
}

impl Reader<'_> {
    fn primaries(&mut self, head: Record) -> Result<()> {
        let slots = head.slots().to_vec();
        self.records.0.push(head);
        let mut extended = Vec::new();
        for (number, (index, slot)) in (1..).zip(slots.iter().enumerate()) {
            self.judge_slot(slot, &format!("slot {number} of the MBR"));
            if !slot.is_used() {
                continue;
            }
            let role = if slot.is_extended() { Role::Extended } else { Role::Primary };
            self.push(number, slot, Lba(0), role, (0, index));
            if slot.is_extended() {
                extended.push(Lba(u64::from(slot.starting_lba.get())));
            }
        }
        if extended.len() > 1 {
            self.findings.push(Finding::damage(format!(
                "{} extended partitions, at most one is allowed",
                extended.len()
            )));
        }
        let mut seen = BTreeSet::new();
        extended.into_iter().try_for_each(|base| self.chain(base, &mut seen))
    }

    fn chain(&mut self, base: Lba, seen: &mut BTreeSet<Lba>) -> Result<()> {
        let area = self
            .partitions
            .iter()
            .find(|part| part.role == Role::Extended && Some(part.span.start()) == self.size.offset(base));
        let area = area.map(|part| part.span).unwrap_or_default();
        let mut next = Some(base);
        while let Some(at) = next {
            let Some(sector) = sectors(self.size, at.0, 1).filter(|sector| area.contains(*sector)) else {
                self.findings.push(Finding::damage(format!(
                    "an EBR at sector {at} lies outside the extended partition"
                )));
                return Ok(());
            };
            if !seen.insert(at) {
                self.findings.push(Finding::damage(format!("the chain of EBRs comes back to sector {at}")));
                return Ok(());
            }
            if seen.len() > self.limits.partitions {
                return Err(self.too_many("extended boot records", seen.len()));
            }
            if !Span::whole(self.disk.len()).contains(sector) {
                self.findings.push(Finding::damage(format!("the EBR at sector {at} lies beyond the disk")));
                return Ok(());
            }
            let record = Record::read(self.disk, self.size, at, self.limits)?;
            next = self.ebr(record, base)?;
        }
        Ok(())
    }

    /// Takes the logical partition of one EBR and gives the place of the next.
    fn ebr(&mut self, record: Record, base: Lba) -> Result<Option<Lba>> {
        let (at, slots) = (record.at, record.slots().to_vec());
        let place = self.size.offset(at).unwrap_or_default();
        let which = self.records.0.len();
        self.records.0.push(record);
        if slots.is_empty() {
            self.findings.push(Finding::damage(format!("the EBR at sector {at} has no boot signature")));
        }
        let (links, logical): (Vec<_>, Vec<_>) = slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.is_used())
            .partition(|(_, slot)| slot.is_extended());
        for slot in &slots {
            self.judge_slot(slot, &format!("a slot of the EBR at sector {at}"));
        }
        if links.len() > 1 || logical.len() > 1 {
            let text = format!("the EBR at sector {at} describes more than one partition and one link");
            self.findings.push(Finding::damage(text));
        }
        for (index, slot) in logical {
            if self.partitions.len() >= self.limits.partitions {
                return Err(self.too_many("partitions", self.partitions.len().saturating_add(1)));
            }
            let last = self.partitions.iter().map(|part| part.number).max().unwrap_or_default();
            self.push(last.max(4).saturating_add(1), slot, at, Role::Logical { ebr: place }, (which, index));
        }
        let link = links.first().map(|(_, slot)| base.0.checked_add(u64::from(slot.starting_lba.get())));
        Ok(link.flatten().map(Lba))
    }

    fn too_many(&self, what: &'static str, found: usize) -> Error {
        let (found, limit) = (ondisk::num::to_u64(found), ondisk::num::to_u64(self.limits.partitions));
        Error::TooMany { what, found, limit }
    }

    fn push(&mut self, number: u32, entry: &MbrEntry, base: Lba, role: Role, slot: (usize, usize)) {
        // 2^34 sectors of 4096 bytes at most: the span always exists.
        let span = entry.span(self.size, base).unwrap_or_default();
        self.partitions.push(Partition {
            number,
            span,
            kind: Type::Mbr(entry.os_type),
            name: String::new(),
            uuid: PartUuid::Mbr(self.signature, number),
            attributes: 0,
            bootable: entry.boot_indicator & 0x80 != 0,
            role,
            slot,
        });
    }

    fn judge_slot(&mut self, slot: &MbrEntry, name: &str) {
        if !slot.boots_or_not() {
            let text = format!("{name} has boot indicator {:#04x}, neither 0 nor 0x80", slot.boot_indicator);
            self.findings.push(Finding::damage(text));
        }
        if slot.os_type == 0 && slot.size_in_lba.get() != 0 {
            self.findings
                .push(Finding::damage(format!("{name} has type 0, but {} sectors", slot.size_in_lba)));
        }
    }

    /// Bounds and overlaps, on the level of the disk and within the extended partition.
    fn judge(&mut self) {
        let disk = Span::whole(self.disk.len());
        let (mut outer, mut inner) = (Vec::new(), Vec::new());
        let area = self.partitions.iter().find(|part| part.role == Role::Extended).map(|part| part.span);
        outer.extend(sectors(self.size, 0, 1).map(|span| ("the MBR".to_owned(), span)));
        for part in &self.partitions {
            let name = format!("partition {}", part.number);
            if !disk.contains(part.span) {
                let text = format!("{name} ends at {}, the disk at {}", part.span.end(), disk.end());
                self.findings.push(Finding::damage(text));
            }
            let is_logical = matches!(part.role, Role::Logical { .. });
            if is_logical && area.is_none_or(|area| !area.contains(part.span)) {
                self.findings.push(Finding::damage(format!("{name} is not inside the extended partition")));
            }
            if is_logical { inner.push((name, part.span)) } else { outer.push((name, part.span)) }
        }
        let ebrs = self.records.0.iter().skip(1);
        inner.extend(ebrs.filter_map(|record| {
            Some((format!("the EBR at sector {}", record.at), sectors(self.size, record.at.0, 1)?))
        }));
        self.findings.extend(overlaps(outer));
        self.findings.extend(overlaps(inner));
    }
}
