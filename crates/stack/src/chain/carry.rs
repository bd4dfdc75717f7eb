//! What of a chain is carried, and the staging of it: tables in memory, data by name only.

use super::differ::{Differ, Under};
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
    Missing(Under<'a>),
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
            let mut runs = self.map.status(window)?;
            runs.retain(|run| take.wants(run));
            for (span, zero) in self.wanted(&runs, cx)? {
                for piece in span.chunks(PIECE) {
                    if self.carried >= self.room || disk.file().weight() > memory {
                        return Ok(Some(piece.start()));
                    }
                    self.piece(disk, piece, zero)?;
                }
            }
            task.advance(window.len().get());
        }
        Ok(None)
    }

    /// What of the runs is to be carried, and whether it is zero.
    fn wanted(&self, runs: &[BlockStatus], cx: &Cx<'_>) -> Result<Vec<(Span, bool)>> {
        Ok(match self.take {
            Take::Missing(under) => {
                let spans = under.differing(runs, self.beside, cx)?;
                spans.into_iter().map(|span| (span, false)).collect()
            }
            Take::Own(_) | Take::Inherited => runs.iter().map(|run| (run.span, run.zero)).collect(),
        })
    }

    fn piece(&mut self, disk: &mut Container<&mut Overlay<'_>>, piece: Span, zero: bool) -> Result<()> {
        if matches!(self.take, Take::Own(_)) {
            if zero {
                return Ok(disk.discard(piece)?);
            }
            if self.repeats && self.differ.differing(piece, self.beside, disk)?.is_empty() {
                return Ok(());
            }
        }
        self.repeats = false;
        self.put(disk, piece)
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
