//! Clusters leave the tables, and the last ones move down.
//!
//! 1. Only what has one user is touched: a cluster or a table that a snapshot shares stays as it is.
//! 2. An entry that goes must read as zero then: over a parent that takes the zero flag, which version 2 has not.
//! 3. What moves is data and L2 tables of the active state; everything else stays where it is, and ends the file.

use super::check::Scan;
use super::count::Kind;
use super::entry::{Entry, Plain};
use super::geom::Host;
use super::layout::{COPIED, OFFSET_MASK};
use super::{Qcow2, cache, store};
use crate::Result;
use crate::sparsify::Compacted;
use disk::coarse::inwards;
use disk::{Coarse, Disk, ReadAt};
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset, Span};
use std::sync::PoisonError;

/// An entry of an active L2 table with one user.
struct Slot {
    /// The table.
    table: Offset,
    /// The cluster of the disk that it stands for, as far as that has one.
    guest: Span,
    entry: Entry,
}

impl<D: ReadAt> Qcow2<D> {
    /// The active L2 tables that have one user: the index in L1, and where they are.
    fn own_tables(&self, scan: &Scan) -> Vec<(usize, Offset)> {
        let tables = self.l1.iter().enumerate().filter(|(_, word)| **word & OFFSET_MASK != 0);
        let tables = tables.map(|(index, word)| (index, Offset::new(word & OFFSET_MASK)));
        tables.filter(|(_, at)| self.has_one_user(scan, *at)).collect()
    }

    /// Calls `each` with every entry of a table that says something; whether there are any.
    fn each_slot(&self, l1: usize, table: Offset, mut each: impl FnMut(Slot) -> Result<()>) -> Result<bool> {
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
    fn own_host(&self, scan: &Scan, entry: Entry) -> Option<Offset> {
        let Entry::Plain(Plain { host: Some(host), .. }) = entry else { return None };
        Some(host).filter(|host| self.has_one_user(scan, *host))
    }

    /// Whether a cluster has one reference, and a refcount that says so.
    fn has_one_user(&self, scan: &Scan, at: Offset) -> bool {
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

    fn point_l1(&mut self, l1: usize, word: u64) -> Result<()> {
        if let Some(entry) = self.l1.get_mut(l1) {
            *entry = word;
        }
        let place = self.l1_place(l1);
        store::put_word(&mut self.file, place, word)
    }

    /// See [`crate::Container::compact`].
    pub(crate) fn compact(&mut self, most: Len) -> Result<Compacted> {
        let scan = self.writable_scan()?;
        self.prepare(&scan)?;
        let end = self.least_end(&scan)?;
        let mut mover = Mover { next: 0, end, most, moved: Len::ZERO, more: false };
        for (l1, table) in self.own_tables(&scan) {
            let table = self.move_table(&scan, (l1, table), &mut mover)?;
            let mut moving = Vec::new();
            self.each_slot(l1, table, |slot| {
                if let Some(host) = self.own_host(&scan, slot.entry).filter(|host| mover.wants(self, *host)) {
                    moving.push((slot, host));
                }
                Ok(())
            })?;
            for (slot, host) in moving {
                self.move_data(&scan, &slot, host, &mut mover)?;
            }
        }
        let len = Len::new(self.header.geo.host_at(end).get());
        if !mover.more && len < self.file.len() {
            self.file.resize(len)?;
        }
        Ok(Compacted { moved: mover.moved, more: mover.more })
    }

    /// Where the file can end: with everything below for which there is room, behind what cannot move.
    fn least_end(&self, scan: &Scan) -> Result<Host> {
        let clusters = scan.counts.clusters();
        let mut movable = self.limits.buffer("the map of what can move", Len::new(clusters.div_ceil(8)))?;
        let mut note = |host: Offset| {
            let host = self.header.geo.host_of(host).0;
            if let Some(byte) = movable.get_mut(to_usize(host >> 3)) {
                *byte |= 1 << (host & 7);
            }
        };
        for (l1, table) in self.own_tables(scan) {
            note(table);
            self.each_slot(l1, table, |slot| {
                self.own_host(scan, slot.entry).into_iter().for_each(&mut note);
                Ok(())
            })?;
        }
        let in_use = |host: u64| scan.counts.kind(Host(host)) != Kind::Free;
        let moves =
            |host: u64| movable.get(to_usize(host >> 3)).is_some_and(|byte| byte >> (host & 7) & 1 == 1);
        let stays = |host: u64| in_use(host) && !moves(host);
        let pinned = (0..clusters).rev().find(|host| stays(*host)).map_or(0, |host| host.saturating_add(1));
        let mut above = (0..clusters).filter(|host| in_use(*host)).count();
        let mut room = 0_usize;
        let mut end = 0_u64;
        while end < clusters && (end < pinned || room < above) {
            let used = in_use(end);
            above = above.saturating_sub(usize::from(used));
            room = room.saturating_add(usize::from(!used && self.covers(Host(end))));
            end = end.saturating_add(1);
        }
        Ok(Host(end))
    }

    /// Whether a cluster can be counted as it is: no refcount block is made for a place that something moves to.
    fn covers(&self, host: Host) -> bool {
        self.refcounts.as_ref().is_some_and(|refcounts| refcounts.covers(host))
    }

    /// The next free cluster to move to.
    fn next_free(&self, scan: &Scan, mover: &mut Mover) -> Option<Host> {
        let free = |host: &Host| scan.counts.kind(*host) == Kind::Free && self.covers(*host);
        let found = (mover.next..mover.end.0).map(Host).find(free);
        mover.next = found.map_or(mover.end.0, |host| host.0.saturating_add(1));
        found
    }

    fn move_table(&mut self, scan: &Scan, (l1, table): (usize, Offset), mover: &mut Mover) -> Result<Offset> {
        if !mover.wants(self, table) {
            return Ok(table);
        }
        let Some(to) = self.move_cluster(scan, table, mover)? else { return Ok(table) };
        self.point_l1(l1, to.get() | COPIED)?;
        Ok(to)
    }

    fn move_data(&mut self, scan: &Scan, slot: &Slot, host: Offset, mover: &mut Mover) -> Result<()> {
        let Entry::Plain(plain) = slot.entry else { return Ok(()) };
        let Some(to) = self.move_cluster(scan, host, mover)? else { return Ok(()) };
        let new = Plain { host: Some(to), ..plain };
        self.set_entry(slot.table, slot.guest.start(), new.encode(self.header.geo, true))
    }

    /// Copies a cluster to the next free one, whose user it becomes; none where this turn has moved enough.
    fn move_cluster(&mut self, scan: &Scan, from: Offset, mover: &mut Mover) -> Result<Option<Offset>> {
        if mover.moved >= mover.most {
            mover.more = true;
            return Ok(None);
        }
        let Some(to) = self.next_free(scan, mover) else { return Ok(None) };
        let (source, target) = (self.cluster_at(from), self.header.geo.host_span(to));
        let there = source.intersect(Span::whole(self.file.len())).unwrap_or_default();
        self.file.mark_fresh(target)?;
        self.file.copy(there, target.start())?;
        self.cache.get_mut().unwrap_or_else(PoisonError::into_inner).forget(target);
        if let Some(refcounts) = &mut self.refcounts {
            refcounts.set(&mut self.file, to, 1)?;
        }
        self.release(source, false)?;
        mover.moved = mover.moved.checked_add(there.len()).unwrap_or(mover.moved);
        Ok(Some(target.start()))
    }
}

/// What moves in one turn.
struct Mover {
    /// From here on a free cluster is looked for.
    next: u64,
    /// From here on everything moves.
    end: Host,
    most: Len,
    moved: Len,
    more: bool,
}

impl Mover {
    fn wants<D>(&self, disk: &Qcow2<D>, host: Offset) -> bool {
        disk.header.geo.host_of(host) >= self.end
    }
}
