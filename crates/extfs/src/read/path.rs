//! From a path to an inode, inside the filesystem and never out of it.
//!
//! 1. Symbolic links are followed inside; an absolute one begins at the filesystem's root.
//! 2. `..` at the root stays at the root.
//! 3. At most 40 links are followed, as Linux does.

use super::Ext;
use super::inode::{Inode, Kind};
use crate::error::{Error, Result};
use crate::unit::InodeNo;
use disk::ReadAt;
use ondisk::text::Printable;

const LINKS_MAX: u32 = 40;

impl<D: ReadAt> Ext<D> {
    /// The inode that a path leads to, a link in its last part followed too.
    ///
    /// # Errors
    /// Where there is no such file, a part is no directory, or something on the way is damaged.
    pub fn resolve(&self, path: &[u8]) -> Result<Inode> {
        self.resolve_with(path, true)
    }

    /// As [`Ext::resolve`], but a link in the last part stays a link.
    ///
    /// # Errors
    /// As [`Ext::resolve`].
    pub fn resolve_no_follow(&self, path: &[u8]) -> Result<Inode> {
        self.resolve_with(path, false)
    }

    fn resolve_with(&self, path: &[u8], follow_last: bool) -> Result<Inode> {
        let shown = || Printable(path).to_string();
        let mut at = self.inode(InodeNo::ROOT)?;
        // Parts still to come, the next one last.
        let mut parts = split(path);
        let mut links = 0_u32;
        while let Some(part) = parts.pop() {
            if part == b".." && at.ino() == InodeNo::ROOT {
                continue;
            }
            let found = self.lookup(&at, &part)?;
            let found = self.inode(found.ok_or_else(|| Error::NotFound { path: shown() })?)?;
            if found.kind() != Some(Kind::Symlink) || (parts.is_empty() && !follow_last) {
                at = found;
                continue;
            }
            links = links.saturating_add(1);
            if links > LINKS_MAX {
                return Err(Error::Links { path: shown() });
            }
            let target = self.read_link(&found)?;
            if target.starts_with(b"/") {
                at = self.inode(InodeNo::ROOT)?;
            }
            parts.extend(split(&target));
        }
        Ok(at)
    }
}

/// The parts of a path, the first one last; empty ones and `.` are dropped.
fn split(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&byte| byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .rev()
        .collect()
}
