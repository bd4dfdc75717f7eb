//! Making one window of its instructions.
//!
//! 1. Each frame is asked for once, however many instructions take bytes from it, and copies are read in the order of
//!    the bases: what a window costs is bounded by [`limits`], whatever a patch says.
//! 2. The bytes are compared with the window's value.

use super::spared::{Spared, Wants};
use super::{Patched, SPARED};
use crate::digest::{self, WINDOW, window};
use crate::error::{Error, Result};
use crate::format::gather::{Piece, gather};
use crate::format::limits;
use crate::format::op::Op;
use crate::format::section::{Entry, Section};
use crate::pool::Buf;
use disk::ReadAt;
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset, Span};
use std::ops::Range;

/// What a window is made of, in the order in which it is fetched.
#[derive(Default)]
struct Pieces {
    zeros: Vec<Range<usize>>,
    literals: Vec<Piece>,
    copies: Vec<Piece>,
    /// The frames that have its fresh bytes.
    own: Range<usize>,
}

impl<D: ReadAt, B: ReadAt> Patched<D, B> {
    /// Makes a window that has an entry.
    pub(super) fn make(&self, section: &Section, entry: &Entry) -> Result<Buf> {
        let len = self.patch.facts().target.len;
        let span = window(entry.index, len);
        let spared = self.spared();
        let mut bytes = self.made.sized("a window", span.len(), &self.limits)?;
        let pieces = self.pieces(self.ops(section, entry)?, entry)?;
        pieces.zeros.into_iter().for_each(|zeros| part_of(&mut bytes, zeros).fill(0));
        gather(&self.bases, &pieces.copies, &mut bytes)?;
        self.take_literals(pieces.literals, (entry, pieces.own), spared, &mut bytes)?;
        if digest::leaf(entry.index, len, &bytes) != entry.leaf {
            return Err(Error::WrongResult { at: span.start() });
        }
        Ok(bytes)
    }

    fn pieces(&self, ops: Vec<Op>, entry: &Entry) -> Result<Pieces> {
        let mut pieces = Pieces::default();
        let (mut start, mut literals) = (0_usize, entry.literals);
        for op in ops {
            let target = start..start.saturating_add(to_usize(op.len()));
            start = target.end;
            match op {
                Op::Zero(_) => pieces.zeros.push(target),
                Op::Copy { base, at, .. } => pieces.copies.push(Piece { source: base, at, target }),
                Op::Fresh(len) => {
                    self.split(literals, target, entry, &mut pieces.literals)?;
                    literals = literals.saturating_add(len);
                }
                Op::Again { at, .. } => self.split(at, target, entry, &mut pieces.literals)?,
            }
        }
        pieces.own = self.own(entry, literals.saturating_sub(entry.literals));
        pieces.literals.sort_unstable_by_key(|piece| (piece.source, piece.at));
        pieces.copies.sort_unstable_by_key(|piece| (piece.source, piece.at));
        Ok(pieces)
    }

    /// The frames that have the fresh bytes of a window, so many of them.
    fn own(&self, entry: &Entry, fresh: u64) -> Range<usize> {
        let fresh = Span::new(Offset::new(entry.literals), Len::new(fresh)).unwrap_or_default();
        if fresh.is_empty() { 0..0 } else { self.patch.frames_in(fresh) }
    }

    /// What windows take from frames of which they have no fresh bytes.
    pub(super) fn wants(&self) -> Result<Wants> {
        let room = self.limits.memory.get().checked_div(SPARED).unwrap_or_default();
        let mut wants = Wants::new(Len::new(room));
        for number in 0..self.patch.sections() {
            let section = self.patch.section(number)?;
            for entry in section.entries() {
                let (mut again, mut fresh) = (Vec::new(), 0_u64);
                for op in self.ops(&section, entry)? {
                    match op {
                        Op::Again { at, len } => again.push((at, len)),
                        Op::Fresh(len) => fresh = fresh.saturating_add(len),
                        Op::Zero(_) | Op::Copy { .. } => {}
                    }
                }
                let own = self.own(entry, fresh);
                let mut pieces = Vec::new();
                for (at, len) in again {
                    self.split(at, 0..to_usize(len), entry, &mut pieces)?;
                }
                pieces.retain(|piece| !own.contains(&piece.source));
                pieces.sort_unstable_by_key(|piece| (piece.source, piece.at));
                for same in pieces.chunk_by(|a, b| a.source == b.source) {
                    if let Some(first) = same.first() {
                        wants.add(first.source, same.iter().map(Piece::span).collect());
                    }
                }
            }
        }
        Ok(wants)
    }

    /// Bytes of the literal stream, frame by frame.
    fn split(&self, mut at: u64, target: Range<usize>, entry: &Entry, into: &mut Vec<Piece>) -> Result<()> {
        let mut start = target.start;
        while start < target.end {
            let missing = || Error::damaged("the trailer", Offset::ZERO, "lacks a frame");
            let source = self.patch.frame_of(at).ok_or_else(missing)?;
            let there = self.patch.frame_at(source)?.literals.end().get().saturating_sub(at);
            let end = start.saturating_add(to_usize(there)).min(target.end);
            if end == start {
                return Err(missing());
            }
            if into.len() >= limits::OPS {
                return Err(too_much(entry));
            }
            into.push(Piece { source, at, target: start..end });
            at = at.saturating_add(to_u64(end.saturating_sub(start)));
            start = end;
        }
        Ok(())
    }

    /// Fetches the literal bytes, each frame once.
    fn take_literals(
        &self,
        pieces: Vec<Piece>,
        (entry, own): (&Entry, Range<usize>),
        spared: Option<&Spared>,
        bytes: &mut [u8],
    ) -> Result<()> {
        let frames = || pieces.chunk_by(|a, b| a.source == b.source);
        let work = frames().filter_map(<[Piece]>::first).try_fold(0, |work: u64, first| {
            Result::Ok(work.saturating_add(self.patch.frame_at(first.source)?.work))
        })?;
        if work > limits::WORK {
            return Err(too_much(entry));
        }
        for same in frames() {
            let Some(first) = same.first() else { continue };
            if spared.is_some_and(|spared| take_spared(spared, same, bytes)) {
                continue;
            }
            let frame = {
                let _turn = self.decoding.take();
                let fresh = own.contains(&first.source);
                if fresh { self.fresh_frame(first.source)? } else { self.frame(first.source)? }
            };
            let (span, literals) = &*frame;
            for piece in same {
                let from = to_usize(piece.at.saturating_sub(span.start().get()));
                let target = part_of(bytes, piece.target.clone());
                let source = literals.get(from..).and_then(|rest| rest.get(..target.len()));
                let missing = || Error::damaged("the frame", Offset::ZERO, "is too short");
                target.copy_from_slice(source.ok_or_else(missing)?);
            }
        }
        Ok(())
    }
}

/// Fetches them without the frame, if they were kept.
fn take_spared(spared: &Spared, pieces: &[Piece], bytes: &mut [u8]) -> bool {
    pieces.iter().all(|piece| {
        let target = part_of(bytes, piece.target.clone());
        let spared = spared.find(piece.source, piece.at, target.len());
        spared.map(|spared| target.copy_from_slice(spared)).is_some()
    })
}

fn part_of(bytes: &mut [u8], range: Range<usize>) -> &mut [u8] {
    bytes.get_mut(range).unwrap_or_default()
}

fn too_much(entry: &Entry) -> Error {
    let at = window(entry.index, WINDOW).start();
    Error::damaged("the window", at, "asks for more work than a window may")
}
