//! What a plan does to the file, as data.

use disk::Disk;
use ondisk::{Len, Offset, Span};

/// One change of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Gives the file that length.
    Resize(Len),
    /// Promises that nothing refers to these bytes.
    Fresh(Span),
    /// Makes them zero.
    Zero(Span),
    /// Makes them 0xff: entries of the BAT that name no block.
    Unallocated(Span),
    /// Copies a block.
    Copy(Span, Offset),
    /// Writes bytes.
    Write(Offset, Vec<u8>),
}

impl Step {
    fn run(self, file: &mut dyn Disk) -> disk::Result<()> {
        match self {
            Self::Resize(len) => file.resize(len),
            Self::Fresh(span) => file.mark_fresh(span),
            Self::Zero(span) => file.zero(span),
            Self::Copy(from, to) => file.copy(from, to),
            Self::Write(at, bytes) => file.write_at(at, &bytes),
            Self::Unallocated(span) => {
                let fill = vec![0xff; span.len().min(FILL).to_usize()];
                span.chunks(FILL).try_for_each(|part| {
                    file.write_at(part.start(), fill.get(..part.len().to_usize()).unwrap_or_default())
                })
            }
        }
    }
}

const FILL: Len = Len::kib(64);

/// Does all of them in order.
pub fn run(steps: Vec<Step>, file: &mut dyn Disk) -> disk::Result<()> {
    steps.into_iter().try_for_each(|step| step.run(file))
}
