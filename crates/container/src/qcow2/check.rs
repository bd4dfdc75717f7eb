//! Counting all references, and comparing.
//!
//! 1. Every structure is walked once: an L2 table that many L1 entries name is read once and counts for all of them, so
//!    the work is bounded by the file and not by what its tables claim.
//! 2. A structure that overlaps another, or lies behind the end, is reported and not walked.
//! 3. A refcount below the references is damage, above is a leak. "Copied" bits of active tables equal "refcount is 1".

use super::count::{Counted, Counts, Kind};
use super::entry::Entry;
use super::geom::Host;
use super::layout::{COMPRESSED, COPIED, OFFSET_MASK};
use super::table::Snapshot;
use super::{Qcow2, cache, file, store, words};
use crate::{Error, Findings, Result, Severity};
use disk::ReadAt;
use ondisk::num::{to_u64, to_usize};
use ondisk::text::Printable;
use ondisk::{Len, Offset, Span};

/// Tables are read in pieces of at most so many bytes.
const PIECE: Len = Len::kib(64);

/// What a check has found, and what a writer needs of it.
pub struct Scan {
    pub findings: Findings,
    pub counts: Counts,
    /// Refcount blocks by index in the refcount table; 0 where there is none, or none that can be used.
    pub blocks: Vec<u64>,
    /// Behind the last cluster of the file that has references or a refcount.
    pub end: u64,
    /// Refcounts that are too low, and "copied" bits that are wrong: damage, but only to the accounts.
    pub accounts: u64,
}

impl Scan {
    /// Whether something is wrong with the structures themselves.
    pub const fn is_damaged(&self) -> bool {
        self.findings.count(Severity::Damage) > self.accounts
    }

    fn damage(&mut self, place: Span, text: String) {
        self.findings.push(Severity::Damage, Some(place), text);
    }

    fn account(&mut self, place: Span, text: String) {
        self.accounts = self.accounts.saturating_add(1);
        self.damage(place, text);
    }

    /// Counts a reference to every cluster of `span`; whether all of them may be used as `kind`.
    fn count<D: ReadAt>(&mut self, disk: &Qcow2<D>, span: Span, kind: Kind, times: u64) -> bool {
        let mut fine = true;
        for host in disk.header.geo.hosts(span) {
            match self.counts.add(Host(host), kind, times) {
                Counted::Fine => {}
                Counted::Behind => {
                    fine = false;
                    self.damage(span, format!("{kind} at {span} lies behind the end of the file"));
                    break;
                }
                Counted::Clash(other) => {
                    fine = false;
                    let place = disk.header.geo.host_span(Host(host));
                    self.damage(
                        place,
                        format!("the cluster at byte {} is {other} and {kind}", place.start()),
                    );
                }
            }
        }
        fine
    }
}

impl<D: ReadAt> Qcow2<D> {
    /// Compares the refcounts with all references, and looks for structures that overlap or lead astray.
    ///
    /// # Errors
    /// Where the file cannot be read, or its size needs more memory than allowed.
    pub fn check(&self) -> Result<Findings> {
        let mut scan = self.scan()?;
        if self.header.is_corrupt() {
            scan.findings.push(Severity::Damage, None, "the image is marked as corrupt");
        }
        if self.header.is_dirty() {
            scan.findings.push(Severity::Note, None, "the image was not closed; its refcounts may be stale");
        }
        for bitmap in self.bitmaps.iter().filter(|bitmap| bitmap.in_use()) {
            let text = format!("bitmap '{}' is not valid any more", Printable(&bitmap.name));
            scan.findings.push(Severity::Note, Some(bitmap.record), text);
        }
        Ok(scan.findings)
    }

    /// Everything that [`Self::check`] finds out about structures and accounts.
    pub(super) fn scan(&self) -> Result<Scan> {
        let counts = Counts::new(self.header.geo.clusters(self.file.len()), &self.limits)?;
        let findings = Findings::default();
        let mut scan = Scan { findings, counts, blocks: Vec::new(), end: 0, accounts: 0 };
        scan.count(self, self.header.geo.host_span(Host(0)), Kind::Header, 1);
        self.count_refcounts(&mut scan)?;
        self.count_active(&mut scan);
        self.count_snapshots(&mut scan)?;
        self.count_bitmaps(&mut scan)?;
        for host in 0..scan.counts.clusters() {
            if scan.counts.kind(Host(host)) == Kind::L2 {
                self.count_table(&mut scan, Host(host))?;
            }
        }
        self.compare(&mut scan)?;
        self.check_copied(&mut scan)?;
        Ok(scan)
    }

    fn count_refcounts(&self, scan: &mut Scan) -> Result<()> {
        let span = self.header.refcount_table;
        scan.count(self, span, Kind::RefcountTable, 1);
        let mut bytes = self.limits.buffer("the refcount table", span.len())?;
        file::read(&self.file, span.start(), &mut bytes)?;
        scan.blocks = words(&bytes).collect();
        for index in 0..scan.blocks.len() {
            let word = scan.blocks.get(index).copied().unwrap_or_default();
            let block = Offset::new(word);
            if word == 0 {
                continue;
            }
            let usable = if block.is_aligned(self.header.geo.bytes()) {
                let host = self.header.geo.host_of(block);
                scan.count(self, self.header.geo.host_span(host), Kind::RefcountBlock, 1)
            } else {
                scan.damage(span, format!("refcount table entry {index} is {word:#x}, not on a cluster"));
                false
            };
            if let Some(word) = scan.blocks.get_mut(index).filter(|_| !usable) {
                *word = 0;
            }
        }
        Ok(())
    }

    fn count_active(&self, scan: &mut Scan) {
        let len = Len::new(self.header.l1_entries.saturating_mul(8));
        scan.count(self, Span::new(self.header.l1_at, len).unwrap_or_default(), Kind::L1, 1);
        for (index, word) in self.l1.iter().enumerate() {
            self.count_l1_entry(scan, *word, index, "the L1 table");
        }
    }

    fn count_l1_entry(&self, scan: &mut Scan, word: u64, index: usize, name: &str) {
        if word == 0 {
            return;
        }
        let at = Offset::new(word & OFFSET_MASK);
        if word & !(OFFSET_MASK | COPIED) != 0 || !at.is_aligned(self.header.geo.bytes()) || at.get() == 0 {
            let place = Span::new(self.l1_place(index), Len::new(8)).unwrap_or_default();
            scan.damage(place, format!("entry {index} of {name} is {word:#x}"));
            return;
        }
        scan.count(self, self.header.geo.host_span(self.header.geo.host_of(at)), Kind::L2, 1);
    }

    fn count_snapshots(&self, scan: &mut Scan) -> Result<()> {
        if let (Some(first), Some(last)) = (self.snapshots.first(), self.snapshots.last()) {
            let table = Span::between(first.record.start(), last.record.end()).unwrap_or_default();
            scan.count(self, table, Kind::SnapshotTable, 1);
        }
        for snapshot in &self.snapshots {
            self.count_snapshot(scan, snapshot)?;
        }
        Ok(())
    }

    fn count_snapshot(&self, scan: &mut Scan, snapshot: &Snapshot) -> Result<()> {
        let name = format!("the L1 table of snapshot '{}'", Printable(&snapshot.name));
        let span = Span::new(snapshot.l1_at, Len::new(snapshot.l1_entries.saturating_mul(8)));
        let Some(span) = span.filter(|_| snapshot.l1_at.is_aligned(self.header.geo.bytes())) else {
            scan.damage(snapshot.record, format!("{name} is at {}, not on a cluster", snapshot.l1_at));
            return Ok(());
        };
        if !scan.count(self, span, Kind::L1, 1) {
            return Ok(());
        }
        let mut index = 0_usize;
        for piece in span.chunks(PIECE) {
            let mut bytes = vec![0; piece.len().to_usize()];
            file::read(&self.file, piece.start(), &mut bytes)?;
            for word in words(&bytes) {
                self.count_l1_entry(scan, word, index, &name);
                index = index.saturating_add(1);
            }
        }
        Ok(())
    }

    fn count_bitmaps(&self, scan: &mut Scan) -> Result<()> {
        let Some(directory) = self.header.valid_bitmaps() else { return Ok(()) };
        scan.count(self, directory.span, Kind::BitmapDirectory, 1);
        for bitmap in &self.bitmaps {
            let name = format!("the table of bitmap '{}'", Printable(&bitmap.name));
            let span = Span::new(bitmap.table_at, Len::new(bitmap.table_entries.saturating_mul(8)));
            let Some(span) = span.filter(|_| bitmap.table_at.is_aligned(self.header.geo.bytes())) else {
                scan.damage(bitmap.record, format!("{name} is at {}, not on a cluster", bitmap.table_at));
                continue;
            };
            if !scan.count(self, span, Kind::BitmapTable, 1) {
                continue;
            }
            for piece in span.chunks(PIECE) {
                let mut bytes = vec![0; piece.len().to_usize()];
                file::read(&self.file, piece.start(), &mut bytes)?;
                for word in words(&bytes) {
                    let at = Offset::new(word & OFFSET_MASK);
                    if word & !(OFFSET_MASK | 1) != 0 || !at.is_aligned(self.header.geo.bytes()) {
                        scan.damage(span, format!("{name} has an entry {word:#x}"));
                    } else if at.get() != 0 {
                        let cluster = self.header.geo.host_span(self.header.geo.host_of(at));
                        scan.count(self, cluster, Kind::Bitmap, 1);
                    }
                }
            }
        }
        Ok(())
    }

    /// Counts what the L2 table in `host` refers to, once for every reference to the table.
    fn count_table(&self, scan: &mut Scan, host: Host) -> Result<()> {
        let geo = self.header.geo;
        let times = scan.counts.of(host);
        for piece in geo.host_span(host).chunks(PIECE) {
            let Some(bytes) = self.table_piece(piece)? else { continue };
            let entries = to_u64(bytes.len()).checked_div(geo.entry_bytes()).unwrap_or_default();
            for index in 0..entries {
                let raw = cache::raw_at(&bytes, index, geo);
                if raw.word == 0 && raw.parts == 0 {
                    continue;
                }
                let at = piece.start().get().saturating_add(index.saturating_mul(geo.entry_bytes()));
                let place = Span::new(Offset::new(at), Len::new(geo.entry_bytes())).unwrap_or_default();
                if raw.word & COMPRESSED != 0 && raw.word & COPIED != 0 {
                    scan.damage(place, format!("the L2 entry at {at} is compressed and has the copied bit"));
                }
                match raw.decode(geo, self.header.version) {
                    Err(why) => scan.damage(place, format!("the L2 entry at {at} {why}")),
                    Ok(Entry::Packed(span)) => {
                        scan.count(self, span, Kind::Packed, times);
                    }
                    Ok(Entry::Plain(plain)) => {
                        if let Some(host) = plain.host {
                            scan.count(self, geo.host_span(geo.host_of(host)), Kind::Data, times);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// A piece of a table, unless nothing is stored there: a sparse file can be large and full of empty tables.
    fn table_piece(&self, piece: Span) -> Result<Option<Vec<u8>>> {
        let there = piece.intersect(Span::whole(self.file.len())).unwrap_or_default();
        if there.is_empty() || self.file.extents(there)?.all_zero() {
            return Ok(None);
        }
        let mut bytes = vec![0; piece.len().to_usize()];
        file::read(&self.file, piece.start(), &mut bytes)?;
        Ok(Some(bytes))
    }

    /// Compares stored refcounts with references. What is stored for clusters behind the end of the file says nothing:
    /// whoever takes such a cluster sets its refcount.
    fn compare(&self, scan: &mut Scan) -> Result<()> {
        let geo = self.header.geo;
        let order = self.header.refcount_order;
        let per_block = (geo.bytes() << 3).wrapping_shr(order);
        let clusters = scan.counts.clusters();
        let mut bytes = vec![0; to_usize(geo.bytes())];
        for index in 0..clusters.div_ceil(per_block) {
            match scan.blocks.get(to_usize(index)).copied().unwrap_or_default() {
                0 => bytes.fill(0),
                at => file::read(&self.file, Offset::new(at), &mut bytes)?,
            }
            let first = index.saturating_mul(per_block);
            for within in 0..per_block.min(clusters.saturating_sub(first)) {
                let host = Host(first.saturating_add(within));
                let (stored, counted) = (store::get(&bytes, within, order), scan.counts.of(host));
                if stored != 0 || counted != 0 {
                    scan.end = host.0.saturating_add(1);
                }
                if stored == 1 {
                    scan.counts.set_single(host);
                }
                if stored != counted {
                    self.report(scan, host, stored, counted);
                }
                if counted == 0 && stored != 0 {
                    scan.counts.set_leaked(host);
                }
            }
        }
        Ok(())
    }

    fn report(&self, scan: &mut Scan, host: Host, stored: u64, counted: u64) {
        let place = self.header.geo.host_span(host);
        let kind = scan.counts.kind(host);
        let text = format!("the cluster at byte {} ({kind}) has refcount {stored}, ", place.start());
        if stored < counted {
            scan.account(place, format!("{text}but {counted} references"));
        } else {
            scan.findings.push(Severity::Leak, Some(place), format!("{text}for {counted} references"));
        }
    }

    /// Compares the "copied" bits of the active tables with the stored refcounts, as qemu does.
    fn check_copied(&self, scan: &mut Scan) -> Result<()> {
        let geo = self.header.geo;
        let mut walked = ondisk::SpanSet::new();
        for (index, word) in self.l1.iter().enumerate() {
            let table = geo.host_of(Offset::new(word & OFFSET_MASK));
            if *word & OFFSET_MASK == 0 || scan.counts.kind(table) != Kind::L2 {
                continue;
            }
            if (word & COPIED != 0) != scan.counts.is_single(table) {
                let place = Span::new(self.l1_place(index), Len::new(8)).unwrap_or_default();
                scan.account(place, format!("the copied bit of L1 entry {index} is wrong"));
            }
            let span = geo.host_span(table);
            if !walked.contains(span) {
                walked.insert(span);
                self.check_copied_in(scan, span)?;
            }
        }
        Ok(())
    }

    fn check_copied_in(&self, scan: &mut Scan, table: Span) -> Result<()> {
        let len = Len::new(self.header.geo.entry_bytes());
        self.each_stored(table, |at, word, host| {
            if (word & COPIED != 0) != scan.counts.is_single(host) {
                let place = Span::new(at, len).unwrap_or_default();
                scan.account(place, format!("the copied bit of the L2 entry at {at} is wrong"));
            }
        })
    }

    /// Calls `each` with the place and the word of every entry of an L2 table that has a cluster of its own, and with
    /// that cluster.
    pub(super) fn each_stored(&self, table: Span, mut each: impl FnMut(Offset, u64, Host)) -> Result<()> {
        let geo = self.header.geo;
        for piece in table.chunks(PIECE) {
            let Some(bytes) = self.table_piece(piece)? else { continue };
            let entries = to_u64(bytes.len()).checked_div(geo.entry_bytes()).unwrap_or_default();
            for index in 0..entries {
                let raw = cache::raw_at(&bytes, index, geo);
                let Ok(Entry::Plain(plain)) = raw.decode(geo, self.header.version) else { continue };
                let Some(host) = plain.host else { continue };
                let at = piece.start().get().saturating_add(index.saturating_mul(geo.entry_bytes()));
                each(Offset::new(at), raw.word, geo.host_of(host));
            }
        }
        Ok(())
    }

    /// What is wrong, as an error.
    pub(super) fn damage_of(scan: &Scan) -> Error {
        let first = scan.findings.iter().find(|finding| finding.severity == Severity::Damage);
        let at = first.and_then(|finding| finding.place).unwrap_or_default().start();
        let text = first.map(|finding| finding.text.clone()).unwrap_or_default();
        Error::corrupt("qcow2 metadata", at, text)
    }
}
