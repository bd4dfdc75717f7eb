//! Through the extents of the source, window by window.

use super::{Layer, Part};
use crate::{BlockStatus, Result};
use ondisk::num::{round_down, round_up};
use ondisk::{Len, Offset, Span};
use std::collections::VecDeque;

/// So much of the source is looked at at once: an image may have an extent for every sector.
const WINDOW: Len = Len::mib(256);

/// The parts of a source that are not known to be zero, or that are its own.
pub struct Walk<'a> {
    layer: Layer<'a>,
    unit: Len,
    /// Where the next window begins.
    at: Offset,
    parts: VecDeque<Part>,
}

/// What a worker fetches.
#[derive(Debug)]
pub struct Job {
    /// Its place in the order.
    pub turn: u64,
    /// Which piece of the disk.
    pub span: Span,
    /// What lies in it.
    pub parts: Vec<Part>,
}

impl<'a> Walk<'a> {
    /// From the beginning; `unit` is that of [`Prepare::unit`](super::Prepare::unit).
    pub const fn new(layer: Layer<'a>, unit: Len) -> Self {
        Self { layer, unit, at: Offset::ZERO, parts: VecDeque::new() }
    }

    /// The next part, in order.
    pub fn next_part(&mut self) -> Result<Option<Part>> {
        while self.parts.is_empty() {
            let rest = Span::between(self.at, self.layer.len().end()).unwrap_or_default();
            if rest.is_empty() {
                return Ok(None);
            }
            let first = self.layer.disk.first(rest)?;
            if first.zero && first.span.len() >= WINDOW && !self.is_own(&first) {
                self.at = first.span.end();
                continue;
            }
            let window = rest.chunks(WINDOW).next().unwrap_or(rest);
            self.at = window.end();
            if self.layer.own {
                self.own_parts(window)?;
            } else {
                let map = self.layer.disk.extents(window)?;
                self.parts.extend(map.data().map(|span| Part { span, zero: false }));
            }
        }
        Ok(self.parts.pop_front())
    }

    /// All parts that lie in the piece of the next one: pieces of `piece` bytes.
    pub fn next_piece(&mut self, piece: Len) -> Result<Option<(Span, Vec<Part>)>> {
        let Some(first) = self.next_part()? else { return Ok(None) };
        let start = Offset::new(round_down(first.span.start().get(), piece.get()).unwrap_or_default());
        let span = Span::new(start, piece).unwrap_or(first.span);
        let mut parts = Vec::new();
        let mut next = Some(first);
        while let Some(part) = next.take() {
            let inside = part.span.intersect(span);
            let behind = Span::between(part.span.start().max(span.end()), part.span.end());
            parts.extend(inside.map(|span| Part { span, ..part }));
            if let Some(behind) = behind.filter(|behind| !behind.is_empty()) {
                self.parts.push_front(Part { span: behind, ..part });
                break;
            }
            next = self.parts.pop_front();
        }
        Ok(Some((span, parts)))
    }

    /// All pieces that lie in the unit of the next one, each with its parts.
    pub fn next_unit(&mut self, piece: Len, unit: Len) -> Result<Vec<(Span, Vec<Part>)>> {
        let mut pieces: Vec<(Span, Vec<Part>)> = Vec::new();
        let number = |at: Offset| at.get().checked_div(unit.get());
        loop {
            if let Some((first, _)) = pieces.first() {
                let same = |part: &Part| number(part.span.start()) == number(first.start());
                if !self.parts.front().is_some_and(same) {
                    return Ok(pieces);
                }
            }
            match self.next_piece(piece)? {
                Some(next) => pieces.push(next),
                None => return Ok(pieces),
            }
        }
    }

    /// Whether the image itself holds it, and that matters.
    const fn is_own(&self, run: &BlockStatus) -> bool {
        self.layer.own && run.depth == 0 && run.present
    }

    /// What the image itself holds, in whole units. A unit of which it holds a part is data: the rest comes from below.
    fn own_parts(&mut self, window: Span) -> Result<()> {
        for run in self.layer.disk.status(window)? {
            if !self.is_own(&run) {
                continue;
            }
            let (first, last) = (self.up(run.span.start()), self.down(run.span.end()));
            // The end of the disk ends a unit as well.
            let last = if run.span.end() == self.layer.len().end() { run.span.end() } else { last };
            let zeros = Span::between(first, last).filter(|span| run.zero && !span.is_empty());
            match zeros {
                None => self.push(run.span, false),
                Some(zeros) => {
                    self.push(Span::between(run.span.start(), zeros.start()).unwrap_or_default(), false);
                    self.push(zeros, true);
                    self.push(Span::between(zeros.end(), run.span.end()).unwrap_or_default(), false);
                }
            }
        }
        Ok(())
    }

    /// Adds a part, widened to whole units, without what is there already.
    fn push(&mut self, span: Span, zero: bool) {
        if span.is_empty() {
            return;
        }
        let known = self.parts.back().map_or(Offset::ZERO, |part| part.span.end());
        let start = self.down(span.start()).max(known);
        let end = self.up(span.end()).min(self.layer.len().end());
        match self.parts.back_mut() {
            Some(last) if last.zero == zero && last.span.end() == start => {
                last.span = Span::between(last.span.start(), end).unwrap_or(last.span);
            }
            _ => {
                let span = Span::between(start, end).filter(|span| !span.is_empty());
                self.parts.extend(span.map(|span| Part { span, zero }));
            }
        }
    }

    fn down(&self, at: Offset) -> Offset {
        Offset::new(round_down(at.get(), self.unit.get()).unwrap_or_default())
    }

    fn up(&self, at: Offset) -> Offset {
        Offset::new(round_up(at.get(), self.unit.get()).unwrap_or(u64::MAX))
    }
}
