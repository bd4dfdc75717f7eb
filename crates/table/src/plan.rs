//! A change of a table, as bytes and their places.

use disk::{Data, Disk, Result, Write};
use ondisk::Span;
use ondisk::size::Human;

/// What becomes of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Which.
    pub number: u32,
    /// Its bytes now.
    pub before: Span,
    /// Its bytes then.
    pub after: Span,
}

/// A change of a table. Applied to a disk of the length it was planned for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Writes to bytes that the present table neither takes nor gives to a partition.
    pub(crate) fresh: Vec<Write>,
    /// Writes over bytes of the present table.
    pub(crate) home: Vec<Write>,
    /// The partitions that grow: the one asked for, then the extended one around it.
    pub(crate) growth: Vec<Growth>,
    /// The partitions that change their places, in no order.
    pub(crate) moved: Vec<Growth>,
    /// What else is to be said, in sentences.
    pub(crate) says: Vec<String>,
}

impl Plan {
    /// Whether nothing is to be done.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.home.is_empty()
    }

    /// The partitions that grow: the one asked for, then the extended one around it.
    #[must_use]
    pub fn growth(&self) -> &[Growth] {
        &self.growth
    }

    /// The partitions that change their places: their content is not part of this plan.
    #[must_use]
    pub fn moved(&self) -> &[Growth] {
        &self.moved
    }

    /// Writes that no structure of the present table refers to, and writes over the present table.
    #[must_use]
    pub fn writes(&self) -> (&[Write], &[Write]) {
        (&self.fresh, &self.home)
    }

    /// The change in words.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let grown = self.growth.iter().map(|growth| {
            format!(
                "partition {}: {} -> {} (ends at byte {} instead of {})",
                growth.number,
                Human(growth.before.len()),
                Human(growth.after.len()),
                growth.after.end(),
                growth.before.end()
            )
        });
        let moved = self.moved.iter().map(|one| {
            format!(
                "partition {}: moves from byte {} to {}",
                one.number,
                one.before.start(),
                one.after.start()
            )
        });
        grown.chain(moved).chain(self.says.iter().cloned()).collect()
    }

    /// Does it.
    ///
    /// # Errors
    /// Where the disk cannot be written, or is not as long as planned.
    pub fn apply(self, disk: &mut dyn Disk) -> Result<()> {
        self.clear_old(disk)?;
        self.write_new(disk)
    }

    /// Clears what the present table leaves behind. Partitions that move may come to lie there: they are copied after
    /// this, and before [`Plan::write_new`].
    ///
    /// # Errors
    /// As [`Plan::apply`].
    pub fn clear_old(&self, disk: &mut dyn Disk) -> Result<()> {
        let cleared = self.home.iter().filter(|write| matches!(write.data, Data::Zero(_)));
        cleared.map(Write::span).try_for_each(|span| disk.zero(span))
    }

    /// Writes the new table, behind [`Plan::clear_old`].
    ///
    /// # Errors
    /// As [`Plan::apply`].
    pub fn write_new(&self, disk: &mut dyn Disk) -> Result<()> {
        for write in &self.fresh {
            disk.mark_fresh(write.span())?;
            put(disk, write)?;
        }
        let written = self.home.iter().filter(|write| !matches!(write.data, Data::Zero(_)));
        written.into_iter().try_for_each(|write| put(disk, write))
    }

    /// Adds bytes of the table's own, where they differ from what is there.
    pub(crate) fn rewrite(&mut self, at: ondisk::Offset, old: &[u8], new: Vec<u8>) {
        if old != new {
            self.home.push(Write { at, data: Data::Bytes(new) });
        }
    }
}

fn put(disk: &mut dyn Disk, write: &Write) -> Result<()> {
    match &write.data {
        Data::Bytes(bytes) => disk.write_at(write.at, bytes),
        Data::Zero(_) => disk.zero(write.span()),
    }
}
