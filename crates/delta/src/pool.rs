//! Memory that is used again: to have it mapped, zeroed and unmapped each time costs more than what is done in it.

use ondisk::Len;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Buffers that nobody uses at the moment.
#[derive(Debug, Default)]
pub struct Pool {
    free: Mutex<Vec<Vec<u8>>>,
}

impl Pool {
    /// Nothing yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// A buffer; whatever is in it means nothing. There are as many as are used at once.
    pub fn take(self: &Arc<Self>) -> Buf {
        let bytes = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Buf { bytes: bytes.unwrap_or_default(), pool: Arc::clone(self) }
    }

    /// A buffer of that size.
    ///
    /// # Errors
    /// Where it is larger than allowed, or the system has no more.
    pub fn sized(self: &Arc<Self>, what: &'static str, len: Len, limits: &disk::Limits) -> disk::Result<Buf> {
        let mut buf = self.take();
        limits.resize(what, len, &mut buf)?;
        Ok(buf)
    }
}

/// A buffer, which goes back when it is dropped.
#[derive(Debug)]
pub struct Buf {
    bytes: Vec<u8>,
    pool: Arc<Pool>,
}

impl Deref for Buf {
    type Target = Vec<u8>;
    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buf {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.pool.free.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_used_again() {
        let limits = disk::Limits::default();
        let pool = Pool::new();
        let (first, second) = (pool.take(), pool.sized("a test", Len::mib(1), &limits).unwrap());
        let place = second.as_ptr();
        drop((first, second));
        let again = pool.sized("a test", Len::kib(1), &limits).unwrap();
        assert_eq!((again.as_ptr(), again.len()), (place, 1024));
        assert!(pool.sized("a test", Len::gib(1 << 20), &limits).is_err());
    }
}
