//! What a patch makes, piece by piece.

use crate::digest::{WINDOW, window};
use crate::error::{Error, Result};
use crate::format::op::Op;
use crate::format::patch::Patch;
use crate::format::section::{Entry, Section};
use crate::patched::pieces;
use disk::ReadAt;
use ondisk::num::to_u64;
use ondisk::{Offset, Span};

/// Instructions of the first patch that are looked at for one window of the result, at most.
const LOOKED: u64 = 1 << 26;

/// A patch, and what its bases are called in the result.
pub struct Through<'a, D> {
    patch: &'a Patch<D>,
    bases: Vec<usize>,
    /// Where its literal stream begins among those of both patches.
    literals: u64,
    list: Option<(usize, Section)>,
    /// A window, and where each of its instructions begins on the disk.
    window: Option<(u64, Vec<(u64, Op)>)>,
    looked: u64,
}

impl<'a, D: ReadAt> Through<'a, D> {
    /// Nothing is looked at yet.
    pub const fn new(patch: &'a Patch<D>, bases: Vec<usize>, literals: u64) -> Self {
        Self { patch, bases, literals, list: None, window: None, looked: 0 }
    }

    /// Begins with another window of the result.
    pub const fn begin(&mut self) {
        self.looked = 0;
    }

    /// The list that has window `index`, and which of its entries that is.
    pub fn entry(&mut self, index: u64) -> Result<Option<Entry>> {
        let Some(number) = self.patch.section_of(index) else { return Ok(None) };
        let entries = self.list(number)?.entries();
        let found = entries.binary_search_by_key(&index, |entry| entry.index).ok();
        Ok(found.and_then(|at| entries.get(at)).cloned())
    }

    /// A list.
    pub fn list(&mut self, number: usize) -> Result<&Section> {
        let kept = self.list.take().filter(|(kept, _)| *kept == number);
        let list = match kept {
            Some((_, list)) => list,
            None => self.patch.section(number)?,
        };
        Ok(&self.list.insert((number, list)).1)
    }

    /// What a window that has an entry is made of. Fresh bytes have their place in the literal stream as well, and bases
    /// are called as in the result.
    pub fn ops(&mut self, entry: &Entry) -> Result<Vec<Op>> {
        let Some(number) = self.patch.section_of(entry.index) else { return Ok(Vec::new()) };
        let bounds = self.patch.bounds();
        let ops = self.list(number)?.ops(entry, &bounds);
        let place = window(entry.index, WINDOW).start();
        let mut ops = ops.map_err(|why| Error::damaged("the window", place, why))?;
        let mut fresh = entry.literals;
        for op in &mut ops {
            *op = match *op {
                Op::Fresh(len) => {
                    let at = self.literals.saturating_add(fresh);
                    fresh = fresh.saturating_add(len);
                    Op::Again { at, len }
                }
                Op::Again { at, len } => Op::Again { at: self.literals.saturating_add(at), len },
                Op::Copy { base, at, len } => {
                    let base = self.bases.get(base).copied().unwrap_or_default();
                    Op::Copy { base, at, len }
                }
                Op::Zero(_) => *op,
            };
        }
        Ok(ops)
    }

    /// What `span` of the disk that it makes is made of, in order.
    pub fn pieces(&mut self, span: Span, out: &mut Vec<Op>) -> Result<()> {
        for part in pieces(span) {
            let index = part.start().get().checked_div(WINDOW.get()).unwrap_or_default();
            let first = out.len();
            self.load(index)?;
            let ops = self.window.as_ref().map(|(_, ops)| ops.as_slice()).unwrap_or_default();
            let begin = ops.partition_point(|(start, _)| *start <= part.start().get()).saturating_sub(1);
            for (start, op) in ops.get(begin..).unwrap_or_default() {
                let whole = Span::new(Offset::new(*start), ondisk::Len::new(op.len())).unwrap_or_default();
                let Some(inside) = whole.intersect(part) else { break };
                let skip = inside.start().get().saturating_sub(*start);
                out.push(cut(*op, skip, inside.len().get()));
            }
            let made = out.get(first..).unwrap_or_default().iter().map(|op| op.len()).sum::<u64>();
            if made != part.len().get() {
                return Err(Error::damaged("the window", part.start(), "lies behind the end of the disk"));
            }
        }
        Ok(())
    }

    /// Makes window `index` the one that is looked at.
    fn load(&mut self, index: u64) -> Result<()> {
        if self.window.as_ref().is_some_and(|(kept, _)| *kept == index) {
            return Ok(());
        }
        let ops = match self.entry(index)? {
            Some(entry) => self.ops(&entry)?,
            None => vec![self.unlisted(index)?],
        };
        self.looked = self.looked.saturating_add(to_u64(ops.len()));
        if self.looked > LOOKED {
            return Err(Error::Entangled { what: "a window of it would be made of too many pieces" });
        }
        let mut at = window(index, self.patch.facts().target.len).start().get();
        let placed = ops.into_iter().map(|op| {
            let start = at;
            at = at.saturating_add(op.len());
            (start, op)
        });
        self.window = Some((index, placed.collect()));
        Ok(())
    }

    /// What a window is that has no entry.
    fn unlisted(&self, index: u64) -> Result<Op> {
        let facts = self.patch.facts();
        let span = window(index, facts.target.len);
        let Some(first) = facts.bases.first().filter(|first| span.start() < first.len.end()) else {
            return Ok(Op::Zero(span.len().get()));
        };
        super::whole(index, first.len, facts.target.len)?;
        let base = self.bases.first().copied().unwrap_or_default();
        Ok(Op::Copy { base, at: span.start().get(), len: span.len().get() })
    }
}

/// A part of what an instruction makes.
fn cut(op: Op, skip: u64, len: u64) -> Op {
    match op {
        Op::Zero(_) => Op::Zero(len),
        Op::Fresh(_) => Op::Fresh(len),
        Op::Copy { base, at, .. } => Op::Copy { base, at: at.saturating_add(skip), len },
        Op::Again { at, .. } => Op::Again { at: at.saturating_add(skip), len },
    }
}

/// Adds an instruction, to the last one where it goes on.
pub fn join(ops: &mut Vec<Op>, op: Op) {
    let joined = match (ops.last().copied(), op) {
        (Some(Op::Zero(before)), Op::Zero(len)) => Some(Op::Zero(before.saturating_add(len))),
        (Some(Op::Copy { base, at, len }), Op::Copy { base: same, at: next, len: more })
            if base == same && at.saturating_add(len) == next =>
        {
            Some(Op::Copy { base, at, len: len.saturating_add(more) })
        }
        (Some(Op::Again { at, len }), Op::Again { at: next, len: more })
            if at.saturating_add(len) == next =>
        {
            Some(Op::Again { at, len: len.saturating_add(more) })
        }
        _ => None,
    };
    match (joined, ops.last_mut()) {
        (Some(joined), Some(last)) => *last = joined,
        _ => ops.push(op),
    }
}
