//! The content of a file, piece by piece, in memory that does not depend on its size.

use super::Guest;
use crate::exit::{Exit, Failure, Of};
use disk::Task;
use extfs::read::inode::{ENCRYPT, INLINE_DATA};
use extfs::{BlockNo, Error, Inode, Kind};
use ondisk::{Len, Offset, Span};

/// So much is read at once.
const PIECE: Len = Len::mib(1);

/// Spans of a file that hold data, in ascending order; everything between them, up to the file's end, is zero.
pub(super) struct Pieces {
    /// In the file, with their places on the volume.
    runs: Vec<(Span, Offset)>,
    /// The data of a file that lies in its inode.
    inline: Option<Vec<u8>>,
    /// The file's length.
    pub len: Len,
}

impl Pieces {
    /// The spans of data.
    pub(super) fn data(&self) -> Vec<Span> {
        match &self.inline {
            Some(bytes) if bytes.is_empty() => Vec::new(),
            Some(bytes) => vec![Span::whole(Len::of(bytes))],
            None => {
                let mut all: Vec<Span> = Vec::new();
                for &(span, _) in &self.runs {
                    match all.last_mut() {
                        Some(last) if last.end() == span.start() => {
                            *last = Span::between(last.start(), span.end()).unwrap_or(*last);
                        }
                        _ => all.push(span),
                    }
                }
                all
            }
        }
    }
}

impl Guest<'_> {
    /// Looks where the content of a regular file is.
    pub(super) fn pieces(&self, inode: &Inode) -> Result<Pieces, Failure> {
        let of = |error: Error| Failure::of(self.image, &error);
        if inode.kind() != Some(Kind::File) {
            return Err(of(Error::WrongKind { ino: inode.ino(), wanted: "regular file" }));
        }
        if inode.has(ENCRYPT) {
            let what = format!("inode {}: its content is encrypted", inode.ino());
            return Err(self.failure(Exit::Refused, "unsupported", what));
        }
        let len = inode.size();
        if inode.has(INLINE_DATA) {
            let inline = Some(self.fs.inline_data(inode).of(self.image)?);
            return Ok(Pieces { runs: Vec::new(), inline, len });
        }
        let size = self.fs.geom().block_size;
        let budget = self.session.limits.budget("the map of a file");
        let mut runs = Vec::new();
        for run in self.fs.map(inode).map_err(of)? {
            let run = run.map_err(of)?;
            self.take_blocks(inode, run.count.0)?;
            let whole =
                size.span_of(BlockNo(run.at.0), run.count).and_then(|span| span.intersect(Span::whole(len)));
            let place = whole.filter(|_| !run.unwritten).zip(size.offset_of(run.start));
            if let Some(piece) = place {
                budget.take(Len::new(32)).of(self.image)?;
                runs.push(piece);
            }
        }
        Ok(Pieces { runs, inline: None, len })
    }

    /// Hands every piece of data to `each`, in order.
    pub(super) fn stream(
        &self,
        pieces: &Pieces,
        task: &dyn Task,
        mut each: impl FnMut(Offset, &[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if let Some(bytes) = &pieces.inline {
            return each(Offset::ZERO, bytes);
        }
        let longest = pieces.runs.iter().map(|(span, _)| span.len()).max().unwrap_or_default();
        let mut buf = self.session.limits.buffer("a piece of a file", longest.min(PIECE)).of(self.image)?;
        for &(span, place) in &pieces.runs {
            for piece in span.chunks(PIECE) {
                self.go_on()?;
                let ahead = piece.start().since(span.start()).unwrap_or_default();
                let from = place.checked_add(ahead).unwrap_or(place);
                let Some(buf) = buf.get_mut(..piece.len().to_usize()) else { continue };
                disk::ReadAt::read_at(self.fs.disk(), from, buf).of(self.image)?;
                each(piece.start(), buf)?;
                task.advance(piece.len().get());
            }
        }
        Ok(())
    }

    /// Notes that a file has so many blocks.
    fn take_blocks(&self, inode: &Inode, count: u64) -> Result<(), Failure> {
        match self.blocks_left.get().checked_sub(count) {
            Some(left) => self.blocks_left.set(left),
            None => {
                let what = "with this file, files have more blocks than the filesystem";
                return Err(self.failure(Exit::Corrupt, "corrupt", format!("inode {}: {what}", inode.ino())));
            }
        }
        Ok(())
    }
}
