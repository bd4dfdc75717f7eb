//! What a command carries along: bounds, progress, the wish to stop, and its surroundings.
//!
//! No library code knows a clock, a source of randomness, the environment or a terminal; they arrive here.

use crate::{Error, Result};
use ondisk::Len;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Upper bounds for work driven by input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Working memory.
    pub memory: Len,
    /// Worker threads.
    pub threads: usize,
    /// Images in a chain of parents.
    pub chain_depth: usize,
    /// Partitions in a table, logical ones included.
    pub partitions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: Len::mib(512), threads: 1, chain_depth: 64, partitions: 1024 }
    }
}

impl Limits {
    /// Zeroed memory of that size.
    ///
    /// # Errors
    /// Where it is larger than the bound, or the system has no more.
    pub fn buffer(&self, what: &'static str, len: Len) -> Result<Vec<u8>> {
        let mut buf = Vec::new();
        self.resize(what, len, &mut buf)?;
        Ok(buf)
    }

    /// Memory that is used again, of that size from now on: what was in it stays, as far as there is room.
    ///
    /// # Errors
    /// As [`Limits::buffer`].
    pub fn resize(&self, what: &'static str, len: Len, buf: &mut Vec<u8>) -> Result<()> {
        let refused = || Error::Memory { what, need: len, limit: self.memory };
        if len > self.memory {
            return Err(refused());
        }
        let len = len.to_usize();
        buf.try_reserve_exact(len.saturating_sub(buf.len())).map_err(|_| refused())?;
        buf.resize(len, 0);
        Ok(())
    }

    /// A counter of memory for a structure that grows piece by piece.
    #[must_use]
    pub const fn budget(&self, what: &'static str) -> Budget {
        Budget { what, limit: self.memory, used: AtomicU64::new(0) }
    }
}

/// Memory that a growing structure has taken.
#[derive(Debug)]
pub struct Budget {
    what: &'static str,
    limit: Len,
    used: AtomicU64,
}

impl Budget {
    /// Takes `len` bytes.
    ///
    /// # Errors
    /// Where that passes the bound.
    pub fn take(&self, len: Len) -> Result<()> {
        let need = self.used.fetch_add(len.get(), Ordering::Relaxed).saturating_add(len.get());
        if need > self.limit.get() {
            return Err(Error::Memory { what: self.what, need: Len::new(need), limit: self.limit });
        }
        Ok(())
    }

    /// Gives `len` bytes back.
    pub fn give(&self, len: Len) {
        self.used.fetch_sub(len.get(), Ordering::Relaxed);
    }
}

/// How much work a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    /// So many bytes.
    Bytes(Len),
    /// So many things.
    Count(u64),
    /// Nobody knows.
    Unknown,
}

/// Told how far things are.
pub trait Progress: Sync {
    /// A piece of work begins; dropping the task ends it.
    fn task(&self, name: &str, total: Total) -> Box<dyn Task>;
}

/// One piece of work under way.
pub trait Task: Send + Sync {
    /// So much more is done: bytes, or things.
    fn advance(&self, by: u64);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug)]
pub struct Quiet;

impl Progress for Quiet {
    fn task(&self, _: &str, _: Total) -> Box<dyn Task> {
        Box::new(Self)
    }
}

impl Task for Quiet {
    fn advance(&self, _: u64) {}
}

/// Set when the operator wants to stop.
#[derive(Debug, Default)]
pub struct Cancel(AtomicBool);

impl Cancel {
    /// Not yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Asks everybody to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Stops here if somebody asked.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// Everything a piece of work carries along.
#[derive(Clone, Copy)]
pub struct Cx<'a> {
    /// Told how far things are.
    pub progress: &'a dyn Progress,
    /// Set when the operator wants to stop.
    pub cancel: &'a Cancel,
    /// Upper bounds.
    pub limits: Limits,
    /// The time, in seconds since 1970.
    pub now: u64,
}
