//! Which table a disk has, if any.
//!
//! 1. A boot sector of a filesystem is not taken for an MBR, although both end with 55 aa.
//! 2. A GPT counts where the MBR protects it, or where there is no MBR or an empty one; beside an MBR with partitions
//!    of its own it does not, as in the kernel.
//! 3. The sector size of a GPT is that at which its header is found. An MBR has none: 512, unless with 4096 it fits
//!    the disk and filesystems, or the chain of records, begin where it says, and none do with 512.

use crate::layout::MbrEntry;
use crate::record::{PROTECTIVE, Record, sectors};
use crate::table::Table;
use crate::{Result, gpt, mbr, probe};
use disk::{Limits, ReadAt};
use ondisk::{Finding, Lba, Len, Offset, SectorSize, Span};

const SIZES: [SectorSize; 2] = [SectorSize::B512, SectorSize::B4096];

/// The disk's partition table; `None` where there is none.
///
/// # Errors
/// Where the disk cannot be read, or what is left of a table cannot.
pub fn read(disk: &dyn ReadAt, limits: &Limits) -> Result<Option<Table>> {
    find(disk, &SIZES, limits)
}

/// As [`read`], for a disk whose sectors are known to have that size.
///
/// # Errors
/// As [`read`].
pub fn read_as(disk: &dyn ReadAt, size: SectorSize, limits: &Limits) -> Result<Option<Table>> {
    find(disk, &[size], limits)
}

fn find(disk: &dyn ReadAt, sizes: &[SectorSize], limits: &Limits) -> Result<Option<Table>> {
    let Some(&smallest) = sizes.iter().min().filter(|size| disk.len() >= Len::new(size.bytes())) else {
        return Ok(None);
    };
    let head = Record::read(disk, smallest, Lba(0), limits)?;
    let slots = head.slots();
    let shared = probe::holds_something(disk, Offset::ZERO)?;
    let is_mbr = mbr::plausible(slots, Span::whole(disk.len()), shared);
    let protected = is_mbr && slots.iter().any(|slot| slot.os_type == PROTECTIVE);
    let own = is_mbr && !protected && slots.iter().any(MbrEntry::is_used);
    let primary = find_primary(disk, sizes, limits)?;
    match primary {
        Some((size, found)) if !own && (found.is_ok() || protected) => {
            let sector = Record::read(disk, size, Lba(0), limits)?;
            gpt::parse(disk, size, sector, found, limits).map(Some)
        }
        None if protected => orphan(disk, sizes, limits).map(Some),
        _ if is_mbr => {
            let size = mbr_sector_size(disk, slots, sizes)?.unwrap_or(smallest);
            let mut table = mbr::parse(disk, size, Record::read(disk, size, Lba(0), limits)?, limits)?;
            table.findings.extend(beside(disk, sizes, &table, limits)?);
            Ok(Some(table))
        }
        _ => Ok(None),
    }
}

/// The primary GPT of the sector size at which it is valid, else at which its signature is found.
fn find_primary(
    disk: &dyn ReadAt,
    sizes: &[SectorSize],
    limits: &Limits,
) -> Result<Option<(SectorSize, gpt::Found)>> {
    let mut best = None;
    for &size in sizes {
        if gpt::is_signed(disk, size, Lba(1))? {
            let found = gpt::read_copy(disk, size, Lba(1), limits)?;
            if found.is_ok() {
                return Ok(Some((size, found)));
            }
            best = best.or(Some((size, found)));
        }
    }
    Ok(best)
}

/// A protective MBR without a primary header: the table of the backup, if there is one.
fn orphan(disk: &dyn ReadAt, sizes: &[SectorSize], limits: &Limits) -> Result<Table> {
    let mut size = sizes.first().copied().unwrap_or(SectorSize::B512);
    for &candidate in sizes {
        let last = candidate.sectors_in(disk.len()).saturating_sub(1);
        if gpt::is_signed(disk, candidate, Lba(last))? {
            size = candidate;
            break;
        }
    }
    let sector = Record::read(disk, size, Lba(0), limits)?;
    gpt::parse(disk, size, sector, Err("no GPT signature at sector 1".to_owned()), limits)
}

/// What GPT headers mean beside an MBR that does not protect them. Kernel, firmware and `sfdisk` go by the MBR alone,
/// however whole the GPT is; so do we, or remains of one that was cut off would become damage on a longer disk.
fn beside(
    disk: &dyn ReadAt,
    sizes: &[SectorSize],
    table: &Table,
    limits: &Limits,
) -> Result<Option<Finding>> {
    let mut found = None;
    for &size in sizes {
        if !gpt::is_signed(disk, size, Lba(1))? {
            continue;
        }
        let header = sectors(size, 1, 1).unwrap_or_default();
        if let Some(part) = table.partitions.iter().find(|part| part.span.intersect(header).is_some()) {
            let text = format!("partition {} of the MBR lies over the header of a GPT", part.number);
            return Ok(Some(Finding::damage(text)));
        }
        if table.partitions.is_empty() && gpt::is_cut_off(disk, size, Lba(1), limits)? {
            let text = "the MBR is empty and does not protect the GPT, which is of a longer disk";
            return Ok(Some(Finding::damage(text)));
        }
        found = Some(Finding::note("a GPT, or what is left of one, lies beside the MBR, which alone counts"));
    }
    Ok(found)
}

/// The sector size with which the slots point to something and fit the disk; `None` where neither or both do.
fn mbr_sector_size(
    disk: &dyn ReadAt,
    slots: &[MbrEntry],
    sizes: &[SectorSize],
) -> Result<Option<SectorSize>> {
    let mut hits = Vec::new();
    for &size in sizes {
        let used = slots.iter().filter(|slot| slot.is_used());
        let fits = |span: &Span| Span::whole(disk.len()).contains(*span);
        let spans =
            used.map(|slot| slot.span(size, Lba(0)).filter(fits).map(|span| (slot.is_extended(), span)));
        let Some(spans) = spans.collect::<Option<Vec<_>>>() else { continue };
        for (extended, span) in spans {
            let at = span.start();
            if if extended { probe::is_boot_record(disk, at)? } else { probe::holds_something(disk, at)? } {
                hits.push(size);
                break;
            }
        }
    }
    Ok(hits.first().copied().filter(|_| hits.len() == 1))
}
