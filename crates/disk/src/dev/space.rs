//! Whether something fits where it is to lie, as far as that is certain.

use super::Folder;
use crate::{Error, Result};
use ondisk::Len;
use rustix::fs::{fstatfs, fstatvfs};
use rustix::io::Errno;
use std::path::Path;

/// XFS, by the numbers of `statfs(2)`: files may share blocks.
const XFS: u64 = 0x5846_5342;
/// File systems on which bytes take at least as much space as they are long, by the same numbers: ext2 to ext4, XFS,
/// tmpfs, FAT, exFAT. Others compress, share what is equal, or hide such a one on another machine.
const PLAIN: [u64; 5] = [0xef53, XFS, 0x0102_1994, 0x4d44, 0x2011_bab0];

/// The space of a file system that stores bytes as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What is free.
    pub free: Len,
    /// Whether a copy may take none, because it shares blocks.
    pub shares: bool,
}

impl Space {
    /// Where a file of that name would lie; `None` where it cannot be known what fits.
    ///
    /// # Errors
    /// Where its folder cannot be opened, or the system fails.
    pub fn of(path: &Path) -> Result<Option<Self>> {
        let failed =
            |source: Errno| Error::File { op: "statfs", path: path.to_owned(), source: source.into() };
        let (folder, _) = Folder::of(path)?;
        let kind = u64::try_from(fstatfs(&folder).map_err(failed)?.f_type).unwrap_or_default();
        let stat = fstatvfs(&folder).map_err(failed)?;
        // A tmpfs without a bound has no blocks.
        let known = PLAIN.contains(&kind) && stat.f_blocks > 0;
        let free = Len::new(stat.f_bavail.saturating_mul(stat.f_frsize));
        Ok(known.then_some(Self { free, shares: kind == XFS }))
    }
}
