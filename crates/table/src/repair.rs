//! Mending a GPT from the copy that is whole.
//!
//! 1. Firmware and kernels read the primary copy where that is whole, else the backup: so do we, and the partitions stay
//!    those that were seen.
//! 2. A copy goes where it was, as far as the other one tells; else to the usual place, and never over usable sectors.
//! 3. An MBR has no copy. Beside a GPT its boot code stays, and only what protects the GPT is written.
//! 4. Partitions that cannot be are nothing that a copy could mend.

use crate::copy::{Copies, Copy, Facts};
use crate::gpt::{compare, guarded};
use crate::layout::{BOOT_SIGNATURE, Chs, HeaderSector, MbrEntry};
use crate::plan::Plan;
use crate::record::{PROTECTIVE, Record};
use crate::table::{Raw, Table};
use crate::{Finding, Result};
use disk::{Data, Limits, ReadAt, Write};
use ondisk::num::low32;
use ondisk::{Lba, Offset, Sealed, SectorSize, Span};
use zerocopy::FromZeros;
use zerocopy::little_endian::{U16, U64};

/// Plans to make the damaged copy of a GPT from the good one, and to protect both. Of an MBR nothing can be mended.
///
/// # Errors
/// Where the disk cannot be read.
pub fn plan_repair(table: &Table, disk: &dyn ReadAt, limits: &Limits) -> Result<Plan> {
    let mut plan = Plan::default();
    let Raw::Gpt(copies) = &table.raw else { return Ok(plan) };
    let mender = Mender { size: table.sector_size, disk, limits };
    let mended = match (&copies.primary, &copies.backup) {
        (Some(primary), None) => mender.backup(primary).map(|new| ("backup", "primary", new)),
        (None, Some(backup)) => mender.primary(backup)?.map(|new| ("primary", "backup", new)),
        (Some(primary), Some(backup)) if differ_only(table, copies, primary, backup) => {
            mender.backup(primary).map(|new| ("backup", "primary", new))
        }
        _ => None,
    };
    if let Some((name, from, new)) = mended {
        for (span, bytes) in new.spans(mender.size).into_iter().zip([new.sector.0.clone(), new.array.clone()])
        {
            plan.home.push(Write { at: span.start(), data: Data::Bytes(bytes) });
        }
        plan.says.push(format!("{name} GPT: made from the {from} one, at sector {}", new.at));
    }
    mender.protect(&copies.protective, &mut plan);
    Ok(plan)
}

/// Whether the copies differ, and nothing is wrong with what the primary one says.
fn differ_only(table: &Table, copies: &Copies, primary: &Copy, backup: &Copy) -> bool {
    let differences = compare(primary, backup);
    let lacks_guard = !copies.protective.slots().iter().any(|slot| slot.os_type == PROTECTIVE);
    let explained = differences.len().saturating_add(lacks_guard.into());
    !differences.is_empty()
        && table.findings.iter().filter(|one| Finding::is_damage(one)).count() == explained
}

struct Mender<'a> {
    size: SectorSize,
    disk: &'a dyn ReadAt,
    limits: &'a Limits,
}

impl Mender<'_> {
    /// The backup of a primary copy: where that expects it, else at the end of the disk.
    fn backup(&self, primary: &Copy) -> Option<Copy> {
        let last = Lba(self.size.sectors_in(self.disk.len()).checked_sub(1)?);
        let expected = primary.facts.alternate;
        // An alternate that lies elsewhere would have to be written into the primary one, which is whole.
        let at = Some(expected).filter(|at| *at <= last && *at > primary.facts.last)?;
        let entries_at = Lba(at.0.checked_sub(primary.array_sectors(self.size))?);
        (entries_at > primary.facts.last).then(|| twin(primary, at, entries_at))
    }

    /// The primary copy of a backup, with its entries where the damaged one has them, else right behind it.
    fn primary(&self, backup: &Copy) -> Result<Option<Copy>> {
        let sectors = backup.array_sectors(self.size);
        let fits = |at: Lba| at >= Lba(2) && at.0.saturating_add(sectors) <= backup.facts.first.0;
        let found = HeaderSector(Record::read(self.disk, self.size, Lba(1), self.limits)?.sector);
        let named = found.header().map(|header| Lba(header.partition_entry_lba.get()));
        let sealed = found.verify_header().is_ok();
        for at in named.into_iter().filter(|at| fits(*at)) {
            if sealed || self.entries_at(at, sectors)?.starts_with(backup.entries()) {
                return Ok(Some(twin(backup, Lba(1), at)));
            }
        }
        Ok(Some(Lba(2)).filter(|at| fits(*at)).map(|at| twin(backup, Lba(1), at)))
    }

    fn entries_at(&self, at: Lba, sectors: u64) -> Result<Vec<u8>> {
        let span = self.size.offset(at).and_then(|start| Span::new(start, self.size.len_of(sectors)?));
        Ok(disk::read_vec(self.disk, span.unwrap_or_default(), self.limits)?)
    }

    /// Gives sector 0 a slot that protects the GPT, where it has no slots at all.
    fn protect(&self, old: &Record, plan: &mut Plan) {
        let guard = |slot: &MbrEntry| slot.os_type == PROTECTIVE;
        if old.slots().iter().any(|slot| guard(slot) || slot.is_used()) {
            return;
        }
        let mut record = old.clone();
        let covered = guarded(self.size, self.disk.len());
        let Some(mbr) = record.mbr_mut() else { return };
        // Only the signature may be what is missing.
        if !mbr.partition_record.iter().any(guard) {
            mbr.partition_record = [MbrEntry::new_zeroed(); 4];
            if let Some(slot) = mbr.partition_record.first_mut() {
                slot.os_type = PROTECTIVE;
                slot.starting_chs = Chs::GUARD_START;
                slot.ending_chs = Chs::guard_end(covered);
                slot.starting_lba.set(1);
                slot.size_in_lba.set(low32(covered));
            }
        }
        mbr.signature = U16::new(BOOT_SIGNATURE);
        plan.rewrite(Offset::ZERO, &old.sector, record.sector);
        plan.says.push("the protective MBR is written; its boot code stays".to_owned());
    }
}

/// The same GPT at another place.
fn twin(copy: &Copy, at: Lba, entries_at: Lba) -> Copy {
    let facts = Facts { alternate: copy.at, entries_at, ..copy.facts };
    let mut new = Copy { at, facts, ..copy.clone() };
    if let Some(header) = new.sector.header_mut() {
        header.my_lba = U64::new(at.0);
        header.alternate_lba = U64::new(copy.at.0);
        header.partition_entry_lba = U64::new(entries_at.0);
    }
    let entries = copy.entries().to_vec();
    new.sector.seal(&entries);
    new
}
