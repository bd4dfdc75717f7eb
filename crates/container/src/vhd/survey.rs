//! Who owns which byte of the file: the map that must be right before the first write.
//!
//! 1. No two of blocks, tables, locators and footers share a byte.
//! 2. All of them lie in the file, before the end footer.
//! 3. The map is bounded: more blocks than the file has room for must overlap, and are not looked at further.

use super::layout::UNALLOCATED;
use super::{Sparse, Vhd};
use crate::{Error, Findings, Result, Severity};
use disk::ReadAt;
use ondisk::{Len, Offset, Span};

/// What a survey yields besides its findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Behind the last block and all metadata but the end footer.
    pub end: Offset,
    /// Blocks in the file.
    pub blocks: u64,
}

impl<D: ReadAt> Vhd<D> {
    /// Looks at every entry of the BAT.
    pub(super) fn survey(&self, sparse: &Sparse, findings: &mut Findings) -> Result<Survey> {
        let blocks = self.collect(sparse, findings)?;
        let mut fixed = sparse.metadata.clone();
        fixed.sort_unstable();
        for pair in fixed.windows(2) {
            if let [first, second] = pair
                && first.intersect(*second).is_some()
            {
                let text = format!("metadata at {first} overlaps metadata at {second}");
                findings.push(Severity::Damage, Some(*second), text);
            }
        }
        let limit = self.footers.end.start();
        for outside in fixed.iter().filter(|span| span.end() > limit) {
            let text = format!("metadata at {outside} lies behind the end footer or the file's end");
            findings.push(Severity::Damage, Some(*outside), text);
        }
        let mut end = fixed.iter().map(|span| span.end()).max().unwrap_or_default();
        let mut before: Option<(Span, u32)> = None;
        for &(entry, index) in &blocks {
            let Some(span) = sparse.block_span(entry) else { continue };
            if let Some((other, owner)) = before.filter(|(other, _)| other.intersect(span).is_some()) {
                let text = format!("block {index} at {span} overlaps block {owner} at {other}");
                findings.push(Severity::Damage, Some(span), text);
            }
            if let Some(other) = fixed.iter().find(|other| other.intersect(span).is_some()) {
                let text = format!("block {index} at {span} overlaps metadata at {other}");
                findings.push(Severity::Damage, Some(span), text);
            }
            if span.end() > limit {
                let text = format!("block {index} at {span} lies behind the end footer at {limit}");
                findings.push(Severity::Damage, Some(span), text);
            }
            end = end.max(span.end());
            before = Some((span, index));
        }
        Ok(Survey { end, blocks: ondisk::num::to_u64(blocks.len()) })
    }

    /// All blocks as (entry, index), in the order of the file.
    pub(super) fn collect(&self, sparse: &Sparse, findings: &mut Findings) -> Result<Vec<(u32, u32)>> {
        let whole = sparse.header.shape.whole().get();
        let room = self.file.len().get().checked_div(whole).unwrap_or_default();
        let needed = sparse.header.shape.count(self.current_size());
        let budget = self.limits.budget("the map of a VHD's blocks");
        let mut blocks = Vec::new();
        let mut index = 0_u64;
        while index < sparse.header.entries {
            let window = sparse.entries(&self.file, index, u64::MAX)?;
            let before = blocks.len();
            for entry in window {
                if entry != UNALLOCATED {
                    blocks.push((entry, ondisk::num::low32(index)));
                    if index >= needed {
                        let text = format!("block {index} lies beyond the end of the disk");
                        findings.push(Severity::Leak, sparse.block_span(entry), text);
                    }
                }
                index = index.saturating_add(1);
            }
            let added = ondisk::num::to_u64(blocks.len().saturating_sub(before));
            budget.take(Len::new(added.saturating_mul(8)))?;
            if ondisk::num::to_u64(blocks.len()) > room {
                let text = format!("the table names more blocks than the file has room for ({room})");
                findings.push(Severity::Damage, Some(sparse.header.bat), text);
                break;
            }
        }
        blocks.sort_unstable();
        Ok(blocks)
    }

    /// The survey that a change stands on: the first damage is its end.
    pub(super) fn survey_clean(&self, sparse: &Sparse) -> Result<Survey> {
        let mut findings = Findings::default();
        let survey = self.survey(sparse, &mut findings)?;
        match findings.iter().find(|finding| finding.severity == Severity::Damage) {
            Some(finding) => {
                let at = finding.place.unwrap_or_default().start();
                Err(Error::corrupt("VHD", at, finding.text.clone()))
            }
            None => Ok(survey),
        }
    }

    /// Calls `each` with the index and entry of every block in the BAT.
    pub(super) fn each_block(
        &self,
        sparse: &Sparse,
        mut each: impl FnMut(u64, u32) -> Result<()>,
    ) -> Result<()> {
        let mut index = 0_u64;
        while index < sparse.header.entries {
            for entry in sparse.entries(&self.file, index, u64::MAX)? {
                if entry != UNALLOCATED {
                    each(index, entry)?;
                }
                index = index.saturating_add(1);
            }
        }
        Ok(())
    }
}

impl Sparse {
    /// Bitmap and data of the block that `entry` points at.
    pub(super) fn block_span(&self, entry: u32) -> Option<Span> {
        self.place(entry).and_then(|place| Span::between(place.bitmap.start(), place.data.end()))
    }
}
