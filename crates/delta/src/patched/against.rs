//! The result beside the first base: what a child of the base must hold, and what must change of the base itself.

use super::{Patched, number_of, pieces};
use crate::digest::{leaf, window};
use crate::error::{Error, Result};
use crate::format::op::Op;
use disk::{Cx, ReadAt, Total};
use ondisk::num::{round_down, round_up};
use ondisk::{Len, Offset, Span};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

/// Parts of the result are told in units of this length.
const UNIT: u64 = 4096;

/// What a part of the result is, beside the first base at the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// The same; behind the end of the base: zeros.
    Same,
    /// Zeros.
    Zero,
    /// Other bytes.
    Other,
}

impl<D: ReadAt + Send, B: ReadAt + Send> Patched<D, B> {
    /// The parts of `within`, in order: whole units of 4 KiB, where the disk does not end.
    ///
    /// # Errors
    /// Where the patch is damaged or cannot be read.
    pub fn against_first(&self, within: Span) -> Result<Vec<(Span, Against)>> {
        let mut parts = Parts { list: Vec::new(), end: self.patch.facts().target.len.end() };
        for piece in pieces(within) {
            let Some((section, entry)) = self.entry(number_of(piece))? else {
                parts.push(piece, Against::Same);
                continue;
            };
            let mut at = window(entry.index, self.patch.facts().target.len).start();
            for op in self.ops(&section, &entry)? {
                let span = Span::new(at, Len::new(op.len())).unwrap_or_default();
                at = span.end();
                let what = match op {
                    Op::Zero(_) => Against::Zero,
                    Op::Copy { base: 0, at: from, .. } if Offset::new(from) == span.start() => Against::Same,
                    _ => Against::Other,
                };
                if let Some(span) = span.intersect(piece) {
                    parts.add(span, what);
                }
            }
        }
        Ok(parts.list)
    }

    /// Refuses where `other` does not read as the result does, in the windows that are not as in the first base.
    ///
    /// # Errors
    /// Where that is so, or one of the two cannot be read.
    pub fn refuse_other(&self, other: &dyn ReadAt, cx: &Cx<'_>) -> Result<()> {
        let len = self.patch.facts().target.len;
        if other.len() != len {
            return Err(Error::WrongResult { at: len.min(other.len()).end() });
        }
        let task = cx.progress.task("read back", Total::Count(self.patch.facts().windows));
        for number in 0..self.patch.sections() {
            let section = self.patch.section(number)?;
            section.entries().par_iter().try_for_each(|entry| {
                cx.cancel.check()?;
                let span = window(entry.index, len);
                let mut bytes = self.made.sized("a window", span.len(), &self.limits)?;
                other.read_at(span.start(), &mut bytes)?;
                task.advance(1);
                let right = leaf(entry.index, len, &bytes) == entry.leaf;
                if right { Ok(()) } else { Err(Error::WrongResult { at: span.start() }) }
            })?;
        }
        Ok(())
    }
}

/// Parts on their way into whole units: one of which only a part is other, is other.
struct Parts {
    list: Vec<(Span, Against)>,
    /// Of the disk, where a unit may end early.
    end: Offset,
}

impl Parts {
    fn add(&mut self, span: Span, what: Against) {
        let down = |at: Offset| Offset::new(round_down(at.get(), UNIT).unwrap_or_default());
        let up = |at: Offset| Offset::new(round_up(at.get(), UNIT).unwrap_or(u64::MAX)).min(self.end);
        let outer = Span::between(down(span.start()), up(span.end())).unwrap_or(span);
        let last = if span.end() == self.end { self.end } else { down(span.end()) };
        let inner = Span::between(up(span.start()), last).filter(|inner| !inner.is_empty());
        match inner.filter(|_| what != Against::Other) {
            None => self.push(outer, Against::Other),
            Some(inner) => {
                self.push(Span::between(outer.start(), inner.start()).unwrap_or_default(), Against::Other);
                self.push(inner, what);
                self.push(Span::between(inner.end(), outer.end()).unwrap_or_default(), Against::Other);
            }
        }
    }

    /// Adds what is not there yet.
    fn push(&mut self, span: Span, what: Against) {
        let known = self.list.last().map_or(Offset::ZERO, |(last, _)| last.end());
        let Some(span) = Span::between(span.start().max(known), span.end()).filter(|span| !span.is_empty())
        else {
            return;
        };
        match self.list.last_mut() {
            Some((last, kind)) if *kind == what && last.end() == span.start() => {
                *last = Span::between(last.start(), span.end()).unwrap_or(*last);
            }
            _ => self.list.push((span, what)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_whole() {
        let span = |from: u64, to: u64| Span::between(Offset::new(from), Offset::new(to)).unwrap();
        let mut parts = Parts { list: Vec::new(), end: Offset::new(40_001) };
        for (from, to, what) in [
            (0, 5000, Against::Same),
            (5000, 5001, Against::Other),
            (5001, 6000, Against::Same),
            (6000, 20_480, Against::Zero),
            (20_480, 24_000, Against::Zero),
            (24_000, 24_100, Against::Same),
            (24_100, 40_001, Against::Zero),
        ] {
            parts.add(span(from, to), what);
        }
        let want = [
            (span(0, 4096), Against::Same),
            (span(4096, 8192), Against::Other),
            (span(8192, 20_480), Against::Zero),
            (span(20_480, 24_576), Against::Other),
            (span(24_576, 40_001), Against::Zero),
        ];
        assert_eq!(parts.list, want);
    }
}
