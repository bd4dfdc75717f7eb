//! Reading: from a place on the virtual disk to the bytes that answer for it.

use super::cache::{Piece, raw_at};
use super::entry::{Entry, Plain};
use super::layout::{COPIED, OFFSET_MASK};
use super::{Qcow2, file, part_of, unpack};
use crate::{BlockStatus, Error, Mapped, Result, chain};
use disk::traits::{bounded, within};
use disk::{ExtentKind, ExtentMap, ReadAt};
use ondisk::{Len, Offset, Span};
use std::sync::{Arc, PoisonError};

/// Who answers for a run of the virtual disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The file, from here on.
    Stored(Offset),
    /// A compressed stream in these bytes of the file; the run lies in its cluster.
    Packed(Span),
    /// Zeros.
    Zero,
    /// The parent, or zeros where there is none.
    Parent,
}

/// A run of the virtual disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub span: Span,
    pub what: What,
}

impl What {
    /// Whether `next` goes on where this one has ended after `len` bytes.
    fn goes_on(self, len: Len, next: Self) -> bool {
        match (self, next) {
            (Self::Stored(here), Self::Stored(there)) => here.checked_add(len) == Some(there),
            (Self::Zero, Self::Zero) | (Self::Parent, Self::Parent) => true,
            _ => false,
        }
    }
}

impl<D: ReadAt> Qcow2<D> {
    /// The first run of `within`, which is not empty and lies on the disk. It may be shorter than possible.
    pub(super) fn run(&self, within: Span) -> Result<Run> {
        let geo = self.header.geo;
        let (l1, first) = geo.indexes(geo.guest_of(within.start()));
        let Some(table) = self.table(l1)? else {
            let end = geo.guest_at(geo.guest_of_l1(l1.saturating_add(1))).min(within.end());
            let span = Span::between(within.start(), end).unwrap_or(within);
            return Ok(Run { span, what: What::Parent });
        };
        let (piece, entries) = self.piece(table, first)?;
        let last = first | entries.saturating_sub(1);
        let mut run: Option<Run> = None;
        for index in first..=last {
            let at = run.map_or(within.start(), |run| run.span.end());
            let entry = self.decode(&piece, table, index, at)?;
            let next = self.stretch(entry, at, within);
            run = match run {
                None => Some(next),
                Some(run) if run.what.goes_on(run.span.len(), next.what) => {
                    let span = Span::between(run.span.start(), next.span.end()).unwrap_or(run.span);
                    Some(Run { span, ..run })
                }
                Some(run) => return Ok(run),
            };
            let end = run.map_or(within.end(), |run| run.span.end());
            if end >= within.end() || geo.within(end) != 0 {
                break;
            }
        }
        Ok(run.unwrap_or(Run { span: within, what: What::Parent }))
    }

    /// The L2 table of an L1 entry.
    pub(super) fn table(&self, l1: usize) -> Result<Option<Offset>> {
        let word = self.l1.get(l1).copied().unwrap_or_default();
        let at = Offset::new(word & OFFSET_MASK);
        if word & !(OFFSET_MASK | COPIED) != 0 || !at.is_aligned(self.header.geo.bytes()) {
            let place = self.l1_place(l1);
            return Err(Error::corrupt("qcow2 L1 table", place, format!("entry {l1} is {word:#x}")));
        }
        if at.get() != 0 && at >= self.file.len().end() {
            let text = format!("entry {l1} points to {at}, behind the end of the file ({})", self.file.len());
            return Err(Error::corrupt("qcow2 L1 table", self.l1_place(l1), text));
        }
        Ok(Some(at).filter(|at| at.get() != 0))
    }

    /// Where an L1 entry lies.
    pub(super) fn l1_place(&self, l1: usize) -> Offset {
        Offset::new(self.header.l1_at.get().saturating_add(ondisk::num::to_u64(l1).saturating_mul(8)))
    }

    fn piece(&self, table: Offset, index: u64) -> Result<(Piece, u64)> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((cache.piece(&self.file, table, index)?, cache.entries()))
    }

    /// The entry for the place `at` of the virtual disk.
    pub(super) fn entry(&self, table: Offset, at: Offset) -> Result<Entry> {
        let (_, index) = self.header.geo.indexes(self.header.geo.guest_of(at));
        let (piece, _) = self.piece(table, index)?;
        self.decode(&piece, table, index, at)
    }

    fn decode(&self, piece: &[u8], table: Offset, index: u64, at: Offset) -> Result<Entry> {
        let geo = self.header.geo;
        let place = || Offset::new(table.get().saturating_add(index.saturating_mul(geo.entry_bytes())));
        let entry = raw_at(piece, index, geo).decode(geo, self.header.version);
        let entry = entry.map_err(|why| {
            Error::corrupt("qcow2 L2 table", place(), format!("the entry of byte {at} of the disk {why}"))
        })?;
        let target = match entry {
            Entry::Plain(plain) if plain.stored == 0 => None,
            Entry::Plain(plain) => plain.host,
            Entry::Packed(span) => Some(span.start()),
        };
        match target {
            Some(target) if target >= self.file.len().end() => {
                let text = format!("byte {at} of the disk is at {target}, behind the end of the file");
                Err(Error::corrupt("qcow2 L2 table", place(), text))
            }
            _ => Ok(entry),
        }
    }

    /// How long `entry` gives the same answer from `at` on, within its cluster.
    fn stretch(&self, entry: Entry, at: Offset, within: Span) -> Run {
        let geo = self.header.geo;
        let cluster = geo.guest_at(geo.guest_of(at));
        let (what, end) = match entry {
            Entry::Packed(packed) => (What::Packed(packed), geo.bytes()),
            Entry::Plain(plain) => plain_stretch(plain, geo.within(at), geo.part_bytes(), geo.parts()),
        };
        let end = Offset::new(cluster.get().saturating_add(end)).min(within.end());
        Run { span: Span::between(at, end).unwrap_or_default(), what }
    }

    fn read(&self, at: Offset, buf: &mut [u8]) -> Result<()> {
        let mut rest = bounded(at, buf.len(), self.header.size)?;
        while !rest.is_empty() {
            let run = self.run(rest)?;
            let piece = part_of(buf, run.span, at);
            match run.what {
                What::Stored(host) => file::read(&self.file, host, piece)?,
                What::Zero => piece.fill(0),
                What::Parent => self.read_parent(run.span, piece)?,
                What::Packed(packed) => {
                    let cluster = self.unpacked(packed, run.span.start())?;
                    let from = ondisk::num::to_usize(self.header.geo.within(run.span.start()));
                    let bytes = cluster.get(from..).unwrap_or_default();
                    piece.copy_from_slice(bytes.get(..piece.len()).unwrap_or_default());
                }
            }
            rest = Span::between(run.span.end(), rest.end()).unwrap_or_default();
        }
        Ok(())
    }

    fn read_parent(&self, span: Span, buf: &mut [u8]) -> Result<()> {
        self.parent_len()?;
        match &self.parent {
            Some(parent) => file::read(parent.as_ref(), span.start(), buf),
            None => {
                buf.fill(0);
                Ok(())
            }
        }
    }

    /// The whole cluster behind a compressed stream.
    fn unpacked(&self, packed: Span, at: Offset) -> Result<Arc<Vec<u8>>> {
        let known = self.cache.lock().unwrap_or_else(PoisonError::into_inner).unpacked(packed);
        if let Some(known) = known {
            return Ok(known);
        }
        let mut stream = self.limits.buffer("a compressed cluster", packed.len())?;
        file::read(&self.file, packed.start(), &mut stream)?;
        let mut cluster = self.limits.buffer("a compressed cluster", self.header.geo.len())?;
        unpack::unpack(self.header.compression, &stream, &mut cluster).map_err(|why| {
            let text = format!("the stream for byte {at} of the disk is damaged: {why}");
            Error::corrupt("qcow2 compressed cluster", packed.start(), text)
        })?;
        let cluster = Arc::new(cluster);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.remember(packed, Arc::clone(&cluster));
        Ok(cluster)
    }

    fn extents_of(&self, within: Span) -> Result<ExtentMap> {
        let budget = self.limits.budget("the map of a qcow2 image");
        let mut map = ExtentMap::new();
        let mut rest = within;
        while !rest.is_empty() {
            let run = self.run(rest)?;
            let part = match run.what {
                What::Packed(_) => ExtentMap::single(run.span, ExtentKind::Data),
                What::Zero => ExtentMap::single(run.span, ExtentKind::Zero),
                What::Parent => self.parent_extents(run.span)?,
                What::Stored(host) => self.stored_extents(run.span, host)?,
            };
            budget.take(Len::new(ondisk::num::to_u64(part.iter().count().saturating_mul(32))))?;
            map.append(&part);
            rest = Span::between(run.span.end(), rest.end()).unwrap_or_default();
        }
        Ok(map)
    }

    /// Holes of the file in a cluster that is stored read as zero as well.
    fn stored_extents(&self, span: Span, host: Offset) -> Result<ExtentMap> {
        let mut map = ExtentMap::new();
        let stored =
            Span::new(host, span.len()).and_then(|stored| stored.intersect(Span::whole(self.file.len())));
        if let Some(stored) = stored {
            for extent in self.file.extents(stored)?.rebased(host, span.start()).iter() {
                let kind = if extent.kind.reads_zero() { ExtentKind::Zero } else { ExtentKind::Data };
                map.push(extent.span, kind);
            }
        }
        let behind = span.start().checked_add(stored.unwrap_or_default().len()).unwrap_or(span.end());
        map.push(Span::between(behind, span.end()).unwrap_or_default(), ExtentKind::Zero);
        Ok(map)
    }

    fn parent_extents(&self, span: Span) -> Result<ExtentMap> {
        let there = span.intersect(Span::whole(self.parent_len()?));
        let mut map = match (&self.parent, there) {
            (Some(parent), Some(there)) => parent.extents(there)?,
            _ => ExtentMap::new(),
        };
        let behind = there.map_or(span.start(), Span::end);
        map.push(Span::between(behind, span.end()).unwrap_or_default(), ExtentKind::Hole);
        Ok(map)
    }

    fn run_status(&self, run: Run) -> Result<Vec<BlockStatus>> {
        let here = BlockStatus { present: true, ..BlockStatus::hole(run.span) };
        let stored = BlockStatus { zero: false, data: true, ..here };
        Ok(match (run.what, &self.parent) {
            (What::Stored(host), _) => vec![BlockStatus { offset: Some(host), ..stored }],
            (What::Packed(_), _) => vec![stored],
            (What::Zero, _) => vec![here],
            (What::Parent, Some(parent)) => chain::status_under(&**parent, run.span)?,
            (What::Parent, None) => {
                // Who names a parent that was not given is refused.
                self.parent_len()?;
                vec![BlockStatus::hole(run.span)]
            }
        })
    }
}

impl<D: ReadAt> Mapped for Qcow2<D> {
    fn status(&self, range: Span) -> Result<Vec<BlockStatus>> {
        within(range, self.header.size)?;
        let budget = self.limits.budget("the map of a qcow2 image");
        let mut list: Vec<BlockStatus> = Vec::new();
        let mut rest = range;
        while !rest.is_empty() {
            let run = self.run(rest)?;
            rest = Span::between(run.span.end(), rest.end()).unwrap_or_default();
            for next in self.run_status(run)? {
                let before = list.len();
                next.append_to(&mut list);
                if list.len() > before {
                    budget.take(Len::new(ondisk::num::to_u64(size_of::<BlockStatus>())))?;
                }
            }
        }
        Ok(list)
    }

    fn first(&self, range: Span) -> Result<BlockStatus> {
        within(range, self.header.size)?;
        chain::first_of(range, |range| {
            let run = self.run(range)?;
            match (run.what, &self.parent) {
                (What::Parent, Some(parent)) => chain::first_under(&**parent, run.span),
                _ => Ok(self.run_status(run)?.first().copied().unwrap_or(BlockStatus::hole(run.span))),
            }
        })
    }
}

fn plain_stretch(plain: Plain, from: u64, part_bytes: u64, parts: u32) -> (What, u64) {
    let first = ondisk::num::low32(from.checked_div(part_bytes).unwrap_or_default());
    let answer = |part: u32| (plain.stored.wrapping_shr(part) & 1, plain.zero.wrapping_shr(part) & 1);
    let end = (first..parts).find(|part| answer(*part) != answer(first)).unwrap_or(parts);
    let what = match (answer(first), plain.host) {
        ((1, _), Some(host)) => What::Stored(Offset::new(host.get().saturating_add(from))),
        ((_, 1), _) => What::Zero,
        _ => What::Parent,
    };
    (what, u64::from(end).saturating_mul(part_bytes))
}

impl<D: ReadAt> ReadAt for Qcow2<D> {
    fn len(&self) -> Len {
        self.header.size
    }

    fn read_at(&self, at: Offset, buf: &mut [u8]) -> disk::Result<()> {
        Ok(self.read(at, buf)?)
    }

    fn extents(&self, span: Span) -> disk::Result<ExtentMap> {
        within(span, self.header.size)?;
        Ok(self.extents_of(span)?)
    }
}
