//! Making way for a partition that grows: what lies behind it moves to the end of the disk.
//!
//! 1. Unasked only swap moves that no system sleeps in, and an extended partition that holds nothing else. When told,
//!    everything moves but what is known by its place ([`pinned`]).
//! 2. Of swap its head moves, with UUID and label; the rest means nothing to a system that is shut down. Anything else
//!    moves whole, and a boot sector that names its own place is told the new one.
//! 3. Old and new places may overlap. Heads are taken before the first write; what the table leaves behind is cleared
//!    before anything is copied, and written at its new place afterwards.
//! 4. Of the old places nothing is kept but what the new ones cover.

mod boot_sector;
mod layout;
mod pinned;

use crate::Result;
use crate::content::Content;
use crate::grow::BootNeeds;
use crate::layout::{Layout, VolumeId};
use disk::{Disk, Limits, ReadAt, copy_up, read_vec};
use ondisk::size::Human;
use ondisk::{Len, Offset, Span, SpanSet};
use table::{Growth, Role};

/// Swap's first page on any machine.
const HEAD: Len = Len::kib(64);

/// What of a partition is carried to its new place.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cargo {
    /// These bytes, at its start.
    Head(Vec<u8>),
    /// All of it; then some sectors change.
    Whole(Vec<(Offset, Vec<u8>)>),
}

/// A plan for making way.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    table: table::Plan,
    /// The partitions that hold something, the last on the disk first.
    loads: Vec<(Growth, Cargo)>,
    /// What the old table neither takes nor gives to a partition, up to the end of the new disk.
    unused: SpanSet,
    says: Vec<String>,
}

/// Whether something lies behind a partition, and all of it may move: with `all` whatever it is.
pub(crate) fn can_be_made(layout: &Layout, number: u32, all: bool) -> bool {
    let partitions = layout.table.as_ref().map(table::Table::partitions).unwrap_or_default();
    let Some(of) = partitions.iter().find(|one| one.number == number) else { return false };
    let mut behind = partitions.iter().filter(|one| one.span.start() > of.span.start()).peekable();
    let is_swap = |number| {
        let volume = layout.volume(&VolumeId::Partition(number));
        volume.is_some_and(|volume| volume.content == Content::Swap { hibernated: false })
    };
    behind.peek().is_some() && (all || behind.all(|one| one.role == Role::Extended || is_swap(one.number)))
}

/// Plans to move what lies behind a partition to the end of the disk; `None` where nothing lies there, or it lies at
/// the end already.
///
/// # Errors
/// Where the table cannot be changed, or something behind the partition is known by its place.
pub(crate) fn plan(
    disk: &dyn ReadAt,
    layout: &Layout,
    number: u32,
    boot: &BootNeeds,
    limits: &Limits,
) -> Result<Option<Way>> {
    let Some(table) = &layout.table else { return Ok(None) };
    let plan = table::plan_make_way(table, number, disk.len())?;
    if plan.is_empty() {
        return Ok(None);
    }
    pinned::refuse(disk, layout, table, plan.moved(), boot)?;
    let mut loads = Vec::new();
    let mut says = Vec::new();
    for one in plan.moved() {
        let Some(volume) = layout.volume(&VolumeId::Partition(one.number)) else { continue };
        let cargo = if volume.content == (Content::Swap { hibernated: false }) {
            let head = Span::new(one.before.start(), HEAD.min(one.before.len())).unwrap_or_default();
            Cargo::Head(read_vec(disk, head, limits)?)
        } else {
            let data = disk.extents(one.before)?.data().map(|span| span.len().get()).sum();
            says.push(format!(
                "partition {}: all of it is copied ({} bytes, {})",
                one.number,
                data,
                Human(Len::new(data))
            ));
            Cargo::Whole(boot_sector::moved(disk, one, volume.content, table.sector_size())?)
        };
        loads.push((*one, cargo));
    }
    loads.sort_by_key(|(one, _)| std::cmp::Reverse(one.before.start()));
    let mut unused: SpanSet = Some(Span::whole(disk.len())).into_iter().collect();
    let last = table.partitions().iter().map(|part| part.span.end()).max().unwrap_or_default();
    unused.remove(Span::between(Offset::ZERO, last).unwrap_or_default());
    table.metadata().iter().for_each(|span| unused.remove(span));
    Ok(Some(Way { table: plan, loads, unused, says }))
}

impl Way {
    /// What happens, a sentence a step.
    pub(crate) fn sentences(&self) -> Vec<String> {
        self.table.sentences().into_iter().chain(self.says.iter().cloned()).collect()
    }

    /// Does it.
    ///
    /// # Errors
    /// Where the disk cannot be read or written.
    pub(crate) fn apply(self, disk: &mut impl Disk) -> Result<()> {
        for (one, cargo) in &self.loads {
            if let Cargo::Head(bytes) = cargo {
                disk.zero(Span::new(one.before.start(), Len::of(bytes)).unwrap_or_default())?;
            }
        }
        self.table.clear_old(disk)?;
        for (one, _) in self.whole() {
            for part in self.unused.intersect(one.after) {
                disk.mark_fresh(part)?;
            }
            let by = one.after.start().since(one.before.start()).unwrap_or_default();
            copy_up(disk, one.before, by)?;
        }
        for left in self.left_behind().iter() {
            disk.discard(left)?;
        }
        for (one, cargo) in &self.loads {
            let at = |ahead: Offset| one.after.start().checked_add(Len::new(ahead.get())).unwrap_or(ahead);
            match cargo {
                Cargo::Head(bytes) => disk.write_at(one.after.start(), bytes)?,
                Cargo::Whole(sectors) => {
                    sectors.iter().try_for_each(|(ahead, bytes)| disk.write_at(at(*ahead), bytes))?;
                }
            }
        }
        Ok(self.table.write_new(disk)?)
    }

    fn whole(&self) -> impl Iterator<Item = &(Growth, Cargo)> {
        self.loads.iter().filter(|(_, cargo)| matches!(cargo, Cargo::Whole(_)))
    }

    fn left_behind(&self) -> SpanSet {
        let mut left: SpanSet = self.whole().map(|(one, _)| one.before).collect();
        self.loads.iter().for_each(|(one, _)| left.remove(one.after));
        left
    }
}
