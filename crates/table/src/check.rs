//! What is wrong with a table.

use crate::{Finding, Result, read};
use disk::{Limits, ReadAt};

/// Everything wrong or strange about the disk's partition table; nothing where there is none.
///
/// # Errors
/// Where the disk cannot be read, or there is a table that cannot.
pub fn check(disk: &dyn ReadAt, limits: &Limits) -> Result<Vec<Finding>> {
    Ok(read(disk, limits)?.map(|table| table.findings).unwrap_or_default())
}
