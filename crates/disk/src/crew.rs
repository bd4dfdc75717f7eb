//! Several threads at one list.

use crate::{Cx, Error};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Hands each of `items` to one of as many threads as the limits allow, in order; `tool` makes what a thread keeps for
/// all that it does.
///
/// # Errors
/// The first that one of them has, or the wish to stop; the others end what they are at.
pub fn each<T: Sync, R, E: From<Error> + Send>(
    items: &[T],
    cx: &Cx<'_>,
    tool: impl Fn() -> R + Sync,
    work: impl Fn(&mut R, &T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let (next, failed) = (Mutex::new(items.iter()), Mutex::new(None));
    let all = || -> Result<(), E> {
        let mut tool = tool();
        while lock(&failed).is_none() {
            cx.cancel.check()?;
            let item = lock(&next).next();
            let Some(item) = item else { break };
            work(&mut tool, item)?;
        }
        Ok(())
    };
    let worker = || {
        if let Err(error) = all() {
            lock(&failed).get_or_insert(error);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..cx.limits.threads.min(items.len()) {
            scope.spawn(worker);
        }
        worker();
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// What a thread that panicked had locked is whole: nothing is left half done here.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
