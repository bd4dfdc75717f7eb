//! Writing: to make a place exclusively ours, then to put the bytes there.
//!
//! 1. Nothing is written before all references have been counted and found in order; stale refcounts of an image that
//!    was not closed are set to the count first.
//! 2. A place is ours when its L2 table and its host cluster have refcount 1 and its part of the cluster is stored.
//!    What becomes stored on the way keeps what it read as before.
//! 3. A reference that is replaced is released; nothing is ever referred to twice by our doing.

use super::check::Scan;
use super::entry::{Entry, Plain, Raw};
use super::geom::Host;
use super::layout::{self, COPIED, autoclear, incompatible};
use super::read::What;
use super::refcount::Refcounts;
use super::{Qcow2, file, header, store};
use crate::{Error, Result};
use disk::{Disk, PourInto};
use ondisk::{Len, Offset, Span};
use std::sync::PoisonError;

/// Bytes that are carried through memory at a time.
const CHUNK: Len = Len::kib(256);

impl<D: Disk> Qcow2<D> {
    /// Finds out whether the image may be written, and declares what writing makes invalid.
    pub(super) fn ready(&mut self) -> Result<()> {
        if self.refcounts.is_some() {
            return Ok(());
        }
        let scan = self.writable_scan()?;
        self.prepare(&scan)
    }

    /// As [`Self::ready`], with the references counted already.
    pub(super) fn prepare(&mut self, scan: &Scan) -> Result<()> {
        let refcounts = Refcounts::new(&self.header, scan);
        if self.file.len().end() < refcounts.end() {
            self.file.resize(Len::new(refcounts.end().get()))?;
        }
        self.refcounts = Some(refcounts);
        if self.header.is_dirty() {
            self.settle(scan)?;
        }
        if self.header.version >= 3 {
            self.header.incompatible &= !incompatible::DIRTY;
            self.header.autoclear &= autoclear::BITMAPS;
            let (incompatible, autoclear) = (self.header.incompatible, self.header.autoclear);
            header::edit(&mut self.file, |record| {
                record.incompatible_features.set(incompatible);
                record.autoclear_features.set(autoclear);
            })?;
        }
        self.expire_bitmaps()
    }

    /// The bitmaps will not know what changes from now on. Marked as in use they are invalid for everybody, and their
    /// clusters remain accounted for.
    fn expire_bitmaps(&mut self) -> Result<()> {
        for bitmap in self.bitmaps.iter_mut().filter(|bitmap| !bitmap.in_use()) {
            bitmap.flags |= layout::BITMAP_IN_USE;
            let mut record: layout::BitmapEntry = file::record(&self.file, bitmap.record.start())?;
            record.flags.set(bitmap.flags);
            disk::write_record(&mut self.file, bitmap.record.start(), &record)?;
        }
        Ok(())
    }

    pub(super) fn refcount(&self, at: Offset) -> Result<u64> {
        match &self.refcounts {
            Some(refcounts) => refcounts.get(&self.file, self.header.geo.host_of(at)),
            None => Ok(0),
        }
    }

    /// Takes clusters in a row.
    pub(super) fn take(&mut self, n: u64) -> Result<Offset> {
        let Some(refcounts) = &mut self.refcounts else { return Err(not_ready()) };
        let host = refcounts.take(&mut self.file, n)?;
        let table = refcounts.table();
        self.header.refcount_table = table;
        Ok(self.header.geo.host_at(host))
    }

    /// Gives back one reference to every cluster that `span` touches; with `discard`, also the space of those that
    /// nobody refers to any more.
    pub(super) fn release(&mut self, span: Span, discard: bool) -> Result<()> {
        for host in self.header.geo.hosts(span).map(Host) {
            let Some(refcounts) = &mut self.refcounts else { return Err(not_ready()) };
            if refcounts.release(&mut self.file, host)? {
                let cluster = self.header.geo.host_span(host);
                self.cache.get_mut().unwrap_or_else(PoisonError::into_inner).forget(cluster);
                if discard && let Some(there) = cluster.intersect(Span::whole(self.file.len())) {
                    self.file.discard(there)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn release_entry(&mut self, entry: Entry, discard: bool) -> Result<()> {
        match entry {
            Entry::Packed(span) => self.release(span, discard),
            Entry::Plain(Plain { host: Some(host), .. }) => {
                self.release(self.header.geo.host_span(self.header.geo.host_of(host)), discard)
            }
            Entry::Plain(_) => Ok(()),
        }
    }

    pub(super) fn set_entry(&mut self, table: Offset, at: Offset, raw: Raw) -> Result<()> {
        let (_, index) = self.header.geo.indexes(self.header.geo.guest_of(at));
        let cache = self.cache.get_mut().unwrap_or_else(PoisonError::into_inner);
        let (place, sector) = cache.set(&self.file, table, index, raw)?;
        self.file.write_at(place, &sector)?;
        Ok(())
    }

    /// The L2 table for the place `at`, with no other user.
    pub(super) fn own_table(&mut self, at: Offset) -> Result<Offset> {
        let (l1, _) = self.header.geo.indexes(self.header.geo.guest_of(at));
        let old = self.table(l1)?;
        if let Some(table) = old
            && self.refcount(table)? == 1
        {
            return Ok(table);
        }
        let table = self.take(1)?;
        let cluster = self.cluster_at(table);
        self.cache.get_mut().unwrap_or_else(PoisonError::into_inner).forget(cluster);
        if let Some(old) = old {
            self.file.copy(self.cluster_at(old), table)?;
            self.release(self.cluster_at(old), false)?;
        }
        let word = table.get() | COPIED;
        if let Some(entry) = self.l1.get_mut(l1) {
            *entry = word;
        }
        let place = self.l1_place(l1);
        store::put_word(&mut self.file, place, word)?;
        Ok(table)
    }

    pub(super) fn cluster_at(&self, at: Offset) -> Span {
        self.header.geo.host_span(self.header.geo.host_of(at))
    }

    /// Makes the bytes of `span`, which lies in one cluster, ours, and says where they are. What they hold does not
    /// matter: the caller replaces all of them. Everything around them reads as before.
    pub(super) fn own(&mut self, span: Span) -> Result<Offset> {
        let geo = self.header.geo;
        let table = self.own_table(span.start())?;
        let entry = self.entry(table, span.start())?;
        let (plain, kept) = match entry {
            Entry::Plain(plain) => (plain, plain.stored),
            Entry::Packed(_) => (Plain::default(), Plain::all(geo)),
        };
        let from = geo.within(span.start());
        let touched = Plain::touched(geo, from, span.len());
        let in_place = match plain.host {
            Some(host) if self.refcount(host)? == 1 => Some(host),
            _ => None,
        };
        if let Some(host) = in_place.filter(|_| touched & !plain.stored == 0) {
            return Ok(Offset::new(host.get().saturating_add(from)));
        }
        let host = match in_place {
            Some(host) => host,
            None => {
                let host = self.take(1)?;
                self.fill_around(span, host, kept, true)?;
                host
            }
        };
        let missing = touched & !kept;
        self.fill_around(span, host, missing, in_place.is_none())?;
        let stored = kept | touched;
        let new = Plain { host: Some(host), stored, zero: plain.zero & !stored };
        self.set_entry(table, span.start(), new.encode(geo, true))?;
        if in_place.is_none() {
            self.release_entry(entry, false)?;
        }
        Ok(Offset::new(host.get().saturating_add(from)))
    }

    /// Brings the bytes of `parts` of the cluster, except for those of `span`, to `host` as they read now.
    fn fill_around(&mut self, span: Span, host: Offset, parts: u32, clean: bool) -> Result<()> {
        let cluster = self.header.geo.guest_at(self.header.geo.guest_of(span.start()));
        for part in self.parts(cluster, parts) {
            for piece in outside(part, span) {
                self.carry(piece, offset_in(host, cluster, piece), clean)?;
            }
        }
        Ok(())
    }

    /// The parts of the cluster that begins at `cluster`, by bit.
    fn parts(&self, cluster: Offset, mask: u32) -> Vec<Span> {
        let bytes = self.header.geo.part_bytes();
        let part = |index: u32| {
            let start = cluster.get().saturating_add(u64::from(index).saturating_mul(bytes));
            Span::new(Offset::new(start), Len::new(bytes))
        };
        let wanted = (0..self.header.geo.parts()).filter(|index| mask.wrapping_shr(*index) & 1 == 1);
        wanted.filter_map(part).collect()
    }

    /// Writes what `span` of the virtual disk reads as to the place `to` of the file, which is zero already where it is
    /// `clean`. Behind the end of the virtual disk there are zeros.
    fn carry(&mut self, span: Span, to: Offset, clean: bool) -> Result<()> {
        let mut rest = span.intersect(Span::whole(self.header.size)).unwrap_or_default();
        let place = |part: Span| offset_in(to, span.start(), part);
        if !clean {
            let behind =
                Span::between(span.start().max(self.header.size.end()), span.end()).unwrap_or_default();
            self.file.zero(Span::new(place(behind), behind.len()).unwrap_or_default())?;
        }
        while !rest.is_empty() {
            let run = self.run(rest)?;
            match run.what {
                What::Stored(host) => {
                    self.file.copy(Span::new(host, run.span.len()).unwrap_or_default(), place(run.span))?;
                }
                _ if self.reads_zero(run.span, run.what)? => {
                    if !clean {
                        self.file.zero(Span::new(place(run.span), run.span.len()).unwrap_or_default())?;
                    }
                }
                _ => {
                    for chunk in run.span.chunks(CHUNK) {
                        let mut buf = vec![0; chunk.len().to_usize()];
                        disk::ReadAt::read_at(self, chunk.start(), &mut buf)?;
                        self.file.write_at(place(chunk), &buf)?;
                    }
                }
            }
            rest = Span::between(run.span.end(), rest.end()).unwrap_or_default();
        }
        Ok(())
    }

    /// Whether a run is known to read as zero.
    pub(super) fn reads_zero(&self, span: Span, what: What) -> Result<bool> {
        Ok(match what {
            What::Zero => true,
            What::Parent => span.start() >= self.parent_len()?.end(),
            What::Stored(_) | What::Packed(_) => false,
        })
    }

    /// The pieces of `span` by cluster.
    pub(super) fn by_cluster(&self, span: Span) -> Vec<Span> {
        let geo = self.header.geo;
        let head = geo.bytes().saturating_sub(geo.within(span.start())).min(span.len().get());
        let split = Offset::new(span.start().get().saturating_add(head));
        let first = Span::between(span.start(), split);
        let rest = Span::between(split, span.end()).unwrap_or_default();
        first.into_iter().filter(|first| !first.is_empty()).chain(rest.chunks(geo.len())).collect()
    }

    fn write(&mut self, at: Offset, buf: &[u8]) -> Result<()> {
        let span = disk::traits::bounded(at, buf.len(), self.header.size)?;
        self.ready()?;
        let mut rest = buf;
        for piece in self.by_cluster(span) {
            let (head, tail) = rest.split_at_checked(piece.len().to_usize()).unwrap_or((rest, &[]));
            let host = self.own(piece)?;
            self.file.write_at(host, head)?;
            rest = tail;
        }
        Ok(())
    }

    fn copy_within(&mut self, from: Span, to: Offset) -> Result<()> {
        let target = disk::traits::bounded(to, from.len().to_usize(), self.header.size)?;
        disk::traits::within(from, self.header.size)?;
        if from.intersect(target).is_some() {
            return Err(
                disk::Error::Unsupported { what: "the source and the target of a copy overlap" }.into()
            );
        }
        self.ready()?;
        let mut rest = from;
        while !rest.is_empty() {
            let run = self.run(rest)?;
            let start = offset_in(to, from.start(), run.span);
            let target = Span::new(start, run.span.len()).unwrap_or_default();
            if self.reads_zero(run.span, run.what)? {
                self.clear(target, false)?;
            } else {
                for piece in self.by_cluster(target) {
                    let source =
                        Span::new(offset_in(run.span.start(), start, piece), piece.len()).unwrap_or_default();
                    let host = self.own(piece)?;
                    self.carry(source, host, false)?;
                }
            }
            rest = Span::between(run.span.end(), rest.end()).unwrap_or_default();
        }
        Ok(())
    }

    /// Only where a host cluster has no other user: a snapshot may need the old bytes.
    fn pass_fresh(&mut self, span: Span) -> Result<()> {
        disk::traits::within(span, self.header.size)?;
        self.ready()?;
        let mut rest = span;
        while !rest.is_empty() {
            let run = self.run(rest)?;
            if let What::Stored(host) = run.what {
                for piece in self.by_cluster(run.span) {
                    let at = offset_in(host, run.span.start(), piece);
                    if self.refcount(at)? == 1 {
                        self.file.mark_fresh(Span::new(at, piece.len()).unwrap_or_default())?;
                    }
                }
            }
            rest = Span::between(run.span.end(), rest.end()).unwrap_or_default();
        }
        Ok(())
    }

    /// Makes room for `entries` entries in the L1 table.
    pub(super) fn grow_l1(&mut self, entries: u64) -> Result<()> {
        let geo = self.header.geo;
        let bytes = |entries: u64| Len::new(entries.saturating_mul(8));
        let old = Span::new(self.header.l1_at, bytes(self.header.l1_entries)).unwrap_or_default();
        let clusters = geo.clusters(bytes(entries));
        if geo.clusters(old.len()) == clusters {
            let new = bytes(entries).end().get().saturating_add(old.start().get());
            self.file.zero(Span::between(old.end(), Offset::new(new)).unwrap_or_default())?;
        } else {
            self.header.l1_at = self.take(clusters)?;
            let words: Vec<u8> = self.l1.iter().flat_map(|word| word.to_be_bytes()).collect();
            self.file.write_at(self.header.l1_at, &words)?;
            self.release(old, false)?;
        }
        self.l1.resize(ondisk::num::to_usize(entries), 0);
        self.header.l1_entries = entries;
        Ok(())
    }
}

impl<D: disk::ReadAt> Qcow2<D> {
    /// The references, if they allow writing.
    pub(super) fn writable_scan(&self) -> Result<Scan> {
        let help = Some("imgtool check --repair mends what can be mended");
        if self.header.is_corrupt() {
            return Err(Error::refused("the image is marked as corrupt and is not written", help));
        }
        let scan = self.scan()?;
        let wrong = scan.is_damaged() || (scan.accounts > 0 && !self.header.is_dirty());
        if wrong { Err(Self::damage_of(&scan)) } else { Ok(scan) }
    }
}

fn not_ready() -> Error {
    Error::refused("the image has not been found fit for writing", None)
}

/// The place of `part` when `base` is at `host`.
fn offset_in(host: Offset, base: Offset, part: Span) -> Offset {
    Offset::new(host.get().saturating_add(part.start().since(base).unwrap_or_default().get()))
}

/// What `whole` has before and behind `hole`.
pub(super) fn outside(whole: Span, hole: Span) -> impl Iterator<Item = Span> {
    let before = Span::between(whole.start(), whole.end().min(hole.start()));
    let behind = Span::between(whole.start().max(hole.end()), whole.end());
    before.into_iter().chain(behind).filter(|span| !span.is_empty())
}

impl<D: Disk> Disk for Qcow2<D> {
    fn write_at(&mut self, at: Offset, buf: &[u8]) -> disk::Result<()> {
        Ok(self.write(at, buf)?)
    }
    fn zero(&mut self, span: Span) -> disk::Result<()> {
        Ok(self.clear(span, false)?)
    }
    fn discard(&mut self, span: Span) -> disk::Result<()> {
        Ok(self.clear(span, true)?)
    }
    fn copy(&mut self, from: Span, to: Offset) -> disk::Result<()> {
        Ok(self.copy_within(from, to)?)
    }
    fn resize(&mut self, _: Len) -> disk::Result<()> {
        Err(disk::Error::Unsupported { what: "a qcow2 disk changes its length by a plan only" })
    }
    fn mark_fresh(&mut self, span: Span) -> disk::Result<()> {
        Ok(self.pass_fresh(span)?)
    }
}

impl<D: PourInto> PourInto for Qcow2<D> {
    fn pour(&mut self, span: Span, from: Offset) -> disk::Result<()> {
        disk::traits::within(span, self.header.size)?;
        self.ready()?;
        for piece in self.by_cluster(span) {
            let there = Span::new(self.own(piece)?, piece.len()).unwrap_or_default();
            self.file.pour(there, offset_in(from, span.start(), piece))?;
        }
        Ok(())
    }
}
