//! Disks that come or go as a stream of bytes.

use super::piece::runs;
use super::walk::Walk;
use super::{Layer, Piece};
use crate::Result;
use disk::{Cx, Error, Target, Total};
use ondisk::num::{round_up, to_u64, to_usize};
use ondisk::{Len, Offset, Span};
use std::io::{self, Read, Write};

/// So much is carried at once.
const PIECE: Len = Len::mib(1);
const GRANULE: usize = 4096;

/// Writes what comes from `from` into an empty file; zeros are left out. Yields how much came.
///
/// # Errors
/// Where either side fails, or the operator interrupts.
pub fn from_stream(from: &mut dyn Read, target: &Target, cx: &Cx<'_>) -> Result<Len> {
    let task = cx.progress.task("read", Total::Unknown);
    let mut piece = cx.limits.buffer("a piece of the disk", PIECE)?;
    let mut at = Offset::ZERO;
    loop {
        let len = read_full(from, &mut piece).map_err(|e| failed("read", at, e))?;
        // A stream may end because of that.
        cx.cancel.check()?;
        let bytes = piece.get(..len).unwrap_or_default();
        for run in runs(bytes, 0..len, GRANULE) {
            let ahead = Len::new(to_u64(run.start));
            target.write_at(at.checked_add(ahead).unwrap_or(at), bytes.get(run).unwrap_or_default())?;
        }
        at = at.checked_add(Len::of(bytes)).unwrap_or(at);
        task.advance(to_u64(len));
        if len < piece.len() {
            let len = Len::new(at.get());
            target.set_len(len)?;
            return Ok(len);
        }
    }
}

/// Writes what comes from `from` into `to`, with zeros up to the end of the last sector. Yields how much came.
///
/// # Errors
/// Where either side fails, or the operator interrupts.
pub fn through(from: &mut dyn Read, to: &mut dyn Write, cx: &Cx<'_>) -> Result<Len> {
    let task = cx.progress.task("convert", Total::Unknown);
    let mut piece = cx.limits.buffer("a piece of the disk", PIECE)?;
    let mut at = Offset::ZERO;
    loop {
        let len = read_full(from, &mut piece).map_err(|e| failed("read", at, e))?;
        cx.cancel.check()?;
        let bytes = piece.get(..len).unwrap_or_default();
        to.write_all(bytes).map_err(|e| failed("write", at, e))?;
        at = at.checked_add(Len::of(bytes)).unwrap_or(at);
        task.advance(to_u64(len));
        if len < piece.len() {
            zeros(at, Offset::new(round_up(at.get(), 512).unwrap_or(at.get())), to, cx)?;
            to.flush().map_err(|e| failed("write", at, e))?;
            return Ok(Len::new(at.get()));
        }
    }
}

/// Writes a disk into `to`, byte by byte, with zeros behind its end up to `len`.
///
/// # Errors
/// Where either side fails, or the operator interrupts.
pub fn to_stream(layer: Layer<'_>, len: Len, to: &mut dyn Write, cx: &Cx<'_>) -> Result<()> {
    let task = cx.progress.task("convert", Total::Bytes(len));
    let mut walk = Walk::new(layer, Len::new(512));
    let mut piece = Piece::new(PIECE, &cx.limits)?;
    let mut at = Offset::ZERO;
    while let Some((span, parts)) = walk.next_piece(PIECE)? {
        zeros(at, span.start(), to, cx)?;
        piece.fill(&layer.disk, span, parts, Len::kib(4))?;
        let end = span.end().min(len.end());
        let bytes = piece.bytes(0..to_usize(end.since(span.start()).unwrap_or_default().get()));
        to.write_all(bytes).map_err(|e| failed("write", span.start(), e))?;
        task.advance(end.since(at).unwrap_or_default().get());
        at = end;
    }
    zeros(at, len.end(), to, cx)?;
    Ok(to.flush().map_err(|e| failed("write", len.end(), e))?)
}

fn zeros(from: Offset, to: Offset, into: &mut dyn Write, cx: &Cx<'_>) -> Result<()> {
    let zeros = vec![0; PIECE.to_usize()];
    for part in Span::between(from, to).unwrap_or_default().chunks(PIECE) {
        cx.cancel.check()?;
        let zeros = zeros.get(..part.len().to_usize()).unwrap_or_default();
        into.write_all(zeros).map_err(|e| failed("write", part.start(), e))?;
    }
    Ok(cx.cancel.check()?)
}

/// Fills `buf`, or as much of it as there is left.
fn read_full(from: &mut dyn Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut done = 0_usize;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(more) => done = done.saturating_add(more),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn failed(op: &'static str, at: Offset, source: io::Error) -> Error {
    Error::Io { op, span: Span::new(at, Len::ZERO).unwrap_or_default(), source }
}
