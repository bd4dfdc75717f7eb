//! Which files of a disk have an older version on others.
//!
//! ```text
//! filesystem by filesystem: its like on each base ─► file by file: the same path, or much the same name ─► their extents
//! ```
//!
//! 1. What comes out is a hint: it makes a patch smaller, and never wrong. So nothing in here is an error but that the
//!    operator interrupts: what cannot be read has no pairs.
//! 2. Inodes, folders and maps are read, the contents of files are not. Names are kept as hashes.
//! 3. What there is no memory for is left out, always the same.

mod names;
mod tree;

use crate::content::Content;
use crate::layout::{Layout, Volume, discover};
use crate::region::Located;
use crate::view::{self, Filesystem};
use crate::{Error, Result};
use delta::{Pairs, Piece};
use disk::{Cx, ReadAt};
use extfs::read::map::Piece as Part;
use extfs::{InodeNo, Kind};
use std::collections::BTreeSet;
use tree::Tree;

/// Names, runs and nodes of maps that are looked at: damaged filesystems may have the same ones in many places.
const STEPS: u64 = 20_000_000;

/// Finds files of the `target` that have an older version on one of the `bases`.
///
/// # Errors
/// Where the operator interrupts.
pub fn find(bases: &[&dyn ReadAt], target: &dyn ReadAt, cx: &Cx<'_>) -> disk::Result<Pairs> {
    let mut found = Found { pairs: Pairs::within(&cx.limits), steps: STEPS };
    if bases.is_empty() {
        return Ok(found.pairs);
    }
    let Some(new) = passed_over(discover(target, cx))? else { return Ok(found.pairs) };
    let mut old = Vec::new();
    for (number, base) in bases.iter().enumerate() {
        if let Some(layout) = passed_over(discover(*base, cx))? {
            old.push(Base { number, disk: *base, layout });
        }
    }
    for volume in new.volumes.iter().filter(|volume| volume.content == Content::Ext) {
        let seen = view::with_filesystem(target, volume, cx, |fs| {
            let place = Located::of(target, &volume.region)?;
            of_filesystem(&Side { fs, place: &place }, (volume, &new), &old, &mut found, cx)
        });
        passed_over(seen.and_then(|seen| seen))?;
    }
    Ok(found.pairs)
}

/// What came of it, or nothing: what is wrong with a filesystem is told elsewhere.
fn passed_over<T>(result: Result<T>) -> disk::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Disk(disk::Error::Cancelled)) => Err(disk::Error::Cancelled),
        Err(_) => Ok(None),
    }
}

/// What was found, and how much more may be looked at.
struct Found {
    pairs: Pairs,
    steps: u64,
}

/// A base that can be looked at.
struct Base<'d> {
    number: usize,
    disk: &'d dyn ReadAt,
    layout: Layout,
}

/// A filesystem and where it lies.
struct Side<'a, 'd> {
    fs: &'a Filesystem<'a>,
    place: &'a Located<'d>,
}

fn of_filesystem(
    new: &Side<'_, '_>,
    (volume, layout): (&Volume, &Layout),
    bases: &[Base<'_>],
    found: &mut Found,
    cx: &Cx<'_>,
) -> Result<()> {
    let tree = Tree::of(new.fs, &mut found.steps, cx)?;
    let mut done = BTreeSet::new();
    for base in bases {
        let Some(like) = like(volume, layout, &base.layout) else { continue };
        let seen = view::with_filesystem(base.disk, like, cx, |fs| {
            let place = Located::of(base.disk, &like.region)?;
            let old = Side { fs, place: &place };
            let known = Tree::of(fs, &mut found.steps, cx)?.by_name();
            for file in &tree.files {
                cx.cancel.check()?;
                let Some(older) = known.like(&tree, file).filter(|_| done.insert(file.ino)) else { continue };
                let steps = &mut found.steps;
                let (Some(new), Some(old)) = (new.pieces(file.ino, steps), old.pieces(older, steps)) else {
                    continue;
                };
                if !found.pairs.add(&new, base.number, &old) {
                    break;
                }
            }
            Ok(())
        });
        passed_over(seen.and_then(|seen| seen))?;
    }
    Ok(())
}

/// The filesystem of a base that a volume of the target was made from: of its UUID, of its label, or at its place.
fn like<'l>(volume: &Volume, layout: &Layout, base: &'l Layout) -> Option<&'l Volume> {
    let facts = volume.facts()?;
    let all = || base.volumes.iter().filter(|volume| volume.facts().is_some());
    let of = |same: &dyn Fn(&crate::ExtFacts) -> bool| all().find(|volume| volume.facts().is_some_and(same));
    of(&|other| other.uuid == facts.uuid)
        .or_else(|| of(&|other| !facts.label.is_empty() && other.label == facts.label))
        .or_else(|| all().find(|other| other.id == volume.id))
        .or_else(|| {
            let only = layout.volumes.iter().filter(|volume| volume.content == Content::Ext).count() == 1;
            all().next().filter(|_| only && all().count() == 1)
        })
}

impl Side<'_, '_> {
    /// What a regular file has on the disk, in the order of the file; nothing where that cannot be read.
    fn pieces(&self, ino: u32, steps: &mut u64) -> Option<Vec<Piece>> {
        let inode = self.fs.inode(InodeNo(ino)).ok().filter(|inode| inode.kind() == Some(Kind::File))?;
        let block = self.fs.geom().block_size;
        let mut pieces: Vec<Piece> = Vec::new();
        for part in self.fs.walk(&inode).ok()? {
            *steps = steps.checked_sub(1)?;
            let Part::Run(run) = part.ok()? else { continue };
            if run.unwritten {
                continue;
            }
            let mut at = run.at.0.checked_mul(block.bytes())?;
            for span in self.place.spans(block.span_of(run.start, run.count)?).ok()? {
                pieces.push(Piece { at, span });
                at = at.saturating_add(span.len().get());
            }
        }
        Some(pieces).filter(|pieces| !pieces.is_empty())
    }
}
