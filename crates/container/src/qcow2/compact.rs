//! What lies last in the file moves down, and the file is cut.
//!
//! 1. Only what has one user moves: what a snapshot shares stays where it is, and so do the tables of snapshots and
//!    bitmaps.
//! 2. What the header and the refcount table point to goes first, and in a turn of its own: it needs clusters in a row.
//! 3. Compressed clusters go next, in turns of their own: see `streams`.
//! 4. Everything moves to clusters that nothing refers to and that have a refcount block already.

use super::check::Scan;
use super::count::Kind;
use super::entry::{Entry, Plain};
use super::geom::Host;
use super::layout::COPIED;
use super::sparsify::Slot;
use super::{Qcow2, header};
use crate::Result;
use crate::sparsify::Compacted;
use disk::Disk;
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset, Span};
use std::ops::Range;
use std::sync::PoisonError;

impl<D: Disk> Qcow2<D> {
    /// See [`crate::Container::compact`].
    pub(crate) fn compact(&mut self, most: Len) -> Result<Compacted> {
        let scan = self.writable_scan()?;
        self.prepare(&scan)?;
        let moved = self.move_own_tables(&scan)?;
        if !moved.is_zero() {
            return Ok(Compacted { moved, more: true });
        }
        let movable = self.movable(&scan)?;
        let moved = self.move_streams(&scan, pinned(&scan, &movable, |kind| kind != Kind::Packed), most)?;
        if !moved.is_zero() {
            return Ok(Compacted { moved, more: true });
        }
        let end = self.least_end(&scan, &movable);
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

    /// Which clusters can move as a whole, by bit.
    fn movable(&self, scan: &Scan) -> Result<Vec<u8>> {
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
        Ok(movable)
    }

    /// Where the file can end: with everything below for which there is room, behind what cannot move.
    fn least_end(&self, scan: &Scan, movable: &[u8]) -> Host {
        let clusters = scan.counts.clusters();
        let in_use = |host: u64| scan.counts.kind(Host(host)) != Kind::Free;
        let pinned = pinned(scan, movable, |_| true).0;
        let mut above = (0..clusters).filter(|host| in_use(*host)).count();
        let mut room = 0_usize;
        let mut end = 0_u64;
        while end < clusters && (end < pinned || room < above) {
            let used = in_use(end);
            above = above.saturating_sub(usize::from(used));
            room = room.saturating_add(usize::from(!used && self.covers(Host(end))));
            end = end.saturating_add(1);
        }
        Host(end)
    }

    /// Whether a cluster can be counted as it is: no refcount block is made for a place that something moves to.
    pub(super) fn covers(&self, host: Host) -> bool {
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

impl<D: Disk> Qcow2<D> {
    /// Moves L1, the refcount table and its blocks down where they lie behind the place of all that is in use; how much
    /// that was.
    fn move_own_tables(&mut self, scan: &Scan) -> Result<Len> {
        let used = (0..scan.counts.clusters()).filter(|host| scan.counts.kind(Host(*host)) != Kind::Free);
        let mut room = Room { next: 0, behind: Host(to_u64(used.count())), moved: Len::ZERO };
        let l1 = Span::new(self.header.l1_at, Len::new(self.header.l1_entries.saturating_mul(8)));
        self.move_own(scan, l1.unwrap_or_default(), Own::L1, &mut room)?;
        self.move_own(scan, self.header.refcount_table, Own::RefcountTable, &mut room)?;
        for (index, at) in scan.blocks.iter().enumerate().filter(|(_, at)| **at != 0) {
            let block = self.cluster_at(Offset::new(*at));
            self.move_own(scan, block, Own::RefcountBlock(index), &mut room)?;
        }
        Ok(room.moved)
    }

    fn move_own(&mut self, scan: &Scan, table: Span, own: Own, room: &mut Room) -> Result<()> {
        let geo = self.header.geo;
        let hosts = geo.hosts(table);
        let shared = |host: u64| !self.has_one_user(scan, geo.host_at(Host(host)));
        if Host(hosts.start) < room.behind || hosts.clone().any(shared) {
            return Ok(());
        }
        let count = hosts.end.saturating_sub(hosts.start);
        let Some(first) = self.free_run(scan, count, room.next..hosts.start) else { return Ok(()) };
        room.next = first.saturating_add(count);
        let clusters = |first: u64| {
            Span::between(geo.host_at(Host(first)), geo.host_at(Host(first.saturating_add(count))))
        };
        let (from, to) = (clusters(hosts.start).unwrap_or_default(), clusters(first).unwrap_or_default());
        let stored = from.intersect(Span::whole(self.file.len())).unwrap_or_default();
        self.file.mark_fresh(to)?;
        self.file.copy(stored, to.start())?;
        self.point_to(own, to.start())?;
        for host in geo.hosts(to).map(Host) {
            if let Some(refcounts) = &mut self.refcounts {
                refcounts.set(&mut self.file, host, 1)?;
            }
        }
        room.moved = room.moved.checked_add(from.len()).unwrap_or(room.moved);
        self.release(from, false)
    }

    /// The first free clusters in a row.
    pub(super) fn free_run(&self, scan: &Scan, count: u64, among: Range<u64>) -> Option<u64> {
        let mut run = 0;
        for host in among {
            let free = scan.counts.kind(Host(host)) == Kind::Free && self.covers(Host(host));
            run = if free { 1_u64.saturating_add(run) } else { 0 };
            if run == count {
                return host.checked_add(1)?.checked_sub(count);
            }
        }
        None
    }

    fn point_to(&mut self, own: Own, at: Offset) -> Result<()> {
        match own {
            Own::L1 => {
                self.header.l1_at = at;
                header::edit(&mut self.file, |record| record.l1_table_offset.set(at.get()))?;
            }
            Own::RefcountTable => {
                header::edit(&mut self.file, |record| record.refcount_table_offset.set(at.get()))?;
                self.header.refcount_table =
                    Span::new(at, self.header.refcount_table.len()).unwrap_or_default();
                if let Some(refcounts) = &mut self.refcounts {
                    refcounts.set_table(at);
                }
            }
            Own::RefcountBlock(index) => {
                if let Some(refcounts) = &mut self.refcounts {
                    refcounts.set_block(&mut self.file, index, self.header.geo.host_of(at))?;
                }
            }
        }
        Ok(())
    }
}

/// Behind the last cluster of these kinds that is in use and cannot move.
fn pinned(scan: &Scan, movable: &[u8], of: impl Fn(Kind) -> bool) -> Host {
    let moves = |host: u64| movable.get(to_usize(host >> 3)).is_some_and(|byte| byte >> (host & 7) & 1 == 1);
    let stays = |host: &u64| {
        let kind = scan.counts.kind(Host(*host));
        kind != Kind::Free && of(kind) && !moves(*host)
    };
    Host((0..scan.counts.clusters()).rev().find(stays).map_or(0, |host| host.saturating_add(1)))
}

/// A table that the header or the refcount table points to.
#[derive(Clone, Copy)]
enum Own {
    L1,
    RefcountTable,
    RefcountBlock(usize),
}

/// Where such tables go.
struct Room {
    /// From here on free clusters are looked for.
    next: u64,
    /// From here on tables are in the way.
    behind: Host,
    moved: Len,
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
