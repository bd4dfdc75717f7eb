//! A patch and its bases as a disk.
//!
//! 1. What was read from the bases while they were compared with the patch must not change; nothing of them is
//!    compared again but what becomes a part of a window that has an entry.
//! 2. A window is made as a whole and compared with its value before a byte of it is handed out.
//! 3. Windows, frames and lists are kept for a while, and frames decoded, in as many as the memory allows.

mod against;
mod kept;
mod make;
mod prove;
mod spared;
mod turns;

pub use against::Against;

use crate::digest::{self, Leaves, WINDOW, window};
use crate::error::{Error, Result};
use crate::format::frame::{DICTIONARY, FRAME, Pools};
use crate::format::op::Op;
use crate::format::patch::Patch;
use crate::format::section::{Entry, Section};
use crate::pool::{Buf, Pool};
use disk::{Cx, ExtentKind, ExtentMap, Limits, ReadAt};
pub use kept::Kept;
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset, Span};
use prove::Make;
use spared::{Spared, Wants};
use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
pub use turns::Turns;

/// Lists that are kept.
const LISTS: usize = 4;
/// A part of the memory that is for windows that are kept, and for frames.
const KEPT: u64 = 8;
/// A part of the memory that is for frames that are being decoded.
const DECODING: u64 = 4;
/// A part of the memory that is for bytes of frames that will be needed again.
const SPARED: u64 = 32;

/// Who makes so many windows makes more of them: it pays to know what they will need again.
const FEW: usize = 8;

/// Bytes of the literal stream, and where they stand in it.
type Literals = (Span, Buf);

/// How many things are held at once.
struct Room {
    windows: usize,
    frames: usize,
    decoding: usize,
}

impl Room {
    /// As many as pay, and as memory allows.
    fn of(limits: &Limits) -> Self {
        let each = to_u64(limits.threads.max(1));
        let part = |part: u64, one: Len| {
            limits.memory.get().checked_div(part.saturating_mul(one.get())).unwrap_or_default()
        };
        // A record, its dictionary, and what comes out.
        let decoded = Len::new(FRAME.get().saturating_mul(2).saturating_add(DICTIONARY.get()));
        Self {
            windows: to_usize(part(KEPT, WINDOW).min(each.saturating_add(1)).max(1)),
            frames: to_usize(part(KEPT, FRAME).min(each.saturating_add(1)).max(1)),
            decoding: to_usize(part(DECODING, decoded).min(each).max(1)),
        }
    }
}

/// The disk that a patch makes of its bases.
pub struct Patched<D, B> {
    patch: Patch<D>,
    /// In the order of the patch.
    bases: Vec<B>,
    limits: Limits,
    windows: Kept<Buf>,
    /// What windows are made in.
    made: Arc<Pool>,
    frames: Kept<Literals>,
    /// How many of them are kept.
    most: usize,
    /// What they are decoded in.
    pools: Pools,
    lists: Kept<Section>,
    /// How many windows were made.
    count: AtomicUsize,
    spared: OnceLock<Spared>,
    decoding: Turns,
}

impl<D: ReadAt + Send, B: ReadAt + Send> Patched<D, B> {
    /// Takes a patch, and its bases in any order, each with the values of its windows. What the patch says about the
    /// result is compared with what its parts make of these bases.
    ///
    /// # Errors
    /// Where the patch was made from other bases, or is damaged.
    pub fn new(patch: Patch<D>, given: Vec<(B, Leaves)>, cx: &Cx<'_>) -> Result<Self> {
        Self::with(patch, given, Make::Zeros, cx)
    }

    /// As [`Patched::new`], and makes every window that is not as in the first base.
    ///
    /// # Errors
    /// As [`Patched::new`], and where a base cannot be read.
    pub fn verified(patch: Patch<D>, given: Vec<(B, Leaves)>, cx: &Cx<'_>) -> Result<Self> {
        Self::with(patch, given, Make::All, cx)
    }

    fn with(patch: Patch<D>, given: Vec<(B, Leaves)>, make: Make, cx: &Cx<'_>) -> Result<Self> {
        let (bases, leaves) = assign(&patch, given)?;
        let room = Room::of(&cx.limits);
        let patched = Self {
            patch,
            bases,
            limits: cx.limits,
            windows: Kept::new(room.windows),
            made: Pool::new(),
            frames: Kept::new(room.frames),
            most: room.frames,
            pools: Pools::new(),
            lists: Kept::new(LISTS),
            count: AtomicUsize::new(0),
            spared: OnceLock::new(),
            decoding: Turns::new(room.decoding),
        };
        patched.prove(leaves.first(), make, cx)?;
        Ok(patched)
    }

    /// What the patch says about itself.
    pub const fn patch(&self) -> &Patch<D> {
        &self.patch
    }
}

impl<D: ReadAt, B: ReadAt> Patched<D, B> {
    /// Reads from the first base, and zeros behind its end.
    fn unchanged(&self, span: Span, buf: &mut [u8]) -> disk::Result<()> {
        let there = self.bases.first().and_then(|base| span.intersect(Span::whole(base.len())));
        let (from_base, zeros) = buf.split_at_mut(there.unwrap_or_default().len().to_usize().min(buf.len()));
        zeros.fill(0);
        match (there, self.bases.first()) {
            (Some(there), Some(base)) => digest::fill(base, there, from_base),
            _ => Ok(()),
        }
    }

    /// The list that has window `index`, and which of its entries that is.
    fn entry(&self, index: u64) -> Result<Option<(Arc<Section>, Entry)>> {
        let Some(number) = self.patch.section_of(index) else { return Ok(None) };
        let section = self.lists.get(to_u64(number), || self.patch.section(number))?;
        let found = section.entries().binary_search_by_key(&index, |entry| entry.index).ok();
        let entry = found.and_then(|at| section.entries().get(at)).cloned();
        Ok(entry.map(|entry| (section, entry)))
    }

    fn ops(&self, section: &Section, entry: &Entry) -> Result<Vec<Op>> {
        let ops = section.ops(entry, &self.patch.bounds());
        ops.map_err(|why| Error::damaged("the window", window(entry.index, WINDOW).start(), why))
    }

    /// The literal bytes of a frame. Those that its dictionary names come before them.
    fn frame(&self, number: usize) -> Result<Arc<Literals>> {
        self.frames.get(to_u64(number), || self.decode(number))
    }

    /// The literal bytes of a frame of which a window takes fresh ones. The windows behind it need the next frames: who
    /// must wait for this one, because another thread decodes it, begins with one of those.
    fn fresh_frame(&self, number: usize) -> Result<Arc<Literals>> {
        let mut ahead = number.saturating_add(1)..number.saturating_add(self.most).min(self.patch.frames());
        let begin = || {
            ahead.any(|next| self.frames.prepare(to_u64(next), || self.decode(next)));
        };
        self.frames.get_meanwhile(to_u64(number), || self.decode(number), begin)
    }

    fn decode(&self, number: usize) -> Result<Literals> {
        let stream = |at: Offset, buf: &mut [u8]| self.literals(at.get(), buf);
        let (span, bytes) = self.patch.frame(number, &self.bases, &stream, &self.pools)?;
        if let Some(spared) = self.spared.get() {
            spared.keep(number, span.start(), &bytes);
        }
        Ok((span, bytes))
    }

    /// What windows want of frames that are not theirs: known when many windows are made.
    fn spared(&self) -> Option<&Spared> {
        if self.count.fetch_add(1, Ordering::Relaxed) < FEW {
            return self.spared.get();
        }
        // A patch that is damaged is told of by who makes its windows.
        Some(self.spared.get_or_init(|| self.wants().map(Wants::spared).unwrap_or_default()))
    }

    /// Bytes of the literal stream from `at` on.
    fn literals(&self, mut at: u64, mut buf: &mut [u8]) -> Result<()> {
        while !buf.is_empty() {
            let missing = || Error::damaged("the trailer", Offset::ZERO, "lacks a frame");
            let number = self.patch.frame_of(at).ok_or_else(missing)?;
            let frame = self.frame(number)?;
            let (span, bytes) = &*frame;
            let from = to_usize(at.saturating_sub(span.start().get()));
            let there = bytes.get(from..).filter(|there| !there.is_empty()).ok_or_else(missing)?;
            let len = there.len().min(buf.len());
            let (part, behind) = std::mem::take(&mut buf).split_at_mut(len);
            part.copy_from_slice(there.get(..len).unwrap_or_default());
            buf = behind;
            at = at.saturating_add(to_u64(len));
        }
        Ok(())
    }

    fn read(&self, span: Span, buf: &mut [u8]) -> Result<()> {
        let mut rest = buf;
        for part in pieces(span) {
            let (target, behind) = std::mem::take(&mut rest).split_at_mut(part.len().to_usize());
            rest = behind;
            let index = number_of(part);
            match self.entry(index)? {
                None => self.unchanged(part, target)?,
                Some((section, entry)) => {
                    let bytes = self.windows.get(index, || self.make(&section, &entry))?;
                    let start = to_usize(part.start().get() & WINDOW.get().saturating_sub(1));
                    let source = bytes.get(start..).and_then(|behind| behind.get(..target.len()));
                    target.copy_from_slice(source.ok_or(Error::WrongResult { at: part.start() })?);
                }
            }
        }
        Ok(())
    }

    fn map(&self, within: Span) -> Result<ExtentMap> {
        let mut map = ExtentMap::new();
        for part in pieces(within) {
            let Some((section, entry)) = self.entry(number_of(part))? else {
                self.map_unchanged(part, &mut map)?;
                continue;
            };
            let mut at = window(entry.index, self.patch.facts().target.len).start();
            for op in self.ops(&section, &entry)? {
                let span = Span::new(at, Len::new(op.len())).unwrap_or_default();
                at = span.end();
                let kind = if matches!(op, Op::Zero(_)) { ExtentKind::Hole } else { ExtentKind::Data };
                if let Some(span) = span.intersect(part) {
                    map.push(span, kind);
                }
            }
        }
        Ok(map)
    }

    fn map_unchanged(&self, span: Span, map: &mut ExtentMap) -> Result<()> {
        let first = self.bases.first();
        let there = first.and_then(|base| span.intersect(Span::whole(base.len())));
        if let Some((there, base)) = there.zip(first) {
            base.extents(there)?.iter().for_each(|extent| map.push(extent.span, extent.kind));
        }
        let zeros = Span::between(there.map_or(span.start(), Span::end), span.end());
        map.push(zeros.unwrap_or_default(), ExtentKind::Hole);
        Ok(())
    }
}

/// The parts of a span that lie in one window each.
pub fn pieces(span: Span) -> impl Iterator<Item = Span> {
    let first = number_of(span);
    let last = span.end().get().div_ceil(WINDOW.get());
    let whole = move |index: u64| {
        let start = index.saturating_mul(WINDOW.get());
        Span::between(Offset::new(start), Offset::new(start.saturating_add(WINDOW.get())))
    };
    (first..last).filter_map(move |index| whole(index)?.intersect(span)).filter(|part| !part.is_empty())
}

fn number_of(span: Span) -> u64 {
    span.start().get().checked_div(WINDOW.get()).unwrap_or_default()
}

/// Bases in the order of the patch, with the values of their windows.
fn assign<D: ReadAt, B>(patch: &Patch<D>, given: Vec<(B, Leaves)>) -> Result<(Vec<B>, Vec<Leaves>)> {
    let mut found = String::new();
    let mut given: Vec<_> =
        given.into_iter().map(|(base, leaves)| (leaves.digest(), Some((base, leaves)))).collect();
    let (mut bases, mut all) = (Vec::new(), Vec::new());
    for wanted in &patch.facts().bases {
        let fits = |(digest, slot): &&mut (crate::Digest, Option<(B, Leaves)>)| {
            *digest == wanted.digest && slot.as_ref().is_some_and(|(_, leaves)| leaves.len() == wanted.len)
        };
        let Some((base, leaves)) = given.iter_mut().find(fits).and_then(|(_, slot)| slot.take()) else {
            for (digest, _) in &given {
                let comma = if found.is_empty() { "the base has digest" } else { "," };
                let _ = write!(found, "{comma} {}", digest.to_hex());
            }
            if found.is_empty() {
                found.push_str("there is no base");
            }
            let wanted = format!("one of {} bytes with digest {}", wanted.len, wanted.digest.to_hex());
            return Err(Error::WrongBase { found, wanted });
        };
        bases.push(base);
        all.push(leaves);
    }
    Ok((bases, all))
}

impl<D: ReadAt + Send, B: ReadAt + Send> ReadAt for Patched<D, B> {
    fn len(&self) -> Len {
        self.patch.facts().target.len
    }

    fn read_at(&self, at: Offset, buf: &mut [u8]) -> disk::Result<()> {
        let span = disk::traits::bounded(at, buf.len(), self.len())?;
        Ok(self.read(span, buf)?)
    }

    fn extents(&self, within: Span) -> disk::Result<ExtentMap> {
        Ok(self.map(within)?)
    }
}

impl From<Error> for disk::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Disk(inner) => inner,
            other => Self::layer(other),
        }
    }
}
