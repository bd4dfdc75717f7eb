//! Compressed clusters move down, one behind the other, to clusters that nothing refers to.
//!
//! 1. A stream is copied with all of the sectors that its entry names, and keeps its place in the first of them: the
//!    bytes behind its end, which only decompression would show, are copied as well.
//! 2. A cluster counts each stream that touches it: those that it loses are released, those that it gains are added.
//! 3. A stream moves only where all of its clusters lie below those it had: repeated, this comes to an end.
//! 4. Where there are snapshots nothing moves: they may share any stream.

use super::check::Scan;
use super::count::Kind;
use super::entry::{Entry, Raw};
use super::geom::Host;
use super::{Qcow2, store};
use crate::Result;
use disk::{Disk, ReadAt};
use ondisk::{Len, Offset, Span};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::PoisonError;

/// At most so many streams move in one turn, the last ones of the file.
const TURN: usize = 1 << 16;

/// A stream, and the entry that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stream {
    at: Span,
    table: Offset,
    guest: Offset,
}

impl Stream {
    /// The sectors that it touches.
    fn sectors(&self) -> Span {
        Span::between(Offset::new(self.at.start().get() & !511), self.at.end()).unwrap_or_default()
    }
}

/// Where the next stream goes.
#[derive(Default)]
struct Filler {
    /// Behind the last one.
    next: Offset,
    /// Of the clusters that were taken in a row for it and those before.
    end: Host,
}

impl<D: ReadAt> Qcow2<D> {
    /// The last streams from `floor` on, from the end of the file down.
    fn last_streams(&self, scan: &Scan, floor: Host) -> Result<Vec<Stream>> {
        let mut last = BinaryHeap::new();
        for (l1, table) in self.own_tables(scan) {
            self.each_slot(l1, table, |slot| {
                if let Entry::Packed(at) = slot.entry
                    && self.header.geo.host_of(at.start()) >= floor
                {
                    last.push(Reverse(Stream { at, table, guest: slot.guest.start() }));
                    if last.len() > TURN {
                        last.pop();
                    }
                }
                Ok(())
            })?;
        }
        Ok(last.into_sorted_vec().into_iter().map(|Reverse(stream)| stream).collect())
    }
}

impl<D: Disk> Qcow2<D> {
    /// Moves streams down that lie from `floor` on, no more than `most` bytes or somewhat more; how much that was.
    pub(super) fn move_streams(&mut self, scan: &Scan, floor: Host, most: Len) -> Result<Len> {
        let mut moved = Len::ZERO;
        if !self.snapshots.is_empty() {
            return Ok(moved);
        }
        let mut filler = Filler::default();
        for stream in self.last_streams(scan, floor)? {
            let Some(to) = self.place_stream(scan, &stream, &filler)?.filter(|_| moved < most) else { break };
            self.take_for_stream(to, &mut filler)?;
            self.move_stream(&stream, to)?;
            moved = moved.checked_add(to.len()).unwrap_or(moved);
        }
        Ok(moved)
    }

    /// Behind the last stream, or else at the beginning of free clusters further up.
    fn place_stream(&self, scan: &Scan, stream: &Stream, filler: &Filler) -> Result<Option<Span>> {
        let geo = self.header.geo;
        let (len, limit) = (stream.sectors().len(), geo.host_of(stream.at.start()));
        let here = Span::new(filler.next, len).unwrap_or_default();
        if filler.end > Host(0) && self.fits(scan, here, filler, limit)? {
            return Ok(Some(here));
        }
        let first = self.free_run(scan, geo.clusters(len), filler.end.0..limit.0);
        Ok(first.and_then(|first| Span::new(geo.host_at(Host(first)), len)))
    }

    /// Whether a stream can stand there: in clusters that have been taken and can count one more, and free ones.
    fn fits(&self, scan: &Scan, here: Span, filler: &Filler, limit: Host) -> Result<bool> {
        for host in self.header.geo.hosts(here).map(Host) {
            let room = if host < filler.end {
                self.refcount(self.header.geo.host_at(host))? < store::max(self.header.refcount_order)
            } else {
                scan.counts.kind(host) == Kind::Free && self.covers(host)
            };
            if !room || host >= limit {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Counts a stream that comes to stand there.
    fn take_for_stream(&mut self, to: Span, filler: &mut Filler) -> Result<()> {
        let geo = self.header.geo;
        for host in geo.hosts(to).map(Host) {
            let cluster = geo.host_span(host);
            let users = if host < filler.end { self.refcount(cluster.start())? } else { 0 };
            if users == 0 {
                self.file.mark_fresh(cluster)?;
                self.cache.get_mut().unwrap_or_else(PoisonError::into_inner).forget(cluster);
            }
            if let Some(refcounts) = &mut self.refcounts {
                refcounts.set(&mut self.file, host, users.saturating_add(1))?;
            }
        }
        *filler = Filler { next: to.end(), end: Host(geo.hosts(to).end) };
        Ok(())
    }

    fn move_stream(&mut self, stream: &Stream, to: Span) -> Result<()> {
        let geo = self.header.geo;
        let sectors = stream.sectors();
        let there = sectors.intersect(Span::whole(self.file.len())).unwrap_or_default();
        self.file.copy(there, to.start())?;
        let start = Offset::new(to.start().get() | stream.at.start().get() & 511);
        self.set_entry(stream.table, stream.guest, Raw::packed(geo, start, stream.at.len()))?;
        self.release(stream.at, false)
    }
}
