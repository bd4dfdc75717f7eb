//! Clusters leave the tables.
//!
//! 1. Only what has one user is touched: a cluster or a table that a snapshot shares stays as it is.
//! 2. An entry that goes must read as zero then: over a parent that takes the zero flag, which version 2 has not.

use super::check::Scan;
use super::count::Kind;
use super::entry::{Entry, Plain};
use super::geom::Host;
use super::layout::OFFSET_MASK;
use super::{Qcow2, cache, store};
use crate::Result;
use disk::coarse::inwards;
use disk::{Coarse, Disk, ReadAt};
use ondisk::num::to_u64;
use ondisk::{Len, Offset, Span};
use std::sync::PoisonError;

/// An entry of an active L2 table with one user.
pub(super) struct Slot {
    /// The table.
    pub(super) table: Offset,
    /// The cluster of the disk that it stands for, as far as that has one.
    pub(super) guest: Span,
    pub(super) entry: Entry,
}

impl<D: ReadAt> Qcow2<D> {
    /// The active L2 tables that have one user: the index in L1, and where they are.
    pub(super) fn own_tables(&self, scan: &Scan) -> Vec<(usize, Offset)> {
        let tables = self.l1.iter().enumerate().filter(|(_, word)| **word & OFFSET_MASK != 0);
        let tables = tables.map(|(index, word)| (index, Offset::new(word & OFFSET_MASK)));
        tables.filter(|(_, at)| self.has_one_user(scan, *at)).collect()
    }

    /// Calls `each` with every entry of a table that says something; whether there are any.
    pub(super) fn each_slot(
        &self,
        l1: usize,
        table: Offset,
        mut each: impl FnMut(Slot) -> Result<()>,
    ) -> Result<bool> {
        let geo = self.header.geo;
        let mut any = false;
        for index in 0..geo.table_entries() {
            let guest = geo.guest_span(super::geom::Guest(geo.guest_of_l1(l1).0.saturating_add(index)));
            let piece =
                self.cache.lock().unwrap_or_else(PoisonError::into_inner).piece(&self.file, table, index)?;
            let raw = cache::raw_at(&piece, index, geo);
            if raw.word == 0 && raw.parts == 0 {
                continue;
            }
            any = true;
            if let Some(guest) = guest.intersect(Span::whole(self.header.size)) {
                let entry = self.entry(table, guest.start())?;
                each(Slot { table, guest, entry })?;
            }
        }
        Ok(any)
    }

    /// The host cluster of an entry, if it has one for itself.
    pub(super) fn own_host(&self, scan: &Scan, entry: Entry) -> Option<Offset> {
        let Entry::Plain(Plain { host: Some(host), .. }) = entry else { return None };
        Some(host).filter(|host| self.has_one_user(scan, *host))
    }

    /// Whether a cluster has one reference, and a refcount that says so.
    pub(super) fn has_one_user(&self, scan: &Scan, at: Offset) -> bool {
        let host = self.header.geo.host_of(at);
        scan.counts.of(host) == 1 && scan.counts.is_single(host)
    }

    /// Whether an entry may go (invariants 1 and 2).
    fn may_drop(&self, scan: &Scan, slot: &Slot, free: &Coarse) -> Result<bool> {
        let below = slot.guest.start() < self.parent_len()?.end();
        let gains = match slot.entry {
            Entry::Packed(_) => true,
            Entry::Plain(_) => self.own_host(scan, slot.entry).is_some(),
        };
        let zero = matches!(slot.entry, Entry::Plain(plain) if plain.zero == Plain::all(self.header.geo));
        Ok(gains && (self.header.version >= 3 || !below) && (zero || free.contains(slot.guest)))
    }

    /// See [`crate::Container::spare`].
    pub(crate) fn spare(&self, free: &Coarse, spare: &mut Coarse) -> Result<()> {
        let scan = self.writable_scan()?;
        let geo = self.header.geo;
        let mut gap: Option<Span> = None;
        for host in (0..scan.counts.clusters()).map(Host) {
            if scan.counts.kind(host) == Kind::Free {
                let start = gap.map_or(geo.host_at(host), Span::start);
                gap = Span::between(start, geo.host_span(host).end().min(self.file.len().end()));
            } else if let Some(gap) = gap.take() {
                spare.insert(gap)?;
            }
        }
        gap.map_or(Ok(()), |gap| spare.insert(gap))?;
        for (l1, table) in self.own_tables(&scan) {
            self.each_slot(l1, table, |slot| {
                let Some(host) = self.own_host(&scan, slot.entry) else { return Ok(()) };
                for part in free.intersect(slot.guest) {
                    let at = host.get().saturating_add(geo.within(part.start()));
                    let there = Span::new(Offset::new(at), part.len());
                    // Only whole pieces: the rest of a piece may be in use.
                    if let Some(there) = there.and_then(|there| inwards(there, Len::new(u64::MAX))) {
                        spare.insert(there)?;
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

impl<D: Disk> Qcow2<D> {
    /// See [`crate::Container::drop_free`].
    pub(crate) fn drop_free(&mut self, free: &Coarse, most: u64) -> Result<u64> {
        let scan = self.writable_scan()?;
        self.prepare(&scan)?;
        let mut dropped = 0_u64;
        for (l1, table) in self.own_tables(&scan) {
            if dropped >= most {
                break;
            }
            let mut gone = Vec::new();
            self.each_slot(l1, table, |slot| {
                if self.may_drop(&scan, &slot, free)? {
                    gone.push((slot.guest.start(), slot.entry));
                }
                Ok(())
            })?;
            for (at, entry) in &gone {
                self.drop_entry(table, *at, *entry)?;
            }
            dropped = dropped.saturating_add(to_u64(gone.len()));
            if !gone.is_empty() && !self.each_slot(l1, table, |_| Ok(()))? {
                self.drop_table(l1, table)?;
            }
        }
        Ok(dropped)
    }

    fn drop_entry(&mut self, table: Offset, at: Offset, entry: Entry) -> Result<()> {
        let below = at < self.parent_len()?.end();
        let zero = if below { Plain::all(self.header.geo) } else { 0 };
        self.set_entry(table, at, Plain { host: None, stored: 0, zero }.encode(self.header.geo, true))?;
        self.release_entry(entry, false)
    }

    /// Takes an L2 table without entries out of L1.
    fn drop_table(&mut self, l1: usize, table: Offset) -> Result<()> {
        self.point_l1(l1, 0)?;
        self.release(self.cluster_at(table), false)
    }

    pub(super) fn point_l1(&mut self, l1: usize, word: u64) -> Result<()> {
        if let Some(entry) = self.l1.get_mut(l1) {
            *entry = word;
        }
        let place = self.l1_place(l1);
        store::put_word(&mut self.file, place, word)
    }
}
