//! `compare A B`: whether two images hold the same virtual disk, whatever their formats.
//!
//! ```text
//! maps of A and B ─► spans that at least one stores ─► workers: read both, compare
//! ```
//!
//! 1. What both know to be zero is not read.
//! 2. The difference that is told is the first one, whichever worker finds it.
//! 3. A longer disk is the same where it is zero behind the other's end, as for `qemu-img compare`.

use crate::args::Compare;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::output::Output;
use crate::sandbox::Needs;
use container::Mapped;
use disk::{Cx, ReadAt, Total};
use ondisk::num::to_u64;
use ondisk::{Len, Offset, Span};
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};

/// So much is compared at once.
const PIECE: Len = Len::mib(1);
/// So much of the maps is looked at at once.
const WINDOW: Len = Len::gib(1);

/// Runs it.
///
/// # Errors
/// Where an image cannot be read.
pub fn run(args: &Compare, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let a = session.open_either(&args.a, session.globals.format)?;
    let b = session.open_either(&args.b, args.format_b)?;
    session.refuse_choice(&[&a, &b])?;
    session.confine(&Needs::nothing(), out);
    let cx = session.cx();
    let (lens, first) = a.with_disk(session, out, |a| {
        b.with_disk(session, out, |b| {
            // Reads of A and of B are done by the same hands: an error is that of whichever it names.
            let sides = [Side { disk: a, name: &args.a }, Side { disk: b, name: &args.b }];
            Ok(([a.len(), b.len()], first_difference(&sides, &cx)?))
        })
    })?;
    let [shorter, longer] = [lens[0].min(lens[1]), lens[0].max(lens[1])];
    if shorter != longer && first.is_none() {
        out.warn(format!("the sizes differ, {shorter} and {longer} bytes; what is only in one is zero"));
    }
    match first {
        None => out.report("the contents are identical"),
        Some(at) => {
            let (a, b) = (show(&args.a), show(&args.b));
            out.report(format!("{a} and {b} differ: the first difference is at byte {at}"));
        }
    }
    out.document(&json!({
        "identical": first.is_none(),
        "first-difference": first.map(Offset::get),
        "virtual-sizes": lens.map(Len::get),
    }))?;
    Ok(if first.is_none() { Exit::Done } else { Exit::No })
}

/// One of the two.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) disk: &'a dyn Mapped,
    pub(super) name: &'a std::path::Path,
}

/// The first byte in which the two differ; behind the end of one, it counts as zero.
pub(super) fn first_difference(sides: &[Side<'_>; 2], cx: &Cx<'_>) -> Result<Option<Offset>, Failure> {
    let whole = Span::whole(sides[0].disk.len().max(sides[1].disk.len()));
    let task = cx.progress.task("compare", Total::Bytes(whole.len()));
    let per_worker = PIECE.get().saturating_mul(4);
    let room = cx.limits.memory.get().checked_div(per_worker).unwrap_or(1);
    let workers = to_u64(cx.limits.threads).min(room).max(1);
    let (queue, pieces) = sync_channel::<Span>(ondisk::num::to_usize(workers.saturating_mul(2)));
    let pieces = Mutex::new(pieces);
    let first = AtomicU64::new(u64::MAX);
    let failed: Mutex<Option<Failure>> = Mutex::new(None);
    let work = || {
        let mut bufs = [Vec::new(), Vec::new()];
        // The queue is emptied to its end whatever happens, so that nobody waits for room in it.
        while let Some(piece) = next(&pieces) {
            if piece.start().get() > first.load(Ordering::Relaxed) || cx.cancel.is_cancelled() {
                continue;
            }
            match differing(sides, piece, &mut bufs) {
                Ok(Some(at)) => drop(first.fetch_min(at.get(), Ordering::Relaxed)),
                Ok(None) => {}
                Err(failure) => {
                    first.store(0, Ordering::Relaxed);
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
                }
            }
            task.advance(piece.len().get());
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
        let planned = plan(sides, whole, cx, |piece, skipped| {
            task.advance(skipped.get());
            piece.start().get() <= first.load(Ordering::Relaxed) && queue.send(piece).is_ok()
        });
        drop(queue);
        planned
    })?;
    if let Some(failure) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(failure);
    }
    let first = first.into_inner();
    Ok((first != u64::MAX).then_some(Offset::new(first)))
}

/// Hands each piece that at least one of the two stores to `each`, with the length that was left out before it, until
/// `each` has seen enough.
fn plan(
    sides: &[Side<'_>; 2],
    whole: Span,
    cx: &Cx<'_>,
    each: impl Fn(Span, Len) -> bool,
) -> Result<(), Failure> {
    let mut at = whole.start();
    let mut rest = whole;
    while !rest.is_empty() {
        cx.cancel.check().of(sides[0].name)?;
        let zeros = zeros_ahead(sides, rest)?;
        let window = rest.chunks(WINDOW).next().unwrap_or(rest);
        rest = Span::between(window.end().max(zeros.end()), rest.end()).unwrap_or_default();
        if zeros.len() >= window.len() {
            continue;
        }
        for piece in stored(sides, window)?.iter().flat_map(|span| span.chunks(PIECE)) {
            cx.cancel.check().of(sides[0].name)?;
            if !each(piece, piece.start().since(at).unwrap_or_default()) {
                return Ok(());
            }
            at = piece.end();
        }
    }
    Ok(())
}

fn next(pieces: &Mutex<Receiver<Span>>) -> Option<Span> {
    pieces.lock().ok()?.recv().ok()
}

/// The zeros at the start of `rest` that both know of.
fn zeros_ahead(sides: &[Side<'_>; 2], rest: Span) -> Result<Span, Failure> {
    let mut zeros = rest;
    for side in sides {
        zeros = container::chain::zeros_ahead(side.disk, zeros).of(side.name)?;
    }
    Ok(zeros)
}

/// What at least one of the two stores.
fn stored(sides: &[Side<'_>; 2], window: Span) -> Result<ondisk::SpanSet, Failure> {
    let mut set = ondisk::SpanSet::new();
    for side in sides {
        if let Some(there) = window.intersect(Span::whole(side.disk.len())) {
            set.extend(side.disk.extents(there).of(side.name)?.data());
        }
    }
    Ok(set)
}

/// The first byte of `piece` in which the two differ.
fn differing(sides: &[Side<'_>; 2], piece: Span, bufs: &mut [Vec<u8>; 2]) -> Result<Option<Offset>, Failure> {
    for (side, buf) in sides.iter().zip(bufs.iter_mut()) {
        buf.clear();
        buf.resize(piece.len().to_usize(), 0);
        let there = piece.intersect(Span::whole(side.disk.len())).unwrap_or_default().len();
        let part = buf.get_mut(..there.to_usize()).unwrap_or_default();
        if !part.is_empty() {
            side.disk.read_at(piece.start(), part).of(side.name)?;
        }
    }
    let [a, b] = bufs;
    if a == b {
        return Ok(None);
    }
    let within = a.iter().zip(b.iter()).position(|(a, b)| a != b).unwrap_or_default();
    Ok(piece.start().checked_add(Len::new(to_u64(within))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use container::Container;
    use disk::{Cancel, Limits, MemDisk, Quiet};
    use std::path::Path;

    fn compared(a: &[u8], b: &[u8], threads: usize) -> Option<u64> {
        let cancel = Cancel::new();
        let limits = Limits { threads, ..Limits::default() };
        let cx = Cx { progress: &Quiet, cancel: &cancel, limits, now: 0 };
        let [a, b] = [a, b].map(|bytes| Container::Raw(MemDisk::from_bytes(bytes)));
        let sides = [Side { disk: &a, name: Path::new("a") }, Side { disk: &b, name: Path::new("b") }];
        first_difference(&sides, &cx).unwrap().map(Offset::get)
    }

    #[test]
    fn the_first_difference_is_told() {
        let base = testkit::images::noise(1, 9 << 20);
        assert_eq!(compared(&base, &base, 3), None);
        let mut other = base.clone();
        for at in [8 << 20, (5 << 20) + 17, (3 << 20) - 1] {
            other[at] ^= 1;
            for threads in [1, 4] {
                assert_eq!(compared(&base, &other, threads), Some(to_u64(at)), "{threads} threads");
            }
        }
    }

    #[test]
    fn a_tail_of_zeros_is_no_difference() {
        let base = testkit::images::noise(2, 1 << 20);
        let longer = [base.as_slice(), &[0; 8192]].concat();
        assert_eq!(compared(&base, &longer, 2), None);
        assert_eq!(compared(&longer, &base, 2), None);
        let marked = [longer.as_slice(), b"x"].concat();
        assert_eq!(compared(&base, &marked, 2), Some(to_u64(longer.len())));
    }
}
