//! A piece of the disk in memory, and where it is not zero.

use crate::Result;
use disk::dev::Pages;
use disk::{Limits, ReadAt};
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset, Span};
use std::ops::Range;

/// A part of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub span: Span,
    /// It reads as zero, and the image says so itself.
    pub zero: bool,
}

/// A piece of the disk. Behind the end of the disk it is zero.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Which.
    pub span: Span,
    /// What the source has there.
    pub parts: Vec<Part>,
    room: Pages,
    len: usize,
    runs: Vec<Range<usize>>,
}

impl Piece {
    /// Room for one of that length.
    pub fn new(len: Len, limits: &Limits) -> disk::Result<Self> {
        let room = Pages::within(limits, "a piece of the disk", len)?;
        let len = len.to_usize();
        Ok(Self { span: Span::default(), parts: Vec::new(), room, len, runs: Vec::new() })
    }

    /// Reads another one, and finds its zeros.
    pub fn fill(&mut self, disk: &dyn ReadAt, span: Span, parts: Vec<Part>, granule: Len) -> Result<()> {
        self.span = span;
        self.parts = parts;
        self.runs.clear();
        let piece = self.room.get_mut(self.len);
        let mut zeroed = 0;
        for part in self.parts.iter().filter(|part| !part.zero) {
            let range = range_in(part.span, span.start());
            if let Some(gap) = piece.get_mut(zeroed..range.start) {
                gap.fill(0);
            }
            zeroed = range.end;
            disk.read_at(part.span.start(), piece.get_mut(range).unwrap_or_default())?;
        }
        piece.get_mut(zeroed..).unwrap_or_default().fill(0);
        self.find_runs(granule.to_usize());
        Ok(())
    }

    /// Only parts that were read can hold anything.
    fn find_runs(&mut self, granule: usize) {
        let mut known = 0;
        for part in self.parts.iter().filter(|part| !part.zero) {
            let range = range_in(part.span, self.span.start());
            let first =
                range.start.checked_div(granule).unwrap_or_default().saturating_mul(granule).max(known);
            let end = range.end.checked_next_multiple_of(granule).unwrap_or(range.end).min(self.len);
            known = end;
            for run in runs(self.bytes(0..self.len), first..end, granule) {
                match self.runs.last_mut() {
                    Some(last) if last.end == run.start => last.end = run.end,
                    _ => self.runs.push(run),
                }
            }
        }
    }

    /// Its bytes.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.room.get(self.len).get(range).unwrap_or_default()
    }

    /// Where it is not zero, in order: whole granules.
    pub fn runs(&self) -> &[Range<usize>] {
        &self.runs
    }

    /// The runs within `range`.
    pub fn runs_in(&self, range: Range<usize>) -> impl Iterator<Item = Range<usize>> + '_ {
        let first = self.runs.partition_point(|run| run.end <= range.start);
        let (start, end) = (range.start, range.end);
        let behind = self.runs.get(first..).unwrap_or_default();
        behind
            .iter()
            .take_while(move |run| run.start < end)
            .map(move |run| run.start.max(start)..run.end.min(end))
    }

    /// Where a position of the disk lies in the piece.
    pub fn range_of(&self, span: Span) -> Range<usize> {
        range_in(span, self.span.start())
    }
}

fn range_in(span: Span, start: Offset) -> Range<usize> {
    let at = |end: Offset| to_usize(end.since(start).unwrap_or_default().get());
    at(span.start())..at(span.end())
}

/// Where `bytes` are not zero within `range`, in whole granules from its beginning on.
pub(super) fn runs(bytes: &[u8], range: Range<usize>, granule: usize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for start in range.clone().step_by(granule) {
        let end = start.saturating_add(granule).min(range.end);
        if is_zero(bytes.get(start..end).unwrap_or_default()) {
            continue;
        }
        match runs.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => runs.push(start..end),
        }
    }
    runs
}

/// So much is looked at at once: few enough bytes to stop early, enough to be quick.
const STRIDE: usize = 128;

fn is_zero(bytes: &[u8]) -> bool {
    let (strides, rest) = bytes.as_chunks::<STRIDE>();
    strides.iter().all(|stride| stride.iter().fold(0, |all, byte| all | byte) == 0)
        && rest.iter().all(|byte| *byte == 0)
}

/// The length of a range.
pub(crate) fn len_of(range: &Range<usize>) -> Len {
    Len::new(to_u64(range.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use disk::MemDisk;

    #[test]
    fn zeros_are_found_in_whole_granules() {
        let mut bytes = vec![0; 65536];
        for at in [4096, 4097, 12_287, 12_288, 40_000] {
            bytes[at] = 1;
        }
        let disk = MemDisk::from_bytes(&bytes);
        let mut piece = Piece::new(Len::kib(64), &Limits::default()).unwrap();
        let span = Span::whole(Len::kib(64));
        piece.room.get_mut(65536).fill(7);
        piece.fill(&disk, span, vec![Part { span, zero: false }], Len::kib(4)).unwrap();
        assert_eq!(piece.runs(), [4096..16384, 36864..40960]);
        assert_eq!(piece.runs_in(8192..38000).collect::<Vec<_>>(), [8192..16384, 36864..38000]);
        assert_eq!(piece.runs_in(16384..36864).count(), 0);
    }

    #[test]
    fn what_the_source_has_not_is_zero_whatever_was_there() {
        let disk = MemDisk::from_bytes(&[9; 5000]);
        let mut piece = Piece::new(Len::kib(16), &Limits::default()).unwrap();
        piece.room.get_mut(16384).fill(7);
        let part = |from: u64, to: u64, zero| Part {
            span: Span::between(Offset::new(from), Offset::new(to)).unwrap(),
            zero,
        };
        let parts = vec![part(100, 200, false), part(200, 300, true), part(4500, 5000, false)];
        piece.fill(&disk, Span::whole(Len::kib(16)), parts, Len::kib(4)).unwrap();
        assert_eq!(piece.runs().to_vec(), vec![Range { start: 0, end: 8192 }]);
        let nines = |range: Range<usize>| piece.bytes(range).iter().filter(|byte| **byte == 9).count();
        assert_eq!((nines(0..16384), nines(100..200), nines(4500..5000)), (600, 100, 500));
        assert!(piece.bytes(200..4500).iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_single_byte_anywhere_is_not_zero() {
        for len in [1, 127, 128, 129, 4096] {
            for at in [0, len / 2, len - 1] {
                let mut bytes = vec![0; len];
                assert!(is_zero(&bytes));
                bytes[at] = 0x80;
                assert!(!is_zero(&bytes), "{at} of {len}");
            }
        }
    }
}
