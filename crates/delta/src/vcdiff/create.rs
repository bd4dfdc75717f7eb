//! Making a patch for others.
//!
//! ```text
//!            ┌─ match ─┐                    ┌─ pack ─┐
//! windows ───┼─ match ─┼─── cut, in order ──┼─ pack ─┼─── write, in order
//!            └─ match ─┘                    └─ pack ─┘
//! ```
//!
//! The native matcher finds what the base has; its windows are cut anew, so that each copies from one segment that
//! xdelta3 can address. What the target has twice is left to LZMA, which looks back over the windows before.

use super::adler;
use super::secondary::lzma;
use super::write::{self, Begun, Cut, Part, SHORT, Stored, WINDOW};
use crate::create::{Index, Indexed, Matched, Matcher, Stats};
use crate::digest::{Leaves, window, windows};
use crate::error::{Error, Result};
use crate::format::op::Op;
use disk::{Cx, ReadAt, Total};
use ondisk::num::{low32, to_u64, to_usize};
use ondisk::{Len, Offset, Span};
use rayon::iter::{IntoParallelIterator, IntoParallelRefMutIterator, ParallelIterator};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Windows of the matcher in a batch, for each thread.
const BATCH: u64 = 4;
/// Literal bytes that are packed together, and windows.
const TOGETHER: u64 = 32 << 20;
const MANY: usize = 1024;
/// A copy from too far away is worth a window of its own, if it is not shorter.
const FAR: u64 = 1024;
/// How far LZMA looks back, where memory allows it.
const REACH: u64 = 8 << 20;

/// The preset of xz for a level of 1 to 22.
const fn preset(level: i32) -> u32 {
    match level {
        ..=2 => 0,
        3..=5 => 1,
        6..=8 => 2,
        9..=11 => 3,
        12..=14 => 4,
        15..=17 => 5,
        18..=19 => 6,
        20 => 7,
        21 => 8,
        _ => 9,
    }
}

/// Writes the VCDIFF that makes `target` of `base`: one that xdelta3 3.0 reads.
///
/// # Errors
/// Where a disk cannot be read, the patch not be written, memory does not suffice, or the operator interrupts.
pub fn create(
    base: Option<&dyn ReadAt>,
    target: &dyn ReadAt,
    level: i32,
    out: &mut (dyn Write + Send),
    cx: &Cx<'_>,
) -> Result<Stats> {
    let bases: Vec<&dyn ReadAt> = base.into_iter().collect();
    create_indexed(&Indexed::of(&bases, cx)?, base, target, level, out, cx)
}

/// As [`create`], with the index of the base.
///
/// # Errors
/// As [`create`].
pub fn create_indexed(
    Indexed { index, leaves, .. }: &Indexed,
    base: Option<&dyn ReadAt>,
    target: &dyn ReadAt,
    level: i32,
    out: &mut (dyn Write + Send),
    cx: &Cx<'_>,
) -> Result<Stats> {
    let memory = cx.limits.memory.get();
    let bases: Vec<&dyn ReadAt> = base.into_iter().collect();
    let preset = preset(level);
    let mut reach = REACH;
    while lzma::need(preset, reach).get() > memory >> 2 && reach > 1 << 16 {
        reach >>= 1;
    }
    let lanes = (memory >> 1).checked_div(lzma::need(preset, reach).get()).unwrap_or_default();
    let lanes = to_usize(lanes).clamp(1, rayon::current_num_threads().max(1));
    let work = Work { bases: &bases, target, index, leaves, preset, reach, lanes, cx };
    let mut head = Vec::new();
    let begun = write::begin(&mut head, low32(reach));
    let mut sink = Sink {
        out,
        begun,
        open: Cut::default(),
        waiting: Vec::new(),
        history: Vec::new(),
        stats: Stats::default(),
    };
    sink.put(&head)?;
    work.run(sink)
}

struct Work<'a> {
    bases: &'a [&'a dyn ReadAt],
    target: &'a dyn ReadAt,
    index: &'a Index,
    leaves: &'a [Leaves],
    preset: u32,
    /// How far LZMA looks back.
    reach: u64,
    /// How many sections are packed at once.
    lanes: usize,
    cx: &'a Cx<'a>,
}

impl Work<'_> {
    fn run(&self, mut sink: Sink<'_>) -> Result<Stats> {
        let count = windows(self.target.len());
        let task = self.cx.progress.task("delta", Total::Bytes(self.target.len()));
        let batch = BATCH.saturating_mul(to_u64(rayon::current_num_threads()));
        let range = |first: u64| first..first.saturating_add(batch).min(count);
        let mut next = 0;
        let mut matched = self.matched(range(next))?;
        while !matched.is_empty() {
            self.cx.cancel.check()?;
            let first = next;
            next = range(next).end;
            let (later, done) = rayon::join(|| self.matched(range(next)), || sink.take(first, matched, self));
            done?;
            matched = later?;
            let (from, to) = (window(first, self.target.len()), window(next, self.target.len()));
            task.advance(Span::between(from.start(), to.start()).unwrap_or_default().len().get());
        }
        sink.finish(self)
    }

    fn matched(&self, range: std::ops::Range<u64>) -> Result<Vec<Matched>> {
        let matcher =
            || Matcher::new(self.target, self.index, self.bases, self.leaves.first(), self.cx.limits);
        let all: disk::Result<Vec<Matched>> =
            range.into_par_iter().map_init(matcher, |matcher, index| matcher.window(index)).collect();
        Ok(all?)
    }

    /// The parts of a window of the matcher.
    fn parts(&self, index: u64, matched: &Matched) -> Result<Vec<Part>> {
        let span = window(index, self.target.len());
        if !matched.unchanged {
            let part = |op: &Op| match *op {
                Op::Zero(len) => Part::Zeros(len),
                Op::Copy { at, len, .. } => Part::Copy { at, len },
                Op::Fresh(len) | Op::Again { len, .. } => Part::Add(len),
            };
            return Ok(matched.ops.iter().map(part).collect());
        }
        if self.target.extents(span)?.all_zero() {
            return Ok(vec![Part::Zeros(span.len().get())]);
        }
        let base = self.bases.first().and_then(|base| span.intersect(Span::whole(base.len())));
        let len = base.unwrap_or_default().len().get();
        let rest = span.len().get().saturating_sub(len);
        let parts = [Part::Copy { at: span.start().get(), len }, Part::Zeros(rest)];
        Ok(parts
            .into_iter()
            .filter(|part| !matches!(part, Part::Copy { len: 0, .. } | Part::Zeros(0)))
            .collect())
    }

    /// Packs the sections of a window; `before` ends what its data may refer to.
    fn pack(&self, sections: &[Vec<u8>; 3], before: &[u8]) -> std::io::Result<[Stored; 3]> {
        let [data, instructions, addresses] = sections;
        let alone = |section: &Vec<u8>| -> std::io::Result<Stored> {
            let packed = self.packed(section, &[])?;
            let smaller = packed.filter(|packed| packed.len().saturating_add(SHORT) < section.len());
            Ok(smaller.map_or_else(|| Stored::Plain(section.clone()), |packed| stored(packed, section)))
        };
        // Sections after it refer to the data, however badly it compresses.
        let first = self.packed(data, before)?;
        let first = first.map_or_else(|| Stored::Plain(data.clone()), |packed| stored(packed, data));
        Ok([first, alone(instructions)?, alone(addresses)?])
    }

    fn packed(&self, section: &[u8], before: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
        let long = section.len() >= SHORT;
        long.then(|| lzma::pack(section, before, self.preset, self.reach)).transpose()
    }
}

fn stored(packed: Vec<u8>, section: &[u8]) -> Stored {
    Stored::Packed(packed, to_u64(section.len()))
}

/// What happens in order.
struct Sink<'a> {
    out: &'a mut (dyn Write + Send),
    begun: Begun,
    /// The window that is being cut.
    open: Cut,
    /// Windows that are cut.
    waiting: Vec<Cut>,
    /// What ends the data so far.
    history: Vec<u8>,
    stats: Stats,
}

impl Sink<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let at = Offset::new(self.stats.patch);
        self.out.write_all(bytes).map_err(|source| {
            let span = Span::new(at, Len::of(bytes)).unwrap_or_default();
            Error::Disk(disk::Error::Io { op: "write of the patch", span, source })
        })?;
        self.stats.patch = self.stats.patch.saturating_add(to_u64(bytes.len()));
        Ok(())
    }

    /// Takes the windows from `first` on.
    fn take(&mut self, first: u64, batch: Vec<Matched>, work: &Work<'_>) -> Result<()> {
        for (index, matched) in (first..).zip(batch) {
            if matched.unchanged {
                let len = window(index, work.target.len()).len().get();
                self.stats.unchanged = self.stats.unchanged.saturating_add(len);
            } else {
                self.stats.add(&matched.ops);
            }
            let mut literals = matched.literals.as_slice();
            for part in work.parts(index, &matched)? {
                self.cut(part, &mut literals, work.target)?;
            }
            let sum =
                self.waiting.iter().fold(0_u64, |sum, cut| sum.saturating_add(to_u64(cut.literals.len())));
            if sum >= TOGETHER || self.waiting.len() >= MANY {
                self.pack(work)?;
            }
        }
        Ok(())
    }

    /// Adds a part of the target to the window that is being cut, and cuts where it is full or the part too far away.
    fn cut(&mut self, mut part: Part, literals: &mut &[u8], target: &dyn ReadAt) -> Result<()> {
        loop {
            if self.open.room() == 0 {
                self.close();
            }
            let (now, later) = split(part, self.open.room());
            match now {
                Part::Zeros(_) => self.open.push(now),
                Part::Add(len) => {
                    let (bytes, rest) = literals.split_at(to_usize(len).min(literals.len()));
                    self.open.literals.extend_from_slice(bytes);
                    *literals = rest;
                    self.open.push(now);
                }
                Part::Copy { at, len } if self.open.reach(at, len).is_some() => self.open.push(now),
                Part::Copy { len, .. } if len >= FAR => {
                    self.close();
                    continue;
                }
                Part::Copy { len, .. } => {
                    let mut bytes = vec![0; to_usize(len)];
                    target.read_at(self.open.target().end(), &mut bytes)?;
                    self.open.literals.append(&mut bytes);
                    self.open.push(Part::Add(len));
                }
            }
            let Some(later) = later else { return Ok(()) };
            part = later;
        }
    }

    fn close(&mut self) {
        let end = self.open.target().end().get();
        let cut = std::mem::replace(&mut self.open, Cut::at(end));
        if cut.len > 0 {
            self.waiting.push(cut);
        }
    }

    /// Packs and writes the windows that are cut.
    fn pack(&mut self, work: &Work<'_>) -> Result<()> {
        let mut cuts = std::mem::take(&mut self.waiting);
        let all: Vec<[Vec<u8>; 3]> = cuts.par_iter_mut().map(Cut::sections).collect();
        let next = AtomicUsize::new(0);
        let lane = |_| {
            let mut made = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let (Some(cut), Some(sections)) = (cuts.get(number), all.get(number)) else {
                    return Ok(made);
                };
                work.cx.cancel.check()?;
                let before = before(number, &all, &self.history, work.reach);
                let sum = adler::of_disk(work.target, cut.target(), &work.cx.limits)?;
                made.push((number, sum, work.pack(sections, &before).map_err(failed)?));
            }
        };
        let lanes: Result<Vec<Vec<_>>> = (0..work.lanes).into_par_iter().map(lane).collect();
        let mut made: Vec<(usize, u32, [Stored; 3])> = lanes?.into_iter().flatten().collect();
        made.sort_unstable_by_key(|(number, ..)| *number);
        self.history = before(all.len(), &all, &self.history, work.reach);
        for (cut, (_, sum, sections)) in cuts.iter().zip(made) {
            let [Stored::Plain(data) | Stored::Packed(data, _), ..] = &sections;
            self.stats.packed = self.stats.packed.saturating_add(to_u64(data.len()));
            let bytes = write::window(cut, sum, sections, &mut self.begun);
            self.put(&bytes)?;
        }
        Ok(())
    }

    fn finish(mut self, work: &Work<'_>) -> Result<Stats> {
        self.close();
        if work.target.is_empty() {
            // xdelta3 calls a patch without a window none.
            self.waiting.push(Cut::default());
        }
        self.pack(work)?;
        self.out.flush().map_err(failed)?;
        Ok(self.stats)
    }
}

/// What of a part fits, and what is left.
fn split(part: Part, room: u64) -> (Part, Option<Part>) {
    let later = |len: u64| Some(len.saturating_sub(room)).filter(|left| *left > 0);
    match part {
        Part::Zeros(len) => (Part::Zeros(len.min(room)), later(len).map(Part::Zeros)),
        Part::Add(len) => (Part::Add(len.min(room)), later(len).map(Part::Add)),
        Part::Copy { at, len } => {
            let rest = later(len).map(|len| Part::Copy { at: at.saturating_add(room), len });
            (Part::Copy { at, len: len.min(room) }, rest)
        }
    }
}

/// What ends the data before window `number`: as far as is worth it.
fn before(number: usize, all: &[[Vec<u8>; 3]], history: &[u8], reach: u64) -> Vec<u8> {
    let own = all.get(number).map(|[data, ..]| data.len());
    // Of what is kept for later, nobody knows how long that will be.
    let most = own.map_or(usize::MAX, |own| own.saturating_mul(lzma::BEFORE));
    let mut left = to_usize(reach).min(most);
    let packed = all.iter().take(number).rev().map(|[data, ..]| data.as_slice());
    let packed = packed.filter(|data| data.len() >= SHORT);
    let mut parts = Vec::new();
    for data in packed.chain([history]) {
        let tail = data.get(data.len().saturating_sub(left)..).unwrap_or_default();
        left = left.saturating_sub(tail.len());
        parts.push(tail);
    }
    parts.into_iter().rev().flatten().copied().collect()
}

fn failed(source: std::io::Error) -> Error {
    Error::Disk(disk::Error::Io { op: "write of the patch", span: Span::default(), source })
}

const _: () = assert!(WINDOW <= REACH);
