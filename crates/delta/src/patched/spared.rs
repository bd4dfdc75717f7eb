//! Literal bytes that windows take from frames of other windows, kept from the one time that these are decoded.
//!
//! What the target has twice is stored once, so a window may need a few bytes of many frames. The instructions tell
//! beforehand which bytes that will be. Kept are those that save most for their memory: the fewest that a window wants
//! of a frame come first.

use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset, Span, SpanSet};
use std::collections::{BTreeMap, BinaryHeap};
use std::mem::size_of;
use std::sync::OnceLock;

/// What one window wants of one frame.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Want {
    /// Memory that it takes: comes first, it decides.
    cost: u64,
    frame: usize,
    spans: Vec<Span>,
}

/// What windows want of frames that are not theirs, as far as there is room.
pub struct Wants {
    heap: BinaryHeap<Want>,
    cost: u64,
    room: Len,
}

impl Wants {
    /// In so much memory.
    pub const fn new(room: Len) -> Self {
        Self { heap: BinaryHeap::new(), cost: 0, room }
    }

    /// Adds what one window wants of a frame. Of what does not fit, the largest goes.
    pub fn add(&mut self, frame: usize, spans: Vec<Span>) {
        let each = to_u64(size_of::<Span>());
        let cost = spans.iter().fold(to_u64(size_of::<Want>()), |sum, span| {
            sum.saturating_add(span.len().get()).saturating_add(each)
        });
        self.cost = self.cost.saturating_add(cost);
        self.heap.push(Want { cost, frame, spans });
        while self.cost > self.room.get()
            && let Some(largest) = self.heap.pop()
        {
            self.cost = self.cost.saturating_sub(largest.cost);
        }
    }

    /// Room for all of it.
    pub fn spared(self) -> Spared {
        let mut frames: BTreeMap<usize, SpanSet> = BTreeMap::new();
        for want in self.heap {
            let set = frames.entry(want.frame).or_default();
            want.spans.into_iter().for_each(|span| set.insert(span));
        }
        let frames = frames.into_iter().map(|(frame, set)| (frame, Bytes::of(&set)));
        Spared { frames: frames.collect() }
    }
}

/// Parts of a frame.
struct Bytes {
    /// Where they stand in the literal stream, and how many bytes come before each of them.
    spans: Vec<(Span, usize)>,
    /// One behind the other.
    bytes: OnceLock<Vec<u8>>,
}

impl Bytes {
    fn of(set: &SpanSet) -> Self {
        let mut before = 0_usize;
        let place = |span: Span| {
            let place = (span, before);
            before = before.saturating_add(span.len().to_usize());
            place
        };
        Self { spans: set.iter().map(place).collect(), bytes: OnceLock::new() }
    }

    fn find(&self, at: u64, len: usize) -> Option<&[u8]> {
        let behind = self.spans.partition_point(|(span, _)| span.start().get() <= at);
        let (span, before) = self.spans.get(behind.checked_sub(1)?)?;
        let within = to_usize(at.saturating_sub(span.start().get()));
        let fits = within.saturating_add(len) <= span.len().to_usize();
        let start = before.saturating_add(within);
        self.bytes.get().filter(|_| fits)?.get(start..start.saturating_add(len))
    }
}

/// Bytes of frames that were decoded, and room for those of others.
#[derive(Default)]
pub struct Spared {
    frames: BTreeMap<usize, Bytes>,
}

impl Spared {
    /// Keeps what is wanted of a frame whose bytes these are, from `start` of the literal stream on.
    pub fn keep(&self, frame: usize, start: Offset, bytes: &[u8]) {
        let Some(wanted) = self.frames.get(&frame) else { return };
        wanted.bytes.get_or_init(|| {
            let part = |span: &Span| {
                let place = span.relative_to(start).unwrap_or_default();
                let place = to_usize(place.start().get())..to_usize(place.end().get());
                bytes.get(place).unwrap_or_default()
            };
            // Exactly as much as was counted: growing takes up to twice that.
            let len =
                wanted.spans.last().map_or(0, |(span, before)| before.saturating_add(span.len().to_usize()));
            let mut kept = Vec::with_capacity(len);
            wanted.spans.iter().for_each(|(span, _)| kept.extend_from_slice(part(span)));
            kept
        });
    }

    /// So many bytes from `at` of the literal stream on, which are in that frame, if they were kept.
    pub fn find(&self, frame: usize, at: u64, len: usize) -> Option<&[u8]> {
        self.frames.get(&frame)?.find(at, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: u64, len: u64) -> Span {
        Span::new(Offset::new(start), Len::new(len)).unwrap()
    }

    #[test]
    fn the_smallest_are_kept() {
        let mut wants = Wants::new(Len::kib(4));
        wants.add(7, vec![span(1000, 10), span(1020, 10)]);
        wants.add(7, vec![span(1005, 20)]);
        wants.add(8, vec![span(2000, 3000)]);
        wants.add(9, vec![span(9000, 900)]);
        let spared = wants.spared();
        assert_eq!(spared.find(7, 1000, 10), None, "nothing was decoded yet");
        let bytes: Vec<u8> = (0..100).collect();
        spared.keep(7, Offset::new(990), &bytes);
        spared.keep(8, Offset::new(2000), &[1; 3000]);
        spared.keep(9, Offset::new(9000), &[2; 900]);
        assert_eq!(spared.find(7, 1000, 30), Some(&bytes[10..40]));
        assert_eq!(spared.find(7, 1025, 5), Some(&bytes[35..40]));
        assert_eq!(spared.find(7, 1025, 6), None);
        assert_eq!(spared.find(7, 999, 1), None);
        assert_eq!(spared.find(8, 2000, 1), None, "the largest had no room");
        assert_eq!(spared.find(9, 9899, 1), Some(&[2][..]));
    }
}
