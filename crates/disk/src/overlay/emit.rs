//! What is staged, as a change.

use super::{Overlay, Run, SECTOR, slice};
use crate::{Change, Data, Move, Over, Pour, ReadAt, Result, Write};
use ondisk::num::to_u64;
use ondisk::{Len, Offset, Span, SpanSet};

/// A write of the change is at most this long, so that the journal's records stay small.
const WRITE_MAX: usize = 1 << 20;

impl Overlay<'_> {
    /// The staged bytes as a change of the base.
    ///
    /// Home bytes that equal the base's are left out, and so are zeros where the base is known to read as zero.
    ///
    /// # Errors
    /// Where the base cannot be read, or bytes that must be carried do not fit into the memory allowed.
    pub fn into_change(mut self) -> Result<Change> {
        let beyond = Span::between(self.base.len().end(), self.len.end());
        self.fresh.extend(beyond);
        self.keep_sources()?;
        let mut change = Change { old_len: self.base.len(), new_len: self.len, ..Change::default() };
        self.change_of_runs(&mut change)?;
        self.change_of_pages(&mut change)?;
        change.fresh.sort_by_key(|write| write.at);
        change.home.sort_by_key(|write| write.at);
        change.moves.sort_by_key(|one| one.to);
        change.pours.sort_by_key(|one| one.to);
        change.carried.sort_by_key(|one| one.to);
        Ok(change)
    }

    /// Bytes that something is copied from are referred to, whoever promised that they are not: a move reads them while
    /// fresh bytes are written.
    fn keep_sources(&mut self) -> Result<()> {
        let mut sources = Vec::new();
        for (&start, &(end, run)) in &self.runs {
            let Some(len) = end.since(start) else { continue };
            if let Run::Copy(from) = run
                && let Some(there) =
                    Span::new(from, len).and_then(|span| span.intersect(Span::whole(self.base.len())))
                && self.fresh.overlaps(there)
            {
                sources.extend(self.base.extents(there)?.data());
            }
        }
        sources.into_iter().for_each(|span| self.fresh.remove(span));
        Ok(())
    }

    /// Gives pages up as their bytes go into the change: they never lie in memory twice.
    fn change_of_pages(&mut self, change: &mut Change) -> Result<()> {
        for span in self.staged(Span::whole(self.len)) {
            self.emit_bytes(span, change)?;
            self.unstage(span);
        }
        Ok(())
    }

    fn emit_bytes(&self, span: Span, change: &mut Change) -> Result<()> {
        for part in self.fresh.intersect(span).collect::<Vec<_>>() {
            self.emit(part, &mut change.fresh)?;
        }
        for part in self.fresh.gaps(span).collect::<Vec<_>>() {
            self.emit_changed(part, &mut change.home)?;
        }
        Ok(())
    }

    fn change_of_runs(&self, change: &mut Change) -> Result<()> {
        for (&start, &(end, run)) in &self.runs {
            let Some(span) = Span::between(start, end.min(self.len.end())) else { continue };
            let staged: SpanSet = self.staged(span).into_iter().collect();
            for part in staged.gaps(span).collect::<Vec<_>>() {
                let run = run.advanced(part.start().since(start).unwrap_or_default());
                match run {
                    Run::Zero => self.emit_zeros(part, change)?,
                    Run::Copy(from) => self.emit_copy(part, from, change)?,
                    Run::Beside(from) => self.emit_pours(part, from, change),
                }
            }
        }
        Ok(())
    }

    fn emit_zeros(&self, span: Span, change: &mut Change) -> Result<()> {
        for data in self.base_extents(span)?.data() {
            let write = |part: Span| Write { at: part.start(), data: Data::Zero(part.len()) };
            change.fresh.extend(self.fresh.intersect(data).map(write));
            change.home.extend(self.fresh.gaps(data).map(write));
        }
        Ok(())
    }

    /// What copies zeros is a zero; what has come back to its place is no change.
    fn emit_copy(&self, span: Span, from: Offset, change: &mut Change) -> Result<()> {
        if from == span.start() {
            return Ok(());
        }
        let source = Span::new(from, span.len()).unwrap_or_default();
        for extent in self.base_extents(source)?.rebased(from, span.start()).iter() {
            if extent.kind.reads_zero() {
                self.emit_zeros(extent.span, change)?;
            } else {
                let ahead = extent.span.start().since(span.start()).unwrap_or_default();
                self.emit_moves(extent.span, from.checked_add(ahead).unwrap_or(from), change);
            }
        }
        Ok(())
    }

    /// A copy to fresh bytes is a move, any other is carried.
    fn emit_moves(&self, span: Span, from: Offset, change: &mut Change) {
        let copied = |part: Span| {
            let ahead = part.start().since(span.start())?;
            Some(Move { from: Span::new(from.checked_add(ahead)?, part.len())?, to: part.start() })
        };
        change.moves.extend(self.fresh.intersect(span).filter_map(copied));
        change.carried.extend(self.fresh.gaps(span).filter_map(copied));
    }

    /// Fresh bytes are not shadowed ones.
    fn emit_pours(&self, span: Span, from: Offset, change: &mut Change) {
        let poured = |part: Span, over| {
            let ahead = part.start().since(span.start())?;
            let from = Span::new(from.checked_add(ahead)?, part.len())?;
            Some(Pour { from, to: part.start(), over })
        };
        let fresh = if self.over == Over::Shadowed { Over::Unused } else { self.over };
        change.pours.extend(self.fresh.intersect(span).filter_map(|part| poured(part, fresh)));
        change.pours.extend(self.fresh.gaps(span).filter_map(|part| poured(part, self.over)));
    }

    fn emit(&self, span: Span, into: &mut Vec<Write>) -> Result<()> {
        for part in span.chunks(Len::new(to_u64(WRITE_MAX))) {
            self.budget.take(part.len())?;
            let mut bytes = vec![0; part.len().to_usize()];
            self.read_at(part.start(), &mut bytes)?;
            into.push(Write { at: part.start(), data: Data::Bytes(bytes) });
        }
        Ok(())
    }

    /// As [`Self::emit`], without the sectors that already hold those bytes.
    fn emit_changed(&self, span: Span, into: &mut Vec<Write>) -> Result<()> {
        for part in span.chunks(Len::new(to_u64(WRITE_MAX))) {
            let (mut new, mut old) = (vec![0; part.len().to_usize()], vec![0; part.len().to_usize()]);
            self.read_at(part.start(), &mut new)?;
            self.read_base(part.start(), &mut old)?;
            let mut changed = SpanSet::new();
            for sector in part.chunks(Len::new(SECTOR)) {
                if slice(&new, sector, part.start()) != slice(&old, sector, part.start()) {
                    changed.insert(sector);
                }
            }
            for run in changed.iter() {
                self.budget.take(run.len())?;
                let bytes = slice(&new, run, part.start()).to_vec();
                into.push(Write { at: run.start(), data: Data::Bytes(bytes) });
            }
        }
        Ok(())
    }
}
