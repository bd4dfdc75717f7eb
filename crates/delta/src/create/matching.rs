//! One window of the target, compared with the bases.
//!
//! 1. What is the same at the same place of the first base.
//! 2. Zeros.
//! 3. In what remains, anchors that the bases have as well: each is compared in both directions as far as it goes.
//! 4. What remains then is literal. Beside it the bases have what it was changed from: its dictionary.

use super::gear::{self, Anchor, CONTEXT};
use super::index::Index;
use super::same;
use super::source::Source;
use crate::digest::{self, Leaf, Leaves, WINDOW, window};
use crate::format::frame::Like;
use crate::format::op::Op;
use disk::{Limits, ReadAt};
use ondisk::num::{low32, to_u64, to_usize};
use ondisk::{Len, Offset, Span};
use std::ops::Range;

/// Anchors that are looked up together.
const BATCH: usize = 16;
/// Bytes of a copy, at least: about what an instruction costs beside compressed literals.
const LEAST: usize = 32;
/// Bytes of a run of zeros, at least: shorter ones cost nothing where they are.
const ZEROS: usize = 512;
/// A dictionary takes more bytes than the literals that it is for: so many and twice as many as these, and at most.
const LEAST_SLACK: u64 = 64;
const SLACK: u64 = 1024;
/// So much of a dictionary for one run of literals, at most.
const LIKE: u64 = 1 << 20;

/// A run of literals.
#[derive(Clone, Debug)]
pub struct Run {
    /// Where in the window.
    pub range: Range<usize>,
    /// What it may have been changed from.
    pub like: Option<Like>,
}

/// What was found out about a window.
pub struct Matched {
    /// Its value.
    pub leaf: Leaf,
    /// Whether it is as in the first base, or zero behind its end.
    pub unchanged: bool,
    /// Its instructions; literals are all fresh.
    pub ops: Vec<Op>,
    /// Its literals, one behind the other.
    pub literals: Vec<u8>,
    /// Where they come from, in order.
    pub runs: Vec<Run>,
    /// Anchors in them; positions count in the window.
    pub anchors: Vec<Anchor>,
}

/// What a thread needs to compare windows.
pub struct Matcher<'a> {
    target: &'a dyn ReadAt,
    index: &'a Index,
    bases: &'a [&'a dyn ReadAt],
    first: Option<&'a Leaves>,
    sources: Vec<Source<'a>>,
    buffers: Buffers,
    limits: Limits,
}

/// A window of the target, and of the first base.
#[derive(Default)]
struct Buffers {
    bytes: Vec<u8>,
    old: Vec<u8>,
}

impl Buffers {
    /// Room in one of them.
    fn room<'b>(buffer: &'b mut Vec<u8>, len: Len, limits: &Limits) -> disk::Result<&'b mut [u8]> {
        if buffer.is_empty() {
            *buffer = limits.buffer("a window", WINDOW)?;
        }
        Ok(buffer.get_mut(..len.to_usize()).unwrap_or_default())
    }
}

impl<'a> Matcher<'a> {
    /// Nothing is read yet.
    pub fn new(
        target: &'a dyn ReadAt,
        index: &'a Index,
        bases: &'a [&'a dyn ReadAt],
        first: Option<&'a Leaves>,
        limits: Limits,
    ) -> Self {
        let sources = bases.iter().map(|base| Source::new(*base)).collect();
        Self { target, index, bases, first, sources, buffers: Buffers::default(), limits }
    }

    /// Compares window `index`.
    pub fn window(&mut self, index: u64) -> disk::Result<Matched> {
        let span = window(index, self.target.len());
        let known = self.first.and_then(|first| first.as_part_of(index, self.target.len()));
        let there = self.bases.first().and_then(|base| span.intersect(Span::whole(base.len())));
        let there = there.unwrap_or_default();
        if let Some(leaf) = known.filter(|_| self.both_zero(span).unwrap_or(false)) {
            return Ok(Matched::nothing(leaf));
        }
        let mut buffers = std::mem::take(&mut self.buffers);
        let made = self.look(index, known, (span, there), &mut buffers);
        self.buffers = buffers;
        made
    }

    /// Compares window `index`, which has the value that is `known` if it is unchanged, and of which the first base has
    /// the part that is `there`.
    fn look(
        &mut self,
        index: u64,
        known: Option<Leaf>,
        (span, there): (Span, Span),
        buffers: &mut Buffers,
    ) -> disk::Result<Matched> {
        let bytes = Buffers::room(&mut buffers.bytes, span.len(), &self.limits)?;
        digest::fill(self.target, span, bytes)?;
        let leaf = digest::leaf(index, self.target.len(), bytes);
        // What has not changed is told by its value: the base need not be read.
        if known == Some(leaf) {
            return Ok(Matched::nothing(leaf));
        }
        let old = Buffers::room(&mut buffers.old, there.len(), &self.limits)?;
        if let Some(base) = self.bases.first() {
            digest::fill(*base, there, old)?;
        }
        let (bytes, old) = (&*bytes, &*old);
        let unchanged = bytes.get(..old.len()).is_some_and(|head| head == old)
            && bytes.get(old.len()..).unwrap_or_default().iter().all(|byte| *byte == 0);
        match (unchanged, there.is_empty()) {
            (true, true) => Ok(Matched::nothing(leaf)),
            (true, false) => Ok(Matched::part(leaf, span, there)),
            _ => self.compare((index, leaf), bytes, old),
        }
    }

    fn both_zero(&self, span: Span) -> disk::Result<bool> {
        let Some(base) = self.bases.first() else { return Ok(false) };
        Ok(self.target.extents(span)?.all_zero() && base.extents(span)?.all_zero())
    }

    fn compare(&mut self, (index, leaf): (u64, Leaf), bytes: &[u8], old: &[u8]) -> disk::Result<Matched> {
        let start = index.saturating_mul(WINDOW.get());
        let mut parts: Vec<(Range<usize>, Part)> = Vec::new();
        let mut same = same::runs(bytes, old, LEAST);
        // Zeros by chance among those of the target, where a block was cleared that the base still has.
        let cleared = same::zeros(bytes, ZEROS);
        same.retain(|run| {
            let at = cleared.partition_point(|zeros| zeros.end < run.end);
            let within = |zeros: &Range<usize>| zeros.start <= run.start && zeros.len() > run.len();
            !cleared.get(at).is_some_and(within)
        });
        let here = |run: &Range<usize>| {
            let at = start.saturating_add(to_u64(run.start));
            (run.clone(), Part::Copy { base: 0, at })
        };
        parts.extend(same.iter().map(here));
        let mut anchors = Vec::new();
        for gap in same::gaps(&same, bytes.len()) {
            let inner = bytes.get(gap.clone()).unwrap_or_default();
            let zeros = same::zeros(inner, ZEROS);
            let moved =
                |run: &Range<usize>| gap.start.saturating_add(run.start)..gap.start.saturating_add(run.end);
            parts.extend(zeros.iter().map(|run| (moved(run), Part::Zero)));
            for rest in same::gaps(&zeros, inner.len()) {
                self.search(bytes, moved(&rest), &mut parts, &mut anchors)?;
            }
        }
        parts.sort_unstable_by_key(|(range, _)| range.start);
        Ok(self.assemble(leaf, bytes, &parts, &anchors))
    }

    /// Looks for what lies in `gap` in the bases, wherever they have it.
    fn search(
        &mut self,
        bytes: &[u8],
        gap: Range<usize>,
        parts: &mut Vec<(Range<usize>, Part)>,
        anchors: &mut Vec<Anchor>,
    ) -> disk::Result<()> {
        let first = anchors.len();
        let inner = bytes.get(gap.clone()).unwrap_or_default();
        let tell = |anchor| anchors.push(anchor);
        gear::anchors(inner, low32(to_u64(gap.start)), self.index.sparse(), tell);
        let mut done = gap.start;
        let end = |anchor: &Anchor| to_usize(u64::from(anchor.end));
        for batch in anchors.get(first..).unwrap_or_default().chunks(BATCH) {
            if batch.last().is_some_and(|last| end(last) > done) {
                let mut hashes = [0; BATCH];
                hashes.iter_mut().zip(batch).for_each(|(hash, anchor)| *hash = anchor.hash);
                let found = self.index.find_all(hashes);
                for (anchor, position) in batch.iter().zip(found) {
                    done = self.extend(bytes, done..gap.end, end(anchor), position, parts)?;
                }
            }
        }
        Ok(())
    }

    /// Compares what lies around `end`, within `room`, with a place that may be the same. Yields where the rest begins.
    fn extend(
        &mut self,
        bytes: &[u8],
        room: Range<usize>,
        end: usize,
        position: u64,
        parts: &mut Vec<(Range<usize>, Part)>,
    ) -> disk::Result<usize> {
        let done = room.start;
        let Some((base, at)) = self.index.place(position).filter(|_| end > done) else { return Ok(done) };
        let Some(source) = self.sources.get_mut(base) else { return Ok(done) };
        let back = source.backward(at, bytes.get(done..end).unwrap_or_default())?;
        // Most often it is another one with the same tag.
        if back < CONTEXT.min(end.saturating_sub(done)) {
            return Ok(done);
        }
        let ahead = source.forward(at, bytes.get(end..room.end).unwrap_or_default())?;
        if back.saturating_add(ahead) < LEAST {
            return Ok(done);
        }
        let (at, behind) = (at.saturating_sub(to_u64(back)), end.saturating_add(ahead));
        parts.push((end.saturating_sub(back)..behind, Part::Copy { base, at }));
        Ok(behind)
    }

    /// Instructions for `parts`, in order, and for what lies between them.
    fn assemble(
        &self,
        leaf: Leaf,
        bytes: &[u8],
        parts: &[(Range<usize>, Part)],
        anchors: &[Anchor],
    ) -> Matched {
        let mut made = Matched::nothing(leaf);
        made.unchanged = false;
        let (mut at, mut before) = (0, None);
        let end = bytes.len();
        for (range, part) in parts.iter().chain([&(end..end, Part::Zero)]) {
            if at < range.start {
                let run = at..range.start;
                let like = self.like(&run, before, *part);
                made.ops.push(Op::Fresh(to_u64(run.len())));
                made.literals.extend(bytes.get(run.clone()).unwrap_or_default());
                made.runs.push(Run { range: run, like });
            }
            let len = to_u64(range.len());
            match *part {
                _ if len == 0 => {}
                Part::Zero => made.ops.push(Op::Zero(len)),
                Part::Copy { base, at } => made.ops.push(Op::Copy { base, at, len }),
            }
            before = Some((*part, len));
            at = range.end;
        }
        made.anchors = within(anchors, &made.runs);
        made
    }

    /// What the bases have beside the copies around a run of literals.
    fn like(&self, run: &Range<usize>, before: Option<(Part, u64)>, behind: Part) -> Option<Like> {
        let len = to_u64(run.len());
        let slack = len.saturating_mul(2).saturating_add(LEAST_SLACK).min(SLACK);
        let want = len.saturating_add(slack).min(LIKE);
        let (base, start) = match (before, behind) {
            (Some((Part::Copy { base, at }, len)), _) => (base, at.saturating_add(len)),
            (_, Part::Copy { base, at }) => (base, at.saturating_sub(want)),
            _ => return None,
        };
        let end = start.saturating_add(want).min(self.bases.get(base)?.len().get());
        let span = Span::between(Offset::new(start), Offset::new(end))?;
        (!span.is_empty()).then_some(Like { base, span })
    }
}

/// What a part of a window is.
#[derive(Clone, Copy, Debug)]
enum Part {
    Zero,
    Copy { base: usize, at: u64 },
}

impl Matched {
    /// Of a window of which the first base has only a part. Its value follows from no other, so it is listed.
    fn part(leaf: Leaf, span: Span, there: Span) -> Self {
        let copy = Op::Copy { base: 0, at: there.start().get(), len: there.len().get() };
        let zeros = Op::Zero(span.len().saturating_sub(there.len()).get());
        let ops = [copy, zeros].into_iter().filter(|op| op.len() > 0).collect();
        Self { unchanged: false, ops, ..Self::nothing(leaf) }
    }

    /// Of an unchanged window.
    pub const fn nothing(leaf: Leaf) -> Self {
        Self {
            leaf,
            unchanged: true,
            ops: Vec::new(),
            literals: Vec::new(),
            runs: Vec::new(),
            anchors: Vec::new(),
        }
    }
}

/// The anchors whose bytes lie in one run of literals.
fn within(anchors: &[Anchor], runs: &[Run]) -> Vec<Anchor> {
    let mut runs = runs.iter().map(|run| &run.range).peekable();
    let inside = |anchor: &&Anchor| {
        let end = to_usize(u64::from(anchor.end));
        while runs.next_if(|run| run.end < end).is_some() {}
        runs.peek().is_some_and(|run| end.saturating_sub(run.start) >= CONTEXT && run.start < end)
    };
    anchors.iter().filter(inside).copied().collect()
}
