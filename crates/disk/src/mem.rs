//! Disks in memory, sparse: two terabytes of nothing cost nothing, and a copy shares its pages.

use crate::dev::{Dev, DevKind, Identity};
use crate::traits::{bounded, within};
use crate::{Disk, Error, ExtentKind, ExtentMap, ReadAt, Result};
use ondisk::num::{round_down, to_u64, to_usize};
use ondisk::{Len, Offset, Span, SpanSet};
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

const PAGE: u64 = 4096;
type Page = [u8; 4096];
static ZEROS: Page = [0; 4096];

/// Bytes at positions, stored where they are not zero by construction. Equal means: the same length and bytes.
#[derive(Clone, Debug, Default)]
pub struct Sparse {
    len: Len,
    pages: BTreeMap<u64, Arc<Page>>,
}

impl Sparse {
    /// `len` zeros.
    #[must_use]
    pub const fn new(len: Len) -> Self {
        Self { len, pages: BTreeMap::new() }
    }

    /// The bytes of anything readable; only its data are read.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn load(source: &dyn ReadAt) -> Result<Self> {
        let mut all = Self::new(source.len());
        let mut buf = vec![0; to_usize(PAGE)];
        for data in source.extents(Span::whole(source.len()))?.data() {
            for part in data.chunks(Len::new(PAGE)) {
                let buf = buf.get_mut(..part.len().to_usize()).unwrap_or_default();
                source.read_at(part.start(), buf)?;
                if buf.iter().any(|&byte| byte != 0) {
                    all.put(part.start(), buf);
                }
            }
        }
        Ok(all)
    }

    /// Replaces the bytes from `at`, which lie inside.
    pub fn put(&mut self, at: Offset, buf: &[u8]) {
        let Some(all) = Span::new(at, Len::of(buf)) else { return };
        let mut rest = buf;
        for (page_at, part) in pages_of(all) {
            let (head, tail) = rest.split_at_checked(part.len().to_usize()).unwrap_or_default();
            let page = self.pages.entry(page_at).or_insert_with(|| Arc::new([0; 4096]));
            let start = to_usize(part.start().get().saturating_sub(page_at));
            let target = Arc::make_mut(page).get_mut(start..).and_then(|page| page.get_mut(..head.len()));
            target.unwrap_or_default().copy_from_slice(head);
            rest = tail;
        }
    }

    /// Makes `span` read as zero; whole pages are given back.
    pub fn clear(&mut self, span: Span) {
        let first = round_down(span.start().get(), PAGE).unwrap_or_default();
        let touched: Vec<u64> = self.pages.range(first..span.end().get()).map(|(&at, _)| at).collect();
        for page_at in touched {
            let whole = Span::new(Offset::new(page_at), Len::new(PAGE)).unwrap_or_default();
            if span.contains(whole) {
                self.pages.remove(&page_at);
            } else if let Some(part) = whole.intersect(span) {
                self.put(part.start(), ZEROS.get(..part.len().to_usize()).unwrap_or_default());
            }
        }
    }

    /// Changes the length; new bytes read as zero.
    pub fn set_len(&mut self, len: Len) {
        if let Some(gone) = Span::between(len.end(), self.len.end()) {
            self.clear(gone);
        }
        self.len = len;
    }

    /// Fills `buf` from position `at`; beyond the end there are zeros.
    pub fn get(&self, at: Offset, buf: &mut [u8]) {
        buf.fill(0);
        let Some(all) = Span::new(at, Len::of(buf)) else { return };
        let first = round_down(at.get(), PAGE).unwrap_or_default();
        for (&page_at, page) in self.pages.range(first..all.end().get()) {
            let whole = Span::new(Offset::new(page_at), Len::new(PAGE)).unwrap_or_default();
            let Some(part) = whole.intersect(all) else { continue };
            let from = to_usize(part.start().get().saturating_sub(page_at));
            let to = to_usize(part.start().get().saturating_sub(at.get()));
            let source = page.get(from..).and_then(|page| page.get(..part.len().to_usize()));
            let target = buf.get_mut(to..).and_then(|buf| buf.get_mut(..part.len().to_usize()));
            target.unwrap_or_default().copy_from_slice(source.unwrap_or_default());
        }
    }

    /// The stored pages with their positions, ascending.
    pub fn pages(&self) -> impl Iterator<Item = (Offset, &Arc<Page>)> {
        self.pages.iter().map(|(&at, page)| (Offset::new(at), page))
    }

    /// How much is stored.
    #[must_use]
    pub fn stored(&self) -> Len {
        Len::new(to_u64(self.pages.len()).saturating_mul(PAGE))
    }

    /// Takes the page at `at` over from another one.
    pub fn take_page(&mut self, at: Offset, from: &Self) {
        match from.pages.get(&at.get()) {
            Some(page) => self.pages.insert(at.get(), Arc::clone(page)),
            None => self.pages.remove(&at.get()),
        };
    }

    /// The positions of pages whose bytes differ, ascending. Shared pages cost nothing.
    pub fn differing(&self, other: &Self) -> Vec<Offset> {
        let one_way = |one: &Self, two: &Self, both: bool| -> Vec<Offset> {
            let differs = |at: &u64, page: &Arc<Page>| match two.pages.get(at) {
                Some(twin) => both && !Arc::ptr_eq(page, twin) && page != twin,
                None => page.iter().any(|&byte| byte != 0),
            };
            one.pages.iter().filter(|(at, page)| differs(at, page)).map(|(&at, _)| Offset::new(at)).collect()
        };
        let mut all = one_way(self, other, true);
        all.extend(one_way(other, self, false));
        all.sort_unstable();
        all
    }

    /// What is stored in `span`.
    #[must_use]
    pub fn extents(&self, span: Span) -> ExtentMap {
        let mut map = ExtentMap::new();
        let mut at = span.start();
        let first = round_down(at.get(), PAGE).unwrap_or_default();
        for &page_at in self.pages.range(first..span.end().get()).map(|(at, _)| at) {
            let whole = Span::new(Offset::new(page_at), Len::new(PAGE)).unwrap_or_default();
            let Some(part) = whole.intersect(span) else { continue };
            map.push(Span::between(at, part.start()).unwrap_or_default(), ExtentKind::Hole);
            map.push(part, ExtentKind::Data);
            at = part.end();
        }
        map.push(Span::between(at, span.end()).unwrap_or_default(), ExtentKind::Hole);
        map
    }
}

impl PartialEq for Sparse {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.differing(other).is_empty()
    }
}

impl ReadAt for Sparse {
    fn len(&self) -> Len {
        self.len
    }
    fn read_at(&self, at: Offset, buf: &mut [u8]) -> Result<()> {
        bounded(at, buf.len(), self.len)?;
        self.get(at, buf);
        Ok(())
    }
    fn extents(&self, span: Span) -> Result<ExtentMap> {
        within(span, self.len)?;
        Ok(Self::extents(self, span))
    }
}

/// The pages that `span` touches: the position of each, and the part of `span` in it.
fn pages_of(span: Span) -> impl Iterator<Item = (u64, Span)> {
    let mut rest = span;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let page_at = round_down(rest.start().get(), PAGE)?;
        let part = Span::new(Offset::new(page_at), Len::new(PAGE))
            .map_or(Some(rest), |page| page.intersect(rest))?;
        rest = Span::between(part.end(), rest.end())?;
        Some((page_at, part))
    })
}

/// A [`Disk`] in memory, for tests: remembers what was marked fresh.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemDisk {
    bytes: Sparse,
    fresh: SpanSet,
}

impl MemDisk {
    /// `len` zeros.
    #[must_use]
    pub const fn new(len: Len) -> Self {
        Self { bytes: Sparse::new(len), fresh: SpanSet::new() }
    }

    /// These bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut disk = Self::new(Len::of(bytes));
        disk.bytes.put(Offset::ZERO, bytes);
        disk
    }

    /// What was marked fresh.
    #[must_use]
    pub const fn fresh(&self) -> &SpanSet {
        &self.fresh
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Sparse {
        &self.bytes
    }

    /// All bytes at once; for small disks.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = vec![0; self.bytes.len.to_usize()];
        self.bytes.get(Offset::ZERO, &mut all);
        all
    }

    /// Applies a change, as a commit would.
    ///
    /// # Errors
    /// Where the change does not fit the disk.
    pub fn apply(&mut self, change: &crate::Change) -> Result<()> {
        change.refuse_pours()?;
        if self.bytes.len != change.old_len {
            return Err(Error::OutOfBounds { span: Span::whole(change.old_len), len: self.bytes.len });
        }
        let old = self.bytes.clone();
        self.bytes.set_len(change.old_len.max(change.new_len));
        for one in change.moves.iter().chain(&change.carried) {
            for part in one.from.chunks(Len::new(PAGE)) {
                let mut buf = vec![0; part.len().to_usize()];
                old.read_at(part.start(), &mut buf)?;
                let ahead = part.start().since(one.from.start()).unwrap_or_default();
                Disk::write_at(self, one.to.checked_add(ahead).unwrap_or(one.to), &buf)?;
            }
        }
        for write in change.fresh.iter().chain(&change.home) {
            match &write.data {
                crate::Data::Bytes(bytes) => Disk::write_at(self, write.at, bytes)?,
                crate::Data::Zero(_) => Disk::zero(self, write.span())?,
            }
        }
        self.bytes.set_len(change.new_len);
        Ok(())
    }
}

impl From<Sparse> for MemDisk {
    fn from(bytes: Sparse) -> Self {
        Self { bytes, fresh: SpanSet::new() }
    }
}

impl ReadAt for MemDisk {
    fn len(&self) -> Len {
        self.bytes.len
    }
    fn read_at(&self, at: Offset, buf: &mut [u8]) -> Result<()> {
        self.bytes.read_at(at, buf)
    }
    fn extents(&self, span: Span) -> Result<ExtentMap> {
        ReadAt::extents(&self.bytes, span)
    }
}

impl Disk for MemDisk {
    fn write_at(&mut self, at: Offset, buf: &[u8]) -> Result<()> {
        bounded(at, buf.len(), self.bytes.len)?;
        self.bytes.put(at, buf);
        Ok(())
    }
    fn zero(&mut self, span: Span) -> Result<()> {
        within(span, self.bytes.len)?;
        self.bytes.clear(span);
        Ok(())
    }
    fn discard(&mut self, span: Span) -> Result<()> {
        Disk::zero(self, span)
    }
    fn copy(&mut self, from: Span, to: Offset) -> Result<()> {
        within(from, self.bytes.len)?;
        let target = bounded(to, from.len().to_usize(), self.bytes.len)?;
        if from.intersect(target).is_some() {
            return Err(Error::Unsupported { what: "the source and the target of a copy overlap" });
        }
        let mut at = to;
        let mut source = from.start();
        self.bytes.clear(target);
        for extent in self.bytes.extents(from).iter() {
            if !extent.kind.reads_zero() {
                for part in extent.span.chunks(Len::new(PAGE)) {
                    let mut buf = vec![0; part.len().to_usize()];
                    self.bytes.get(part.start(), &mut buf);
                    let ahead = part.start().since(source).unwrap_or_default();
                    self.bytes.put(at.checked_add(ahead).unwrap_or(at), &buf);
                }
            }
            at = at.checked_add(extent.span.len()).unwrap_or(at);
            source = extent.span.end();
        }
        Ok(())
    }
    fn resize(&mut self, len: Len) -> Result<()> {
        self.bytes.set_len(len);
        Ok(())
    }
    fn mark_fresh(&mut self, span: Span) -> Result<()> {
        within(span, self.bytes.len)?;
        self.fresh.insert(span);
        Ok(())
    }
}

/// A [`Dev`] in memory that never fails.
#[derive(Clone, Debug, Default)]
pub struct MemDev(pub Sparse);

impl ReadAt for MemDev {
    fn len(&self) -> Len {
        self.0.len
    }
    fn read_at(&self, at: Offset, buf: &mut [u8]) -> Result<()> {
        self.0.read_at(at, buf)
    }
    fn extents(&self, span: Span) -> Result<ExtentMap> {
        ReadAt::extents(&self.0, span)
    }
}

impl Dev for MemDev {
    fn write_at(&mut self, at: Offset, buf: &[u8]) -> Result<()> {
        let end = at.checked_add(Len::of(buf)).map(|end| Len::new(end.get()));
        let end = end.ok_or(Error::OutOfBounds { span: Span::default(), len: self.0.len })?;
        self.0.len = self.0.len.max(end);
        self.0.put(at, buf);
        Ok(())
    }
    fn zero(&mut self, span: Span) -> Result<()> {
        within(span, self.0.len)?;
        self.0.clear(span);
        Ok(())
    }
    fn punch(&mut self, span: Span) -> Result<()> {
        Dev::zero(self, span)
    }
    fn allocated(&self) -> Result<Option<Len>> {
        Ok(Some(self.0.stored()))
    }
    fn set_len(&mut self, len: Len) -> Result<()> {
        self.0.set_len(len);
        Ok(())
    }
    fn may_reach(&self, _: Offset) -> Result<()> {
        Ok(())
    }
    fn free(&self) -> Result<Option<Len>> {
        Ok(None)
    }
    fn reserve(&mut self, _: Span) -> Result<()> {
        Ok(())
    }
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    fn forget(&mut self, _: Span) -> Result<()> {
        Ok(())
    }
    fn kind(&self) -> DevKind {
        DevKind::File
    }
    fn identity(&self) -> Identity {
        Identity::default()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
