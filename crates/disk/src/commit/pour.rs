//! Bytes of the disk beside the image: read and written piece by piece, by several threads.
//!
//! 1. Whole pages go past the system's cache where the image's file can do that, many at once.
//! 2. What is left, the rims of blocks that do not begin where a page does, goes through the cache behind them.

use super::{How, Job, Source, Step, reads_zero, split};
use crate::dev::{PAGE, Pages, PastCache};
use crate::journal::RECORD_MAX;
use crate::{Change, Cx, Dev, Error, Over, Pour, ReadAt, Result, Task, crew};
use ondisk::num::{round_down, round_up, to_u64};
use ondisk::{Len, Offset, Span};
use std::sync::{Mutex, PoisonError};

/// So much is written at once where it lies together: a medium likes it long, a processor's cache does not.
const PIECE: Len = Len::mib(4);

/// A pour in steps. What goes to unused bytes that do not read as zero passes the journal.
pub(super) fn steps(dev: &dyn Dev, change: &Change, pour: Pour, steps: &mut Vec<Step<'_>>) -> Result<()> {
    let bad = || Error::BadChange { what: "pours outside the image", span: pour.from };
    let target = Span::new(pour.to, pour.from.len()).ok_or_else(bad)?;
    for (half, inside) in split(target, change.old_len) {
        for span in cut_evenly(half) {
            let ahead = span.start().since(pour.to).ok_or_else(bad)?;
            let source = Source::Beside(pour.from.start().checked_add(ahead).ok_or_else(bad)?);
            let how = match pour.over {
                Over::Shadowed if inside => How::Shadowed,
                Over::Read if inside => How::Home,
                _ => How::fresh(!inside || reads_zero(dev, span)?),
            };
            steps.push(Step { span, how, source });
        }
    }
    Ok(())
}

/// Pieces of the length of a record that end where the whole file would be cut: on pages, wherever the span begins.
fn cut_evenly(span: Span) -> impl Iterator<Item = Span> {
    let even = round_up(span.start().get(), RECORD_MAX.get()).map_or(span.end(), Offset::new);
    let cut = even.clamp(span.start(), span.end());
    let halves = [Span::between(span.start(), cut), Span::between(cut, span.end())];
    halves.into_iter().flatten().flat_map(|half| half.chunks(RECORD_MAX))
}

/// The bytes for `span` that lie beside from `from` on.
pub(super) fn load(beside: Option<&dyn ReadAt>, from: Offset, span: Span) -> Result<Vec<u8>> {
    let mut bytes = vec![0; span.len().to_usize()];
    fill(beside, from, span, &mut bytes)?;
    Ok(bytes)
}

fn fill(beside: Option<&dyn ReadAt>, from: Offset, span: Span, bytes: &mut [u8]) -> Result<()> {
    let missing = Error::BadChange { what: "pours from a disk that is not there", span };
    beside.ok_or(missing)?.read_at(from, bytes)
}

/// Bytes that lie beside from `from` on, and where they go.
#[derive(Clone, Copy)]
struct Part {
    span: Span,
    from: Offset,
}

impl Part {
    /// The part of it that goes to `span`.
    fn cut(self, span: Span) -> Option<Self> {
        let ahead = span.start().since(self.span.start())?;
        let from = self.from.checked_add(ahead)?;
        (!span.is_empty()).then_some(Self { span, from })
    }

    /// Both as one, where they lie together and it does not get too long.
    fn joined(self, next: Self) -> Option<Self> {
        let both = Span::between(self.span.start(), next.span.end()).filter(|both| both.len() <= PIECE)?;
        let together =
            self.span.end() == next.span.start() && self.from.checked_add(self.span.len()) == Some(next.from);
        together.then_some(Self { span: both, ..self })
    }

    /// The whole pages in it, and what lies before and behind them.
    fn pages(self) -> (Option<Self>, [Option<Self>; 2]) {
        let (start, end, page) = (self.span.start(), self.span.end(), to_u64(PAGE));
        let first = round_up(start.get(), page).map_or(end, Offset::new).clamp(start, end);
        let last = round_down(end.get(), page).map_or(first, Offset::new).clamp(first, end);
        let part = |from, to| Span::between(from, to).and_then(|span| self.cut(span));
        (part(first, last), [part(start, first), part(last, end)])
    }
}

/// Pours all of `steps`. Each thread holds one piece of them.
pub(super) fn run<'s, 'c: 's>(
    job: &mut Job<'_>,
    steps: impl Iterator<Item = &'s Step<'c>>,
    change: &Change,
    task: &dyn Task,
    cx: &Cx<'_>,
) -> Result<()> {
    let mut parts: Vec<Part> = Vec::new();
    for step in steps {
        let Source::Beside(from) = step.source else { continue };
        let part = Part { span: step.span, from };
        match parts.last_mut() {
            Some(last) if let Some(joined) = last.joined(part) => *last = joined,
            _ => parts.push(part),
        }
    }
    // What goes past the cache is told to the open file, through which the disk beside may be read.
    let read = change.pours.iter().any(|pour| pour.over == Over::Read);
    let rest = if read { parts } else { past_cache(job, parts, task, cx)? };
    let dev = Mutex::new(&mut *job.dev);
    each(&rest, job.beside, cx, |part, bytes| {
        dev.lock().unwrap_or_else(PoisonError::into_inner).write_at(part.span.start(), bytes)?;
        task.advance(part.span.len().get());
        Ok(())
    })
}

/// Pours what can go past the system's cache. Yields what cannot.
fn past_cache(job: &mut Job<'_>, parts: Vec<Part>, task: &dyn Task, cx: &Cx<'_>) -> Result<Vec<Part>> {
    let Some(past) = job.dev.past_cache().filter(|_| !parts.is_empty()) else { return Ok(parts) };
    let (mut pages, mut rest) = (Vec::new(), Vec::new());
    for part in parts {
        match part.pages() {
            (Some(whole), rims) if whole.span.len() >= PastCache::LEAST => {
                pages.push(whole);
                rest.extend(rims.into_iter().flatten());
            }
            _ => rest.push(part),
        }
    }
    let rest = Mutex::new(rest);
    each(&pages, job.beside, cx, |part, bytes| {
        if past.write_at(part.span.start(), bytes)? {
            task.advance(part.span.len().get());
        } else {
            rest.lock().unwrap_or_else(PoisonError::into_inner).push(part);
        }
        Ok(())
    })?;
    Ok(rest.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Reads each of `parts` and hands it to `write`, in several threads.
fn each(
    parts: &[Part],
    beside: Option<&dyn ReadAt>,
    cx: &Cx<'_>,
    write: impl Fn(Part, &[u8]) -> Result<()> + Sync,
) -> Result<()> {
    let longest = parts.iter().map(|part| part.span.len()).max().unwrap_or_default();
    crew::each(
        parts,
        cx,
        || Pages::new(longest),
        |room, part| {
            let bytes = room.get_mut(part.span.len().to_usize());
            fill(beside, part.from, part.span, bytes)?;
            write(*part, bytes)
        },
    )
}
