//! Blocks around the data of a disk that lies in its file as it is.
//!
//! ```text
//! | footer copy | header | BAT |     | bitmap | 1 |     | bitmap | 3 | … |     | bitmap | 0 |     | bitmap | 2 | … | footer |
//!                                             at 2 MiB            at 6 MiB    behind the old end
//! ```
//!
//! 1. A block that stays has its data where the disk has them, and its bitmap in the sector before. So no neighbour of a
//!    block that stays does: it is not stored, or moves behind the old end of the file.
//! 2. Of neighbours those stay that hold more: as few bytes move as can be. What lies where the tables must be moves.
//! 3. What has moved leaves a hole. Data begin at multiples of 4 KiB, wherever they are.

use super::create::{self, Spec};
use super::fill::{self, BITMAP, BLOCK_LEN};
use super::footer::FOOTER_LEN;
use super::header::SECTOR;
use super::write::{aligned, nameable};
use crate::{Result, in_place};
use disk::{Change, Disk, Limits, Overlay, ReadAt};
use ondisk::num::to_u64;
use ondisk::size::Human;
use ondisk::{Len, Offset, Span};

/// One byte of so many that are stored may move. What makes room for the tables does not count.
const MOVED_MAX: u64 = 4;
/// So much of the file is looked at at once.
const WINDOW: Len = Len::gib(1);

/// A block that is stored.
struct Block {
    index: u64,
    /// How many of its bytes are.
    stored: u64,
    stays: bool,
    /// Where its bitmap goes.
    bitmap: Offset,
}

impl Block {
    /// Bitmap and data.
    fn place(&self) -> Result<Span> {
        let whole = BLOCK_LEN.checked_add(Len::new(SECTOR));
        whole.and_then(|whole| Span::new(self.bitmap, whole)).ok_or_else(in_place::too_long)
    }
}

/// Where everything goes.
struct Plan {
    blocks: Vec<Block>,
    /// Of the tables.
    head: Offset,
    /// Behind the last block.
    end: Offset,
}

impl Spec {
    /// The change by which the disk of `len` bytes that `file` begins with becomes the disk of such a dynamic image.
    pub(crate) fn around(&self, file: &dyn ReadAt, len: Len, limits: &Limits) -> Result<Change> {
        let (mut tables, footer) = fill::metadata(create::plan(self)?, Len::ZERO)?;
        let plan = Plan::new(Len::of(&tables).end(), file, len, limits)?;
        let mut overlay = Overlay::new(file, limits);
        // Behind the disk there was a footer at most.
        overlay.zero(Span::between(len.end(), file.len().end()).unwrap_or_default())?;
        let file_len = Len::new(plan.end.get()).checked_add(FOOTER_LEN).ok_or_else(in_place::too_long)?;
        overlay.resize(file_len)?;
        for block in plan.blocks.iter().filter(|block| !block.stays) {
            let data = home(block.index).intersect(Span::whole(len)).unwrap_or_default();
            overlay.copy(data, Offset::new(block.bitmap.get().saturating_add(SECTOR)))?;
            overlay.zero(data)?;
        }
        for block in &plan.blocks {
            overlay.write_at(block.bitmap, &[0xff; BITMAP])?;
            fill::name_block(&mut tables, block.index, nameable(block.place()?)?);
        }
        overlay.write_at(Offset::ZERO, &tables)?;
        overlay.write_at(plan.end, &footer)?;
        Ok(overlay.into_change()?)
    }
}

impl Plan {
    fn new(head: Offset, file: &dyn ReadAt, len: Len, limits: &Limits) -> Result<Self> {
        let mut plan = Self { blocks: stored(file, len, limits)?, head, end: head };
        plan.choose();
        plan.refuse_much()?;
        let last = plan.blocks.iter().rfind(|block| block.stays).map(|block| home(block.index).end());
        plan.end = plan.end.max(last.unwrap_or_default());
        let mut next = plan.end.max(file.len().end());
        for block in plan.blocks.iter_mut().filter(|block| !block.stays) {
            block.bitmap = aligned(next, Len::new(SECTOR)).ok_or_else(in_place::too_long)?;
            next = block.place()?.end();
            plan.end = next;
        }
        Ok(plan)
    }

    /// Invariants 1 and 2: the heaviest choice without neighbours.
    fn choose(&mut self) {
        // The most that can stay of what comes before a block, with the block before it and without.
        let (mut most, mut without) = (0_u64, 0_u64);
        let mut next = None;
        for block in &mut self.blocks {
            let rest = if next == Some(block.index) { without } else { most };
            let all = rest.saturating_add(block.stored);
            block.stays = block.bitmap >= self.head && all > most;
            (without, most) = (most, if block.stays { all } else { most });
            next = block.index.checked_add(1);
        }
        let mut behind = None;
        for block in self.blocks.iter_mut().rev() {
            block.stays &= behind != block.index.checked_add(1);
            behind = block.stays.then_some(block.index);
        }
    }

    fn refuse_much(&self) -> Result<()> {
        let free = self.blocks.iter().filter(|block| block.bitmap >= self.head);
        let (mut stored, mut moved) = (0_u64, 0_u64);
        for block in free {
            stored = stored.saturating_add(block.stored);
            moved = moved.saturating_add(if block.stays { 0 } else { block.stored });
        }
        if moved.saturating_mul(MOVED_MAX) <= stored {
            return Ok(());
        }
        Err(in_place::refused(format!(
            "{} of {} would have to move, more than one part of {MOVED_MAX}: a block of a dynamic VHD stays where it is \
             only if the one before it is empty",
            Human(Len::new(moved)),
            Human(Len::new(stored))
        )))
    }
}

/// The blocks of which the file holds something, as if all of them stayed.
fn stored(file: &dyn ReadAt, len: Len, limits: &Limits) -> Result<Vec<Block>> {
    let budget = limits.budget("the list of blocks in use");
    let mut blocks: Vec<Block> = Vec::new();
    for window in Span::whole(len.min(file.len())).chunks(WINDOW) {
        for (index, bytes) in file.extents(window)?.data().flat_map(by_block) {
            match blocks.last_mut() {
                Some(last) if last.index == index => last.stored = last.stored.saturating_add(bytes),
                _ => {
                    budget.take(Len::new(to_u64(size_of::<Block>())))?;
                    let bitmap = Offset::new(home(index).start().get().saturating_sub(SECTOR));
                    blocks.push(Block { index, stored: bytes, stays: true, bitmap });
                }
            }
        }
    }
    Ok(blocks)
}

/// How many bytes of a range each block has.
fn by_block(data: Span) -> impl Iterator<Item = (u64, u64)> {
    let index = |at: u64| at.checked_div(BLOCK_LEN.get()).unwrap_or_default();
    let (first, end) =
        (index(data.start().get()), index(data.end().get().saturating_sub(1)).saturating_add(1));
    (first..end).filter_map(move |index| Some((index, home(index).intersect(data)?.len().get())))
}

/// Where the disk has a block.
fn home(index: u64) -> Span {
    Span::new(Offset::new(index.saturating_mul(BLOCK_LEN.get())), BLOCK_LEN).unwrap_or_default()
}
