//! Things that cost time to make, kept for a while.

use crate::error::Result;
use std::sync::{Arc, Mutex, PoisonError};

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
        let slot = self.slot(key);
        let mut held = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thing) = &*held {
            return Ok(Arc::clone(thing));
        }
        let thing = Arc::new(make()?);
        *held = Some(Arc::clone(&thing));
        Ok(thing)
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
