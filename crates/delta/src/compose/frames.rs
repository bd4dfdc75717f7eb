//! Literal bytes of two patches on their way into one.
//!
//! The stream of the second patch is thought of behind that of the first; so are its frames. Those that are still needed
//! keep their order, so that what was one run of bytes stays one.

use super::through::{Through, join};
use crate::error::{Error, Result};
use crate::format::frame::{Like, PARTS, Part};
use crate::format::limits::{DEPTH, WORK, own_work};
use crate::format::op::Op;
use crate::format::patch::Patch;
use crate::format::writer::Writer;
use disk::{Cx, ReadAt};
use ondisk::num::to_u64;
use ondisk::{Len, Offset, Span};
use std::collections::BTreeSet;
use std::ops::Range;

/// A frame of the result.
#[derive(Clone, Copy)]
struct Made {
    /// Where its bytes were among those of both patches.
    before: u64,
    /// Where they are now.
    now: u64,
    work: u64,
    depth: u32,
}

/// The frames of both patches.
pub struct Frames {
    needed: Vec<bool>,
    /// How many belong to the first patch.
    first: usize,
    /// Bytes of its stream.
    literals: u64,
    made: Vec<Made>,
}

impl Frames {
    /// None is needed yet.
    pub fn of<A: ReadAt, B: ReadAt>(first: &Patch<A>, second: &Patch<B>) -> Self {
        let all = first.frames().saturating_add(second.frames());
        let literals = first.facts().literals.get();
        Self { needed: vec![false; all], first: first.frames(), literals, made: Vec::new() }
    }

    /// Literal bytes are needed.
    pub fn need<A: ReadAt, B: ReadAt>(&mut self, first: &Patch<A>, second: &Patch<B>, at: u64, len: u64) {
        if len == 0 {
            return;
        }
        let (numbers, offset) = match at.checked_sub(self.literals) {
            Some(at) => (second.frames_in(span(at, len)), self.first),
            None => (first.frames_in(span(at, len)), 0),
        };
        for number in numbers {
            if let Some(needed) = self.needed.get_mut(number.saturating_add(offset)) {
                *needed = true;
            }
        }
    }

    /// What the dictionaries of needed frames name is needed, too. They name what comes before.
    pub fn close<A: ReadAt, B: ReadAt>(
        &mut self,
        work: &mut Dictionaries<'_, A, B>,
        cx: &Cx<'_>,
    ) -> Result<()> {
        for number in (0..self.needed.len()).rev() {
            cx.cancel.check()?;
            if self.needed.get(number) == Some(&true) {
                for part in work.read(number, self.first, |_, _| Ok(Vec::new()))?.0 {
                    if let Op::Again { at, len } = part {
                        self.need(work.first, work.second, at, len);
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes the frames that are needed.
    pub fn write<A: ReadAt, B: ReadAt>(
        &mut self,
        work: &mut Dictionaries<'_, A, B>,
        writer: &mut Writer<'_>,
        cx: &Cx<'_>,
    ) -> Result<()> {
        let mut now = 0_u64;
        for number in 0..self.needed.len() {
            cx.cancel.check()?;
            if self.needed.get(number) != Some(&true) {
                continue;
            }
            let (before, len) = match number.checked_sub(self.first) {
                Some(number) => {
                    let frame = work.second.frame_at(number)?;
                    (self.literals.saturating_add(frame.literals.start().get()), frame.literals.len())
                }
                None => {
                    let frame = work.first.frame_at(number)?;
                    (frame.literals.start().get(), frame.literals.len())
                }
            };
            let mut needs = (0, 0);
            let (_, record) = work.read(number, self.first, |ops, len| {
                let (parts, needed) = self.dictionary(ops, len)?;
                needs = needed;
                Ok(parts)
            })?;
            writer.frame_upon(&record, len.to_usize(), needs)?;
            self.made.push(Made { before, now, work: needs.0, depth: needs.1 });
            now = now.saturating_add(len.get());
        }
        Ok(())
    }

    /// The dictionary of a frame of `len` bytes, as it is told in the result; what must be decoded for the frame, and how
    /// many dictionaries name each other.
    fn dictionary(&self, ops: &[Op], len: Len) -> Result<(Vec<Part>, (u64, u32))> {
        let (mut parts, mut named) = (Vec::new(), BTreeSet::new());
        for op in ops.iter().filter(|op| op.len() > 0) {
            parts.push(match *op {
                Op::Zero(len) | Op::Fresh(len) => Part::Zero(Len::new(len)),
                Op::Copy { base, at, len } => Part::Base(Like { base, span: span(at, len) }),
                Op::Again { at, len } => {
                    named.extend(self.made_in(at, len));
                    Part::Stream(span(self.now(at), len))
                }
            });
        }
        let (mut work, mut depth) = (own_work(len.get()), 0);
        for made in named.into_iter().filter_map(|number| self.made.get(number)) {
            work = work.saturating_add(made.work);
            depth = depth.max(made.depth.saturating_add(1));
        }
        if work > WORK || depth > DEPTH || to_u64(parts.len()) > PARTS {
            return Err(Error::Entangled { what: "its dictionaries would need too much of each other" });
        }
        Ok((parts, (work, depth)))
    }

    /// Moves the literal bytes of a window to where they are now. A reader decodes only so much for it.
    pub fn place(&self, ops: &mut [Op]) -> Result<()> {
        let mut named = BTreeSet::new();
        for op in ops {
            if let Op::Again { at, len } = op {
                named.extend(self.made_in(*at, *len));
                *at = self.now(*at);
            }
        }
        let made = named.into_iter().filter_map(|number| self.made.get(number));
        let work = made.fold(0_u64, |work, made| work.saturating_add(made.work));
        if work > WORK {
            return Err(Error::Entangled { what: "a window of it would need too many literal bytes" });
        }
        Ok(())
    }

    /// The frames of the result that have these bytes.
    fn made_in(&self, at: u64, len: u64) -> Range<usize> {
        let behind = self.made.partition_point(|made| made.before < at.saturating_add(len));
        self.made_of(at)..behind
    }

    /// The frame of the result that has a byte.
    fn made_of(&self, at: u64) -> usize {
        self.made.partition_point(|made| made.before <= at).saturating_sub(1)
    }

    /// Where a byte is in the result.
    fn now(&self, at: u64) -> u64 {
        let made = self.made.get(self.made_of(at));
        made.map_or(0, |made| at.saturating_sub(made.before).saturating_add(made.now))
    }
}

/// The dictionaries of both patches.
pub struct Dictionaries<'a, A, B> {
    pub first: &'a Patch<A>,
    pub second: &'a Patch<B>,
    /// What the bases of the first patch are called in the result.
    pub bases: &'a [usize],
    /// What those of the second one are called; none is what the first one makes.
    pub others: &'a [Option<usize>],
    pub through: &'a mut Through<'a, A>,
    /// For a record.
    pub room: Vec<u8>,
}

impl<A: ReadAt, B: ReadAt> Dictionaries<'_, A, B> {
    /// Reads frame `number` of both patches, of which `first` belong to the first one: what its dictionary is made of,
    /// and its record with the dictionary that `told` makes of this.
    fn read(
        &mut self,
        number: usize,
        first: usize,
        told: impl FnOnce(&[Op], Len) -> Result<Vec<Part>>,
    ) -> Result<(Vec<Op>, Vec<u8>)> {
        let (bases, literals) = (self.bases, self.first.facts().literals.get());
        let Some(number) = number.checked_sub(first) else {
            return self.first.frame_record(number, &mut self.room, |at, record| {
                let mut ops = Vec::new();
                for part in &record.dictionary {
                    join(&mut ops, op_of(*part, 0, |base| bases.get(base).copied()).unwrap_or(Op::Zero(0)));
                }
                let parts = told(&ops, at.literals.len())?;
                Ok((ops, record.with(&parts)))
            });
        };
        let (others, through) = (self.others, &mut *self.through);
        self.second.frame_record(number, &mut self.room, |at, record| {
            through.begin();
            let ops = mapped(&record.dictionary, literals, others, through)?;
            let parts = told(&ops, at.literals.len())?;
            Ok((ops, record.with(&parts)))
        })
    }
}

/// A dictionary of the second patch, as what is known without the disk between.
fn mapped<A: ReadAt>(
    dictionary: &[Part],
    literals: u64,
    others: &[Option<usize>],
    through: &mut Through<'_, A>,
) -> Result<Vec<Op>> {
    let (mut ops, mut pieces) = (Vec::new(), Vec::new());
    for part in dictionary {
        pieces.clear();
        match (op_of(*part, literals, |base| others.get(base).copied().flatten()), *part) {
            (Some(op), _) => pieces.push(op),
            (None, Part::Base(like)) => through.pieces(like.span, &mut pieces)?,
            (None, _) => {}
        }
        pieces.iter().for_each(|op| join(&mut ops, *op));
    }
    Ok(ops)
}

/// A part of a dictionary as an instruction; none for a base without a name.
fn op_of(part: Part, literals: u64, base: impl FnOnce(usize) -> Option<usize>) -> Option<Op> {
    Some(match part {
        Part::Zero(len) => Op::Zero(len.get()),
        Part::Stream(span) => {
            Op::Again { at: literals.saturating_add(span.start().get()), len: span.len().get() }
        }
        Part::Base(like) => {
            Op::Copy { base: base(like.base)?, at: like.span.start().get(), len: like.span.len().get() }
        }
    })
}

fn span(at: u64, len: u64) -> Span {
    Span::new(Offset::new(at), Len::new(len)).unwrap_or_default()
}
