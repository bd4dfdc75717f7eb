//! The files of a filesystem by their names.

use super::names::{versions, within};
use crate::view::Filesystem;
use disk::Cx;
use extfs::{InodeNo, Kind};
use ondisk::num::{to_u64, to_usize};
use std::collections::BTreeSet;
use std::mem::size_of;

/// Folders within folders that are looked at to see how near two are.
const DEPTH: usize = 32;
/// Files of the same name of which the nearest one is taken.
const CHOICE: usize = 16;
/// A folder.
#[derive(Clone, Copy)]
struct Folder {
    ino: u32,
    /// Which one it lies in.
    parent: usize,
    /// Values of its path: as it is, and without versions.
    path: u64,
    plain: u64,
}

/// A file, or one of its names.
#[derive(Clone, Copy)]
pub(super) struct File {
    pub(super) ino: u32,
    folder: usize,
    /// The value of its path.
    path: u64,
    /// The value of its name without versions.
    name: u64,
}

/// Names of files.
pub(super) struct Tree {
    folders: Vec<Folder>,
    pub(super) files: Vec<File>,
}

impl Tree {
    /// Looks through all folders; `steps` are the names that may be looked at.
    pub(super) fn of(fs: &Filesystem<'_>, steps: &mut u64, cx: &Cx<'_>) -> disk::Result<Self> {
        let each = size_of::<File>().saturating_add(size_of::<Folder>());
        let most = to_usize((cx.limits.memory.get() >> 6).checked_div(to_u64(each)).unwrap_or_default());
        let mut tree = Self::new();
        let (mut seen, mut next) = (BTreeSet::from([InodeNo::ROOT]), 0_usize);
        while let Some(folder) = tree.folders.get(next) {
            cx.cancel.check()?;
            let entries = fs.inode(InodeNo(folder.ino)).and_then(|inode| fs.entries(&inode));
            for entry in entries.into_iter().flatten().map_while(Result::ok) {
                let Some(left) = steps.checked_sub(1) else { return Ok(tree) };
                *steps = left;
                if entry.name == b"." || entry.name == b".." {
                    continue;
                }
                match entry.kind.or_else(|| fs.inode(entry.ino).ok()?.kind()) {
                    Some(Kind::Dir) if tree.folders.len() < most && seen.insert(entry.ino) => {
                        tree.add_folder(next, entry.ino.0, &entry.name);
                    }
                    Some(Kind::File) if tree.files.len() < most => {
                        tree.add_file(next, entry.ino.0, &entry.name);
                    }
                    _ => {}
                }
            }
            next = next.saturating_add(1);
        }
        Ok(tree)
    }

    /// Only the root.
    fn new() -> Self {
        let root = Folder { ino: InodeNo::ROOT.0, parent: 0, path: 0, plain: 0 };
        Self { folders: vec![root], files: Vec::new() }
    }

    fn add_folder(&mut self, parent: usize, ino: u32, name: &[u8]) {
        let Some(above) = self.folders.get(parent) else { return };
        let (path, plain) = (within(above.path, name), versions(above.plain, name));
        self.folders.push(Folder { ino, parent, path, plain });
    }

    fn add_file(&mut self, folder: usize, ino: u32, name: &[u8]) {
        let Some(above) = self.folders.get(folder) else { return };
        self.files.push(File { ino, folder, path: within(above.path, name), name: versions(0, name) });
    }

    /// The value of the path of the folder that has a file, without versions.
    fn place(&self, file: &File) -> u64 {
        self.folders.get(file.folder).map_or(0, |folder| folder.plain)
    }

    /// A folder's path without versions, and those of the folders above.
    fn above(&self, file: &File) -> BTreeSet<u64> {
        let mut number = file.folder;
        let mut above = BTreeSet::new();
        for _ in 0..DEPTH {
            let Some(folder) = self.folders.get(number).filter(|_| number > 0) else { break };
            above.insert(folder.plain);
            number = folder.parent;
        }
        above
    }

    /// To be looked up in.
    pub(super) fn by_name(self) -> Known {
        let mut paths: Vec<(u64, u32)> = self.files.iter().map(|file| (file.path, file.ino)).collect();
        paths.sort_unstable();
        let mut tree = self;
        let mut files = std::mem::take(&mut tree.files);
        files.sort_by_key(|file| (file.name, tree.place(file)));
        Known { tree, paths, files }
    }
}

/// Files by their names.
pub(super) struct Known {
    tree: Tree,
    paths: Vec<(u64, u32)>,
    /// By name, and by folder.
    files: Vec<File>,
}

impl Known {
    /// The older version of a file of another filesystem: of its path; else of its name but for versions, in the folder
    /// that is its own but for versions, or has most of the folders above it.
    pub(super) fn like(&self, tree: &Tree, file: &File) -> Option<u32> {
        let at = self.paths.partition_point(|(path, _)| *path < file.path);
        if let Some((_, ino)) = self.paths.get(at).filter(|(path, _)| *path == file.path) {
            return Some(*ino);
        }
        let place = tree.place(file);
        let first =
            self.files.partition_point(|other| (other.name, self.tree.place(other)) < (file.name, place));
        let same = |other: &&File| other.name == file.name;
        if let Some(other) =
            self.files.get(first).filter(same).filter(|other| self.tree.place(other) == place)
        {
            return Some(other.ino);
        }
        let begin = self.files.partition_point(|other| other.name < file.name);
        let above = tree.above(file);
        let near = |other: &File| self.tree.above(other).intersection(&above).count();
        let choice = self.files.get(begin..).unwrap_or_default().iter().take(CHOICE).take_while(same);
        let best = choice
            .map(|other| (near(other), other))
            .reduce(|best, other| if other.0 > best.0 { other } else { best });
        best.map(|(_, other)| other.ino)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A tree of these files, which have the numbers 100, 101 and so on.
    fn tree(paths: &[&str]) -> Tree {
        let mut tree = Tree::new();
        let mut folders = BTreeMap::from([(String::new(), 0)]);
        for (ino, path) in (100..).zip(paths) {
            let (mut above, mut so_far) = (0, String::new());
            let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
            for part in parents.split('/').filter(|part| !part.is_empty()) {
                so_far = format!("{so_far}/{part}");
                above = *folders.entry(so_far.clone()).or_insert_with(|| {
                    tree.add_folder(above, 0, part.as_bytes());
                    tree.folders.len().saturating_sub(1)
                });
            }
            tree.add_file(above, ino, name.as_bytes());
        }
        tree
    }

    #[test]
    fn a_path_then_a_version_then_the_nearest() {
        let known = tree(&[
            "boot/vmlinuz-6.1.0-55-amd64",
            "lib/modules/6.1.0-55-amd64/net/a.ko",
            "lib/modules/6.1.0-55-amd64/fs/a.ko",
            "lib/b/libfoo.so.1.2",
            "lib/b/libfoo.so.1.3",
            "srv/x/y/readme",
            "opt/x/y/readme",
            "opt/z/readme",
            "top",
        ])
        .by_name();
        for (path, expected) in [
            // The same path, though another version stands before it.
            ("lib/b/libfoo.so.1.3", Some(104)),
            ("boot/vmlinuz-6.1.0-56-amd64", Some(100)),
            ("boot/vmlinuz-6.1.0-56-arm", None),
            ("lib/modules/6.1.0-57-amd64/fs/a.ko", Some(102)),
            ("lib/b/libfoo.so.2", Some(103)),
            ("srv/x/z/readme", Some(105)),
            ("opt/x/readme", Some(106)),
            ("opt/z/deep/down/readme", Some(107)),
            ("deep/top", Some(108)),
            ("top", Some(108)),
            ("bottom", None),
        ] {
            let new = tree(&[path]);
            assert_eq!(known.like(&new, &new.files[0]), expected, "{path}");
        }
    }

    #[test]
    fn many_of_one_name_are_not_all_looked_at() {
        let paths: Vec<String> =
            (0..1000).map(|n| format!("{}/x", ["a", "b", "c"][n % 3].repeat(n + 1))).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let known = tree(&paths).by_name();
        let new = tree(&["elsewhere/x"]);
        assert!(known.like(&new, &new.files[0]).is_some());
        let new = tree(&[paths[700]]);
        assert_eq!(known.like(&new, &new.files[0]), Some(800));
    }
}
