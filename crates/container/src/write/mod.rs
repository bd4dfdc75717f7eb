//! New images, filled: a virtual disk poured into a file of whichever format.
//!
//! ```text
//!            ┌─ read ─ find zeros ─ prepare ─┐            ┌─ write ─┐
//! walk ──────┼─ read ─ find zeros ─ prepare ─┼── place ───┼─ write ─┤     finish: tables, header
//!            └─ read ─ find zeros ─ prepare ─┘  in order  └─ write ─┘
//! ```
//!
//! 1. The walk goes through the extents of the source window by window, and hands out pieces that hold data. What is
//!    known to be zero is neither read nor written.
//! 2. Workers do everything that costs time. Only places in the file are given in the order of the disk, so that the
//!    bytes of the file do not depend on the number of workers.
//! 3. Memory is bounded: a worker holds one piece; tables grow with the disk's size, not with what lies on it.
//! 4. The file is empty before: what is not written reads as zero.

mod engine;
mod layer;
mod measure;
mod piece;
mod stream;
mod walk;

pub use layer::Layer;
pub use measure::{Measure, measure, shortage};
pub(crate) use piece::{Part, Piece};
pub use stream::{from_stream, through, to_stream};

use crate::{Create, Result, qcow2, raw, vhd};
use disk::{Cx, Target};
use ondisk::{Len, Offset};
use std::ops::Range;
use std::os::fd::BorrowedFd;

/// Fills an empty file with the image that `create` describes and the content of `layer`. Compresses qcow2 clusters
/// with `packed`. Yields the length of the file.
///
/// # Errors
/// Where the format cannot hold the disk, source or file fail, or the operator interrupts.
pub fn write(layer: Layer<'_>, create: &Create, packed: bool, target: &Target, cx: &Cx<'_>) -> Result<Len> {
    match create {
        Create::Raw(len) => engine::run(layer, &raw::fill::Fill, raw::fill::Order::new(*len), target, cx),
        Create::Vhd(spec) => {
            let order = vhd::fill::Order::new(spec, target.fixed_len())?;
            engine::run(layer, &vhd::fill::Fill::new(spec, layer), order, target, cx)
        }
        Create::Qcow2(spec) => {
            let order = qcow2::fill::Order::new(spec, &cx.limits)?;
            engine::run(layer, &qcow2::fill::Fill::new(spec, packed, layer), order, target, cx)
        }
    }
}

/// Makes the image in an empty file by sharing the blocks of `source`, a file that begins with the disk: raw, or a fixed
/// VHD. Yields the length of the file; `None` where the format of the image or the file system does not allow it.
///
/// # Errors
/// As [`write()`].
pub fn share(source: BorrowedFd<'_>, create: &Create, target: &Target) -> Result<Option<Len>> {
    let (disk, rest) = match create {
        Create::Raw(len) => (*len, None),
        Create::Vhd(spec) if spec.kind == vhd::create::New::Fixed => {
            (spec.len, Some(vhd::fill::Order::new(spec, None)?.finish()?))
        }
        _ => return Ok(None),
    };
    if !target.clone_of(source)? {
        return Ok(None);
    }
    target.set_len(disk)?;
    let Some((puts, len)) = rest else { return Ok(Some(disk)) };
    engine::write_last(puts, target)?;
    target.set_len(len)?;
    Ok(Some(len))
}

/// The half of a format that works on pieces by themselves.
pub(crate) trait Prepare: Sync {
    /// What a worker keeps from piece to piece.
    type Tools;
    /// What becomes of a piece.
    type Made: Send;

    /// Into pieces of which length the disk is cut: a power of two, at most 2 MiB.
    fn piece(&self) -> Len;

    /// Zeros are looked for in units of this length.
    fn granule(&self) -> Len;

    /// What one image alone holds is widened to whole units of this length.
    fn unit(&self) -> Len;

    /// Makes the tools of one worker.
    fn tools(&self) -> Result<Self::Tools>;

    /// Looks at one piece.
    fn prepare(&self, piece: &Piece, tools: &mut Self::Tools) -> Result<Self::Made>;
}

/// The half of a format that gives places, one piece after the other.
pub(crate) trait Place: Send {
    /// What comes from [`Prepare::prepare`].
    type Made;

    /// Whether the place of a piece depends on those before.
    const ORDERED: bool = true;

    /// Where the bytes of the next piece go.
    fn place(&mut self, piece: &Piece, made: &Self::Made) -> Result<Vec<Put>>;

    /// What comes last: tables and headers; and the length of the file.
    fn finish(self) -> Result<(Vec<Put>, Len)>;

    /// The bytes of `made` that [`What::Made`] means.
    fn bytes(made: &Self::Made) -> &[u8];
}

/// Bytes and their place in the file.
#[derive(Debug)]
pub(crate) struct Put {
    pub at: Offset,
    pub what: What,
}

/// Where bytes come from.
#[derive(Debug)]
pub(crate) enum What {
    /// The piece; zeros in it are left out.
    Piece(Range<usize>),
    /// What was made of the piece.
    Made(Range<usize>),
    /// Tables and headers.
    Bytes(Vec<u8>),
}

impl Put {
    /// Adds it to a list, as one with the last where it only goes on.
    pub fn append_to(self, list: &mut Vec<Self>) {
        let last = list.last_mut().map(|last| (last.at, &mut last.what));
        match (last, &self.what) {
            (Some((at, What::Piece(before))), What::Piece(next))
            | (Some((at, What::Made(before))), What::Made(next))
                if before.end == next.start && at.checked_add(length(before)) == Some(self.at) =>
            {
                before.end = next.end;
            }
            _ => list.push(self),
        }
    }
}

fn length(range: &Range<usize>) -> Len {
    Len::new(ondisk::num::to_u64(range.len()))
}
