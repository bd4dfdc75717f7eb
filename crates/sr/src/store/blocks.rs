//! A file of a filesystem as a disk: its blocks where they lie, and zeros between them.

use disk::traits::{bounded, within};
use disk::{ExtentKind, ExtentMap, ReadAt, Result};
use extfs::{Ext, Inode, Kind};
use ondisk::num::to_usize;
use ondisk::{Len, Offset, Span};

/// Runs of a disk, each at its place of a file.
#[derive(Debug)]
pub struct Blocks<D> {
    inner: D,
    /// Bytes of the file, and where they begin on the disk; in order, none empty.
    runs: Vec<(Span, Offset)>,
    len: Len,
}

/// Where the bytes of a file lie.
///
/// # Errors
/// Where it is no plain file, or its map is damaged.
pub fn runs<D: ReadAt>(fs: &Ext<D>, file: &Inode) -> extfs::Result<(Vec<(Span, Offset)>, Len)> {
    if file.kind() != Some(Kind::File) {
        return Err(extfs::Error::WrongKind { ino: file.ino(), wanted: "regular file" });
    }
    let size = fs.geom().block_size;
    let whole = Span::whole(file.size());
    let mut runs = Vec::new();
    for run in fs.map(file)? {
        let run = run?;
        let span = size.span_of(extfs::BlockNo(run.at.0), run.count).and_then(|span| span.intersect(whole));
        let place = size.offset_of(run.start).filter(|_| !run.unwritten);
        runs.extend(span.filter(|span| !span.is_empty()).zip(place));
    }
    Ok((runs, file.size()))
}

impl<D: ReadAt> Blocks<D> {
    /// The file of that map on `inner`.
    pub const fn new(inner: D, runs: Vec<(Span, Offset)>, len: Len) -> Self {
        Self { inner, runs, len }
    }

    /// The parts of `span` that are stored, each with its place on the inner disk, in order.
    fn stored(&self, span: Span) -> impl Iterator<Item = (Span, Offset)> + '_ {
        let first = self.runs.partition_point(|(run, _)| run.end() <= span.start());
        let runs = self.runs.get(first..).unwrap_or_default().iter();
        runs.take_while(move |(run, _)| run.start() < span.end()).filter_map(move |(run, place)| {
            let part = run.intersect(span)?;
            Some((part, place.checked_add(part.start().since(run.start())?)?))
        })
    }
}

impl<D: ReadAt> ReadAt for Blocks<D> {
    fn len(&self) -> Len {
        self.len
    }

    fn read_at(&self, at: Offset, buf: &mut [u8]) -> Result<()> {
        let span = bounded(at, buf.len(), self.len)?;
        buf.fill(0);
        for (part, place) in self.stored(span) {
            let from = to_usize(part.start().since(at).unwrap_or_default().get());
            let part = buf.get_mut(from..).and_then(|buf| buf.get_mut(..part.len().to_usize()));
            self.inner.read_at(place, part.unwrap_or_default())?;
        }
        Ok(())
    }

    fn extents(&self, span: Span) -> Result<ExtentMap> {
        within(span, self.len)?;
        let mut map = ExtentMap::new();
        let mut at = span.start();
        for (part, place) in self.stored(span) {
            map.push(Span::between(at, part.start()).unwrap_or_default(), ExtentKind::Hole);
            let there = Span::new(place, part.len()).unwrap_or_default();
            map.append(&self.inner.extents(there)?.rebased(place, part.start()));
            at = part.end();
        }
        map.push(Span::between(at, span.end()).unwrap_or_default(), ExtentKind::Hole);
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use disk::{Disk, MemDisk, Sparse};

    #[test]
    fn blocks_and_holes() {
        let mut disk = MemDisk::from(Sparse::new(Len::new(64)));
        disk.write_at(Offset::ZERO, &(0..64).collect::<Vec<u8>>()).unwrap();
        let span = |at: u64, len: u64| Span::new(Offset::new(at), Len::new(len)).unwrap();
        let file = Blocks::new(
            disk,
            vec![(span(4, 8), Offset::new(40)), (span(12, 4), Offset::new(0))],
            Len::new(20),
        );
        let mut all = [9; 20];
        file.read_at(Offset::ZERO, &mut all).unwrap();
        assert_eq!(all, [0, 0, 0, 0, 40, 41, 42, 43, 44, 45, 46, 47, 0, 1, 2, 3, 0, 0, 0, 0]);
        let mut part = [9; 5];
        file.read_at(Offset::new(10), &mut part).unwrap();
        assert_eq!(part, [46, 47, 0, 1, 2]);
        assert!(file.read_at(Offset::new(16), &mut [0; 5]).is_err());
        let map = file.extents(Span::whole(Len::new(20))).unwrap();
        assert_eq!(map.data().collect::<Vec<_>>(), [span(4, 12)]);
    }
}
