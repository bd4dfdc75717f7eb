//! What the target has twice and the bases not at all: it is stored once.
//!
//! Windows come in order, so that what is found does not depend on the number of threads.

use super::gear::Anchor;
use super::matching::Matched;
use super::source::Source;
use super::table::Table;
use crate::WINDOW;
use crate::format::limits;
use crate::format::op::Op;
use disk::{Limits, ReadAt};
use ondisk::Len;
use ondisk::num::{to_u64, to_usize};
use std::collections::BTreeSet;
use std::mem::size_of;
use std::ops::Range;

/// Bytes of a repetition, at least: nearer and shorter ones are the codec's work.
const LEAST: usize = 96;

/// A run of the literal stream and where in the target it comes from.
#[derive(Clone, Copy, Debug)]
struct Origin {
    literals: u64,
    target: u64,
    len: u64,
}

/// The literal stream so far.
pub struct Again<'a> {
    table: Table,
    source: Source<'a>,
    origins: Vec<Origin>,
    /// Runs that are remembered, at most.
    most: usize,
    /// An anchor in 2^n bytes.
    sparse: u32,
    /// Literal bytes of a frame.
    frame: Len,
    /// Frames that the window at hand takes bytes from.
    frames: BTreeSet<u64>,
    /// Bytes of the stream.
    pub literals: u64,
}

impl<'a> Again<'a> {
    /// Nothing so far; the stream is cut into frames of so many bytes. Of the anchors that windows are given, those are
    /// taken that are one in 2^`sparse` bytes of the `stored` ones of the target.
    pub fn new(
        target: &'a dyn ReadAt,
        frame: Len,
        (stored, sparse): (Len, u32),
        memory: Len,
        limits: &Limits,
    ) -> disk::Result<Self> {
        let half = Len::new(memory.get() >> 1);
        let table = Table::new(stored.get().wrapping_shr(sparse), half, limits)?;
        let most = half.get().checked_div(to_u64(size_of::<Origin>())).unwrap_or_default();
        Ok(Self {
            table,
            source: Source::new(target),
            origins: Vec::new(),
            most: to_usize(most),
            sparse,
            frame,
            frames: BTreeSet::new(),
            literals: 0,
        })
    }

    /// Takes what was there before out of the literals of a window. Yields what is left of them as ranges of the window's
    /// literals.
    pub fn window(&mut self, index: u64, matched: &mut Matched) -> disk::Result<Vec<Range<usize>>> {
        let start = index.saturating_mul(WINDOW.get());
        // The frames of its own literals, were they all kept.
        self.frames = self.frames_of(self.literals, to_u64(matched.literals.len())).collect();
        let sparse = self.sparse;
        let mut anchors =
            matched.anchors.iter().copied().filter(|anchor| anchor.is_one_in(sparse)).peekable();
        let (mut kept, mut ops) = (Vec::new(), Vec::new());
        let (mut runs, mut passed) = (matched.runs.iter(), 0_usize);
        for op in &matched.ops {
            let (Op::Fresh(len), Some(run)) =
                (*op, matches!(op, Op::Fresh(_)).then(|| runs.next()).flatten())
            else {
                ops.push(*op);
                continue;
            };
            let literals = passed..passed.saturating_add(to_usize(len));
            passed = literals.end;
            let mine = std::iter::from_fn(|| {
                anchors.next_if(|anchor| to_usize(u64::from(anchor.end)) <= run.range.end)
            });
            let mine: Vec<Anchor> = mine.collect();
            let bytes = matched.literals.get(literals.clone()).unwrap_or_default();
            let target = start.saturating_add(to_u64(run.range.start));
            self.run(bytes, (run.range.start, target), &mine, &mut ops, |part| {
                kept.push(literals.start.saturating_add(part.start)..literals.start.saturating_add(part.end));
            })?;
        }
        matched.ops = ops;
        Ok(kept)
    }

    /// One run of literals, which begins at `start` in the window and at `target` in the target.
    fn run(
        &mut self,
        bytes: &[u8],
        (start, target): (usize, u64),
        anchors: &[Anchor],
        ops: &mut Vec<Op>,
        mut keep: impl FnMut(Range<usize>),
    ) -> disk::Result<()> {
        let mut done = 0_usize;
        let mut waiting = Vec::new();
        for anchor in anchors {
            let end = to_usize(u64::from(anchor.end)).saturating_sub(start);
            if end <= done {
                continue;
            }
            let Some((at, range)) = self.before(anchor.hash, bytes, done, end)? else {
                waiting.push((anchor.hash, end));
                continue;
            };
            self.keep(done..range.start, target, &mut waiting, ops, &mut keep);
            ops.push(Op::Again { at, len: to_u64(range.len()) });
            done = range.end;
        }
        self.keep(done..bytes.len(), target, &mut waiting, ops, &mut keep);
        Ok(())
    }

    /// Where in the stream the bytes around `end` are already, and which of them.
    fn before(
        &mut self,
        hash: u64,
        bytes: &[u8],
        done: usize,
        end: usize,
    ) -> disk::Result<Option<(u64, Range<usize>)>> {
        let Some(at) = self.table.find(hash) else { return Ok(None) };
        let behind = self.origins.partition_point(|origin| origin.literals < at);
        let Some(origin) = behind.checked_sub(1).and_then(|last| self.origins.get(last)).copied() else {
            return Ok(None);
        };
        let within = at.saturating_sub(origin.literals);
        if within > origin.len {
            return Ok(None);
        }
        let there = origin.target.saturating_add(within);
        let room = to_usize(within).min(end.saturating_sub(done));
        let head = bytes.get(end.saturating_sub(room)..end).unwrap_or_default();
        let back = self.source.backward(there, head)?;
        let room = to_usize(origin.len.saturating_sub(within));
        let tail = bytes.get(end..).unwrap_or_default();
        let tail = tail.get(..room.min(tail.len())).unwrap_or_default();
        let ahead = self.source.forward(there, tail)?;
        let len = back.saturating_add(ahead);
        let first = at.saturating_sub(to_u64(back));
        let found = || (first, end.saturating_sub(back)..end.saturating_add(ahead));
        Ok((len >= LEAST && self.reaches(first, to_u64(len))).then(found))
    }

    /// Whether the window may take these bytes of the stream as well: a reader decodes only so many frames for it.
    fn reaches(&mut self, at: u64, len: u64) -> bool {
        let new = self.frames_of(at, len).filter(|frame| !self.frames.contains(frame)).count();
        let fits = self.frames.len().saturating_add(new) <= limits::reach(self.frame);
        if fits {
            self.frames.extend(self.frames_of(at, len));
        }
        fits
    }

    /// The frames that have these bytes of the stream.
    fn frames_of(&self, at: u64, len: u64) -> Range<u64> {
        let number = |at: u64| at.checked_div(self.frame.get()).unwrap_or_default();
        number(at)..number(at.saturating_add(len).saturating_add(self.frame.get().saturating_sub(1)))
    }

    /// Adds literals to the stream.
    fn keep(
        &mut self,
        range: Range<usize>,
        target: u64,
        waiting: &mut Vec<(u64, usize)>,
        ops: &mut Vec<Op>,
        keep: &mut impl FnMut(Range<usize>),
    ) {
        if !range.is_empty() {
            let len = to_u64(range.len());
            let origin = target.saturating_add(to_u64(range.start));
            let inside = |(_, end): &&(u64, usize)| range.start < *end && *end <= range.end;
            let mut inside = waiting.iter().filter(inside).peekable();
            // What no anchor leads to need not be remembered.
            if inside.peek().is_some() && self.origins.len() < self.most {
                self.origins.push(Origin { literals: self.literals, target: origin, len });
                for (hash, end) in inside {
                    let within = to_u64(end.saturating_sub(range.start));
                    self.table.insert((*hash, self.literals.saturating_add(within)));
                }
            }
            self.literals = self.literals.saturating_add(len);
            ops.push(Op::Fresh(len));
            keep(range);
        }
        waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use disk::MemDisk;

    /// However many runs there are, so many are remembered; what comes later is not found, and nothing else instead.
    #[test]
    fn memory_is_bounded() {
        let bytes: Vec<u8> = (0..200_000_u64).map(|at| ondisk::num::low8((at * at) >> 7)).collect();
        let target = MemDisk::from_bytes(&bytes);
        let stored = Len::new(to_u64(bytes.len()));
        let limits = Limits::default();
        let mut again = Again::new(&target, Len::mib(4), (stored, 6), Len::kib(24), &limits).unwrap();
        let most = again.most;
        for run in 0..2 * most {
            // Each run has an anchor behind its 50th byte; between two of them lies what is not literal.
            let (at, mut waiting) = (to_u64(run) * 130, vec![(to_u64(run) << 20, 50)]);
            again.keep(0..120, at, &mut waiting, &mut Vec::new(), &mut |_| ());
        }
        assert_eq!((again.origins.len(), again.literals), (most, to_u64(most) * 240));
        let known = again.before(3 << 20, &bytes[390..510], 0, 50).unwrap();
        assert_eq!(known, Some((360, 0..120)));
        again.table.insert((5 << 10, to_u64(most) * 120 + 500));
        let unknown = again.before(5 << 10, &bytes[..120], 0, 50).unwrap();
        assert_eq!(unknown, None, "literal bytes whose place in the target is not remembered");
    }

    /// What a reader would refuse is not written.
    #[test]
    fn a_window_reaches_into_so_many_frames() {
        let target = MemDisk::from_bytes(&[]);
        let size = Len::mib(4);
        let mut again = Again::new(&target, size, (Len::ZERO, 8), Len::mib(1), &Limits::default()).unwrap();
        let (frame, reach) = (size.get(), to_u64(limits::reach(size)));
        let reached = (0..3 * reach).filter(|number| again.reaches(number * frame + 5, 100)).count();
        assert_eq!(reached, limits::reach(size));
        assert!(again.reaches(7, 100));
        again.frames.pop_first();
        assert!(!again.reaches(9 * reach * frame - 50, 100), "two frames where there is room for one");
        assert!(again.reaches(9 * reach * frame, 100));
    }
}
