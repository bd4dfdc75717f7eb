//! Many small pieces of the bases, read with few calls.

use disk::ReadAt;
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset, Span};
use std::ops::Range;

/// What lies no further apart is read at once, with what is between.
const GAP: u64 = 4 << 10;
/// So much at a time: it stays in the cache of the processor.
const RUN: u64 = 128 << 10;

/// Bytes of a source, and where they go.
#[derive(Debug)]
pub struct Piece {
    /// Which base; or which frame.
    pub source: usize,
    /// Where in it, or where in the literal stream.
    pub at: u64,
    /// Where they go.
    pub target: Range<usize>,
}

impl Piece {
    /// Where it stands in its source.
    pub fn span(&self) -> Span {
        Span::new(Offset::new(self.at), Len::new(to_u64(self.target.len()))).unwrap_or_default()
    }
}

/// Reads pieces of the bases into `bytes`, those that follow each other closely at once: best in the order of the bases.
pub fn gather<B: ReadAt>(bases: &[B], pieces: &[Piece], bytes: &mut [u8]) -> disk::Result<()> {
    let mut room = Vec::new();
    let mut rest = pieces;
    while let Some((first, behind)) = rest.split_first() {
        let (count, span) = run(first, behind);
        let (more, next) = behind.split_at(count);
        rest = next;
        let Some(base) = bases.get(first.source) else { continue };
        if more.is_empty() {
            base.read_at(span.start(), bytes.get_mut(first.target.clone()).unwrap_or_default())?;
            continue;
        }
        room.resize(to_usize(RUN).max(room.len()), 0);
        let room = room.get_mut(..span.len().to_usize()).unwrap_or_default();
        base.read_at(span.start(), room)?;
        for piece in std::iter::once(first).chain(more) {
            let from = to_usize(piece.at.saturating_sub(span.start().get()));
            let source = room.get(from..from.saturating_add(piece.target.len()));
            if let Some((target, source)) = bytes.get_mut(piece.target.clone()).zip(source) {
                target.copy_from_slice(source);
            }
        }
    }
    Ok(())
}

/// How many of the pieces behind the first are read with it, and what that is.
fn run(first: &Piece, behind: &[Piece]) -> (usize, Span) {
    let mut span = first.span();
    let mut near = |piece: &&Piece| {
        let own = piece.span();
        let whole = Span::between(span.start(), span.end().max(own.end()));
        let near = piece.source == first.source
            && own.start() >= span.start()
            && own.start().get() <= span.end().get().saturating_add(GAP);
        let whole = whole.filter(|whole| near && whole.len().get() <= RUN);
        whole.map(|whole| span = whole).is_some()
    };
    (behind.iter().take_while(|piece| near(piece)).count(), span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use disk::MemDisk;
    use testkit::images::noise;

    #[test]
    fn each_piece_comes_to_its_place() {
        let disks = [noise(1, 1 << 20), noise(2, 300_000)];
        let bases: Vec<MemDisk> = disks.iter().map(|bytes| MemDisk::from_bytes(bytes)).collect();
        let list = [
            (0, 0, 10),
            (0, 10, 90),
            (0, 4196, 4),
            (0, 8297, 400_000),
            (0, 9000, 100),
            (0, 8999, 2),
            (1, 9000, 1),
            (1, 9002, 130_000),
            (1, 299_999, 1),
            (0, 0, 1 << 20),
        ];
        let (mut pieces, mut wanted) = (Vec::new(), Vec::new());
        for (source, at, len) in list {
            let start = wanted.len();
            wanted.extend(&disks[source][at..at + len]);
            pieces.push(Piece { source, at: to_u64(at), target: start..wanted.len() });
        }
        let mut bytes = vec![0; wanted.len()];
        gather(&bases, &pieces, &mut bytes).unwrap();
        assert_eq!(bytes, wanted);
        assert_eq!(run(&pieces[0], &pieces[1..]).0, 2, "what is near is read at once");
    }
}
