//! Mending the accounts of an image: refcounts, "copied" bits, and the flags that say they are wrong.
//!
//! 1. The mapping is never touched. With anything wrong in it nothing is mended: a reference that is not understood is
//!    one that was not counted.
//! 2. Where the refcount table or a block of it is lost, or lies over something else, all refcounts are made anew behind
//!    everything that is in use.
//! 3. Afterwards every refcount is the number of references, and every "copied" bit says whether that is one.

use super::Qcow2;
use super::check::Scan;
use super::header::{self, Header};
use super::layout::{autoclear, incompatible};
use super::refcount::Refcounts;
use crate::{Result, Severity};
use disk::{Disk, Limits, ReadAt};
use ondisk::Len;

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
    disk.settle(&scan)?;
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
}
