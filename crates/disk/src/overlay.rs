//! Staged bytes over a disk that stays as it is.
//!
//! 1. Reads see the staged bytes, and the base where nothing is staged. Bytes beyond the base read as zero.
//! 2. Bytes are staged in sectors of 512: a partly written sector takes the rest of its bytes from what was readable.
//! 3. Small writes live in pages; zeros and copies of base bytes live as spans, so a staged terabyte costs nothing.
//!    Of a page and a span that cover the same sector, the page wins; a span that is staged later clears the page.
//! 4. What lies behind the base's end is fresh by itself; inside it, only what was marked.

mod emit;

use crate::traits::{bounded, within};
use crate::{
    Budget, Change, Data, Disk, Error, ExtentKind, ExtentMap, Limits, Over, PourInto, ReadAt, Result,
};
use ondisk::num::{round_down, round_up, to_u64, to_usize};
use ondisk::{Len, Offset, Span, SpanSet};
use std::collections::BTreeMap;

const SECTOR: u64 = 512;
const PAGE: u64 = 4096;
/// What a run takes in memory, as a part of the change that it becomes included.
const RUN_WEIGHT: u64 = 256;

/// Eight sectors, of which some are staged.
struct Page {
    bytes: Box<[u8]>,
    staged: u8,
}

/// A long run that is staged without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    Zero,
    /// The bytes of the base from here on.
    Copy(Offset),
    /// The bytes of what lies beside the base from here on.
    Beside(Offset),
}

/// Staged bytes over `base`.
pub struct Overlay<'b> {
    base: &'b dyn ReadAt,
    beside: Option<&'b dyn ReadAt>,
    /// What is poured over.
    over: Over,
    len: Len,
    pages: BTreeMap<u64, Page>,
    /// Start → (end, run); disjoint, ascending.
    runs: BTreeMap<Offset, (Offset, Run)>,
    fresh: SpanSet,
    budget: Budget,
}

impl<'b> Overlay<'b> {
    /// Nothing staged yet over `base`.
    #[must_use]
    pub fn new(base: &'b dyn ReadAt, limits: &Limits) -> Self {
        Self {
            base,
            beside: None,
            over: Over::Unused,
            len: base.len(),
            pages: BTreeMap::new(),
            runs: BTreeMap::new(),
            fresh: SpanSet::new(),
            budget: limits.budget("the staged change"),
        }
    }

    /// As [`Overlay::new`], with bytes of `beside` to be shown and poured.
    #[must_use]
    pub fn with_beside(base: &'b dyn ReadAt, beside: &'b dyn ReadAt, limits: &Limits) -> Self {
        Self { beside: Some(beside), ..Self::new(base, limits) }
    }

    /// Promises that all bytes that are poured over are *shadowed*: whoever is to see the image reads them elsewhere.
    #[must_use]
    pub const fn over_shadowed(mut self) -> Self {
        self.over = Over::Shadowed;
        self
    }

    /// Says that what lies beside is itself made of the base: nothing of the base is written before all of it was read.
    #[must_use]
    pub const fn over_read(mut self) -> Self {
        self.over = Over::Read;
        self
    }

    /// About how much memory the staged bytes take.
    #[must_use]
    pub fn weight(&self) -> Len {
        let pages = to_u64(self.pages.len()).saturating_mul(PAGE);
        Len::new(to_u64(self.runs.len()).saturating_mul(RUN_WEIGHT).saturating_add(pages))
    }

    /// What a change makes of `base`.
    ///
    /// # Errors
    /// Where the change does not fit the base, its bytes not into the memory allowed, or it pours.
    pub fn after(base: &'b dyn ReadAt, change: &Change, limits: &Limits) -> Result<Self> {
        let mut overlay = Self::new(base, limits);
        change.refuse_pours()?;
        overlay.resize(change.old_len.max(change.new_len))?;
        for one in change.moves.iter().chain(&change.carried) {
            within(one.target(), overlay.len)?;
            overlay.stage_run(one.target(), Run::Copy(one.from.start()))?;
        }
        for write in change.fresh.iter().chain(&change.home) {
            match &write.data {
                Data::Bytes(bytes) => overlay.write_at(write.at, bytes)?,
                Data::Zero(_) => overlay.zero(write.span())?,
            }
        }
        overlay.resize(change.new_len)?;
        Ok(overlay)
    }

    /// Stages for `span` what lies beside the base from `at` on, without loading it.
    pub(crate) fn show(&mut self, span: Span, at: Offset) -> Result<()> {
        within(span, self.len)?;
        self.stage_run(span, Run::Beside(at))
    }

    /// Whether nothing is staged.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.pages.is_empty() && self.runs.is_empty() && self.len == self.base.len()
    }

    /// The spans of staged sectors in `within`, ascending, adjacent ones merged.
    fn staged(&self, within: Span) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        let first = round_down(within.start().get(), PAGE).unwrap_or_default();
        for (&page_at, page) in self.pages.range(first..within.end().get()) {
            for sector in sectors_of(page_at).filter(|sector| page.staged & sector.mask != 0) {
                let Some(span) = sector.span.intersect(within) else { continue };
                match spans.last_mut() {
                    Some(last) if last.end() == span.start() => {
                        *last = Span::between(last.start(), span.end()).unwrap_or(*last);
                    }
                    _ => spans.push(span),
                }
            }
        }
        spans
    }

    /// What lies under the pages in `within`: parts of runs, and parts of the base (`None`), in order.
    fn background(&self, within: Span) -> Vec<(Span, Option<Run>)> {
        let mut parts = Vec::new();
        let mut at = within.start();
        let first = self.runs.range(..=at).next_back().map_or(at, |(&start, _)| start);
        for (&start, &(end, run)) in self.runs.range(first..within.end()) {
            let Some(part) = Span::between(start, end).and_then(|span| span.intersect(within)) else {
                continue;
            };
            push_gap(&mut parts, at, part.start());
            parts.push((part, Some(run.advanced(part.start().since(start).unwrap_or_default()))));
            at = part.end();
        }
        push_gap(&mut parts, at, within.end());
        parts
    }

    /// Reads the base; beyond its end there are zeros.
    fn read_base(&self, at: Offset, buf: &mut [u8]) -> Result<()> {
        let there = to_usize(self.base.len().end().since(at).unwrap_or_default().get()).min(buf.len());
        let (stored, beyond) = buf.split_at_mut(there);
        beyond.fill(0);
        if stored.is_empty() { Ok(()) } else { self.base.read_at(at, stored) }
    }

    fn read_beside(&self, at: Offset, buf: &mut [u8]) -> Result<()> {
        let nothing = || Error::OutOfBounds { span: Span::default(), len: Len::ZERO };
        self.beside.ok_or_else(nothing)?.read_at(at, buf)
    }

    fn read_background(&self, within: Span, buf: &mut [u8]) -> Result<()> {
        let mut rest = buf;
        for (part, run) in self.background(within) {
            let (head, tail) = rest.split_at_mut(part.len().to_usize());
            match run {
                Some(Run::Zero) => head.fill(0),
                Some(Run::Copy(from)) => self.read_base(from, head)?,
                Some(Run::Beside(at)) => self.read_beside(at, head)?,
                None => self.read_base(part.start(), head)?,
            }
            rest = tail;
        }
        Ok(())
    }

    fn base_extents(&self, within: Span) -> Result<ExtentMap> {
        let mut map = ExtentMap::new();
        if let Some(there) = within.intersect(Span::whole(self.base.len())) {
            map.append(&self.base.extents(there)?);
        }
        let beyond = Span::between(within.start().max(self.base.len().end()), within.end());
        map.push(beyond.unwrap_or_default(), ExtentKind::Hole);
        Ok(map)
    }

    fn page(&mut self, at: u64) -> Result<&mut Page> {
        if !self.pages.contains_key(&at) {
            self.budget.take(Len::new(PAGE))?;
        }
        let new = || Page { bytes: vec![0; to_usize(PAGE)].into_boxed_slice(), staged: 0 };
        Ok(self.pages.entry(at).or_insert_with(new))
    }

    /// Writes the part of one page that `part` is; `buf` holds its bytes.
    fn write_page(&mut self, part: Span, buf: &[u8]) -> Result<()> {
        let page_at = round_down(part.start().get(), PAGE).unwrap_or_default();
        for sector in sectors_of(page_at) {
            let Some(here) = sector.span.intersect(part) else { continue };
            let known = self.pages.get(&page_at).is_some_and(|page| page.staged & sector.mask != 0);
            let mut old = [0_u8; 512];
            if here != sector.span && !known {
                self.read_background(sector.span, &mut old)?;
            }
            let page = self.page(page_at)?;
            let target = slice_mut(&mut page.bytes, sector.span, Offset::new(page_at));
            if here != sector.span && !known {
                target.copy_from_slice(&old);
            }
            let source = slice(buf, here, part.start());
            slice_mut(target, here, sector.span.start()).copy_from_slice(source);
            page.staged |= sector.mask;
        }
        Ok(())
    }

    /// Takes everything staged out of `span`, which consists of whole sectors.
    fn unstage(&mut self, span: Span) {
        let first = round_down(span.start().get(), PAGE).unwrap_or_default();
        let touched: Vec<u64> = self.pages.range(first..span.end().get()).map(|(&at, _)| at).collect();
        for page_at in touched {
            let Some(page) = self.pages.get_mut(&page_at) else { continue };
            for sector in sectors_of(page_at).filter(|sector| span.contains(sector.span)) {
                page.staged &= !sector.mask;
            }
            if page.staged == 0 {
                self.pages.remove(&page_at);
                self.budget.give(Len::new(PAGE));
            }
        }
        while let Some((&start, &(end, run))) = self.runs.range(..span.end()).next_back() {
            if end <= span.start() {
                break;
            }
            self.runs.remove(&start);
            if start < span.start() {
                self.runs.insert(start, (span.start(), run));
            }
            if let Some(cut) =
                end.since(span.end()).filter(|left| !left.is_zero()).and(span.end().since(start))
            {
                self.runs.insert(span.end(), (end, run.advanced(cut)));
            }
        }
    }

    /// Stages `run` for the whole sectors of `span`, and `zero`s or copies for its ragged ends byte by byte.
    fn stage_run(&mut self, span: Span, run: Run) -> Result<()> {
        let Some(inner) = whole_sectors(span, self.len) else { return self.write_through(span, run) };
        let run_inner = run.advanced(inner.start().since(span.start()).unwrap_or_default());
        let head = Span::between(span.start(), inner.start()).unwrap_or_default();
        let tail = Span::between(inner.end().min(span.end()), span.end()).unwrap_or_default();
        let run_tail = run.advanced(tail.start().since(span.start()).unwrap_or_default());
        self.write_through(head, run)?;
        self.write_through(tail, run_tail)?;
        self.unstage(inner);
        self.insert_run(inner, run_inner);
        Ok(())
    }

    /// Runs that go on in each other become one: a partition that moves is copied in many pieces.
    fn insert_run(&mut self, span: Span, run: Run) {
        let (mut start, mut end, mut run) = (span.start(), span.end(), run);
        if let Some(&(next_end, next)) = self.runs.get(&end)
            && run.advanced(span.len()) == next
        {
            self.runs.remove(&end);
            end = next_end;
        }
        if let Some((&before, &(before_end, old))) = self.runs.range(..start).next_back()
            && before_end == start
            && old.advanced(start.since(before).unwrap_or_default()) == run
        {
            (start, run) = (before, old);
        }
        self.runs.insert(start, (end, run));
    }

    fn write_through(&mut self, span: Span, run: Run) -> Result<()> {
        for part in span.chunks(Len::new(PAGE)) {
            let mut buf = vec![0; part.len().to_usize()];
            match run.advanced(part.start().since(span.start()).unwrap_or_default()) {
                Run::Zero => {}
                Run::Copy(from) => self.read_base(from, &mut buf)?,
                Run::Beside(at) => self.read_beside(at, &mut buf)?,
            }
            self.write_at(part.start(), &buf)?;
        }
        Ok(())
    }
}

impl Run {
    /// The same run seen from `by` bytes further on.
    fn advanced(self, by: Len) -> Self {
        match self {
            Self::Zero => Self::Zero,
            Self::Copy(from) => Self::Copy(from.checked_add(by).unwrap_or(from)),
            Self::Beside(at) => Self::Beside(at.checked_add(by).unwrap_or(at)),
        }
    }
}

impl ReadAt for Overlay<'_> {
    fn len(&self) -> Len {
        self.len
    }

    fn read_at(&self, at: Offset, buf: &mut [u8]) -> Result<()> {
        let want = bounded(at, buf.len(), self.len)?;
        self.read_background(want, buf)?;
        let first = round_down(at.get(), PAGE).unwrap_or_default();
        for (&page_at, page) in self.pages.range(first..want.end().get()) {
            for sector in sectors_of(page_at).filter(|sector| page.staged & sector.mask != 0) {
                if let Some(here) = sector.span.intersect(want) {
                    slice_mut(buf, here, at).copy_from_slice(slice(&page.bytes, here, Offset::new(page_at)));
                }
            }
        }
        Ok(())
    }

    fn extents(&self, within: Span) -> Result<ExtentMap> {
        crate::traits::within(within, self.len)?;
        let mut under = ExtentMap::new();
        for (part, run) in self.background(within) {
            match run {
                Some(Run::Zero) => under.push(part, ExtentKind::Zero),
                Some(Run::Copy(from)) => {
                    let source = Span::new(from, part.len()).unwrap_or_default();
                    under.append(&self.base_extents(source)?.rebased(from, part.start()));
                }
                Some(Run::Beside(_)) => under.push(part, ExtentKind::Data),
                None => under.append(&self.base_extents(part)?),
            }
        }
        let staged: SpanSet = self.staged(within).into_iter().collect();
        let mut map = ExtentMap::new();
        for extent in under.iter() {
            let mut parts: Vec<_> =
                staged.intersect(extent.span).map(|span| (span, ExtentKind::Data)).collect();
            parts.extend(staged.gaps(extent.span).map(|span| (span, extent.kind)));
            parts.sort_by_key(|(span, _)| span.start());
            parts.into_iter().for_each(|(span, kind)| map.push(span, kind));
        }
        Ok(map)
    }
}

impl Disk for Overlay<'_> {
    fn write_at(&mut self, at: Offset, buf: &[u8]) -> Result<()> {
        let mut rest = bounded(at, buf.len(), self.len)?;
        while !rest.is_empty() {
            let page_at = Offset::new(round_down(rest.start().get(), PAGE).unwrap_or_default());
            let page = Span::new(page_at, Len::new(PAGE)).unwrap_or(rest);
            let part = page.intersect(rest).unwrap_or(rest);
            self.write_page(part, slice(buf, part, at))?;
            rest = Span::between(part.end(), rest.end()).unwrap_or_default();
        }
        Ok(())
    }

    fn zero(&mut self, span: Span) -> Result<()> {
        within(span, self.len)?;
        self.stage_run(span, Run::Zero)
    }

    fn discard(&mut self, span: Span) -> Result<()> {
        self.zero(span)
    }

    fn copy(&mut self, from: Span, to: Offset) -> Result<()> {
        within(from, self.len)?;
        let target = bounded(to, from.len().to_usize(), self.len)?;
        if from.intersect(target).is_some() {
            return Err(Error::Unsupported { what: "the source and the target of a copy overlap" });
        }
        let moved =
            |part: Span| part.relative_to(from.start()).and_then(|span| span.shifted(Len::new(to.get())));
        for (part, run) in self.background(from) {
            let source = run.unwrap_or(Run::Copy(part.start()));
            self.stage_run(moved(part).unwrap_or_default(), source)?;
        }
        for part in self.staged(from) {
            for chunk in part.chunks(Len::new(PAGE)) {
                let mut buf = vec![0; chunk.len().to_usize()];
                self.read_at(chunk.start(), &mut buf)?;
                self.write_at(moved(chunk).unwrap_or_default().start(), &buf)?;
            }
        }
        Ok(())
    }

    fn resize(&mut self, len: Len) -> Result<()> {
        let old = self.len;
        if len < old {
            let from = Offset::new(round_up(len.get(), SECTOR).unwrap_or(len.get()));
            let to = Offset::new(round_up(old.get(), SECTOR).unwrap_or(old.get()));
            if let Some(gone) = Span::between(from, to) {
                self.unstage(gone);
            }
            self.len = len;
        } else {
            self.len = len;
            // Base bytes that an earlier cut took away, and the rest of an odd last sector, must not come back.
            let again = Span::between(old.end(), len.end().min(self.base.len().end()).max(old.end()));
            let odd = Span::between(
                old.end(),
                Offset::new(round_up(old.get(), SECTOR).unwrap_or(old.get())).min(len.end()),
            );
            for span in again.into_iter().chain(odd).filter(|span| !span.is_empty()) {
                self.zero(span)?;
            }
        }
        Ok(())
    }

    fn mark_fresh(&mut self, span: Span) -> Result<()> {
        within(span, self.len)?;
        // The rest of a sector behind an odd end was not promised.
        self.fresh.extend(whole_sectors(span, self.len).and_then(|sectors| sectors.intersect(span)));
        Ok(())
    }
}

impl PourInto for Overlay<'_> {
    fn pour(&mut self, span: Span, from: Offset) -> Result<()> {
        let beside = self.beside.map_or(Len::ZERO, ReadAt::len);
        bounded(from, span.len().to_usize(), beside)?;
        self.show(span, from)
    }
}

struct Sector {
    span: Span,
    mask: u8,
}

/// The eight sectors of the page at `page_at`.
fn sectors_of(page_at: u64) -> impl Iterator<Item = Sector> {
    (0..8_u32).filter_map(move |index| {
        let at = page_at.checked_add(u64::from(index) << 9)?;
        Some(Sector { span: Span::new(Offset::new(at), Len::new(SECTOR))?, mask: 1 << index })
    })
}

fn push_gap(parts: &mut Vec<(Span, Option<Run>)>, from: Offset, to: Offset) {
    parts.extend(Span::between(from, to).filter(|gap| !gap.is_empty()).map(|gap| (gap, None)));
}

/// The whole sectors in `span`; a disk's odd end counts as whole.
fn whole_sectors(span: Span, len: Len) -> Option<Span> {
    let start = round_up(span.start().get(), SECTOR)?;
    let end = if span.end() == len.end() {
        round_up(span.end().get(), SECTOR)?
    } else {
        round_down(span.end().get(), SECTOR)?
    };
    Span::between(Offset::new(start), Offset::new(end)).filter(|span| !span.is_empty())
}

/// The bytes of `span` in a buffer whose first byte is `origin`.
fn slice(buf: &[u8], span: Span, origin: Offset) -> &[u8] {
    let start = to_usize(span.start().since(origin).unwrap_or_default().get());
    buf.get(start..).and_then(|rest| rest.get(..span.len().to_usize())).unwrap_or_default()
}

fn slice_mut(buf: &mut [u8], span: Span, origin: Offset) -> &mut [u8] {
    let start = to_usize(span.start().since(origin).unwrap_or_default().get());
    buf.get_mut(start..).and_then(|rest| rest.get_mut(..span.len().to_usize())).unwrap_or_default()
}
