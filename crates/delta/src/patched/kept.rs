//! Things that cost time to make, kept for a while.

use crate::error::Result;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

/// Made once, also when several ask for it at once.
type Slot<T> = Arc<Mutex<Option<Arc<T>>>>;

/// The things that were asked for last.
pub struct Kept<T> {
    room: usize,
    /// The one that was asked for last comes last.
    slots: Mutex<Vec<(u64, Slot<T>)>>,
}

impl<T> Kept<T> {
    /// Room for so many.
    pub const fn new(room: usize) -> Self {
        Self { room, slots: Mutex::new(Vec::new()) }
    }

    /// The thing of that number; makes it if it is not kept.
    pub fn get(&self, key: u64, make: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        self.get_meanwhile(key, make, || {})
    }

    /// As [`Kept::get`]; who would have to wait for another one who makes it, does something else first.
    pub fn get_meanwhile(
        &self,
        key: u64,
        make: impl FnOnce() -> Result<T>,
        meanwhile: impl FnOnce(),
    ) -> Result<Arc<T>> {
        let slot = self.slot(key);
        let mut held = match slot.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(held)) => held.into_inner(),
            Err(TryLockError::WouldBlock) => {
                meanwhile();
                slot.lock().unwrap_or_else(PoisonError::into_inner)
            }
        };
        if let Some(thing) = &*held {
            return Ok(Arc::clone(thing));
        }
        let thing = Arc::new(make()?);
        *held = Some(Arc::clone(&thing));
        Ok(thing)
    }

    /// Makes the thing of that number, unless it is kept or another one makes it; whether it was made.
    pub fn prepare(&self, key: u64, make: impl FnOnce() -> Result<T>) -> bool {
        let slot = self.slot(key);
        let Ok(mut held) = slot.try_lock() else { return false };
        if held.is_none() {
            // Who needs it will be told what is wrong with it.
            *held = make().ok().map(Arc::new);
            return held.is_some();
        }
        false
    }

    fn slot(&self, key: u64) -> Slot<T> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let known = slots.iter().position(|(known, _)| *known == key);
        let slot = match known {
            Some(at) => slots.remove(at).1,
            None => Slot::default(),
        };
        if slots.len() >= self.room && !slots.is_empty() {
            slots.remove(0);
        }
        slots.push((key, Arc::clone(&slot)));
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use std::sync::mpsc::channel;

    #[test]
    fn who_must_wait_does_something_else_first() {
        let kept = &Kept::new(2);
        let (begun, wait) = channel();
        let (other, done) = channel();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let slow = || {
                    begun.send(()).unwrap();
                    done.recv().unwrap();
                    Ok(7)
                };
                kept.get(1, slow).unwrap();
            });
            wait.recv().unwrap();
            let meanwhile = || {
                assert!(!kept.prepare(1, || Ok(9)), "another one makes it");
                assert!(kept.prepare(2, || Ok(8)));
                other.send(()).unwrap();
            };
            assert_eq!(*kept.get_meanwhile(1, || Ok(9), meanwhile).unwrap(), 7);
        });
        assert!(!kept.prepare(2, || Ok(9)), "it is kept");
        assert_eq!(*kept.get(2, || Ok(9)).unwrap(), 8);
        let fails = || Err(Error::NoPatch { why: "a test" });
        assert!(!kept.prepare(3, fails), "who needs it is told why");
        assert!(kept.get(3, fails).is_err());
    }
}
