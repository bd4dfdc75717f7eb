//! So many at once, and the others wait.

use std::sync::{Condvar, Mutex, PoisonError};

/// Turns that can be taken.
pub struct Turns {
    left: Mutex<usize>,
    given: Condvar,
}

/// A turn, until it is dropped.
pub struct Turn<'a>(&'a Turns);

impl Turns {
    /// So many at once.
    pub const fn new(count: usize) -> Self {
        Self { left: Mutex::new(count), given: Condvar::new() }
    }

    /// Waits for a turn. Who has one takes no second.
    pub fn take(&self) -> Turn<'_> {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = self.given.wait_while(left, |left| *left == 0).unwrap_or_else(PoisonError::into_inner);
        *left = left.saturating_sub(1);
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut left = self.0.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.saturating_add(1);
        self.0.given.notify_one();
    }
}
