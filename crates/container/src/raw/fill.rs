//! Filling a raw file: everything has its place already.

use crate::Result;
use crate::write::{Piece, Place, Prepare, Put, What};
use ondisk::Len;
use ondisk::num::to_usize;

/// So much is read at once.
const PIECE: Len = Len::mib(1);

/// The half that works on pieces: nothing is to be done.
pub(crate) struct Fill;

/// The half that gives places.
pub(crate) struct Order {
    len: Len,
}

impl Order {
    /// For a disk of that length.
    pub(crate) const fn new(len: Len) -> Self {
        Self { len }
    }
}

impl Prepare for Fill {
    type Tools = ();
    type Made = ();

    fn piece(&self) -> Len {
        PIECE
    }

    fn granule(&self) -> Len {
        Len::kib(4)
    }

    fn unit(&self) -> Len {
        Len::new(512)
    }

    fn tools(&self) -> Result<()> {
        Ok(())
    }

    fn prepare(&self, _: &Piece, (): &mut ()) -> Result<()> {
        Ok(())
    }
}

impl Place for Order {
    type Made = ();

    const ORDERED: bool = false;

    fn place(&mut self, piece: &Piece, (): &()) -> Result<Vec<Put>> {
        let there = self.len.end().since(piece.span.start()).unwrap_or_default();
        let bytes = 0..to_usize(there.min(piece.span.len()).get());
        Ok(vec![Put { at: piece.span.start(), what: What::Piece(bytes) }])
    }

    fn finish(self) -> Result<(Vec<Put>, Len)> {
        Ok((Vec::new(), self.len))
    }

    fn bytes((): &()) -> &[u8] {
        &[]
    }
}
