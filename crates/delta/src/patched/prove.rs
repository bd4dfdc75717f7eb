//! What a patch says about its result, compared with what its parts make of these bases.

use super::{LISTS, Patched};
use crate::digest::{self, Leaf, Leaves, Tree, window, windows};
use crate::error::{Error, Result};
use crate::format::section::{Entry, Section};
use disk::{Cx, ReadAt, Task, Total};
use ondisk::{Offset, Span};
use rayon::iter::{IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};
use std::ops::Range;

/// Windows that are hashed before anybody is asked whether to stop.
const BATCH: u64 = 256;

/// Which windows are made to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Make {
    /// Those that nobody will read, because they are known to be zero.
    Zeros,
    /// Every one that has an entry.
    All,
}

impl<D: ReadAt + Send, B: ReadAt + Send> Patched<D, B> {
    /// Compares the digest of the target with the values of its windows.
    pub(super) fn prove(&self, first: Option<&Leaves>, make: Make, cx: &Cx<'_>) -> Result<()> {
        let len = self.patch.facts().target.len;
        let task = cx.progress.task("patch", Total::Bytes(len));
        let proof = Proof { patched: self, first, task: &*task, cx };
        let mut tree = Tree::default();
        let mut next = 0;
        let numbers: Vec<usize> = (0..self.patch.sections()).collect();
        for some in numbers.chunks(LISTS) {
            cx.cancel.check()?;
            let sections = some.par_iter().map(|number| self.patch.section(*number));
            for section in sections.collect::<Result<Vec<_>>>()? {
                proof.made(&section, make)?;
                for entry in section.entries() {
                    proof.unlisted(next..entry.index, &mut tree)?;
                    tree.push(entry.leaf);
                    next = entry.index.saturating_add(1);
                }
            }
        }
        proof.unlisted(next..windows(len), &mut tree)?;
        if tree.finish() == self.patch.facts().target.digest {
            return Ok(());
        }
        Err(Error::damaged("the trailer", Offset::ZERO, "has another digest of the result than its windows"))
    }
}

struct Proof<'a, D, B> {
    patched: &'a Patched<D, B>,
    first: Option<&'a Leaves>,
    task: &'a dyn Task,
    cx: &'a Cx<'a>,
}

impl<D: ReadAt + Send, B: ReadAt + Send> Proof<'_, D, B> {
    /// Makes windows of a list; making compares them with their values.
    fn made(&self, section: &Section, make: Make) -> Result<()> {
        section.entries().par_iter().try_for_each(|entry: &Entry| {
            self.cx.cancel.check()?;
            let len = self.patched.patch.facts().target.len;
            if make == Make::All {
                self.patched.make(section, entry)?;
            } else if entry.zeros && digest::leaf_of_zeros(entry.index, len) != entry.leaf {
                return Err(Error::WrongResult { at: window(entry.index, len).start() });
            }
            self.task.advance(window(entry.index, len).len().get());
            Ok(())
        })
    }

    /// The values of windows that have no entry: those of the first base, or hashed by all threads.
    fn unlisted(&self, range: Range<u64>, tree: &mut Tree) -> Result<()> {
        let len = self.patched.patch.facts().target.len;
        let mut first = range.start;
        while first < range.end {
            self.cx.cancel.check()?;
            let last = first.saturating_add(BATCH).min(range.end);
            let leaves: Result<Vec<Leaf>> =
                (first..last).into_par_iter().map(|index| self.value(index)).collect();
            leaves?.into_iter().for_each(|leaf| tree.push(leaf));
            let done = Span::between(window(first, len).start(), window(last, len).start());
            self.task.advance(done.unwrap_or_default().len().get());
            first = last;
        }
        Ok(())
    }

    fn value(&self, index: u64) -> Result<Leaf> {
        let len = self.patched.patch.facts().target.len;
        if let Some(leaf) = self.first.and_then(|first| first.as_part_of(index, len)) {
            return Ok(leaf);
        }
        let span = window(index, len);
        if self.patched.bases.first().is_some_and(|base| span.start() < base.len().end()) {
            let why = "is not listed, although the first base has only a part of it";
            return Err(Error::damaged("the window", span.start(), why));
        }
        Ok(digest::leaf_of_zeros(index, len))
    }
}
