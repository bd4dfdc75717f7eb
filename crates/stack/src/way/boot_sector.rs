//! FAT and NTFS say in their boot sector how many sectors lie before them; a loader in it adds that to find its volume.

use super::layout::BootSector;
use crate::Result;
use crate::content::{Content, Foreign};
use disk::{ReadAt, read_record};
use ondisk::num::low32;
use ondisk::{Len, Offset, SectorSize, Span};
use table::Growth;
use zerocopy::IntoBytes;

/// The boot sectors of a partition that moves, as they must be at the new place: each with its distance from the start.
/// A sector that does not name the present place (formatters often write 0) stays as it is.
pub(super) fn moved(
    disk: &dyn ReadAt,
    one: &Growth,
    content: Content,
    size: SectorSize,
) -> Result<Vec<(Offset, Vec<u8>)>> {
    let mut sectors = Vec::new();
    if !matches!(content, Content::Foreign(Foreign::Fat | Foreign::Ntfs)) {
        return Ok(sectors);
    }
    let first: BootSector = read_record(disk, one.before.start())?;
    for ahead in [Some(Offset::ZERO), copy_at(&first, content)].into_iter().flatten() {
        let at = one.before.start().checked_add(Len::new(ahead.get()));
        let whole = at.and_then(|at| Span::new(at, Len::new(512)));
        let Some(there) = whole.filter(|span| one.before.contains(*span)) else { continue };
        let mut sector: BootSector = read_record(disk, there.start())?;
        let (was, will) = (size.lba_at(one.before.start()), size.lba_at(one.after.start()));
        let named = was.is_some_and(|lba| u64::from(sector.hidden_sectors.get()) == lba.0);
        if let Some(lba) = will.filter(|lba| named && lba.0 <= u64::from(u32::MAX))
            && sector.oem_name == first.oem_name
        {
            sector.hidden_sectors.set(low32(lba.0));
            sectors.push((ahead, sector.as_bytes().to_vec()));
        }
    }
    Ok(sectors)
}

/// Where the copy of the boot sector lies.
fn copy_at(first: &BootSector, content: Content) -> Option<Offset> {
    let sector = u64::from(first.bytes_per_sector.get());
    let index = match content {
        Content::Foreign(Foreign::Ntfs) => first.ntfs_sectors.get(),
        _ if first.fat_sectors_16.get() == 0 => u64::from(first.backup.get()),
        _ => 0,
    };
    index.checked_mul(sector).filter(|at| *at > 0).map(Offset::new)
}
