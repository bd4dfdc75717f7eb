//! Workers and the order among them.

use super::piece::len_of;
use super::walk::{Job, Walk};
use super::{Layer, Piece, Place, Prepare, Put, What};
use crate::{Error, Result};
use disk::{Cx, Target, Task, Total};
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A worker holds a piece, what is made of it, and tools: at most so many times the piece.
const PER_WORKER: u64 = 4;

/// Pours `layer` into `target`.
pub fn run<P, O>(layer: Layer<'_>, prepare: &P, order: O, target: &Target, cx: &Cx<'_>) -> Result<Len>
where
    P: Prepare,
    O: Place<Made = P::Made>,
{
    let task = cx.progress.task("convert", Total::Bytes(layer.len()));
    let walk = Mutex::new(Source { walk: Walk::new(layer, prepare.unit()), turn: 0, reached: Offset::ZERO });
    let line = Line { state: Mutex::new(State { turn: 0, order, failed: None }), next: Condvar::new() };
    let work = Work { layer, prepare, walk, line, target, task: &*task, cx };
    std::thread::scope(|scope| {
        for _ in 1..workers(prepare.piece(), cx) {
            scope.spawn(|| work.run());
        }
        work.run();
    });
    let state = work.line.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.failed.map_or(Ok(()), Err)?;
    let (puts, len) = state.order.finish()?;
    write_last(puts, target)?;
    target.set_len(len)?;
    Ok(len)
}

/// Writes tables and headers.
pub fn write_last(puts: Vec<Put>, target: &Target) -> Result<()> {
    for put in puts {
        if let What::Bytes(bytes) = put.what {
            target.write_at(put.at, &bytes)?;
        }
    }
    Ok(())
}

/// As many as are allowed, and as memory allows.
fn workers(piece: Len, cx: &Cx<'_>) -> usize {
    let room = cx.limits.memory.get().checked_div(piece.get().saturating_mul(PER_WORKER)).unwrap_or(1);
    to_usize(to_u64(cx.limits.threads).min(room >> 1).max(1))
}

/// What the workers share.
struct Work<'a, P, O> {
    layer: Layer<'a>,
    prepare: &'a P,
    walk: Mutex<Source<'a>>,
    line: Line<O>,
    target: &'a Target,
    task: &'a dyn Task,
    cx: &'a Cx<'a>,
}

struct Source<'a> {
    walk: Walk<'a>,
    turn: u64,
    /// How far the walk has come.
    reached: Offset,
}

/// Who is next to be given places.
struct Line<O> {
    state: Mutex<State<O>>,
    next: Condvar,
}

struct State<O> {
    turn: u64,
    order: O,
    /// What stopped the work.
    failed: Option<Error>,
}

impl<P: Prepare, O: Place<Made = P::Made>> Work<'_, P, O> {
    /// One worker, until nothing is left or something has failed.
    fn run(&self) {
        if let Err(error) = self.pieces() {
            let mut state = self.line.lock();
            state.failed.get_or_insert(error);
            self.line.next.notify_all();
        }
    }

    fn pieces(&self) -> Result<()> {
        let mut piece = Piece::new(self.prepare.piece(), &self.cx.limits)?;
        let mut tools = self.prepare.tools()?;
        loop {
            let jobs = self.fetch()?;
            if jobs.is_empty() {
                return Ok(());
            }
            for job in jobs {
                self.cx.cancel.check()?;
                piece.fill(&self.layer.disk, job.span, job.parts, self.prepare.granule())?;
                let made = self.prepare.prepare(&piece, &mut tools)?;
                let Some(puts) = self.line.place(job.turn, &piece, &made)? else { return Ok(()) };
                for put in puts {
                    self.put(put, &piece, O::bytes(&made))?;
                }
            }
        }
    }

    /// The next piece; where the disk is made in units that are longer, all pieces that lie in the same one.
    fn fetch(&self) -> Result<Vec<Job>> {
        let mut source = self.walk.lock().unwrap_or_else(PoisonError::into_inner);
        let unit = self.layer.made_in.unwrap_or_default().max(self.prepare.piece());
        let (mut jobs, mut reached) = (Vec::new(), self.layer.len().end());
        for (span, parts) in source.walk.next_unit(self.prepare.piece(), unit)? {
            reached = span.end();
            let turn = source.turn;
            source.turn = turn.saturating_add(1);
            jobs.push(Job { turn, span, parts });
        }
        self.task.advance(reached.since(source.reached).unwrap_or_default().get());
        source.reached = reached;
        Ok(jobs)
    }

    fn put(&self, put: Put, piece: &Piece, made: &[u8]) -> Result<()> {
        match put.what {
            What::Bytes(bytes) => self.target.write_at(put.at, &bytes)?,
            What::Made(range) => self.target.write_at(put.at, made.get(range).unwrap_or_default())?,
            What::Piece(range) => {
                for run in piece.runs_in(range.clone()) {
                    let ahead = len_of(&(range.start..run.start));
                    self.target.write_at(put.at.checked_add(ahead).unwrap_or(put.at), piece.bytes(run))?;
                }
            }
        }
        Ok(())
    }
}

impl<O: Place> Line<O> {
    fn lock(&self) -> MutexGuard<'_, State<O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for its turn, if that matters; `None` where somebody has failed.
    fn place(&self, turn: u64, piece: &Piece, made: &O::Made) -> Result<Option<Vec<Put>>> {
        let waiting = |state: &mut State<O>| O::ORDERED && state.turn != turn && state.failed.is_none();
        let mut state = self.next.wait_while(self.lock(), waiting).unwrap_or_else(PoisonError::into_inner);
        if state.failed.is_some() {
            return Ok(None);
        }
        let puts = state.order.place(piece, made)?;
        state.turn = turn.saturating_add(1);
        drop(state);
        self.next.notify_all();
        Ok(Some(puts))
    }
}
