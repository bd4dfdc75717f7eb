//! Growing the virtual disk.
//!
//! 1. No data moves: the size and, where it is full, the L1 table change.
//! 2. The new range reads as zero, whatever the parent or a leftover entry has there: where something would show, it
//!    is cleared explicitly.
//! 3. The whole change is worked out on an overlay of the file while planning; applying it only writes.

use super::layout::incompatible;
use super::{Qcow2, header};
use crate::{Error, Result};
use disk::{Change, Data, Disk, Overlay, ReadAt};
use ondisk::num::low32;
use ondisk::size::Human;
use ondisk::{Len, Offset, Span};

/// How an image gets a larger virtual disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrowPlan {
    from: Len,
    to: Len,
    notes: Vec<String>,
    change: Change,
}

impl<D: ReadAt> Qcow2<D> {
    /// Plans a virtual disk of `to` bytes, rounded up to whole sectors.
    ///
    /// # Errors
    /// Where the image is damaged, cannot be that large, has snapshots that would lose their size, or where the parent
    /// that decides what the new range reads as is not there.
    pub fn plan_grow(&self, to: Len) -> Result<GrowPlan> {
        let from = self.header.size;
        let to = Len::new(to.get().checked_next_multiple_of(512).unwrap_or(u64::MAX));
        self.may_grow(to)?;
        if to == from {
            return Ok(GrowPlan { from, to, notes: Vec::new(), change: unchanged(self.file.len()) });
        }
        let mut overlay = Overlay::new(&self.file, &self.limits);
        let mut grown = Qcow2::open(&mut overlay, &self.limits)?;
        grown.parent.clone_from(&self.parent);
        grown.grow(to)?;
        let l1 = (grown.header.l1_at, grown.header.l1_entries);
        drop(grown);
        Ok(GrowPlan { from, to, notes: self.notes(l1, to)?, change: overlay.into_change()? })
    }

    fn may_grow(&self, to: Len) -> Result<()> {
        let limit = self.header.geo.table_reach().saturating_mul(header::L1_MAX >> 3).min(u64::MAX >> 1);
        if to < self.header.size {
            let why = format!("the disk has {} bytes already, more than {to}", self.header.size);
            return Err(Error::refused(why, None));
        }
        if to.get() > limit {
            let format = format!("qcow2 with clusters of {} bytes", self.header.geo.bytes());
            return Err(Error::TooLarge { format, want: to, limit: Len::new(limit & !511) });
        }
        if self.header.version < 3 && !self.snapshots.is_empty() && to > self.header.size {
            let why = "the image has version 2 and snapshots, which do not know the size of their disk";
            return Err(Error::refused(why, Some("upgrade it first: qemu-img amend -o compat=v3 IMAGE")));
        }
        self.parent_len().map(|_| ())
    }

    fn notes(&self, (l1_at, l1_entries): (Offset, u64), to: Len) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        if l1_at != self.header.l1_at {
            notes.push(format!("the L1 table of {l1_entries} entries moves to byte {l1_at}"));
        } else if l1_entries != self.header.l1_entries {
            notes.push(format!("the L1 table gets {l1_entries} entries"));
        }
        let shown = Span::between(self.header.size.end(), self.parent_len()?.min(to).end());
        if let Some(shown) = shown.filter(|shown| !shown.is_empty()) {
            let len = Human(shown.len());
            notes.push(format!("{len} of the new range are made zero, where the parent would show"));
        }
        if self.header.incompatible & incompatible::DIRTY != 0 {
            notes.push("the image was not closed: its refcounts are set anew".to_owned());
        }
        let bitmaps = self.bitmaps.iter().filter(|bitmap| !bitmap.in_use()).count();
        if bitmaps > 0 {
            notes
                .push(format!("{bitmaps} bitmaps become invalid: the next incremental backup is a full one"));
        }
        Ok(notes)
    }
}

impl<D: Disk> Qcow2<D> {
    fn grow(&mut self, to: Len) -> Result<()> {
        self.ready()?;
        let needed = self.header.geo.l1_needed(to);
        if needed > self.header.l1_entries {
            self.grow_l1(needed)?;
        }
        let old = self.header.size;
        self.header.size = to;
        let (l1_at, l1_entries) = (self.header.l1_at, self.header.l1_entries);
        header::edit(&mut self.file, |record| {
            record.size.set(to.get());
            record.l1_size.set(low32(l1_entries));
            record.l1_table_offset.set(l1_at.get());
        })?;
        self.clear(Span::between(old.end(), to.end()).unwrap_or_default(), true)
    }
}

impl GrowPlan {
    /// The size of the virtual disk afterwards.
    #[must_use]
    pub const fn new_len(&self) -> Len {
        self.to
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.change.is_empty()
    }

    /// What will happen.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let (from, to) = (self.from, self.to);
        let first =
            format!("the virtual disk grows from {} to {} ({from} to {to} bytes)", Human(from), Human(to));
        std::iter::once(first).filter(|_| from != to).chain(self.notes.iter().cloned()).collect()
    }

    /// Does it, on the file.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn apply(self, file: &mut dyn Disk) -> disk::Result<()> {
        if file.len() != self.change.new_len {
            file.resize(self.change.new_len)?;
        }
        for write in &self.change.fresh {
            file.mark_fresh(write.span())?;
        }
        for one in &self.change.moves {
            file.mark_fresh(Span::new(one.to, one.from.len()).unwrap_or_default())?;
            file.copy(one.from, one.to)?;
        }
        for write in self.change.fresh.iter().chain(&self.change.home) {
            match &write.data {
                Data::Bytes(bytes) => file.write_at(write.at, bytes)?,
                Data::Zero(_) => file.zero(write.span())?,
            }
        }
        Ok(())
    }
}

fn unchanged(len: Len) -> Change {
    Change { old_len: len, new_len: len, ..Change::default() }
}
