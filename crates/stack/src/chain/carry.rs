//! What of a chain is carried, and the staging of it: tables in memory, data by name only.

use super::differ::Differ;
use crate::Result;
use container::{BlockStatus, Container, Mapped};
use disk::{Cx, Disk, Overlay, PourInto, ReadAt};
use ondisk::{Len, Offset, Span};

/// Runs are looked at in windows of this length, and bytes are carried in pieces.
const WINDOW: Len = Len::mib(64);
const PIECE: Len = Len::mib(1);

/// Which bytes are carried into the target.
#[derive(Clone, Copy)]
pub enum Take<'a> {
    /// What this child of the target stores itself, zeros that it states included. It shadows what is poured over.
    Own(&'a dyn Mapped),
    /// What the target gets from its parents.
    Inherited,
    /// What the target does not store and this disk does not have.
    Missing(&'a dyn ReadAt),
}

impl Take<'_> {
    fn wants(self, run: &BlockStatus) -> bool {
        let own = run.present && run.depth == 0;
        match self {
            Self::Own(_) => own,
            Self::Inherited => !own && run.data,
            Self::Missing(_) => !own,
        }
    }
}

/// Stages the carrying of one part.
pub(super) struct Carrier<'a> {
    pub take: Take<'a>,
    /// Tells what is stored where.
    pub map: &'a dyn Mapped,
    /// Has the bytes; shorter than the map where a child is longer than its parent.
    pub beside: &'a dyn ReadAt,
    /// So much is carried at most.
    pub room: Len,
    /// So much has been carried.
    pub carried: Len,
    /// Whether the target had everything so far: what an earlier run has carried is not carried again.
    pub repeats: bool,
    pub differ: Differ,
}

impl Carrier<'_> {
    /// Carries until the room or the memory is used up; where to go on.
    pub fn run(
        &mut self,
        disk: &mut Container<&mut Overlay<'_>>,
        from: Offset,
        cx: &Cx<'_>,
    ) -> Result<Option<Offset>> {
        let rest = Span::between(from, self.map.len().end()).unwrap_or_default();
        let task = cx.progress.task("carry", disk::Total::Bytes(rest.len()));
        let memory = Len::new(cx.limits.memory.get() / 4);
        let take = self.take;
        for window in rest.chunks(WINDOW) {
            cx.cancel.check()?;
            for run in self.map.status(window)?.into_iter().filter(|run| take.wants(run)) {
                for piece in run.span.chunks(PIECE) {
                    if self.carried >= self.room || disk.file().weight() > memory {
                        return Ok(Some(piece.start()));
                    }
                    self.piece(disk, piece, &run)?;
                }
            }
            task.advance(window.len().get());
        }
        Ok(None)
    }

    fn piece(
        &mut self,
        disk: &mut Container<&mut Overlay<'_>>,
        piece: Span,
        run: &BlockStatus,
    ) -> Result<()> {
        let take = self.take;
        match take {
            Take::Own(_) if run.zero => Ok(disk.discard(piece)?),
            Take::Own(_) if self.repeats && self.differing(piece, disk)?.is_empty() => Ok(()),
            Take::Own(_) | Take::Inherited => {
                self.repeats = false;
                self.put(disk, piece)
            }
            Take::Missing(other) => {
                let spans = self.differing(piece, other)?;
                spans.into_iter().try_for_each(|span| self.put(disk, span))
            }
        }
    }

    fn differing(&mut self, piece: Span, other: &dyn ReadAt) -> Result<Vec<Span>> {
        self.differ.differing(piece, self.beside, other)
    }

    /// Pours what there is, and writes zeros behind it.
    fn put(&mut self, disk: &mut Container<&mut Overlay<'_>>, span: Span) -> Result<()> {
        let end = self.beside.len().end().clamp(span.start(), span.end());
        let there = Span::between(span.start(), end).unwrap_or_default();
        let behind = Span::between(end, span.end()).unwrap_or_default();
        if !there.is_empty() {
            disk.pour(there, there.start())?;
        }
        if !behind.is_empty() {
            disk.write_at(behind.start(), &vec![0; behind.len().to_usize()])?;
        }
        self.carried = Len::new(self.carried.get().saturating_add(span.len().get()));
        Ok(())
    }
}
