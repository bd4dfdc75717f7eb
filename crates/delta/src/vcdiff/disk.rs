//! A patch and its base as a disk.
//!
//! 1. A window is made as a whole, and compared with its checksum before a byte of it is handed out.
//! 2. Where compressed sections go on from window to window, they are unpacked in order; what was passed over is kept,
//!    for windows are asked for by several threads. Going far back begins anew.

use super::adler;
use super::decode::{self, Sections};
use super::layout::packed;
use super::read::{Facts, LARGEST, Vcdiff, Window};
use super::secondary::{Reader, Secondary};
use crate::error::{Error, Result};
use crate::patched::{Kept, Turns};
use disk::{Cx, ExtentKind, ExtentMap, Limits, ReadAt, Total};
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset, Span};
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The sections of a window take so many times what it makes, unless it is a strange one.
const SECTIONS: u64 = 2;

/// The disk that a patch makes of its base.
pub struct Decoded<D, B> {
    patch: Vcdiff<D>,
    base: Option<B>,
    windows: Kept<Vec<u8>>,
    order: Mutex<Order>,
    /// Windows that are made at once, at most.
    turns: Turns,
    room: usize,
    limits: Limits,
}

impl<D: ReadAt + Send, B: ReadAt + Send> Decoded<D, B> {
    /// Takes a patch and its base.
    ///
    /// # Errors
    /// Where there is no base and the patch needs one, or the base is too short.
    pub fn new(patch: Vcdiff<D>, base: Option<B>, limits: Limits) -> Result<Self> {
        let there = base.as_ref().map(B::len);
        if let Some(need) = patch.facts().base.filter(|need| there.is_none_or(|there| there < *need)) {
            let found = there
                .map_or_else(|| "there is no base".to_owned(), |len| format!("the base has {len} bytes"));
            return Err(Error::WrongBase { found, wanted: format!("one of at least {need} bytes") });
        }
        let largest = patch.windows().iter().map(|window| window.target.len()).max().unwrap_or(LARGEST);
        let fit = |part: u64, each: u64| {
            let count = part.checked_div(largest.get().saturating_mul(each).max(1)).unwrap_or_default();
            to_usize(count).clamp(1, limits.threads.saturating_add(1))
        };
        let quarter = limits.memory.get() >> 2;
        let order = Mutex::new(Order { room: fit(quarter, SECTIONS), ..Order::default() });
        let room = fit(quarter, SECTIONS.saturating_add(1));
        let turns = Turns::new(room);
        Ok(Self { patch, base, windows: Kept::new(fit(quarter, 1)), order, turns, room, limits })
    }

    /// What the patch says about itself.
    pub const fn facts(&self) -> &Facts {
        self.patch.facts()
    }

    /// Makes every window.
    ///
    /// # Errors
    /// Where one cannot be made, or has not its checksum.
    pub fn verify(&self, cx: &Cx<'_>) -> Result<()> {
        let task = cx.progress.task("verify", Total::Bytes(self.facts().target));
        let numbered: Vec<(usize, &Window)> = self.patch.windows().iter().enumerate().collect();
        for batch in numbered.chunks(self.room.max(1)) {
            cx.cancel.check()?;
            // In order: sections may go on from window to window.
            let sections = batch.iter().map(|(number, window)| self.sections(*number, window));
            let sections = sections.collect::<Result<Vec<Sections>>>()?;
            batch.par_iter().zip(sections).try_for_each(|((_, window), sections)| {
                self.finish(window, &sections)?;
                task.advance(window.target.len().get());
                Ok::<(), Error>(())
            })?;
        }
        Ok(())
    }

    fn make(&self, number: usize) -> Result<Vec<u8>> {
        let Some(window) = self.patch.windows().get(number) else { return Ok(Vec::new()) };
        let _turn = self.turns.take();
        self.finish(window, &self.sections(number, window)?)
    }

    fn finish(&self, window: &Window, sections: &Sections) -> Result<Vec<u8>> {
        let base = self.base.as_ref().map(|base| -> &dyn ReadAt { base });
        let bytes = decode::make(window, sections, base, &self.limits)?;
        match window.checksum {
            Some(told) if told != adler::of(&bytes) => Err(Error::Mismatch { at: window.target.start() }),
            _ => Ok(bytes),
        }
    }

    /// The sections of a window.
    fn sections(&self, number: usize, window: &Window) -> Result<Sections> {
        let Some(secondary) = self.patch.facts().secondary else {
            return self.patch.sections(window, &self.limits);
        };
        if !secondary.goes_on() {
            return unpacked(&self.patch, window, &mut readers(secondary), &self.limits);
        }
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        order.get(number, &self.patch, secondary, &self.limits)
    }

    /// The windows that have bytes in `span`, by number, and which ones.
    fn pieces(&self, span: Span) -> impl Iterator<Item = (usize, Span)> {
        let windows = self.patch.windows();
        let first = windows.partition_point(|window| window.target.end() <= span.start());
        let from = windows.iter().enumerate().skip(first);
        from.map_while(move |(number, window)| {
            let part = window.target.intersect(span);
            (window.target.start() < span.end()).then_some((number, part.unwrap_or_default()))
        })
        .filter(|(_, part)| !part.is_empty())
    }

    fn read(&self, span: Span, buf: &mut [u8]) -> Result<()> {
        let mut rest = buf;
        for (number, part) in self.pieces(span) {
            let (target, behind) = std::mem::take(&mut rest).split_at_mut(part.len().to_usize());
            rest = behind;
            let Some(window) = self.patch.windows().get(number) else { continue };
            if window.zeros {
                target.fill(0);
                continue;
            }
            let bytes = self.windows.get(to_u64(number), || self.make(number))?;
            let within = part.relative_to(window.target.start()).unwrap_or_default();
            let from =
                bytes.get(to_usize(within.start().get())..).and_then(|bytes| bytes.get(..target.len()));
            target.copy_from_slice(from.ok_or(Error::Mismatch { at: part.start() })?);
        }
        Ok(())
    }
}

/// Sections that go on from window to window.
#[derive(Default)]
struct Order {
    /// The window whose sections come next.
    next: usize,
    readers: Option<[Reader; 3]>,
    /// What was unpacked and nobody has taken.
    passed: BTreeMap<usize, Sections>,
    /// How many of these are kept.
    room: usize,
}

impl Order {
    fn get<D: ReadAt>(
        &mut self,
        number: usize,
        patch: &Vcdiff<D>,
        secondary: Secondary,
        limits: &Limits,
    ) -> Result<Sections> {
        if let Some(passed) = self.passed.remove(&number) {
            return Ok(passed);
        }
        if number < self.next {
            self.next = 0;
            self.readers = None;
            self.passed.clear();
        }
        let readers = self.readers.get_or_insert_with(|| readers(secondary));
        loop {
            let at = self.next;
            let Some(window) = patch.windows().get(at) else { return Ok(Sections::default()) };
            // A window that cannot be unpacked is the last one that the readers are good for.
            self.next = usize::MAX;
            let sections = unpacked(patch, window, readers, limits)?;
            self.next = at.saturating_add(1);
            if at == number {
                return Ok(sections);
            }
            if self.passed.len() >= self.room {
                self.passed.pop_first();
            }
            self.passed.insert(at, sections);
        }
    }
}

fn readers(secondary: Secondary) -> [Reader; 3] {
    [Reader::new(secondary), Reader::new(secondary), Reader::new(secondary)]
}

/// The sections of a window, unpacked.
fn unpacked<D: ReadAt>(
    patch: &Vcdiff<D>,
    window: &Window,
    readers: &mut [Reader; 3],
    limits: &Limits,
) -> Result<Sections> {
    let mut sections = patch.sections(window, limits)?;
    for (which, ((section, reader), flag)) in sections.iter_mut().zip(readers).zip(packed::EACH).enumerate() {
        if window.packed & flag != 0 {
            let unpacked = reader.unpack(section, window.most(which), limits);
            *section = unpacked.map_err(|why| Error::damaged("a section of the window", window.at, why))?;
        }
    }
    Ok(sections)
}

impl<D: ReadAt + Send, B: ReadAt + Send> ReadAt for Decoded<D, B> {
    fn len(&self) -> Len {
        let facts = self.facts();
        facts.target
    }

    fn read_at(&self, at: Offset, buf: &mut [u8]) -> disk::Result<()> {
        let span = disk::traits::bounded(at, buf.len(), self.len())?;
        Ok(self.read(span, buf)?)
    }

    fn extents(&self, within: Span) -> disk::Result<ExtentMap> {
        let mut map = ExtentMap::new();
        for (number, part) in self.pieces(within) {
            let zeros = self.patch.windows().get(number).is_some_and(|window| window.zeros);
            map.push(part, if zeros { ExtentKind::Hole } else { ExtentKind::Data });
        }
        Ok(map)
    }
}
