//! Bytes of the disk beside the image: read and written piece by piece, by several threads.

use super::{How, Job, Source, Step, reads_zero, split};
use crate::journal::RECORD_MAX;
use crate::{Change, Cx, Dev, Error, Pour, ReadAt, Result, Task};
use ondisk::{Offset, Span};
use std::sync::{Mutex, PoisonError};

/// A pour in steps. What goes to unused bytes that do not read as zero passes the journal.
pub(super) fn steps(dev: &dyn Dev, change: &Change, pour: Pour, steps: &mut Vec<Step<'_>>) -> Result<()> {
    let bad = || Error::BadChange { what: "pours outside the image", span: pour.from };
    let target = Span::new(pour.to, pour.from.len()).ok_or_else(bad)?;
    for (half, inside) in split(target, change.old_len) {
        for span in half.chunks(RECORD_MAX) {
            let ahead = span.start().since(pour.to).ok_or_else(bad)?;
            let source = Source::Beside(pour.from.start().checked_add(ahead).ok_or_else(bad)?);
            let how = match inside {
                true if pour.shadowed => How::Shadowed,
                _ => How::fresh(!inside || reads_zero(dev, span)?),
            };
            steps.push(Step { span, how, source });
        }
    }
    Ok(())
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

/// Pours all of `steps`. Each thread holds one of them; one at a time writes, as the file below would have it anyway.
pub(super) fn run<'s, 'c: 's>(
    job: &mut Job<'_>,
    steps: impl Iterator<Item = &'s Step<'c>> + Send,
    task: &dyn Task,
    cx: &Cx<'_>,
) -> Result<()> {
    let beside = job.beside;
    let (next, dev) = (Mutex::new(steps), Mutex::new(&mut *job.dev));
    let failed = Mutex::new(None);
    let work = || -> Result<()> {
        let mut room = vec![0; RECORD_MAX.to_usize()];
        loop {
            cx.cancel.check()?;
            let step = next.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(Step { span, source: Source::Beside(from), .. }) = step else { return Ok(()) };
            if failed.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
                return Ok(());
            }
            let bytes = room.get_mut(..span.len().to_usize()).unwrap_or_default();
            fill(beside, *from, *span, bytes)?;
            dev.lock().unwrap_or_else(PoisonError::into_inner).write_at(span.start(), bytes)?;
            task.advance(span.len().get());
        }
    };
    let worker = || {
        if let Err(error) = work() {
            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..cx.limits.threads {
            scope.spawn(worker);
        }
        worker();
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}
