//! Making a patch.
//!
//! ```text
//!            ┌─ match ─┐                      ┌─ pack ─┐
//! windows ───┼─ match ─┼─── again, in order ──┼─ pack ─┼─── write, in order
//!            └─ match ─┘                      └─ pack ─┘
//! ```
//!
//! A batch of windows is matched while the literals of the one before are packed.

mod again;
mod gear;
mod index;
mod indexed;
mod likes;
mod matching;
mod pairs;
mod remote;
mod same;
mod source;
mod table;
mod told;

use crate::digest::{Leaves, Tree, window, windows};
use crate::error::{Error, Result};
use crate::format::codec::Codec;
use crate::format::frame;
use crate::format::layout::flag;
use crate::format::patch::{BASES, BaseFacts, refuse_huge};
use crate::format::writer::Writer;
use crate::signature::Signature;
use again::Again;
use disk::{Cx, ReadAt, Total};
pub use index::Index;
pub use indexed::{Indexed, is_index};
use likes::Likes;
use matching::Run;
pub use matching::{Matched, Matcher};
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset, Span};
pub use pairs::{Pairs, Piece};
use rayon::iter::{IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};
use remote::Remote;
use std::io::Write;
use std::ops::Range;
pub use told::{Literal, Literals};

/// Windows of a batch, for each thread.
const BATCH: u64 = 2;

/// Literal bytes of a frame, and of its dictionary at most. The smaller, the less has to be decompressed for any byte;
/// the larger, the more is seen that was there already.
const SMALL: Len = Len::mib(4);
const MEDIUM: Len = Len::mib(6);
const XZ: Len = Len::mib(8);
const LARGE: Len = Len::mib(16);
/// The first levels of zstd that take medium and large ones.
const MIDDLE: i32 = 6;
const DENSE: i32 = 13;

/// How a patch is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What compresses literal bytes.
    pub codec: Codec,
    /// How much work it does: 1 to 22.
    pub level: i32,
    /// Whether the target was given without the blocks that no filesystem uses.
    pub drop_free: bool,
}

impl Options {
    /// Literal bytes of a frame, and bytes of its dictionary at most.
    const fn frame(self) -> Len {
        match (self.codec, self.level) {
            (Codec::Zstd, DENSE..) => LARGE,
            (Codec::Xz, _) => XZ,
            (Codec::Zstd, MIDDLE..) => MEDIUM,
            (Codec::Zstd, _) => SMALL,
        }
    }
}

/// Where the bytes of the target came from, and what the patch takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Of windows that are as in the first base.
    pub unchanged: u64,
    /// Copied from a base.
    pub copied: u64,
    /// Zeros.
    pub zeros: u64,
    /// Nowhere in the bases, but earlier in the target.
    pub again: u64,
    /// Carried in the patch.
    pub literals: u64,
    /// What the literals take there.
    pub packed: u64,
    /// Bytes of the patch.
    pub patch: u64,
}

/// Writes the patch that makes `target` of `bases`.
///
/// # Errors
/// Where a disk cannot be read, the patch not be written, memory does not suffice, or the operator interrupts.
pub fn create(
    bases: &[&dyn ReadAt],
    target: &dyn ReadAt,
    options: Options,
    out: &mut (dyn Write + Send),
    cx: &Cx<'_>,
) -> Result<Stats> {
    let indexed = Indexed::of(bases, cx)?;
    create_indexed(&indexed, bases, target, options, &mut Literals::nowhere(), out, cx)
}

/// As [`create`], with the index of these bases; tells where the literal bytes stand.
///
/// # Errors
/// As [`create`].
pub fn create_indexed(
    Indexed { index, leaves, pairs }: &Indexed,
    bases: &[&dyn ReadAt],
    target: &dyn ReadAt,
    options: Options,
    told: &mut Literals,
    out: &mut (dyn Write + Send),
    cx: &Cx<'_>,
) -> Result<Stats> {
    let facts: Vec<BaseFacts> = leaves.iter().map(Leaves::facts).collect();
    let sparse = index.sparse();
    let matcher = || Matcher::new(target, index, bases, leaves.first(), cx.limits);
    let window = |matcher: &mut Matcher<'_>, index: u64| matcher.window(index);
    let matched = |range: Range<u64>| range.into_par_iter().map_init(matcher, window).collect();
    Work { bases, pairs, target, options, sparse, matched: &matched, cx }.begin(&facts, told, out)
}

/// Writes the patch that makes `target` of the disks that these are the signatures of; tells where the literal bytes stand.
///
/// # Errors
/// As [`create`].
pub fn create_upon<D: ReadAt + Send>(
    signatures: &[Signature<D>],
    target: &dyn ReadAt,
    options: Options,
    told: &mut Literals,
    out: &mut (dyn Write + Send),
    cx: &Cx<'_>,
) -> Result<Stats> {
    let memory = Len::new(cx.limits.memory.get() >> 2);
    let remote = Remote::of(signatures, memory, cx)?;
    let facts: Vec<BaseFacts> = signatures.iter().map(Signature::facts).collect();
    let sparse = index::sparse(index::stored(target, cx)?.get(), memory);
    let matcher = || remote::Matcher::new(target, &remote, sparse, cx.limits);
    let window = |matcher: &mut remote::Matcher<'_, D>, index: u64| matcher.window(index);
    let matched = |range: Range<u64>| range.into_par_iter().map_init(matcher, window).collect();
    let (bases, pairs) = (&[], &Pairs::default());
    Work { bases, pairs, target, options, sparse, matched: &matched, cx }.begin(&facts, told, out)
}

/// Compares windows, on all threads.
type Match<'a> = dyn Fn(Range<u64>) -> disk::Result<Vec<Matched>> + Sync + 'a;

struct Work<'a> {
    /// What dictionaries may come from.
    bases: &'a [&'a dyn ReadAt],
    /// Files of the target whose older versions the bases have.
    pairs: &'a Pairs,
    target: &'a dyn ReadAt,
    options: Options,
    /// An anchor in 2^n bytes.
    sparse: u32,
    matched: &'a Match<'a>,
    cx: &'a Cx<'a>,
}

impl Work<'_> {
    fn begin(&self, bases: &[BaseFacts], told: &mut Literals, out: &mut (dyn Write + Send)) -> Result<Stats> {
        let (target, cx) = (self.target, self.cx);
        refuse_huge("the target", target.len())?;
        if to_u64(bases.len()) > BASES {
            return Err(Error::TooMany { bases: bases.len() });
        }
        let flags = if self.options.drop_free { flag::DROP_FREE } else { 0 };
        let writer = Writer::begin(out, flags, target.len(), bases)?;
        let anchors = (index::stored(target, cx)?, self.sparse.saturating_add(1));
        let memory = Len::new(cx.limits.memory.get() >> 3);
        let again = Again::new(target, self.options.frame(), anchors, memory, &cx.limits)?;
        self.run(Sink {
            writer,
            again,
            tree: Tree::default(),
            frames: vec![Frame::default()],
            size: self.options.frame(),
            stats: Stats::default(),
            pairs: self.pairs,
            told,
        })
    }

    fn run(&self, mut sink: Sink<'_>) -> Result<Stats> {
        let count = windows(self.target.len());
        let task = self.cx.progress.task("delta", Total::Bytes(self.target.len()));
        let batch = BATCH.saturating_mul(to_u64(rayon::current_num_threads()));
        let range = |first: u64| first..first.saturating_add(batch).min(count);
        let mut next = 0;
        let mut matched = (self.matched)(range(next))?;
        while !matched.is_empty() {
            self.cx.cancel.check()?;
            let first = next;
            next = range(next).end;
            let (later, done) =
                rayon::join(|| (self.matched)(range(next)), || sink.take(first, matched, self));
            done?;
            matched = later?;
            let done = Span::between(
                window(first, self.target.len()).start(),
                window(next, self.target.len()).start(),
            );
            task.advance(done.unwrap_or_default().len().get());
        }
        sink.finish(self)
    }
}

/// Literals on their way into a frame.
#[derive(Default)]
struct Frame {
    literals: Vec<u8>,
    likes: Likes,
    /// Where they stand on the target, if somebody wants to know.
    places: Vec<Span>,
}

impl Frame {
    /// Bytes that still fit.
    fn room(&self, size: Len) -> usize {
        size.to_usize().saturating_sub(self.literals.len())
    }
}

/// What happens in order.
struct Sink<'a> {
    writer: Writer<'a>,
    again: Again<'a>,
    tree: Tree,
    /// All but the last one are full.
    frames: Vec<Frame>,
    /// Literal bytes of each.
    size: Len,
    stats: Stats,
    pairs: &'a Pairs,
    told: &'a mut Literals,
}

impl Sink<'_> {
    /// Takes the windows from `first` on.
    fn take(&mut self, first: u64, batch: Vec<Matched>, work: &Work<'_>) -> Result<()> {
        for (index, mut matched) in (first..).zip(batch) {
            self.tree.push(matched.leaf);
            let span = window(index, work.target.len());
            let len = span.len().get();
            if matched.unchanged {
                self.stats.unchanged = self.stats.unchanged.saturating_add(len);
                continue;
            }
            let literals = self.again.literals;
            let kept = self.again.window(index, &mut matched)?;
            self.stats.add(&matched.ops);
            self.writer.window(index, &matched.leaf, &matched.ops, literals)?;
            let mut passed = 0_usize;
            let mut runs = matched.runs.iter().map(|run| {
                let start = passed;
                passed = passed.saturating_add(run.range.len());
                (start..passed, run)
            });
            let mut run = runs.next();
            for range in kept {
                while run.as_ref().is_some_and(|(literals, _)| literals.end <= range.start) {
                    run = runs.next();
                }
                let within = run.as_ref().map_or(0, |(literals, run)| {
                    run.range.start.saturating_add(range.start.saturating_sub(literals.start))
                });
                let at = Offset::new(span.start().get().saturating_add(to_u64(within)));
                let bytes = matched.literals.get(range).unwrap_or_default();
                self.append(bytes, at, run.as_ref().map(|(_, run)| *run));
            }
        }
        self.pack(work, false)
    }

    /// Adds literals, which stand at `at` on the target.
    fn append(&mut self, mut bytes: &[u8], mut at: Offset, run: Option<&Run>) {
        while !bytes.is_empty() {
            let size = self.size;
            let Some(frame) = self.frames.last_mut().filter(|frame| frame.room(size) > 0) else {
                self.frames.push(Frame::default());
                continue;
            };
            let (now, later) = bytes.split_at(frame.room(size).min(bytes.len()));
            frame.literals.extend(now);
            if self.told.wanted() {
                told::place(&mut frame.places, at, now.len());
            }
            let span = Span::new(at, Len::of(now)).unwrap_or_default();
            frame.likes.add(span, run, self.pairs);
            at = span.end();
            bytes = later;
        }
    }

    /// Packs and writes frames that are full, as soon as there are some for all threads, or all frames.
    fn pack(&mut self, work: &Work<'_>, all: bool) -> Result<()> {
        let Options { codec, level, .. } = work.options;
        let full = self.frames.iter().filter(|frame| frame.room(self.size) == 0 || all).count();
        if !all && full < rayon::current_num_threads() {
            return Ok(());
        }
        let frames: Vec<Frame> =
            self.frames.drain(..full).filter(|frame| !frame.literals.is_empty()).collect();
        let one = |frame: &Frame| {
            let likes = frame.likes.chosen(work.bases, self.size);
            frame::pack(&frame.literals, &likes, work.bases, (codec, level), &work.cx.limits)
        };
        let each = codec.memory(Len::new(self.size.get().saturating_mul(2))).get();
        let most = work.cx.limits.memory.get().checked_div(each).unwrap_or_default();
        for frames in frames.chunks(to_usize(most).max(1)) {
            let records: Vec<Result<Vec<u8>>> = frames.par_iter().map(one).collect();
            for (frame, record) in frames.iter().zip(records) {
                let record = record?;
                self.stats.packed = self.stats.packed.saturating_add(to_u64(record.len()));
                self.told.frame(&frame.places, record.len());
                self.writer.frame(&record, frame.literals.len())?;
            }
        }
        Ok(())
    }

    fn finish(mut self, work: &Work<'_>) -> Result<Stats> {
        self.pack(work, true)?;
        self.stats.patch = self.writer.finish(self.tree.finish())?.get();
        Ok(self.stats)
    }
}

impl Stats {
    pub(crate) fn add(&mut self, ops: &[crate::format::op::Op]) {
        use crate::format::op::Op;
        for op in ops {
            let sum = match op {
                Op::Zero(_) => &mut self.zeros,
                Op::Fresh(_) => &mut self.literals,
                Op::Copy { .. } => &mut self.copied,
                Op::Again { .. } => &mut self.again,
            };
            *sum = sum.saturating_add(op.len());
        }
    }
}
