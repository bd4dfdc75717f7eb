//! Swap space in the way of a partition that grows: it moves to the end of the disk.
//!
//! 1. Only swap that no system sleeps in moves, and an extended partition that holds nothing else.
//! 2. Of swap its head moves, with UUID and label; the rest means nothing to a system that is shut down.
//! 3. The heads are taken before the first write: old and new places may overlap.

use crate::Result;
use crate::content::Content;
use crate::layout::{Layout, VolumeId};
use disk::{Disk, Limits, read_vec};
use ondisk::{Len, Span};
use table::Role;

/// Swap's first page on any machine.
const HEAD: Len = Len::kib(64);

/// Whether something lies behind a partition, and all of it may move.
pub(crate) fn can_be_made(layout: &Layout, number: u32) -> bool {
    let partitions = layout.table.as_ref().map(table::Table::partitions).unwrap_or_default();
    let Some(of) = partitions.iter().find(|one| one.number == number) else { return false };
    let mut behind = partitions.iter().filter(|one| one.span.start() > of.span.start()).peekable();
    let is_swap = |number| {
        let volume = layout.volume(&VolumeId::Partition(number));
        volume.is_some_and(|volume| volume.content == Content::Swap { hibernated: false })
    };
    behind.peek().is_some() && behind.all(|one| one.role == Role::Extended || is_swap(one.number))
}

/// Moves the swap behind a partition to the end of the disk; says what that was, a sentence a step.
pub(crate) fn make(
    disk: &mut impl Disk,
    layout: &Layout,
    number: u32,
    limits: &Limits,
) -> Result<Vec<String>> {
    let Some(table) = &layout.table else { return Ok(Vec::new()) };
    let plan = table::plan_make_way(table, number, disk.len())?;
    let mut heads = Vec::new();
    for one in plan.moved() {
        if layout.volume(&VolumeId::Partition(one.number)).is_some() {
            let len = HEAD.min(one.before.len());
            let head = Span::new(one.before.start(), len).unwrap_or_default();
            heads.push((head, read_vec(&*disk, head, limits)?, one.after.start()));
        }
    }
    for (old, ..) in &heads {
        disk.zero(*old)?;
    }
    let sentences = plan.sentences();
    plan.apply(disk)?;
    for (_, bytes, new) in &heads {
        disk.write_at(*new, bytes)?;
    }
    Ok(sentences)
}
