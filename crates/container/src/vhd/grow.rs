//! Making a VHD larger.
//!
//! 1. A fixed image gets its footer further on; the old footer's sector becomes part of the disk, and zero.
//! 2. A dynamic image whose BAT has room gets new footers, and entries that name no block.
//! 3. Where the BAT has no room, a new one is written behind everything else; in tapdisk's images, whose tools expect
//!    all metadata before all blocks, the blocks in the way move behind everything else instead.
//! 4. The new space reads as zero: entries and bytes that the old state never showed are cleared.
//! 5. Identity, creator, timestamps and everything unknown stay.

use super::batmap::{Good, covered, map_len};
use super::footer::FOOTER_LEN;
use super::header::{SECTOR, bat_len};
use super::layout::{BatmapHeader, DynamicHeader, Footer, UNALLOCATED};
use super::locator;
use super::size::{LEN_MAX, Size, fitting};
use super::step::{Step, run};
use super::survey::Survey;
use super::write::{ALIGN, aligned, nameable};
use super::{Body, Sparse, Vhd};
use crate::raw::smaller;
use crate::{Error, Result};
use disk::{Disk, ReadAt, read_vec};
use ondisk::num::{low32, round_up, to_u64};
use ondisk::{Len, Offset, Sealed, Span};
use zerocopy::IntoBytes;

/// A locator's data is a name; more than this is no name.
const LOCATOR_MAX: Len = Len::kib(64);

/// The change that makes a VHD larger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrowPlan {
    old: Len,
    asked: Len,
    size: Size,
    file_len: Len,
    table: Option<Table>,
    moved: u64,
    steps: Vec<Step>,
}

/// What happens to the BAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Table {
    entries: u64,
    at: Offset,
    moved_from: Option<Offset>,
}

impl GrowPlan {
    /// The size of the disk afterwards: at least what was asked for, at most one cylinder more.
    #[must_use]
    pub const fn new_len(&self) -> Len {
        self.size.len
    }

    /// The length of the file afterwards.
    #[must_use]
    pub const fn file_len(&self) -> Len {
        self.file_len
    }

    /// What happens.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let mut list = vec![format!(
            "the VHD grows from {} to {} bytes (geometry {})",
            self.old, self.size.len, self.size.geometry
        )];
        if self.size.len != self.asked {
            list.push(format!(
                "{} bytes were asked for; this is the next size that its readers agree on",
                self.asked
            ));
        }
        match self.table {
            Some(Table { entries, at, moved_from: Some(from) }) => list.push(format!(
                "the block allocation table gets {entries} entries and moves from byte {from} to byte {at}"
            )),
            Some(Table { entries, .. }) => {
                list.push(format!("the block allocation table gets {entries} entries"));
            }
            None => {}
        }
        if self.moved > 0 {
            list.push(format!("{} blocks move to the end of the file", self.moved));
        }
        list
    }

    /// Does it to the file below the container, which must then be opened anew.
    ///
    /// # Errors
    /// Where the file cannot be changed.
    pub fn apply(self, file: &mut dyn Disk) -> disk::Result<()> {
        run(self.steps, file)
    }
}

impl<D: ReadAt> Vhd<D> {
    /// Plans to make the disk at least `to` bytes long.
    ///
    /// # Errors
    /// Where it is larger already, would be too large for the format, or the image may not be written to.
    pub fn plan_grow(&self, to: Len) -> Result<GrowPlan> {
        self.writable()?;
        if to < self.len {
            return Err(smaller(self.len, to));
        }
        let too_large = |want| Error::TooLarge { format: "VHD".to_owned(), want, limit: LEN_MAX };
        let mut footer = self.footers.footer;
        let size = fitting(&footer, to).filter(|size| size.len <= LEN_MAX).ok_or_else(|| too_large(to))?;
        let nothing = size.len <= self.len;
        let size = if nothing { Size { len: self.len, geometry: self.geometry() } } else { size };
        let mut plan = GrowPlan {
            old: self.len,
            asked: to,
            size,
            file_len: self.file.len(),
            table: None,
            moved: 0,
            steps: Vec::new(),
        };
        footer.current_size = size.len.get().into();
        size.geometry.store(&mut footer);
        footer.seal(&());
        match &self.body {
            _ if nothing => {}
            Body::Fixed => self.plan_fixed(&footer, &mut plan)?,
            Body::Sparse(sparse) => Planner::new(self, sparse, footer)?.plan(&mut plan)?,
        }
        Ok(plan)
    }

    fn plan_fixed(&self, footer: &Footer, plan: &mut GrowPlan) -> Result<()> {
        let end = plan.size.len.end();
        let len = end.checked_add(FOOTER_LEN).ok_or_else(no_room)?;
        plan.file_len = Len::new(len.get());
        // What lies between the old end of the disk and the old end of the file, the old footer above all.
        let stale = Span::between(self.len.end(), self.file.len().min(plan.size.len).end());
        plan.steps.extend(stale.filter(|stale| !stale.is_empty()).map(Step::Zero));
        plan.steps.push(Step::Resize(plan.file_len));
        plan.steps.push(Step::Write(end, footer.as_bytes().to_vec()));
        Ok(())
    }
}

fn no_room() -> Error {
    Error::unsupported("the VHD's file would be longer than any file can be")
}

fn after(at: Offset, len: Len) -> Result<Offset> {
    at.checked_add(len).ok_or_else(no_room)
}

fn span(at: Offset, len: Len) -> Result<Span> {
    Span::new(at, len).ok_or_else(no_room)
}

/// A plan for an image with blocks while it is being made.
struct Planner<'a, D> {
    vhd: &'a Vhd<D>,
    sparse: &'a Sparse,
    footer: Footer,
    header: DynamicHeader,
    /// Behind everything that has its place.
    end: Offset,
    /// Writes that come after all copies.
    writes: Vec<Step>,
    /// Entries of moved blocks.
    moves: Vec<(u64, Span, Span)>,
}

impl<'a, D: ReadAt> Planner<'a, D> {
    fn new(vhd: &'a Vhd<D>, sparse: &'a Sparse, footer: Footer) -> Result<Self> {
        let Survey { end, .. } = vhd.survey_clean(sparse)?;
        let header = sparse.header.raw;
        Ok(Self { vhd, sparse, footer, header, end, writes: Vec::new(), moves: Vec::new() })
    }

    fn plan(mut self, plan: &mut GrowPlan) -> Result<()> {
        let shape = self.sparse.header.shape;
        let old_entries = self.sparse.header.entries;
        let needed = shape.count(plan.size.len);
        let entries = needed.max(old_entries);
        let seen = shape.count(self.vhd.len);
        self.forget_stale(seen, needed.min(old_entries))?;
        if entries > old_entries {
            u32::try_from(entries).map_err(|_| no_room())?;
            self.header.max_table_entries = low32(entries).into();
            let bat = self.enlarge(entries)?;
            let moved_from = Some(self.sparse.header.bat.start()).filter(|from| *from != bat);
            plan.table = Some(Table { entries, at: bat, moved_from });
        } else if let Some(map) = self.sparse.batmap.good() {
            self.keep_batmap(map)?;
        }
        self.clear_tail()?;
        self.finish(plan);
        Ok(())
    }

    /// Entries of blocks that the old disk did not have must not become its data.
    fn forget_stale(&mut self, seen: u64, until: u64) -> Result<()> {
        let mut stale = false;
        let mut index = seen;
        while index < until && !stale {
            let window = self.sparse.entries(&self.vhd.file, index, until.saturating_sub(index))?;
            stale = window.iter().any(|&entry| entry != UNALLOCATED);
            index = index.saturating_add(to_u64(window.len()).max(1));
        }
        if stale {
            let from = self.sparse.entry_span(seen).start();
            let to = self.sparse.entry_span(until).start();
            self.writes.extend(Span::between(from, to).map(Step::Unallocated));
        }
        Ok(())
    }

    /// Finds a place for a table of `entries`, and says where it is.
    fn enlarge(&mut self, entries: u64) -> Result<Offset> {
        let old = self.sparse.header.bat;
        let bat = span(old.start(), bat_len(entries))?;
        let tap = &self.footer.creator_application == b"tap\0";
        if tap {
            self.repack(bat, entries)?;
        } else if self.is_free_behind(bat)? {
            self.end = self.end.max(bat.end());
        } else {
            return self.move_table(entries);
        }
        let from = self.sparse.entry_span(self.sparse.header.entries).start();
        self.writes.extend(Span::between(from, bat.end()).map(Step::Unallocated));
        Ok(bat.start())
    }

    /// Whether the table can become `bat` where it stands.
    fn is_free_behind(&self, bat: Span) -> Result<bool> {
        let old = self.sparse.header.bat;
        let more = Span::between(old.end(), bat.end()).unwrap_or_default();
        let mut free = !self.sparse.metadata.iter().any(|other| other.intersect(more).is_some());
        self.vhd.each_block(self.sparse, |_, entry| {
            free &= self.sparse.block_span(entry).is_none_or(|block| block.intersect(more).is_none());
            Ok(())
        })?;
        Ok(free)
    }

    /// A new table behind everything else.
    fn move_table(&mut self, entries: u64) -> Result<Offset> {
        let at = Offset::new(round_up(self.end.get(), ALIGN).ok_or_else(no_room)?);
        let bat = span(at, bat_len(entries))?;
        let old = &self.sparse.header;
        let used = span(old.bat.start(), Len::new(old.entries.saturating_mul(4)))?;
        self.moves.push((u64::MAX, used, span(at, used.len())?));
        let rest = Span::between(after(at, used.len())?, bat.end()).unwrap_or_default();
        self.writes.push(Step::Unallocated(rest));
        // What was forgotten in the old table must be forgotten in the new one.
        for step in &mut self.writes {
            if let Step::Unallocated(span) = step
                && let Some(there) = span.intersect(used).and_then(|span| span.relative_to(used.start()))
                && let Some(here) = there.shifted(Len::new(at.get()))
            {
                *span = here;
            }
        }
        self.header.table_offset = at.get().into();
        self.end = bat.end();
        Ok(at)
    }

    /// The table grows where it stands; the batmap and the locators follow it, blocks in the way move to the end.
    fn repack(&mut self, bat: Span, entries: u64) -> Result<()> {
        let mut cursor = bat.end();
        if let Some(map) = self.sparse.batmap.good() {
            let len = map.map.len().max(map_len(entries, self.footer.current_size.get()));
            let at = after(cursor, Len::new(SECTOR))?;
            self.write_batmap(map, cursor, span(at, len)?)?;
            cursor = after(at, len)?;
        }
        cursor = self.shift_locators(bat.start(), cursor)?;
        let region = Span::between(bat.start(), cursor).unwrap_or_default();
        if self.sparse.header.span().intersect(region).is_some() {
            return Err(Error::unsupported("the VHD's header stands behind its block allocation table"));
        }
        self.end = self.end.max(cursor);
        let shape = self.sparse.header.shape;
        let budget = self.vhd.limits.budget("the list of blocks that move");
        let mut in_the_way = Vec::new();
        self.vhd.each_block(self.sparse, |index, entry| {
            if let Some(block) =
                self.sparse.block_span(entry).filter(|block| block.intersect(region).is_some())
            {
                budget.take(Len::new(64))?;
                in_the_way.push((index, block));
            }
            Ok(())
        })?;
        let seen = shape.count(self.vhd.len);
        for (index, block) in in_the_way {
            let entry_at = self.sparse.entry_span(index).start();
            if index >= seen {
                // No part of the old disk, and none of the new one.
                self.writes.push(Step::Write(entry_at, UNALLOCATED.to_be_bytes().to_vec()));
                continue;
            }
            let at = aligned(self.end, shape.bitmap()).ok_or_else(no_room)?;
            let to = span(at, block.len())?;
            let entry = nameable(to)?;
            self.end = to.end();
            self.writes.push(Step::Write(entry_at, entry.to_be_bytes().to_vec()));
            self.moves.push((index, block, to));
        }
        Ok(())
    }

    /// Locators that begin before `cursor` are put behind it, one after the other.
    fn shift_locators(&mut self, from: Offset, mut cursor: Offset) -> Result<Offset> {
        let spaces = self.header.parent_locators.iter().map(locator::space);
        let mut order: Vec<(Span, usize)> =
            spaces.enumerate().filter_map(|(slot, space)| Some((space?, slot))).collect();
        order.sort_unstable();
        for (space, slot) in order {
            if space.end() <= from || space.start() >= cursor {
                continue;
            }
            if space.len() > LOCATOR_MAX {
                let problem = format!("its space of {} bytes is too large for a name", space.len());
                return Err(Error::corrupt("VHD parent locator", space.start(), problem));
            }
            let bytes = read_vec(&self.vhd.file, space, &self.vhd.limits)?;
            self.writes.push(Step::Write(cursor, bytes));
            if let Some(locator) = self.header.parent_locators.get_mut(slot) {
                locator.platform_data_offset = cursor.get().into();
            }
            cursor = Offset::new(round_up(after(cursor, space.len())?.get(), SECTOR).ok_or_else(no_room)?);
        }
        Ok(cursor)
    }

    /// Writes the batmap of the larger disk with its header at `at` and its map at `place`.
    fn write_batmap(&mut self, map: &Good, at: Offset, place: Span) -> Result<()> {
        let seen = self.sparse.header.shape.count(self.vhd.len);
        let mut bytes = self.vhd.limits.buffer("the batmap", place.len())?;
        let old = bytes.get_mut(..map.map.len().min(place.len()).to_usize()).unwrap_or_default();
        self.vhd.file.read_at(map.map.start(), old)?;
        clear_from(&mut bytes, seen);
        let mut raw: BatmapHeader = map.raw;
        let covered = covered(self.footer.current_size.get()).min(place.len());
        raw.checksum = (!raw.sum_of(bytes.get(..covered.to_usize()).unwrap_or_default())).into();
        raw.batmap_offset = place.start().get().into();
        raw.batmap_size = low32(place.len().get() >> 9).into();
        self.writes.push(Step::Write(place.start(), bytes));
        self.writes.push(Step::Write(at, raw.as_bytes().to_vec()));
        Ok(())
    }

    /// The table stays as it is: the map only gets the checksum of the larger disk, if it is long enough for that.
    fn keep_batmap(&mut self, map: &Good) -> Result<()> {
        if covered(self.footer.current_size.get()) <= map.map.len() {
            return self.write_batmap(map, map.at, map.map);
        }
        self.repack(self.sparse.header.bat, self.sparse.header.entries)
    }

    /// Bytes of the last block behind the old end of the disk were never shown and are not shown now.
    fn clear_tail(&mut self) -> Result<()> {
        let shape = self.sparse.header.shape;
        let index = shape.index_of(self.vhd.len.end());
        let block = shape.virtual_span(index);
        if block.start() == self.vhd.len.end() {
            return Ok(());
        }
        let entry = self.sparse.entry(&self.vhd.file, index)?;
        let Some(place) = self.sparse.checked_place(&self.vhd.file, index, entry)? else { return Ok(()) };
        let tail = Span::between(place.offset_of(self.vhd.len.end(), block), place.data.end());
        let whole = self.sparse.block_span(entry).unwrap_or_default();
        let moved = self
            .moves
            .iter()
            .find(|(moved, ..)| *moved == index)
            .and_then(|(_, _, to)| tail?.relative_to(whole.start())?.shifted(Len::new(to.start().get())));
        self.writes.extend(moved.or(tail).map(Step::Zero));
        Ok(())
    }

    /// Puts the steps together: room, copies, tables, footers.
    fn finish(mut self, plan: &mut GrowPlan) {
        let old_end = self.vhd.footers.end;
        let new_len = self.end.checked_add(FOOTER_LEN).unwrap_or(self.end);
        let whole = round_up(self.vhd.file.len().get(), SECTOR).unwrap_or_default();
        plan.file_len = Len::new(if self.end > old_end.start() { new_len.get() } else { whole });
        plan.file_len = plan.file_len.max(self.vhd.file.len());
        let footer_at = plan.file_len.end().checked_sub(FOOTER_LEN).unwrap_or_default();
        plan.moved = to_u64(self.moves.iter().filter(|(index, ..)| *index != u64::MAX).count());
        if footer_at != old_end.start() {
            plan.steps.push(Step::Zero(old_end));
        }
        if plan.file_len != self.vhd.file.len() {
            plan.steps.push(Step::Resize(plan.file_len));
        }
        for (_, from, to) in self.moves.drain(..) {
            let before = Span::between(to.start(), to.end().min(old_end.start()));
            let behind = Span::between(to.start().max(old_end.end()), to.end());
            let fresh = before.into_iter().chain(behind).filter(|span| !span.is_empty());
            plan.steps.extend(fresh.map(Step::Fresh));
            plan.steps.push(Step::Copy(from, to.start()));
        }
        plan.steps.append(&mut self.writes);
        if self.header != self.sparse.header.raw {
            self.header.seal(&());
            plan.steps.push(Step::Write(self.sparse.header.at, self.header.as_bytes().to_vec()));
        }
        plan.steps.push(Step::Write(Offset::ZERO, self.footer.as_bytes().to_vec()));
        plan.steps.push(Step::Write(footer_at, self.footer.as_bytes().to_vec()));
    }
}

/// Clears the bits of block `first` and all behind it.
fn clear_from(map: &mut [u8], first: u64) {
    let (byte, bit) = (ondisk::num::to_usize(first >> 3), first & 7);
    for (index, value) in map.iter_mut().enumerate().skip(byte) {
        let keep = if index == byte { !(0xff_u8 >> bit) } else { 0 };
        *value &= keep;
    }
}
