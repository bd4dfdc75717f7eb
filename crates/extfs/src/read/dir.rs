//! Directories, read linearly. A hash tree hides in entries that a linear reader takes for empty, so it needs no walk;
//! its blocks are recognised for their checksums only.
//!
//! ```text
//! block          [inode rec_len name_len type name pad]… [0 12 0 0xde checksum]
//! hash tree      root: [. ][.. up to the end: info, limit, count, entries, tail]   node: [0 block-size …]
//! in the inode   [parent] [entry]…                             and more entries in the attribute system.data
//! ```
//!
//! 1. An entry's length is a multiple of 4, holds its name and stays in its block.
//! 2. No disk block is in a directory twice, so reading one ends.

use super::Ext;
use super::inode::{INDEX, INLINE_DATA, Inode, Kind};
use super::map::{Piece, Run, Walk};
use crate::csum::Object;
use crate::error::{Error, Part, Result};
use crate::feature::Incompat;
use crate::layout::dir::TAIL_TYPE;
use crate::layout::{DirTail, Dirent, DxRootInfo};
use crate::unit::{BlockCount, BlockNo, FileBlock, InodeNo};
use disk::ReadAt;
use ondisk::num::to_u64;
use ondisk::{Len, Offset, Span, SpanSet};
use zerocopy::FromBytes;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it names.
    pub ino: InodeNo,
    /// The name, any bytes but `/` and NUL in a sane directory.
    pub name: Vec<u8>,
    /// The kind, where entries carry one.
    pub kind: Option<Kind>,
}

/// A block of a directory, its checksum verified.
pub struct DirBlock {
    /// Which, as the directory counts.
    pub at: FileBlock,
    /// Where on disk.
    pub block: BlockNo,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where the entries of the hash tree begin, in a block of it.
    pub hashed: Option<usize>,
}

impl<D: ReadAt> Ext<D> {
    /// All entries of a directory, `.` and `..` included, in the order of the disk.
    ///
    /// # Errors
    /// Where it is no directory, or its map is damaged. More damage comes out of the iterator, which then ends.
    pub fn entries(&self, dir: &Inode) -> Result<Entries<'_, D>> {
        let inline = if dir.has(INLINE_DATA) { self.inline_entries(dir)? } else { Vec::new() };
        Ok(Entries { blocks: self.dir_blocks(dir)?, ready: inline.into_iter() })
    }

    /// The inode that a name in a directory stands for.
    ///
    /// # Errors
    /// Where it is no directory, or is damaged before the name is found.
    pub fn lookup(&self, dir: &Inode, name: &[u8]) -> Result<Option<InodeNo>> {
        for entry in self.entries(dir)? {
            let entry = entry?;
            if entry.name == name {
                return Ok(Some(entry.ino));
            }
        }
        Ok(None)
    }

    /// The blocks of a directory up to its size; none for one inside its inode.
    ///
    /// # Errors
    /// As [`Ext::entries`].
    pub fn dir_blocks(&self, dir: &Inode) -> Result<DirBlocks<'_, D>> {
        if dir.kind() != Some(Kind::Dir) {
            return Err(Error::WrongKind { ino: dir.ino(), wanted: "directory" });
        }
        Ok(DirBlocks {
            fs: self,
            dir: dir.clone(),
            blocks: self.geom().block_size.blocks_for(dir.size()),
            runs: self.walk(dir)?,
            run: None,
            seen: SpanSet::new(),
        })
    }

    /// The entries of a directory inside its inode, `.` and `..` made up from what is there.
    fn inline_entries(&self, dir: &Inode) -> Result<Vec<Entry>> {
        let part = Part::Inline(dir.ino());
        let data = self.inline_whole(dir)?;
        let (parent, rest) =
            data.split_first_chunk::<4>().ok_or(Error::broken(part, "has no room for a parent"))?;
        let dots = [(dir.ino(), &b"."[..]), (InodeNo(u32::from_le_bytes(*parent)), b"..")];
        let mut all: Vec<Entry> = dots
            .into_iter()
            .map(|(ino, name)| Entry { ino, name: name.to_vec(), kind: Some(Kind::Dir) })
            .collect();
        let (inside, outside) = rest.split_at(rest.len().min(56));
        for area in [inside, outside] {
            all.extend(self.parse_entries(part, area)?);
        }
        Ok(all)
    }

    /// The entries in the bytes of a directory block, or of a part of an inline directory. Unused ones, the tail and
    /// hash tree nodes come out as nothing.
    ///
    /// # Errors
    /// Where an entry breaks invariant 1, or names an inode that cannot exist.
    pub fn parse_entries(&self, part: Part, bytes: &[u8]) -> Result<Vec<Entry>> {
        let filetype = self.sb.incompat().has(Incompat::FILETYPE);
        let mut all = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (raw, body) = Dirent::ref_from_prefix(rest)
                .map_err(|_| Error::broken(part, "has an entry that reaches behind the end"))?;
            let len = rec_len(raw.rec_len.get(), bytes.len());
            let name_len = usize::from(raw.name_len);
            let least = name_len.saturating_add(size_of::<Dirent>());
            if len < 8 || !len.is_multiple_of(4) || len > rest.len() || least > len {
                let expected = format!("a multiple of 4 from {least} to {}", rest.len());
                return Err(Error::field(part, "rec_len", to_u64(len), expected));
            }
            let ino = InodeNo(raw.inode.get());
            if ino.0 > self.geom().inodes() {
                let expected = format!("at most {}", self.geom().inodes());
                return Err(Error::field(part, "the inode of an entry", ino.0, expected));
            }
            if ino.0 != 0 {
                if name_len == 0 {
                    return Err(Error::field(part, "name_len", 0_u32, "at least 1"));
                }
                let name = body.get(..name_len).unwrap_or_default().to_vec();
                let kind = if filetype { Kind::of_dirent(raw.file_type & 0xf) } else { None };
                all.push(Entry { ino, name, kind });
            }
            rest = rest.get(len..).unwrap_or_default();
        }
        Ok(all)
    }

    fn check_dir_block(&self, part: Part, object: Object, bytes: &[u8]) -> Result<()> {
        if !self.sb.sums().cover_all() {
            return Ok(());
        }
        if matches!(object, Object::DirBlock(_)) && !has_tail(bytes) {
            return Err(Error::broken(part, "has no tail with a checksum"));
        }
        self.sb.sums().verify(object, bytes).map_err(Error::checksum(part))
    }
}

/// The entries of a directory. Ends behind the first error.
pub struct Entries<'a, D> {
    blocks: DirBlocks<'a, D>,
    ready: std::vec::IntoIter<Entry>,
}

impl<D: ReadAt> Iterator for Entries<'_, D> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.ready.next() {
                return Some(Ok(entry));
            }
            let (fs, ino) = (self.blocks.fs, self.blocks.dir.ino());
            let found = self.blocks.next()?;
            let found =
                found.and_then(|block| fs.parse_entries(Part::Directory(ino, block.at), &block.bytes));
            match found {
                Ok(found) => self.ready = found.into_iter(),
                Err(error) => {
                    self.blocks.stop();
                    return Some(Err(error));
                }
            }
        }
    }
}

/// The blocks of a directory. Damage of one block does not hide the next.
pub struct DirBlocks<'a, D> {
    fs: &'a Ext<D>,
    dir: Inode,
    /// Blocks up to the directory's size.
    blocks: BlockCount,
    runs: Walk<'a, D>,
    /// What is left of the run under way.
    run: Option<Run>,
    /// Blocks of the disk that were claimed, one byte each.
    seen: SpanSet,
}

impl<D: ReadAt> Iterator for DirBlocks<'_, D> {
    type Item = Result<DirBlock>;

    fn next(&mut self) -> Option<Self::Item> {
        let run = loop {
            match self.run.take() {
                Some(run) if run.at.0 >= self.blocks.0 => return None,
                Some(run) if run.count.0 > 0 => break run,
                _ => {}
            }
            match self.runs.next()? {
                Ok(Piece::Node(..)) => {}
                Ok(Piece::Run(run)) => {
                    if let Err(error) = self.claim(run) {
                        self.stop();
                        return Some(Err(error));
                    }
                    self.run = Some(run);
                }
                Err(error) => return Some(Err(error)),
            }
        };
        let left = BlockCount(run.count.0.saturating_sub(1));
        self.run = Some(Run { at: run.at.plus(1), start: run.start.plus(1), count: left, ..run });
        Some(self.read(run.at, run.start))
    }
}

impl<D: ReadAt> DirBlocks<'_, D> {
    fn stop(&mut self) {
        self.blocks = BlockCount(0);
        self.run = Some(Run { at: FileBlock(0), start: BlockNo(0), count: BlockCount(1), unwritten: false });
    }

    /// Notes that these blocks belong to the directory (invariant 2).
    fn claim(&mut self, run: Run) -> Result<()> {
        let span = Span::new(Offset::new(run.start.0), Len::new(run.count.0)).unwrap_or_default();
        if self.seen.overlaps(span) {
            let part = Part::Directory(self.dir.ino(), run.at);
            return Err(Error::broken(part, "is a block that the directory has elsewhere too"));
        }
        self.seen.insert(span);
        Ok(())
    }

    fn read(&self, at: FileBlock, block: BlockNo) -> Result<DirBlock> {
        let part = Part::Directory(self.dir.ino(), at);
        let bytes = self.fs.read_block(part, block)?;
        let seed = self.dir.seed(self.fs.sb.sums());
        let hashed = if self.dir.has(INDEX) { dx_entries(&bytes, at) } else { None };
        let object = hashed.map_or(Object::DirBlock(seed), |at| Object::DxBlock(seed, at));
        self.fs.check_dir_block(part, object, &bytes)?;
        Ok(DirBlock { at, block, bytes, hashed })
    }
}

/// `rec_len` as bytes: blocks of 64 KiB need one bit more than there is.
fn rec_len(raw: u16, block: usize) -> usize {
    match usize::from(raw) {
        0 | 0xffff if block == 1 << 16 => block,
        len => len,
    }
}

/// Where the entries of a hash tree begin in this block, if it is one of the tree's.
fn dx_entries(bytes: &[u8], at: FileBlock) -> Option<usize> {
    let (first, _) = Dirent::ref_from_prefix(bytes).ok()?;
    if first.inode.get() == 0 && rec_len(first.rec_len.get(), bytes.len()) == bytes.len() {
        return Some(size_of::<Dirent>());
    }
    let (second, _) = Dirent::ref_from_prefix(bytes.get(12..)?).ok()?;
    let rest = bytes.len().checked_sub(12)?;
    let root = at.0 == 0 && first.rec_len.get() == 12 && usize::from(second.rec_len.get()) == rest;
    let (info, _) = DxRootInfo::ref_from_prefix(bytes.get(24..)?).ok()?;
    (root && info.reserved_zero.get() == 0 && info.info_length == 8).then_some(32)
}

/// Whether a block ends with the fake entry that holds a checksum.
fn has_tail(bytes: &[u8]) -> bool {
    DirTail::ref_from_suffix(bytes).is_ok_and(|(_, tail)| {
        tail.det_reserved_zero1.get() == 0
            && tail.det_rec_len.get() == 12
            && tail.det_reserved_zero2 == 0
            && tail.det_reserved_ft == TAIL_TYPE
    })
}
