//! Settling the accounts of an image: what it says about how often its clusters are in use.

use super::check::Scan;
use super::count::Kind;
use super::geom::Host;
use super::layout::{COPIED, OFFSET_MASK};
use super::{Qcow2, store};
use crate::Result;
use disk::Disk;
use ondisk::{Offset, Span};
use std::sync::PoisonError;

impl<D: Disk> Qcow2<D> {
    /// Makes every refcount the number of references, and every "copied" bit say whether that is one. The mapping is
    /// sound.
    pub(super) fn settle(&mut self, scan: &Scan) -> Result<()> {
        self.rebuild(scan)?;
        self.mend_copied(scan)
    }

    /// Sets every refcount to the number of references.
    fn rebuild(&mut self, scan: &Scan) -> Result<()> {
        for host in (0..scan.counts.clusters()).map(Host) {
            let Some(refcounts) = &mut self.refcounts else { continue };
            let counted = scan.counts.of(host);
            if refcounts.get(&self.file, host)? != counted {
                refcounts.set(&mut self.file, host, counted)?;
                self.header.refcount_table = refcounts.table();
            }
        }
        Ok(())
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
                if let Some(word) = self.l1.get_mut(index) {
                    *word = right;
                }
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
        if !wrong.is_empty() {
            self.cache.get_mut().unwrap_or_else(PoisonError::into_inner).forget(table);
        }
        wrong.into_iter().try_for_each(|(at, right)| store::put_word(&mut self.file, at, right))
    }
}

/// An entry with the "copied" bit as it should be.
const fn flagged(word: u64, exclusive: bool) -> u64 {
    if exclusive { word | COPIED } else { word & !COPIED }
}
