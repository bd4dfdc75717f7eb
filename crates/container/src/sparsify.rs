//! Giving back what a disk does not need: three steps, each of which leaves a whole image.
//!
//! ```text
//! drop      whole blocks and clusters leave the tables     a change
//! spare     the bytes that nothing needs now               holes in the file, no change
//! compact   what lies last moves down, the file is cut     a change
//! ```
//!
//! 1. What is given as free is zero already, or may read as zero: it is dropped only where it reads as zero then.
//! 2. No step needs new space: nothing is dropped or moved for which a table would have to be made.
//! 3. Repeated, they find nothing to do.

use crate::{Container, Error, Result};
use disk::{Coarse, Disk, Limits, ReadAt};
use ondisk::{Len, Offset, Span};

/// What the last step has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes that were moved.
    pub moved: Len,
    /// Whether more could be moved in another turn.
    pub more: bool,
}

impl<D: Disk> Container<D> {
    /// Takes blocks or clusters that are wholly in `free` out of the tables, no more than `most` or somewhat more; how
    /// many that were.
    ///
    /// # Errors
    /// Where the image may not be written to, or is damaged.
    pub fn drop_free(&mut self, free: &Coarse, most: u64) -> Result<u64> {
        match self {
            Self::Raw(_) | Self::Foreign(_) => Ok(0),
            Self::Vhd(vhd) => vhd.drop_free(free, most),
            Self::Qcow2(qcow2) => qcow2.drop_free(free, most),
        }
    }

    /// Moves what lies last in the file to spare places further down, no more than `most` bytes or somewhat more, and
    /// cuts the file where nothing is left to move. Spare places read as zero already.
    ///
    /// # Errors
    /// As [`Container::drop_free`].
    pub fn compact(&mut self, most: Len) -> Result<Compacted> {
        match self {
            Self::Raw(_) | Self::Foreign(_) => Ok(Compacted::default()),
            Self::Vhd(vhd) => vhd.compact(most),
            Self::Qcow2(qcow2) => qcow2.compact(most),
        }
    }
}

impl<D: ReadAt> Container<D> {
    /// What a block or a cluster is called here; a file without any has none.
    #[must_use]
    pub fn unit(&self) -> Option<&'static str> {
        match self {
            Self::Vhd(vhd) => vhd.block_size().map(|_| "block"),
            Self::Raw(_) | Self::Foreign(_) => None,
            Self::Qcow2(_) => Some("cluster"),
        }
    }

    /// The bytes of the file that nothing in it refers to, and those of what is stored although it is in `free`.
    ///
    /// # Errors
    /// Where the image may not be written to, is damaged, or there is not enough memory.
    pub fn spare(&self, free: &Coarse, limits: &Limits) -> Result<Coarse> {
        let mut spare = Coarse::new(self.file().len(), limits);
        match self {
            Self::Raw(_) => free.iter().try_for_each(|span| spare.insert(span))?,
            Self::Vhd(vhd) => vhd.spare(free, &mut spare)?,
            Self::Qcow2(qcow2) => qcow2.spare(free, &mut spare)?,
            Self::Foreign(image) => return Err(Error::read_only(image.format())),
        }
        Ok(spare)
    }

    /// Whether the image's own bytes are stored for all of `range` or for parts of it; what a parent has does not count.
    ///
    /// # Errors
    /// Where the map cannot be read.
    pub fn own_data(&self, range: Span) -> Result<Vec<Span>> {
        use crate::Mapped;
        let own = self.status(range)?.into_iter().filter(|run| run.data && run.depth == 0);
        Ok(own.map(|run| run.span).collect())
    }
}

/// The places between things in a file.
pub(crate) fn gaps(used: &[Span], from: Offset, end: Offset) -> Vec<Span> {
    let mut at = from;
    let mut gaps = Vec::new();
    for span in used {
        gaps.extend(Span::between(at, span.start().min(end)).filter(|gap| !gap.is_empty()));
        at = at.max(span.end());
    }
    gaps.extend(Span::between(at, end).filter(|gap| !gap.is_empty()));
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_between_things() {
        let span = |start: u64, len: u64| Span::new(Offset::new(start), Len::new(len)).unwrap();
        let used = [span(0, 10), span(10, 5), span(20, 5), span(22, 10)];
        assert_eq!(gaps(&used, Offset::new(12), Offset::new(40)), [span(15, 5), span(32, 8)]);
        assert_eq!(gaps(&used, Offset::new(12), Offset::new(18)), [span(15, 3)]);
        assert_eq!(gaps(&[], Offset::ZERO, Offset::new(3)), [span(0, 3)]);
    }
}
