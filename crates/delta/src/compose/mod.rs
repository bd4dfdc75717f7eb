//! Two patches, of which the second goes on where the first ends, become one. Neither disk is needed.
//!
//! ```text
//! first   makes B of A          copies from B ─► what the first patch makes these bytes of
//! second  makes C of B          literal bytes of both, frame by frame, as they are compressed
//! ```
//!
//! 1. What the result is made of is found out twice: to see which frames are needed, and to write it down.
//! 2. Windows keep the values that the patches give them. The result proves itself when it is applied, as ever.
//! 3. A dictionary may lie in what the first patch makes. Its bytes are then zeros, or of A, or literal.

mod frames;
mod through;

use crate::digest::{self, Leaf, window, windows};
use crate::error::{Error, Result};
use crate::format::layout::flag;
use crate::format::limits::OPS;
use crate::format::op::Op;
use crate::format::patch::{BASES, BaseFacts, Patch};
use crate::format::section::Entry;
use crate::format::writer::Writer;
use disk::{Cx, ReadAt, Total};
use frames::{Dictionaries, Frames};
use ondisk::num::to_u64;
use ondisk::{Len, Offset, Span};
use std::io::Write;
use std::ops::Range;
use through::{Through, join};

/// Windows that read as zero although the first base has something there: so many, at most.
const ZEROS: u64 = 1 << 18;
/// What the result calls the disk between, until it is known what that is made of.
const BETWEEN: usize = usize::MAX;

/// Writes the patch that makes what `second` makes of the bases of `first`, and of what else `second` needs. Yields its
/// length.
///
/// # Errors
/// Where the patches do not belong together, are damaged, or too entangled; where they cannot be read, the result not
/// be written, or the operator interrupts.
pub fn compose<A: ReadAt, B: ReadAt>(
    first: &Patch<A>,
    second: &Patch<B>,
    out: &mut (dyn Write + Send),
    cx: &Cx<'_>,
) -> Result<Len> {
    let names = Names::of(first, second)?;
    let literals = first.facts().literals.get();
    let mut through = Through::new(first, names.first.clone(), 0);
    let mut frames = Frames::of(first, second);
    let others = names.second.iter().map(|name| name.unwrap_or(BETWEEN)).collect();
    let mut work = Work { first, second, names: &names, last: Through::new(second, others, literals), cx };
    work.windows(&mut through, &mut |_, _, ops| {
        for op in ops {
            if let Op::Again { at, len } = *op {
                frames.need(first, second, at, len);
            }
        }
        Ok(())
    })?;
    let mut dictionaries = Dictionaries {
        first,
        second,
        bases: &names.first,
        others: &names.second,
        through: &mut through,
        room: Vec::new(),
    };
    frames.close(&mut dictionaries, cx)?;
    let target = second.facts().target;
    let drops = first.facts().drop_free || second.facts().drop_free;
    let flags = if drops { flag::DROP_FREE } else { 0 };
    let mut writer = Writer::begin(out, flags, target.len, &names.bases)?;
    frames.write(&mut dictionaries, &mut writer, cx)?;
    work.windows(dictionaries.through, &mut |index, leaf, ops| {
        frames.place(ops)?;
        writer.window(index, leaf, ops, 0)
    })?;
    writer.finish(target.digest)
}

/// The bases of the result, and what those of both patches are called there.
struct Names {
    bases: Vec<BaseFacts>,
    first: Vec<usize>,
    /// None is what the first patch makes.
    second: Vec<Option<usize>>,
}

impl Names {
    fn of<A: ReadAt, B: ReadAt>(first: &Patch<A>, second: &Patch<B>) -> Result<Self> {
        let made = first.facts().target;
        if !second.facts().bases.contains(&made) {
            return Err(Error::NotInARow { made });
        }
        let mut names = Self { bases: Vec::new(), first: Vec::new(), second: Vec::new() };
        for base in &second.facts().bases {
            if *base == made {
                names.first = first.facts().bases.iter().map(|base| name(&mut names.bases, base)).collect();
                names.second.push(None);
            } else {
                let known = name(&mut names.bases, base);
                names.second.push(Some(known));
            }
        }
        if to_u64(names.bases.len()) > BASES {
            return Err(Error::Entangled { what: "together they have more bases than a patch may have" });
        }
        Ok(names)
    }
}

/// The number of a base, which is added where it is new.
fn name(bases: &mut Vec<BaseFacts>, base: &BaseFacts) -> usize {
    bases.iter().position(|known| known == base).unwrap_or_else(|| {
        bases.push(*base);
        bases.len().saturating_sub(1)
    })
}

/// Takes a window of the result: its number, value and instructions.
type Tell<'a> = dyn FnMut(u64, &Leaf, &mut [Op]) -> Result<()> + 'a;

struct Work<'a, A, B> {
    first: &'a Patch<A>,
    second: &'a Patch<B>,
    names: &'a Names,
    last: Through<'a, B>,
    cx: &'a Cx<'a>,
}

impl<A: ReadAt, B: ReadAt> Work<'_, A, B> {
    /// Tells all windows of the result that need an entry, in order.
    fn windows(&mut self, through: &mut Through<'_, A>, tell: &mut Tell<'_>) -> Result<()> {
        let len = self.second.facts().target.len;
        let task = self.cx.progress.task("compose", Total::Bytes(len));
        let mut next = 0;
        for number in 0..self.second.sections() {
            for entry in self.second.section(number)?.entries() {
                self.cx.cancel.check()?;
                self.unlisted(next..entry.index, through, tell)?;
                let mut ops = self.listed(entry, through)?;
                tell(entry.index, &entry.leaf, &mut ops)?;
                let behind = entry.index.saturating_add(1);
                let done = Span::between(window(next, len).start(), window(behind, len).start());
                task.advance(done.unwrap_or_default().len().get());
                next = behind;
            }
        }
        self.unlisted(next..windows(len), through, tell)?;
        task.advance(len.end().since(window(next, len).start()).unwrap_or_default().get());
        Ok(())
    }

    /// What a window is made of that the second patch lists.
    fn listed(&mut self, entry: &Entry, through: &mut Through<'_, A>) -> Result<Vec<Op>> {
        let told = self.last.ops(entry)?;
        // The disk between is looked at in its order, so that each of its windows is looked at once.
        let between = |op: &Op| match *op {
            Op::Copy { base: BETWEEN, at, len } => Span::new(Offset::new(at), Len::new(len)),
            _ => None,
        };
        let mut copies: Vec<(usize, Span)> =
            told.iter().enumerate().filter_map(|(number, op)| Some((number, between(op)?))).collect();
        copies.sort_by_key(|(_, span)| span.start());
        through.begin();
        let mut pieces = Vec::new();
        let mut ranges = Vec::new();
        for (number, span) in copies {
            let start = pieces.len();
            through.pieces(span, &mut pieces)?;
            ranges.push((number, start..pieces.len()));
            if pieces.len() > OPS {
                return Err(Error::Entangled { what: "a window of it would be made of too many pieces" });
            }
        }
        ranges.sort_unstable_by_key(|(number, _)| *number);
        let mut ranges = ranges.into_iter().peekable();
        let mut ops = Vec::new();
        for (number, op) in told.into_iter().enumerate() {
            match ranges.next_if(|(copy, _)| *copy == number) {
                Some((_, range)) => {
                    let made = pieces.get(range).unwrap_or_default();
                    made.iter().for_each(|op| join(&mut ops, *op));
                }
                None => join(&mut ops, op),
            }
        }
        if ops.len() > OPS {
            return Err(Error::Entangled { what: "a window of it would be made of too many pieces" });
        }
        Ok(ops)
    }

    /// Windows that the second patch does not list: they are as in its first base.
    fn unlisted(&self, range: Range<u64>, through: &mut Through<'_, A>, tell: &mut Tell<'_>) -> Result<()> {
        let facts = self.second.facts();
        let Some(base) = facts.bases.first() else { return Ok(()) };
        for index in edges(&range, base.len, facts.target.len) {
            whole(index, base.len, facts.target.len)?;
        }
        if self.names.second.first() != Some(&None) {
            return Ok(());
        }
        let inside = range.start..range.end.min(windows(base.len));
        let mut next = range.start;
        let from = self.first.section_of(range.start).unwrap_or_default();
        for number in from..self.first.sections() {
            let all = through.list(number)?.entries();
            if all.first().is_none_or(|entry| entry.index >= inside.end) {
                break;
            }
            let place = |index: u64| all.partition_point(|entry| entry.index < index);
            let entries = all.get(place(inside.start)..place(inside.end)).unwrap_or_default().to_vec();
            for entry in &entries {
                self.cx.cancel.check()?;
                self.as_before(next..entry.index, tell)?;
                let mut ops = Vec::new();
                through.ops(entry)?.into_iter().for_each(|op| join(&mut ops, op));
                tell(entry.index, &entry.leaf, &mut ops)?;
                next = entry.index.saturating_add(1);
            }
        }
        self.as_before(next..range.end, tell)
    }

    /// Windows that neither patch lists: they are as in the first base of the first patch, which is that of the result,
    /// or zero.
    fn as_before(&self, range: Range<u64>, tell: &mut Tell<'_>) -> Result<()> {
        let (made, len) = (self.first.facts().target.len, self.second.facts().target.len);
        let own = self.first.facts().bases.first().map_or(Len::ZERO, |base| base.len);
        for index in edges(&range, own, made).filter(|index| *index < windows(made)) {
            whole(index, own, made)?;
        }
        // Behind what the first patch knows of it there are zeros, whatever the base of the result has there.
        let known = own.min(made);
        let there = self.names.bases.first().map_or(Len::ZERO, |base| base.len);
        let zeros = range.start.max(windows(known))..range.end.min(windows(there));
        if zeros.end.saturating_sub(zeros.start) > ZEROS {
            return Err(Error::Entangled { what: "too much of it would be zero where its base is not" });
        }
        for index in zeros {
            self.cx.cancel.check()?;
            let span = window(index, len);
            let bytes = self.cx.limits.buffer("a window", span.len())?;
            let leaf = digest::leaf(index, len, &bytes);
            tell(index, &leaf, &mut [Op::Zero(span.len().get())])?;
        }
        Ok(())
    }
}

/// The windows of a range in which disks of these lengths may differ in more than their bytes.
fn edges(range: &Range<u64>, a: Len, b: Len) -> impl Iterator<Item = u64> {
    let last = |len: Len| windows(len).saturating_sub(1);
    let range = range.clone();
    [0, last(a), last(b)].into_iter().filter(move |index| range.contains(index))
}

/// Whether a window that has no entry may have none: the base has it whole, or nothing of it.
fn whole(index: u64, base: Len, len: Len) -> Result<()> {
    let span = window(index, len);
    let none = span.start() >= base.end();
    let alone = (windows(base) <= 1) == (windows(len) <= 1);
    if none || (alone && window(index, base) == span) {
        return Ok(());
    }
    let why = "is not listed, although the first base has only a part of it";
    Err(Error::damaged("the window", span.start(), why))
}
