//! Reading the file: what lies behind its end is zero, because qemu leaves the last cluster as short as it was written.

use crate::Result;
use disk::ReadAt;
use ondisk::Offset;
use ondisk::num::to_usize;
use zerocopy::{FromBytes, IntoBytes};

/// Fills `buf` from `at`, with zeros behind the end of the file.
pub fn read(file: &(impl ReadAt + ?Sized), at: Offset, buf: &mut [u8]) -> Result<()> {
    let there = file.len().end().since(at).unwrap_or_default().get();
    let there = to_usize(there).min(buf.len());
    let (stored, beyond) = buf.split_at_mut(there);
    beyond.fill(0);
    if !stored.is_empty() {
        file.read_at(at, stored)?;
    }
    Ok(())
}

/// Reads one record, likewise.
pub fn record<T: FromBytes + IntoBytes>(file: &(impl ReadAt + ?Sized), at: Offset) -> Result<T> {
    let mut record = T::new_zeroed();
    read(file, at, record.as_mut_bytes())?;
    Ok(record)
}
