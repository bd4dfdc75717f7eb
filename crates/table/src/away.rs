//! Making way: all partitions behind one move up to the end of the disk.
//!
//! ```text
//! | root |EBR| swap |....................|
//! | root |....................|EBR| swap |
//! ```
//! 1. They move by one distance, whole MiB: order, gaps, lengths, numbers, identifiers and types stay.
//! 2. An extended partition moves with its records; where it begins before the one that is to grow, only the records
//!    behind that one move, and its end goes along.
//! 3. Only the table is planned here. What the partitions hold is the caller's to carry over ([`Plan::moved`]).

use crate::chs::Geometry;
use crate::grow::{ALIGN, GptEdit, mbr_end, used};
use crate::partition::{Partition, Role};
use crate::plan::{Growth, Plan};
use crate::record::{Record, Records};
use crate::table::{Raw, Table};
use crate::{Error, Result};
use disk::{Data, Write};
use ondisk::num::{low32, round_down};
use ondisk::{Lba, Len, Offset, Span};
use zerocopy::little_endian::U32;

/// Moves all that begins behind a partition up, as far as a disk of `disk_len` bytes lets it go. Empty where nothing
/// lies behind it, or nothing can move.
///
/// # Errors
/// Where the table is damaged or hybrid, the disk is too short for it, or there is no such partition.
pub fn plan_make_way(table: &Table, number: u32, disk_len: Len) -> Result<Plan> {
    table.require_changeable(disk_len)?;
    let size = table.sector_size;
    let from = table.partition(number)?.span.start();
    let behind: Vec<&Partition> = table.partitions.iter().filter(|part| part.span.start() > from).collect();
    let Some(end) = behind.iter().map(|part| part.span.end()).max() else { return Ok(Plan::default()) };
    let space = match &table.raw {
        Raw::Mbr(_) => mbr_end(size, disk_len).0,
        Raw::Gpt(copies) => GptEdit::new(copies, size, disk_len)?.usable_end(),
    };
    let room = space.since(end).unwrap_or_default();
    let by = Len::new(round_down(room.get(), ALIGN.max(size.bytes())).unwrap_or_default());
    if by.is_zero() {
        return Ok(Plan::default());
    }
    let moved = behind.iter().map(|part| moved_up(part, by)).collect::<Result<Vec<_>>>()?;
    let mut plan = match &table.raw {
        Raw::Mbr(records) => Shift { table, old: records, from, sectors: low32(size.sectors_in(by)) }.plan(),
        Raw::Gpt(copies) => {
            let mut edit = GptEdit::new(copies, size, disk_len)?;
            behind.iter().for_each(|part| edit.move_up(part, size.sectors_in(by)));
            edit.finish()
        }
    };
    plan.moved = moved;
    Ok(plan)
}

fn moved_up(part: &Partition, by: Len) -> Result<Growth> {
    let start = part.span.start().checked_add(by);
    let after = start.and_then(|start| Span::new(start, part.span.len()));
    let after = after.ok_or(Error::NoPartition { number: part.number })?;
    Ok(Growth { number: part.number, before: part.span, after })
}

/// An MBR and its chain, whose part behind `from` moves.
struct Shift<'a> {
    table: &'a Table,
    old: &'a Records,
    from: Offset,
    sectors: u32,
}

impl Shift<'_> {
    fn plan(&self) -> Plan {
        let size = self.table.sector_size;
        let geometry = self.old.0.first().and_then(|head| Geometry::of(used(head.slots())));
        let mut records: Vec<Record> = self.old.0.clone();
        for (which, record) in records.iter_mut().enumerate() {
            let was = record.at;
            if which > 0 && self.moves(was) {
                record.at = Lba(was.0.saturating_add(self.sectors.into()));
            }
            self.slots(which, was, record, geometry);
        }
        let mut plan = Plan::default();
        for (old, new) in self.old.0.iter().zip(&records).filter(|(old, new)| old.at != new.at) {
            let zero = Data::Zero(Len::of(&new.sector));
            plan.home.push(Write { at: size.offset(old.at).unwrap_or_default(), data: zero });
        }
        for (old, new) in self.old.0.iter().zip(records) {
            let at = size.offset(new.at).unwrap_or_default();
            let there: &[u8] = if old.at == new.at { &old.sector } else { &[] };
            plan.rewrite(at, there, new.sector);
        }
        plan
    }

    /// Whether what begins at this sector moves.
    fn moves(&self, lba: Lba) -> bool {
        self.table.sector_size.offset(lba).is_some_and(|at| at > self.from)
    }

    fn extended(&self) -> Option<&Partition> {
        self.table.partitions.iter().find(|part| part.role == Role::Extended)
    }

    /// Adjusts the slots of a record, which lay at `was`.
    fn slots(&self, which: usize, was: Lba, record: &mut Record, geometry: Option<Geometry>) {
        let size = self.table.sector_size;
        let chain = self.extended().and_then(|part| size.lba_at(part.span.start())).unwrap_or_default();
        let carried = which > 0 && self.moves(was);
        let Some(mbr) = record.mbr_mut() else { return };
        for slot in mbr.partition_record.iter_mut().filter(|slot| slot.is_used()) {
            let link = which > 0 && slot.is_extended();
            let base = match (which, link) {
                (0, _) => Lba(0),
                (_, true) => chain,
                (_, false) => was,
            };
            let start = Lba(base.0.saturating_add(slot.starting_lba.get().into()));
            let end = Lba(start.0.saturating_add(slot.size_in_lba.get().into()));
            let moves = self.moves(start);
            // A link counts from the extended partition, a logical partition from its own record.
            let base_moves = if link { self.moves(chain) } else { carried };
            if moves && !base_moves {
                slot.starting_lba = U32::new(slot.starting_lba.get().saturating_add(self.sectors));
            }
            if moves {
                let to = start.0.saturating_add(self.sectors.into());
                slot.starting_chs = slot.starting_chs.moved_up(geometry, to);
            }
            // The extended partition stays around what moves inside of it.
            let stretched = (which == 0 && slot.is_extended() && !moves).then(|| self.inner_end()).flatten();
            let stretched = stretched.filter(|inner| *inner > end.0);
            if let Some(inner) = stretched {
                slot.size_in_lba = U32::new(low32(inner.saturating_sub(start.0)));
            }
            if moves || stretched.is_some() {
                let end = stretched.unwrap_or(end.0.saturating_add(self.sectors.into()));
                slot.ending_chs = slot.ending_chs.moved_up(geometry, end.saturating_sub(1));
            }
        }
    }

    /// The sector behind the last logical partition that moves, once it has moved.
    fn inner_end(&self) -> Option<u64> {
        let logical = self.table.partitions.iter().filter(|part| matches!(part.role, Role::Logical { .. }));
        let end = logical.filter(|part| part.span.start() > self.from).map(|part| part.span.end()).max()?;
        Some(self.table.sector_size.lba_at(end)?.0.saturating_add(self.sectors.into()))
    }
}
