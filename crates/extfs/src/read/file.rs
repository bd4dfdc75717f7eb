//! The contents of files, wherever they are: in blocks, or in the inode.

use super::Ext;
use super::inode::{ENCRYPT, INLINE_DATA, Inode, Kind};
use crate::error::{Error, Part, Result};
use crate::unit::{BlockCount, FileBlock};
use disk::ReadAt;
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset, Span};

impl<D: ReadAt> Ext<D> {
    /// Reads from a file into `buf`, up to its end; how many bytes there were. Holes read as zero.
    ///
    /// # Errors
    /// Where its map or its blocks cannot be read, or are damaged.
    pub fn read_file(&self, inode: &Inode, at: Offset, buf: &mut [u8]) -> Result<usize> {
        let there = inode.size().end().since(at).unwrap_or_default();
        let count = to_usize(there.get()).min(buf.len());
        let Some(buf) = buf.get_mut(..count).filter(|buf| !buf.is_empty()) else { return Ok(0) };
        if inode.has(INLINE_DATA) {
            let data = self.inline_data(inode)?;
            copy_from(buf, data.get(to_usize(at.get())..).unwrap_or_default());
            return Ok(count);
        }
        buf.fill(0);
        let size = self.geom().block_size;
        let want = Span::new(at, Len::new(to_u64(count))).unwrap_or_default();
        for run in self.map_from(inode, FileBlock(at.get() >> size.bits()))? {
            let run = run?;
            let whole = size.span_of(crate::BlockNo(run.at.0), run.count).unwrap_or_default();
            if whole.start() >= want.end() {
                break;
            }
            let Some(part) = whole.intersect(want).filter(|_| !run.unwritten) else { continue };
            let place = size.offset_of(run.start).zip(part.start().since(whole.start()));
            let place = place.and_then(|(start, by)| start.checked_add(by));
            let into = to_usize(part.start().get().saturating_sub(at.get()));
            let into = buf.get_mut(into..into.saturating_add(part.len().to_usize()));
            if let (Some(place), Some(into)) = (place, into) {
                self.disk.read_at(place, into)?;
            }
        }
        Ok(count)
    }

    /// The whole contents of a file, bounded by the limit on memory.
    ///
    /// # Errors
    /// As [`Ext::read_file`], and where they do not fit.
    pub fn read_whole(&self, inode: &Inode) -> Result<Vec<u8>> {
        let mut buf = self.limits.buffer("the contents of a file", inode.size())?;
        self.read_file(inode, Offset::ZERO, &mut buf)?;
        Ok(buf)
    }

    /// Where a symbolic link points.
    ///
    /// # Errors
    /// Where it is no link, is encrypted, or its target cannot be read.
    pub fn read_link(&self, inode: &Inode) -> Result<Vec<u8>> {
        let (part, size) = (Part::Symlink(inode.ino()), inode.size());
        if inode.kind() != Some(Kind::Symlink) {
            return Err(Error::WrongKind { ino: inode.ino(), wanted: "symbolic link" });
        }
        if inode.has(ENCRYPT) {
            return Err(Error::Unsupported { part, what: "an encrypted target" });
        }
        if size.is_zero() || size.get() > self.geom().block_size.bytes() {
            let expected = format!("1 to {}", self.geom().block_size.bytes());
            return Err(Error::field(part, "i_size", size.get(), expected));
        }
        if inode.has(INLINE_DATA) {
            return self.inline_whole(inode);
        }
        if inode.has_map() {
            return self.read_whole(inode);
        }
        let target = inode.raw().i_block;
        Ok(target.get(..size.to_usize()).unwrap_or(&target).to_vec())
    }

    /// The data that an inode holds itself, up to its size. A file may be longer than its data: as for the kernel, the
    /// rest of it is zero.
    ///
    /// # Errors
    /// Where the attribute is damaged, or missing.
    pub fn inline_data(&self, inode: &Inode) -> Result<Vec<u8>> {
        let mut data = self.inline_bytes(inode)?;
        data.truncate(inode.size().to_usize());
        Ok(data)
    }

    /// As [`Ext::inline_data`], for a directory or link: these end where their data does.
    pub(super) fn inline_whole(&self, inode: &Inode) -> Result<Vec<u8>> {
        let data = self.inline_data(inode)?;
        if to_u64(data.len()) < inode.size().get() {
            let expected = format!("at most {}, the bytes there are", data.len());
            return Err(Error::field(Part::Inline(inode.ino()), "i_size", inode.size().get(), expected));
        }
        Ok(data)
    }

    /// All bytes for data inside an inode, used or not: 60 in the place of the map, the rest in an attribute.
    pub(crate) fn inline_bytes(&self, inode: &Inode) -> Result<Vec<u8>> {
        let mut data = inode.raw().i_block.to_vec();
        let rest = self.xattrs_inside(inode)?.into_iter().find(|attr| attr.is_inline_data());
        let rest = rest.ok_or(Error::broken(Part::Inline(inode.ino()), "has no attribute system.data"))?;
        data.extend_from_slice(&self.xattr_value(&rest)?);
        Ok(data)
    }

    /// How many blocks a file's contents take, those of its map not counted.
    ///
    /// # Errors
    /// Where its map is damaged.
    pub fn blocks_of(&self, inode: &Inode) -> Result<BlockCount> {
        let mut blocks = 0_u64;
        for run in self.map(inode)? {
            blocks = blocks.saturating_add(run?.count.0);
        }
        Ok(BlockCount(blocks))
    }
}

/// Copies what there is and leaves zeros behind it.
fn copy_from(buf: &mut [u8], from: &[u8]) {
    let there = from.len().min(buf.len());
    let (head, tail) = buf.split_at_mut(there);
    head.copy_from_slice(from.get(..there).unwrap_or_default());
    tail.fill(0);
}
