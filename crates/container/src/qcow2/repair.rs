//! Mending the accounts of an image: refcounts, "copied" bits, and the flags that say they are wrong.
//!
//! 1. The mapping is never touched. With anything wrong in it nothing is mended: a reference that is not understood is
//!    one that was not counted.
//! 2. Where the refcount table or a block of it is lost, or lies over something else, all refcounts are made anew behind
//!    everything that is in use.
//! 3. Afterwards every refcount is the number of references, and every "copied" bit says whether that is one.

use super::check::Scan;
use super::count::Kind;
use super::header::{self, Header};
use super::layout::{COPIED, OFFSET_MASK, autoclear, incompatible};
use super::refcount::Refcounts;
use super::{Qcow2, store};
use crate::{Result, Severity};
use disk::{Disk, Limits, ReadAt};
use ondisk::{Len, Offset, Span};

/// Setting refcounts may take clusters, which have refcounts.
const ROUNDS_MAX: usize = 4;

/// Mends the image in `file`; says what was done.
pub fn mend(file: &mut dyn Disk, limits: &Limits) -> Result<Vec<String>> {
    let mut says = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let more = round(file, limits)?;
        if more.is_empty() {
            break;
        }
        if says.is_empty() {
            says = more;
        }
    }
    Ok(says)
}

/// Opens the image with its refcounts, or without them where they are of no use.
fn open<D: ReadAt>(file: D, limits: &Limits) -> Result<(Qcow2<D>, Scan, bool)> {
    let (header, table) = Header::read_but_refcounts(&file, limits)?;
    let lost = table.is_err();
    let refcount_table = table.unwrap_or_default();
    let mut disk = Qcow2::with_header(file, Header { refcount_table, ..header }, limits)?;
    let scan = disk.scan()?;
    if lost || !scan.is_damaged() {
        return Ok((disk, scan, lost));
    }
    let kept = std::mem::take(&mut disk.header.refcount_table);
    let without = disk.scan()?;
    if without.is_damaged() {
        disk.header.refcount_table = kept;
        return Ok((disk, scan, false));
    }
    Ok((disk, without, true))
}

/// Mends once; says what was done.
fn round(file: &mut dyn Disk, limits: &Limits) -> Result<Vec<String>> {
    let (mut disk, scan, anew) = open(file, limits)?;
    let flagged = disk.header.is_dirty() || disk.header.is_corrupt();
    let (wrong, leaks) = (scan.accounts, scan.findings.count(Severity::Leak));
    if scan.is_damaged() || (wrong == 0 && leaks == 0 && !flagged && !anew) {
        return Ok(Vec::new());
    }
    let mut says = Vec::new();
    if anew {
        says.push("the refcounts are made anew: their table or a part of it was lost".to_owned());
    } else if wrong > 0 || leaks > 0 {
        says.push(format!("{wrong} refcounts and copied bits are corrected, {leaks} leaked clusters freed"));
    }
    if flagged {
        says.push("the image is no longer marked as not closed, or as corrupt".to_owned());
    }
    let refcounts = Refcounts::new(&disk.header, &scan);
    if disk.file.len().end() < refcounts.end() {
        let len = Len::new(refcounts.end().get());
        disk.file.resize(len)?;
    }
    disk.refcounts = Some(refcounts);
    disk.rebuild(&scan)?;
    disk.mend_copied(&scan)?;
    disk.clear_marks()?;
    Ok(says)
}

impl<D: Disk> Qcow2<D> {
    /// Takes back what the image says about its own state.
    fn clear_marks(&mut self) -> Result<()> {
        if self.header.version < 3 {
            return Ok(());
        }
        self.header.incompatible &= !(incompatible::DIRTY | incompatible::CORRUPT);
        self.header.autoclear &= autoclear::BITMAPS;
        let (incompatible, autoclear) = (self.header.incompatible, self.header.autoclear);
        header::edit(&mut self.file, |record| {
            record.incompatible_features.set(incompatible);
            record.autoclear_features.set(autoclear);
        })
    }

    /// Makes the "copied" bits of the active tables say whether there is one reference.
    fn mend_copied(&mut self, scan: &Scan) -> Result<()> {
        let geo = self.header.geo;
        let mut walked = ondisk::SpanSet::new();
        for index in 0..self.l1.len() {
            let word = self.l1.get(index).copied().unwrap_or_default();
            let table = geo.host_of(Offset::new(word & OFFSET_MASK));
            if word & OFFSET_MASK == 0 || scan.counts.kind(table) != Kind::L2 {
                continue;
            }
            let right = flagged(word, scan.counts.of(table) == 1);
            if right != word {
                let place = self.l1_place(index);
                store::put_word(&mut self.file, place, right)?;
            }
            let span = geo.host_span(table);
            if !walked.contains(span) {
                walked.insert(span);
                self.mend_copied_in(scan, span)?;
            }
        }
        Ok(())
    }

    fn mend_copied_in(&mut self, scan: &Scan, table: Span) -> Result<()> {
        let mut wrong = Vec::new();
        self.each_stored(table, |at, word, host| {
            let right = flagged(word, scan.counts.of(host) == 1);
            if right != word {
                wrong.push((at, right));
            }
        })?;
        wrong.into_iter().try_for_each(|(at, right)| store::put_word(&mut self.file, at, right))
    }
}

/// An entry with the "copied" bit as it should be.
const fn flagged(word: u64, exclusive: bool) -> u64 {
    if exclusive { word | COPIED } else { word & !COPIED }
}
