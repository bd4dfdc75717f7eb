//! Lists of sectors at the end of a boot loader's first sector: what comes next, and where it lies.
//!
//! 1. A list ends with a count of 0 or where the code begins, whichever comes first.
//! 2. All runs together are bounded, and each lies on the disk: what they say is read into memory.

use crate::layout::{BLOCK_LIST_AT, BlockList, LEGACY_BLOCK_LIST_AT, LegacyBlockList};
use crate::sector::Bytes;
use crate::{Error, Result};
use disk::{Limits, ReadAt, read_vec};
use ondisk::{Lba, Len, Offset, SectorSize, Span};
use zerocopy::FromBytes;

/// Neither BIOS nor loader can place more than 640 KiB; error correction doubles that at most.
const TOTAL_MAX: Len = Len::mib(2);
/// More runs do not fit beside the code of the smallest of them.
const RUNS_MAX: usize = 48;

/// A boot loader's sectors: the one with the list, and those that it names.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// The sector with the list.
    pub first: Span,
    /// What it names, in order.
    pub runs: Vec<Span>,
    /// The bytes of the runs.
    pub bytes: Vec<u8>,
}

/// Which form the list has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// GRUB 2's.
    Grub2,
    /// GRUB 0.9x's.
    Legacy,
}

/// A sector of 512 bytes, where it lies on the disk.
pub(crate) fn sector_span(at: Lba, count: u64, disk: &dyn ReadAt) -> Option<Span> {
    let span = Span::new(SectorSize::B512.offset(at)?, SectorSize::B512.len_of(count)?)?;
    Span::whole(disk.len()).contains(span).then_some(span)
}

/// Reads a sector of 512 bytes.
pub(crate) fn read_sector(disk: &dyn ReadAt, at: Offset) -> Result<Bytes> {
    let mut bytes = [0; 512];
    disk.read_at(at, &mut bytes)?;
    Ok(bytes)
}

/// Reads what the list in sector `at` names. `part` is what begins there, for the error.
pub(crate) fn load(
    disk: &dyn ReadAt,
    part: &'static str,
    at: Lba,
    form: Form,
    limits: &Limits,
) -> Result<Loaded> {
    let broken = |what: String| Error::broken(part, at, what);
    let first =
        sector_span(at, 1, disk).ok_or_else(|| broken("lies beyond the end of the disk".to_owned()))?;
    let sector = read_sector(disk, first.start())?;
    let (mut runs, mut total) = (Vec::new(), Len::ZERO);
    for (start, count) in entries(&sector, form) {
        let run = sector_span(start, count, disk).ok_or_else(|| {
            broken(format!("lists {count} sectors at {start}, which lie beyond the end of the disk"))
        })?;
        total = total
            .checked_add(run.len())
            .filter(|total| *total <= TOTAL_MAX)
            .ok_or_else(|| broken(format!("lists more than {TOTAL_MAX} bytes")))?;
        runs.push(run);
    }
    let mut bytes = Vec::new();
    for run in &runs {
        bytes.extend(read_vec(disk, *run, limits)?);
    }
    Ok(Loaded { first, runs, bytes })
}

/// The runs of a list: first sector and count.
fn entries(sector: &Bytes, form: Form) -> Vec<(Lba, u64)> {
    let (last, step) = match form {
        Form::Grub2 => (BLOCK_LIST_AT, size_of::<BlockList>()),
        Form::Legacy => (LEGACY_BLOCK_LIST_AT, size_of::<LegacyBlockList>()),
    };
    let places = (0..RUNS_MAX).map_while(|n| last.checked_sub(n.checked_mul(step)?));
    let entry = |at: usize| {
        let bytes = sector.get(at..)?;
        match form {
            Form::Grub2 => BlockList::read_from_prefix(bytes).ok().map(|(e, _)| (e.start.get(), e.len.get())),
            Form::Legacy => {
                let (entry, _) = LegacyBlockList::read_from_prefix(bytes).ok()?;
                Some((entry.start.get().into(), entry.len.get()))
            }
        }
    };
    let all = places.map_while(entry).take_while(|(_, count)| *count > 0);
    all.map(|(start, count)| (Lba(start), count.into())).collect()
}

impl Loaded {
    /// Every sector of it.
    pub fn spans(&self) -> Vec<Span> {
        [self.first].into_iter().chain(self.runs.iter().copied()).collect()
    }
}
