//! Growing: the backup GPT follows the end of the disk, a partition takes what is free behind it.
//!
//! 1. A damaged table is not changed; a backup GPT that is not at the end, because the disk has grown, is no damage.
//! 2. Numbers, starts, identifiers, types, names, attributes, boot code and every unknown byte stay.
//! 3. A new end is rounded up to 1 MiB where that is free. `Max` takes the last free sector.

use crate::chs::Geometry;
use crate::copy::{Copies, Copy};
use crate::gpt::guarded;
use crate::layout::{GptEntry, MbrEntry};
use crate::partition::{Neighbour, Partition, Role};
use crate::plan::{Growth, Plan};
use crate::record::{PROTECTIVE, Record, Records};
use crate::table::{Raw, Table};
use crate::{Error, Result};
use disk::{Data, Write};
use ondisk::num::{low32, round_down, round_up, to_usize};
use ondisk::size::Human;
use ondisk::{Lba, Len, Offset, Sealed, SectorSize, Span, SpanSet};
use zerocopy::FromBytes;
use zerocopy::little_endian::{U32, U64};

pub(crate) const ALIGN: u64 = 1 << 20;

/// Where a partition shall end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// There, or up to 1 MiB behind it.
    End(Offset),
    /// As far as it goes.
    Max,
}

/// How far a partition can grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The last possible end.
    pub end: Offset,
    /// The partition that begins behind it, if one does.
    pub behind: Option<Neighbour>,
    /// Whether the 32 bits of an MBR end before the free space does.
    pub clipped: bool,
}

/// Fits the table to a disk of `disk_len` bytes: the backup GPT moves to the new end. An MBR has nothing to fit.
///
/// # Errors
/// Where the table is damaged or hybrid, or the disk would be too short for it.
pub fn plan_grow_disk(table: &Table, disk_len: Len) -> Result<Plan> {
    table.require_changeable(disk_len)?;
    match &table.raw {
        Raw::Mbr(_) => Ok(Plan::default()),
        Raw::Gpt(copies) => Ok(GptEdit::new(copies, table.sector_size, disk_len)?.finish()),
    }
}

/// Moves the end of a partition up on a disk of `disk_len` bytes, to which the table is fitted as well.
///
/// # Errors
/// As [`plan_grow_disk`], and where the partition is not there or cannot end there.
pub fn plan_grow_partition(table: &Table, number: u32, to: To, disk_len: Len) -> Result<Plan> {
    table.require_changeable(disk_len)?;
    let part = table.partition(number)?;
    let limit = table.limit(number, disk_len)?;
    let end = new_end(part, to, &limit, table.sector_size)?;
    let mut plan = match &table.raw {
        Raw::Mbr(records) => MbrEdit::new(table, records).grow(part, end),
        Raw::Gpt(copies) => {
            let mut edit = GptEdit::new(copies, table.sector_size, disk_len)?;
            edit.set_end(part, end);
            edit.finish()
        }
    };
    if limit.clipped && to == To::Max {
        plan.says.push(format!(
            "partition {number} stops at byte {end}: an MBR cannot describe more than {}, a GPT could",
            Human(mbr_reach(table.sector_size))
        ));
    }
    Ok(plan)
}

impl Table {
    pub(crate) fn require_changeable(&self, disk_len: Len) -> Result<()> {
        self.require_sound()?;
        if self.is_hybrid() {
            return Err(Error::Hybrid);
        }
        let need = self.needs();
        if disk_len < need { Err(Error::Short { len: disk_len, need }) } else { Ok(()) }
    }

    /// How far a partition can grow on a disk of `disk_len` bytes. For a logical one the extended partition grows
    /// along.
    ///
    /// # Errors
    /// Where there is no such partition, or the disk is too short for the table.
    pub fn limit(&self, number: u32, disk_len: Len) -> Result<Limit> {
        let part = self.partition(number)?;
        let size = self.sector_size;
        let (space, clipped) = match &self.raw {
            Raw::Gpt(copies) => (GptEdit::new(copies, size, disk_len)?.usable_end(), false),
            Raw::Mbr(_) => mbr_end(size, disk_len),
        };
        let behind = self.behind(number)?.into_iter().next();
        let ebr = match &self.raw {
            Raw::Mbr(records) if matches!(part.role, Role::Logical { .. }) => records
                .0
                .iter()
                .filter_map(|record| size.offset(record.at))
                .filter(|at| *at > part.span.start())
                .min(),
            _ => None,
        };
        let barrier = behind.map(|neighbour| neighbour.span.start()).into_iter().chain(ebr).min();
        let end = barrier.unwrap_or(space).min(space).max(part.span.end());
        let clipped = clipped && barrier.is_none_or(|barrier| barrier > space);
        Ok(Limit { end, behind, clipped })
    }
}

/// Where the space that an MBR can describe ends, and whether that is before the disk's end.
pub(crate) fn mbr_end(size: SectorSize, disk_len: Len) -> (Offset, bool) {
    let on_disk = size.sectors_in(disk_len);
    let most = round_down(u64::from(u32::MAX), size.sectors_in(Len::new(ALIGN))).unwrap_or_default();
    let clipped = on_disk > u64::from(u32::MAX);
    let end = if clipped { most } else { on_disk };
    (size.offset(Lba(end)).unwrap_or_default(), clipped)
}

fn mbr_reach(size: SectorSize) -> Len {
    size.len_of(1 << 32).unwrap_or_default()
}

fn new_end(part: &Partition, to: To, limit: &Limit, size: SectorSize) -> Result<Offset> {
    let (number, end) = (part.number, part.span.end());
    let wanted = match to {
        To::Max => return Ok(limit.end),
        To::End(wanted) if wanted < end => return Err(Error::Backwards { number, end, wanted }),
        To::End(wanted) => wanted,
    };
    if wanted > limit.end && limit.clipped {
        return Err(Error::MbrLimit { number, wanted, limit: limit.end, reach: mbr_reach(size) });
    }
    if wanted > limit.end {
        let behind = limit.behind.filter(|neighbour| neighbour.span.start() < wanted);
        return Err(Error::NoRoom { number, wanted, limit: limit.end, behind });
    }
    if wanted == end {
        return Ok(end);
    }
    let aligned = round_up(wanted.get(), ALIGN.max(size.bytes())).map(Offset::new);
    Ok(aligned.filter(|aligned| *aligned <= limit.end).unwrap_or(limit.end))
}

/// A GPT under change.
pub(crate) struct GptEdit<'a> {
    old: &'a Copies,
    size: SectorSize,
    disk_len: Len,
    primary: Copy,
    backup: Copy,
    growth: Vec<Growth>,
}

impl<'a> GptEdit<'a> {
    /// The table with its backup at the end of a disk of `disk_len` bytes.
    pub(crate) fn new(old: &'a Copies, size: SectorSize, disk_len: Len) -> Result<Self> {
        let (Some(primary), Some(backup)) = (&old.primary, &old.backup) else {
            return Err(Error::Damaged { first: "a copy of the GPT is missing".to_owned(), more: 0 });
        };
        let mut edit = Self {
            old,
            size,
            disk_len,
            primary: primary.clone(),
            backup: backup.clone(),
            growth: Vec::new(),
        };
        let at = Lba(size.sectors_in(disk_len).saturating_sub(1));
        if at > backup.at {
            edit.move_backup(at);
        }
        Ok(edit)
    }

    /// Where the usable sectors end.
    pub(crate) fn usable_end(&self) -> Offset {
        self.size.offset(Lba(self.primary.facts.last.0.saturating_add(1))).unwrap_or_default()
    }

    /// Invariant: the backup lies behind the usable sectors, and so does every place further up.
    fn move_backup(&mut self, at: Lba) {
        let entries_at = Lba(at.0.saturating_sub(self.backup.array_sectors(self.size)));
        let last = Lba(entries_at.0.saturating_sub(1)).max(self.primary.facts.last);
        self.backup.at = at;
        self.backup.facts.entries_at = entries_at;
        self.primary.facts.alternate = at;
        for copy in [&mut self.primary, &mut self.backup] {
            copy.facts.last = last;
            let facts = copy.facts;
            if let Some(header) = copy.sector.header_mut() {
                header.alternate_lba = U64::new(facts.alternate.0);
                header.my_lba = U64::new(copy.at.0);
                header.last_usable_lba = U64::new(last.0);
                header.partition_entry_lba = U64::new(facts.entries_at.0);
            }
        }
    }

    fn set_end(&mut self, part: &Partition, end: Offset) {
        if end == part.span.end() {
            return;
        }
        let last = self.size.lba_at(end).map_or(0, |lba| lba.0.saturating_sub(1));
        self.each_entry(part, |entry| entry.ending_lba = U64::new(last));
        self.growth.extend(Growth::of(part, end));
    }

    /// Moves a partition up by so many sectors.
    pub(crate) fn move_up(&mut self, part: &Partition, sectors: u64) {
        self.each_entry(part, |entry| {
            for lba in [&mut entry.starting_lba, &mut entry.ending_lba] {
                *lba = U64::new(lba.get().saturating_add(sectors));
            }
        });
    }

    /// Changes the entry of a partition in both copies.
    fn each_entry(&mut self, part: &Partition, change: impl Fn(&mut GptEntry)) {
        let (_, index) = part.slot;
        for copy in [&mut self.primary, &mut self.backup] {
            let at = to_usize(copy.facts.entry_bytes).saturating_mul(index);
            let entry = copy.array.get_mut(at..).and_then(|bytes| GptEntry::mut_from_prefix(bytes).ok());
            if let Some((entry, _)) = entry {
                change(entry);
            }
        }
    }

    pub(crate) fn finish(mut self) -> Plan {
        let mut plan = Plan::default();
        for copy in [&mut self.primary, &mut self.backup] {
            let entries = copy.entries().to_vec();
            copy.sector.seal(&entries);
        }
        let (Some(old_primary), Some(old_backup)) = (&self.old.primary, &self.old.backup) else {
            return plan;
        };
        if self.primary == *old_primary && self.backup == *old_backup {
            return plan;
        }
        plan.growth = std::mem::take(&mut self.growth);
        if self.backup.at == old_backup.at {
            rewrite(&mut plan, self.size, old_backup, &self.backup);
        } else {
            self.place_backup(&mut plan, old_backup);
        }
        rewrite(&mut plan, self.size, old_primary, &self.primary);
        self.protect(&mut plan);
        plan
    }

    /// Writes the backup to its new place and clears what it leaves behind.
    fn place_backup(&self, plan: &mut Plan, old: &Copy) {
        let was: SpanSet = old.spans(self.size).into_iter().collect();
        let new = self.backup.spans(self.size);
        let bytes = [&self.backup.sector.0, &self.backup.array];
        let fresh = !new.iter().any(|span| was.overlaps(*span));
        let into = if fresh { &mut plan.fresh } else { &mut plan.home };
        for (span, bytes) in new.iter().zip(bytes) {
            into.push(Write { at: span.start(), data: Data::Bytes(bytes.clone()) });
        }
        let mut stale = was;
        new.into_iter().for_each(|span| stale.remove(span));
        let clear = |span: Span| Write { at: span.start(), data: Data::Zero(span.len()) };
        plan.home.extend(stale.iter().map(clear));
        plan.says.push(format!(
            "backup GPT: moves from sector {} to sector {}, and the old one is cleared; usable up to sector {}",
            old.at, self.backup.at, self.primary.facts.last
        ));
    }

    /// Lets the protective MBR cover the whole disk.
    fn protect(&self, plan: &mut Plan) {
        let mut record = self.old.protective.clone();
        let geometry = record.mbr().and_then(|mbr| Geometry::of(used(&mbr.partition_record)));
        let count = low32(guarded(self.size, self.disk_len));
        let guard = record
            .mbr_mut()
            .and_then(|mbr| mbr.partition_record.iter_mut().find(|slot| slot.os_type == PROTECTIVE));
        if let Some(slot) =
            guard.filter(|slot| slot.starting_lba.get() == 1 && slot.size_in_lba.get() < count)
        {
            slot.size_in_lba = U32::new(count);
            slot.ending_chs = slot.ending_chs.guard_moved_up(geometry, u64::from(count));
        }
        plan.rewrite(Offset::ZERO, &self.old.protective.sector, record.sector);
    }
}

fn rewrite(plan: &mut Plan, size: SectorSize, old: &Copy, new: &Copy) {
    let [header, array] = new.spans(size);
    plan.rewrite(array.start(), &old.array, new.array.clone());
    plan.rewrite(header.start(), &old.sector.0, new.sector.0.clone());
}

pub(crate) fn used(slots: &[MbrEntry]) -> impl Iterator<Item = &MbrEntry> + Clone {
    slots.iter().filter(|slot| slot.is_used())
}

/// An MBR and its chain under change.
struct MbrEdit<'a> {
    table: &'a Table,
    old: &'a Records,
    records: Vec<Record>,
    geometry: Option<Geometry>,
    growth: Vec<Growth>,
}

impl<'a> MbrEdit<'a> {
    fn new(table: &'a Table, old: &'a Records) -> Self {
        let geometry = old.0.first().and_then(|head| Geometry::of(used(head.slots())));
        Self { table, old, records: old.0.clone(), geometry, growth: Vec::new() }
    }

    fn grow(mut self, part: &Partition, end: Offset) -> Plan {
        if end > part.span.end() {
            self.set_end(part, end);
            if let Role::Logical { ebr } = part.role {
                self.grow_around(ebr, end);
            }
        }
        let mut plan = Plan { growth: self.growth, ..Plan::default() };
        for (old, new) in self.old.0.iter().zip(self.records) {
            let at = self.table.sector_size.offset(old.at).unwrap_or_default();
            plan.rewrite(at, &old.sector, new.sector);
        }
        plan
    }

    fn set_end(&mut self, part: &Partition, end: Offset) {
        let (which, index) = part.slot;
        self.stretch(which, index, part.span.start(), end);
        self.growth.extend(Growth::of(part, end));
    }

    /// The extended partition and the link to this EBR reach at least as far as the logical partition.
    fn grow_around(&mut self, ebr: Offset, end: Offset) {
        let size = self.table.sector_size;
        let Some(extended) = self.table.partitions.iter().find(|part| part.role == Role::Extended) else {
            return;
        };
        if extended.span.end() < end {
            self.set_end(extended, end);
        }
        let base = size.lba_at(extended.span.start()).unwrap_or_default();
        let links = self.old.0.iter().enumerate().skip(1).flat_map(|(which, record)| {
            let slots = record.slots().iter().enumerate();
            slots
                .filter(|(_, slot)| slot.is_extended())
                .map(move |(index, slot)| (which, index, slot.span(size, base)))
        });
        let link = links.filter_map(|(which, index, span)| Some((which, index, span?)));
        let link = link.into_iter().find(|(_, _, span)| span.start() == ebr);
        if let Some((which, index, span)) = link.filter(|(_, _, span)| span.end() < end) {
            self.stretch(which, index, span.start(), end);
        }
    }

    /// Sets size and last CHS of one slot for a span from `start` to `end`.
    fn stretch(&mut self, which: usize, index: usize, start: Offset, end: Offset) {
        let size = self.table.sector_size;
        let count = size.sectors_in(end.since(start).unwrap_or_default());
        let last = size.sectors_in(end.since(Offset::ZERO).unwrap_or_default()).saturating_sub(1);
        let record = self.records.get_mut(which).and_then(Record::mbr_mut);
        if let Some(slot) = record.and_then(|mbr| mbr.partition_record.get_mut(index)) {
            slot.size_in_lba = U32::new(low32(count));
            slot.ending_chs = slot.ending_chs.moved_up(self.geometry, last);
        }
    }
}

impl Growth {
    fn of(part: &Partition, end: Offset) -> Option<Self> {
        let after = Span::between(part.span.start(), end)?;
        Some(Self { number: part.number, before: part.span, after })
    }
}
