//! A tree of files, name by name: a folder before what is in it, names in the order of their bytes.
//!
//! 1. No recursion: the way down is a list, at most [`DEPTH_MAX`] long.
//! 2. No folder is entered twice, so folders that contain themselves end as damage.
//! 3. A name that no file can have (`/` or NUL in it, `.`, `..`, nothing) is damage and leads nowhere.
//! 4. Memory is bounded: names wait for the folders on the way down only.

use super::{Damage, Guest};
use crate::exit::{Exit, Failure, Of};
use crate::output::Output;
use disk::Budget;
use extfs::{Inode, InodeNo, Kind};
use ondisk::Len;
use ondisk::num::to_u64;
use ondisk::text::Printable;
use std::collections::HashSet;

/// Folders within folders.
const DEPTH_MAX: usize = 4096;
/// What a name costs beyond its bytes.
const NAME_COST: u64 = 64;

/// What a walk comes by.
pub(super) enum Step<'w> {
    /// A folder begins: its path from the start of the walk, its own name, its inode.
    Enter(&'w Place<'w>),
    /// A file that is no folder.
    File(&'w Place<'w>),
    /// All of a folder has been seen.
    Leave(&'w Inode),
}

/// A name in the tree.
pub(super) struct Place<'w> {
    /// The names from the start of the walk on, `/` between them; empty for the start itself.
    pub path: &'w [u8],
    /// The last of them.
    pub name: &'w [u8],
    /// What it names.
    pub inode: &'w Inode,
}

/// A folder on the way down.
struct Frame {
    dir: Inode,
    /// Names still to come, the next one last.
    names: Vec<(Vec<u8>, InodeNo)>,
    /// The length of the path up to here.
    path_len: usize,
}

impl Guest<'_> {
    /// The names in a folder, sorted; `.` and `..` are left out.
    pub(super) fn names(&self, dir: &Inode, budget: &Budget) -> Result<Vec<(Vec<u8>, InodeNo)>, Failure> {
        let mut names = Vec::new();
        for entry in self.fs.entries(dir).of(self.image)? {
            let entry = entry.of(self.image)?;
            if entry.name == b"." || entry.name == b".." {
                continue;
            }
            budget.take(cost(&entry.name)).of(self.image)?;
            names.push((entry.name, entry.ino));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Walks through the tree at `start` and shows each name in it to `see`; whatever of it is damaged is noted.
    pub(super) fn walk(
        &self,
        start: &Inode,
        damage: &mut Damage,
        out: &mut Output,
        mut see: impl FnMut(&Step<'_>, &mut Output) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let budget = self.session.limits.budget("the names on the way down");
        let mut path: Vec<u8> = Vec::new();
        let mut seen = HashSet::new();
        let mut down: Vec<Frame> = Vec::new();
        let root = Place { path: &[], name: &[], inode: start };
        if start.kind() != Some(Kind::Dir) {
            return damage.take(see(&Step::File(&root), out), out).map(drop);
        }
        seen.insert(start.ino());
        see(&Step::Enter(&root), out)?;
        down.push(self.frame(start.clone(), 0, &budget, damage, out)?);
        while let Some(frame) = down.last_mut() {
            self.go_on()?;
            path.truncate(frame.path_len);
            let Some((name, ino)) = frame.names.pop() else {
                damage.take(see(&Step::Leave(&frame.dir), out), out)?;
                down.pop();
                continue;
            };
            budget.give(cost(&name));
            let depth = down.len();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            let found = self.found(&name, &path, ino, depth, &mut seen, &budget);
            let Some(inode) = damage.take(found, out)? else { continue };
            let place = Place { path: &path, name: &name, inode: &inode };
            if inode.kind() != Some(Kind::Dir) {
                damage.take(see(&Step::File(&place), out), out)?;
            } else if damage.take(see(&Step::Enter(&place), out), out)?.is_some() {
                down.push(self.frame(inode, path.len(), &budget, damage, out)?);
            }
        }
        Ok(())
    }

    fn frame(
        &self,
        dir: Inode,
        path_len: usize,
        budget: &Budget,
        damage: &mut Damage,
        out: &Output,
    ) -> Result<Frame, Failure> {
        let mut names = damage.take(self.names(&dir, budget), out)?.unwrap_or_default();
        names.reverse();
        Ok(Frame { dir, names, path_len })
    }

    /// What a name stands for (invariants 1 to 3).
    fn found(
        &self,
        name: &[u8],
        path: &[u8],
        ino: InodeNo,
        depth: usize,
        seen: &mut HashSet<InodeNo>,
        budget: &Budget,
    ) -> Result<Inode, Failure> {
        let broken =
            |what: &str| self.failure(Exit::Corrupt, "corrupt", format!("{}: {what}", Printable(path)));
        if !is_name(name) {
            return Err(broken("no file can have this name"));
        }
        let inode = self.inode(ino)?;
        if inode.kind() == Some(Kind::Dir) {
            if depth >= DEPTH_MAX {
                return Err(broken("lies too deep"));
            }
            budget.take(Len::new(NAME_COST)).of(self.image)?;
            if !seen.insert(ino) {
                return Err(broken("this folder is in the tree already"));
            }
        }
        Ok(inode)
    }
}

fn cost(name: &[u8]) -> Len {
    Len::new(to_u64(name.len()).saturating_add(NAME_COST))
}

/// Whether a file can have that name.
pub(super) fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/') && !name.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_none() {
        for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0"] {
            assert!(!is_name(name), "{name:?}");
        }
        for name in [&b"a"[..], b"...", b" ", b"\xff\n"] {
            assert!(is_name(name), "{name:?}");
        }
    }
}
