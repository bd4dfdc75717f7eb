//! The paths of a few files that are known by their numbers.
//!
//! 1. One look through all folders finds in which ones they are; from there the way leads up.
//! 2. A name that cannot be found, because folders are damaged or there is too much to look through, is none.

use crate::view::Filesystem;
use disk::Cx;
use extfs::InodeNo;
use std::collections::{BTreeMap, BTreeSet};

/// Folders within folders.
const DEPTH: usize = 256;
/// Names that are looked at on the way up.
const LOOKS: u64 = 10_000_000;

/// The paths of these files, of which `folders` are all that there are.
pub(super) fn paths(
    fs: &Filesystem<'_>,
    mut wanted: BTreeSet<u32>,
    folders: &[u32],
    cx: &Cx<'_>,
) -> disk::Result<BTreeMap<u32, Vec<u8>>> {
    let mut found: Vec<(u32, u32, Vec<u8>)> = Vec::new();
    for folder in folders {
        if wanted.is_empty() {
            break;
        }
        cx.cancel.check()?;
        let Ok(entries) = fs.inode(InodeNo(*folder)).and_then(|inode| fs.entries(&inode)) else { continue };
        for entry in entries.map_while(Result::ok) {
            if wanted.remove(&entry.ino.0) {
                found.push((entry.ino.0, *folder, entry.name));
            }
        }
    }
    let mut looks = LOOKS;
    let mut paths = BTreeMap::new();
    for (ino, folder, name) in found {
        cx.cancel.check()?;
        if let Some(mut path) = path_of(fs, InodeNo(folder), &mut looks) {
            path.push(b'/');
            path.extend(name);
            paths.insert(ino, path);
        }
    }
    Ok(paths)
}

/// The path of a folder; nothing for the root.
fn path_of(fs: &Filesystem<'_>, mut folder: InodeNo, looks: &mut u64) -> Option<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    while folder != InodeNo::ROOT {
        let above = fs.lookup(&fs.inode(folder).ok()?, b"..").ok()??;
        names.push(name_in(fs, above, folder, looks)?);
        if names.len() > DEPTH {
            return None;
        }
        folder = above;
    }
    Some(names.iter().rev().flat_map(|name| [b"/", name.as_slice()].concat()).collect())
}

/// What a folder is called in the one above.
fn name_in(fs: &Filesystem<'_>, above: InodeNo, folder: InodeNo, looks: &mut u64) -> Option<Vec<u8>> {
    for entry in fs.entries(&fs.inode(above).ok()?).ok()?.map_while(Result::ok) {
        *looks = looks.checked_sub(1)?;
        if entry.ino == folder && entry.name != b"." && entry.name != b".." {
            return Some(entry.name);
        }
    }
    None
}
