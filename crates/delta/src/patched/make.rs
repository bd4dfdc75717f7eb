//! Making one window of its instructions.
//!
//! 1. Each frame is asked for once, however many instructions take bytes from it, and copies are read in the order of
//!    the bases: what a window costs is bounded by [`limits`], whatever a patch says.
//! 2. The bytes are compared with the window's value.

use super::spared::Wants;
use super::{Patched, SPARED};
use crate::digest::{self, WINDOW, window};
use crate::error::{Error, Result};
use crate::format::limits;
use crate::format::op::Op;
use crate::format::section::{Entry, Section};
use disk::{Cx, ReadAt};
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset, Span};
use std::ops::Range;

/// Bytes of a frame, or of a base, and where in the window they go.
struct Piece {
    /// Number of the frame or base.
    source: usize,
    /// Where in the literal stream or in the base.
    at: u64,
    target: Range<usize>,
}

impl Piece {
    /// Where it stands in its source.
    fn span(&self) -> Span {
        Span::new(Offset::new(self.at), Len::new(to_u64(self.target.len()))).unwrap_or_default()
    }
}

/// What a window is made of, in the order in which it is fetched.
#[derive(Default)]
struct Pieces {
    literals: Vec<Piece>,
    copies: Vec<Piece>,
}

impl<D: ReadAt, B: ReadAt> Patched<D, B> {
    /// Makes a window that has an entry.
    pub(super) fn make(&self, section: &Section, entry: &Entry) -> Result<Vec<u8>> {
        let len = self.patch.facts().target.len;
        let span = window(entry.index, len);
        let mut bytes = self.limits.buffer("a window", span.len())?;
        let pieces = self.pieces(self.ops(section, entry)?, entry)?;
        for piece in pieces.copies {
            if let Some(base) = self.bases.get(piece.source) {
                base.read_at(Offset::new(piece.at), part_of(&mut bytes, piece.target))?;
            }
        }
        self.take_literals(pieces.literals, entry, &mut bytes)?;
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
                Op::Zero(_) => {}
                Op::Copy { base, at, .. } => pieces.copies.push(Piece { source: base, at, target }),
                Op::Fresh(len) => {
                    self.split(literals, target, entry, &mut pieces.literals)?;
                    literals = literals.saturating_add(len);
                }
                Op::Again { at, .. } => self.split(at, target, entry, &mut pieces.literals)?,
            }
        }
        pieces.literals.sort_unstable_by_key(|piece| (piece.source, piece.at));
        pieces.copies.sort_unstable_by_key(|piece| (piece.source, piece.at));
        Ok(pieces)
    }

    /// What windows take from frames of which they have no fresh bytes.
    pub(super) fn wants(&self, cx: &Cx<'_>) -> Result<Wants> {
        let mut wants =
            Wants::new(Len::new(self.limits.memory.get().checked_div(SPARED).unwrap_or_default()));
        for number in 0..self.patch.sections() {
            cx.cancel.check()?;
            let section = self.patch.section(number)?;
            for entry in section.entries() {
                let ops = self.ops(&section, entry)?;
                let fresh = ops.iter().filter(|op| matches!(op, Op::Fresh(_)));
                let fresh = Len::new(fresh.fold(0, |sum, op| op.len().saturating_add(sum)));
                let fresh = Span::new(Offset::new(entry.literals), fresh).unwrap_or_default();
                let own = if fresh.is_empty() { 0..0 } else { self.patch.frames_in(fresh) };
                let pieces = self.pieces(ops, entry)?;
                for same in pieces.literals.chunk_by(|a, b| a.source == b.source) {
                    let Some(first) = same.first().filter(|first| !own.contains(&first.source)) else {
                        continue;
                    };
                    wants.add(first.source, same.iter().map(Piece::span).collect());
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
    fn take_literals(&self, pieces: Vec<Piece>, entry: &Entry, bytes: &mut [u8]) -> Result<()> {
        let frames = || pieces.chunk_by(|a, b| a.source == b.source);
        let work = frames().filter_map(<[Piece]>::first).try_fold(0, |work: u64, first| {
            Result::Ok(work.saturating_add(self.patch.frame_at(first.source)?.work))
        })?;
        if work > limits::WORK {
            return Err(too_much(entry));
        }
        for same in frames() {
            let Some(first) = same.first() else { continue };
            if self.take_spared(same, bytes) {
                continue;
            }
            let frame = {
                let _turn = self.decoding.take();
                self.frame(first.source)?
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

    /// Fetches them without the frame, if they were kept.
    fn take_spared(&self, pieces: &[Piece], bytes: &mut [u8]) -> bool {
        pieces.iter().all(|piece| {
            let target = part_of(bytes, piece.target.clone());
            let spared = self.spared.find(piece.source, piece.at, target.len());
            spared.map(|spared| target.copy_from_slice(spared)).is_some()
        })
    }
}

fn part_of(bytes: &mut [u8], range: Range<usize>) -> &mut [u8] {
    bytes.get_mut(range).unwrap_or_default()
}

fn too_much(entry: &Entry) -> Error {
    let at = window(entry.index, WINDOW).start();
    Error::damaged("the window", at, "asks for more work than a window may")
}
