//! Directories: every entry of every block.

use super::Check;
use super::facts::{BROKEN, ENCRYPTED, INDEXED, SPECIAL, USED};
use super::finding::What;
use super::hash::Version;
use super::htree::Tree;
use super::inode::CASEFOLD;
use crate::csum::{InodeSeed, Object};
use crate::error::{Part, Result};
use crate::feature::Incompat;
use crate::layout::dir::TAIL_TYPE;
use crate::layout::{DirTail, Dirent};
use crate::read::inode::{ENCRYPT, INLINE_DATA, Inode};
use crate::read::map::Piece;
use crate::unit::{BlockCount, FileBlock, InodeNo};
use disk::ReadAt;
use ondisk::Len;
use ondisk::num::{to_u64, to_usize};
use std::collections::HashSet;
use zerocopy::FromBytes;

/// `s_flags`: names count as unsigned characters.
const UNSIGNED_HASH: u32 = 2;
/// So many blocks of a directory are read at once.
const AHEAD: u64 = 64;
/// The shortest name that encryption makes.
const CIPHERTEXT_MIN: usize = 16;

/// What the entries of one directory have in common.
struct Home {
    ino: InodeNo,
    seed: InodeSeed,
    /// Entries carry their hash behind the name.
    hashes: bool,
    casefold: bool,
    policy: Option<u32>,
    /// Its place among the directories.
    index: usize,
}

/// One stretch of entries.
struct Stretch<'a> {
    part: Part,
    at: usize,
    bytes: &'a [u8],
    /// Entries end here.
    limit: usize,
    /// How many of `.` and `..` are still to come.
    dots: u8,
}

/// An entry with its name.
struct Entry<'a> {
    ino: InodeNo,
    name: &'a [u8],
    file_type: u8,
    len: usize,
    /// Behind the name, where a hash may be.
    hash: u32,
}

impl<D: ReadAt> Check<'_, D> {
    /// Reads all directories.
    pub(super) fn directories(&mut self) -> Result<()> {
        self.root();
        let task = self.cx.progress.task("checking directories", disk::Total::Count(to_u64(self.dirs.len())));
        for index in 0..self.dirs.len() {
            self.cx.cancel.check()?;
            let ino = self.dirs.get(index).map_or(InodeNo(0), |dir| dir.ino);
            if !self.facts.get(ino).has(BROKEN) {
                self.directory(index, ino)?;
            }
            task.advance(1);
        }
        Ok(())
    }

    fn directory(&mut self, index: usize, ino: InodeNo) -> Result<()> {
        let inode = self.raw_inode(ino)?;
        let encrypted = self.facts.get(ino).has(ENCRYPTED);
        let home = Home {
            ino,
            seed: inode.seed(self.fs.sb().sums()),
            hashes: inode.has(CASEFOLD) && inode.has(ENCRYPT),
            casefold: inode.has(CASEFOLD),
            policy: if encrypted { self.policy_of.get(&ino).copied() } else { None },
            index,
        };
        if inode.has(INLINE_DATA) && self.fs.sb().incompat().has(Incompat::INLINE_DATA) {
            return self.inline(&home, &inode);
        }
        let mut tree = self.tree(&inode)?;
        let mut next = 0_u64;
        let fs = self.fs;
        for piece in fs.walk(&inode)? {
            let run = match piece {
                Ok(Piece::Run(run)) => run,
                Ok(Piece::Node(..)) => continue,
                Err(error) => return self.report.error(Part::Inode(ino), error),
            };
            if run.at.0 > next && !self.allows_holes() {
                let part = Part::Directory(ino, FileBlock(next));
                self.report.damaged(part, What::Broken("is a hole"));
            }
            next = run.end().0;
            let mut done = 0;
            while done < run.count.0 {
                let count = run.count.0.saturating_sub(done).min(AHEAD);
                let at = run.at.plus(done);
                let bytes =
                    fs.read_blocks(Part::Directory(ino, at), run.start.plus(done), BlockCount(count))?;
                let size = fs.geom().block_size.to_usize();
                for (at, block) in (at.0..).zip(bytes.chunks_exact(size)) {
                    self.block(&home, FileBlock(at), block, &mut tree)?;
                }
                done = done.saturating_add(count);
            }
        }
        if let Some((at, what)) = tree.and_then(Tree::finish) {
            self.report.damaged(Part::Directory(ino, FileBlock(at)), what);
        }
        Ok(())
    }

    fn allows_holes(&self) -> bool {
        let incompat = self.fs.sb().incompat();
        incompat.has(Incompat::LARGEDIR) && !incompat.has(Incompat::INLINE_DATA)
    }

    /// The hash tree of a directory that has one.
    fn tree(&self, inode: &Inode) -> Result<Option<Tree>> {
        if !self.facts.get(inode.ino()).has(INDEXED) {
            return Ok(None);
        }
        let mut count = 0;
        for run in self.fs.map(inode)? {
            count = run.map_or(count, |run| run.end().0);
        }
        self.fs.limits().budget("a hash tree").take(Len::new(Tree::memory(count)))?;
        let size = self.fs.geom().block_size.to_usize();
        Ok(Some(Tree::new(to_usize(count), size, self.fs.sb().sums().cover_all())))
    }

    /// One block of a directory.
    fn block(&mut self, home: &Home, at: FileBlock, bytes: &[u8], tree: &mut Option<Tree>) -> Result<()> {
        let part = Part::Directory(home.ino, at);
        let index = to_usize(at.0);
        let mut leaf = true;
        if let Some(known) = tree {
            let sb = self.fs.sb();
            if at.0 == 0 {
                let levels = if sb.incompat().has(Incompat::LARGEDIR) { 3 } else { 2 };
                let seed = sb.raw().s_hash_seed.map(|word| word.get());
                let unsigned = sb.raw().s_flags.get() & UNSIGNED_HASH != 0;
                leaf = false;
                if let Some(what) = known.root(bytes, levels, home.hashes, seed, unsigned) {
                    self.report.damaged(part, what);
                    *tree = None;
                    leaf = true;
                }
            } else if known.is_node(bytes) {
                leaf = false;
            } else {
                known.leaf(index);
            }
        }
        let checksums = self.fs.sb().sums().cover_all();
        if checksums && !self.sealed(home, part, bytes) {
            return Ok(());
        }
        let tail = if checksums && leaf { size_of::<DirTail>() } else { 0 };
        let limit = bytes.len().saturating_sub(tail);
        let dots = if at.0 == 0 { 2 } else { 0 };
        self.entries(home, &Stretch { part, at: index, bytes, limit, dots }, tree)?;
        if let Some(what) = tree.as_mut().filter(|_| !leaf).and_then(|tree| tree.node(index, bytes)) {
            self.report.damaged(part, what);
            *tree = None;
        }
        Ok(())
    }

    /// Whether a block's checksum is where it belongs, and right.
    fn sealed(&mut self, home: &Home, part: Part, bytes: &[u8]) -> bool {
        let sums = self.fs.sb().sums();
        let object = match (has_tail(bytes), dx_entries(bytes)) {
            (true, _) => Object::DirBlock(home.seed),
            (false, Some(entries)) => Object::DxBlock(home.seed, entries),
            (false, None) => {
                self.report.damaged(part, What::Broken("has no tail with a checksum"));
                return false;
            }
        };
        match sums.verify(object, bytes) {
            Ok(()) => true,
            Err(mismatch) => {
                self.report.damaged(part, What::Checksum(mismatch));
                false
            }
        }
    }

    /// A directory inside its inode: entries behind the number of the parent, and more in an attribute.
    fn inline(&mut self, home: &Home, inode: &Inode) -> Result<()> {
        let part = Part::Inline(home.ino);
        let raw = inode.raw();
        let mut data = raw.i_block.to_vec();
        let rest = self.fs.xattrs_inside(inode).ok().and_then(|all| {
            let attr = all.into_iter().find(|attr| attr.is_inline_data())?;
            self.fs.xattr_value(&attr).ok()
        });
        // A damaged attribute has been reported.
        let Some(rest) = rest else { return Ok(()) };
        if !rest.len().is_multiple_of(4) || !rest.is_empty() && rest.len() < 12 {
            self.report.damaged(
                part,
                What::field("its length", to_u64(rest.len()), "a multiple of 4, and room for a name"),
            );
            return Ok(());
        }
        data.extend_from_slice(&rest);
        let parent = data.first_chunk().map_or(0, |parent| u32::from_le_bytes(*parent));
        for (dots, ino, name) in [(2, home.ino, &b"."[..]), (1, InodeNo(parent), b"..")] {
            let file_type = if self.fs.sb().incompat().has(Incompat::FILETYPE) { 2 } else { 0 };
            let entry = Entry { ino, name, file_type, len: 12, hash: 0 };
            self.dot(home, part, dots, &entry, &[0]);
            self.entry(home, part, dots, &entry)?;
        }
        let (inside, outside) = data.split_at(60);
        let inside = inside.get(4..).unwrap_or_default();
        for bytes in [inside, outside] {
            self.entries(home, &Stretch { part, at: 0, bytes, limit: bytes.len(), dots: 0 }, &mut None)?;
        }
        Ok(())
    }

    fn entries(&mut self, home: &Home, stretch: &Stretch<'_>, tree: &mut Option<Tree>) -> Result<()> {
        let (part, mut dots, mut at) = (stretch.part, stretch.dots, 0);
        let mut names = HashSet::new();
        while at < stretch.limit {
            let extended = dots == 0 && home.hashes;
            let Some(entry) = entry_at(stretch.bytes, at, stretch.limit, extended) else {
                let what = What::field("rec_len of the entry at", to_u64(at), "an entry that fits");
                self.report.damaged(part, what);
                return Ok(());
            };
            if dots > 0 {
                let behind = stretch.bytes.get(at.saturating_add(8).saturating_add(entry.name.len())..);
                self.dot(home, part, dots, &entry, behind.unwrap_or_default());
            } else if entry.ino == home.ino {
                self.bad_entry(part, &entry, "refers to its own directory");
            }
            if entry.ino.0 != 0 {
                let counts = self.entry(home, part, dots, &entry)?;
                if counts && !names.insert(entry.name) {
                    self.bad_entry(part, &entry, "is there twice");
                }
                if let Some(tree) = tree.as_mut().filter(|_| counts)
                    && let Some(hash) = tree.hash.and_then(|hash| self.hash(home, hash, &entry))
                {
                    tree.name(stretch.at, hash);
                }
            }
            at = at.saturating_add(entry.len);
            dots = dots.saturating_sub(1);
        }
        Ok(())
    }

    /// The hash of a name in this directory; `None` where it is not computed.
    fn hash(&self, home: &Home, hash: super::hash::Hash, entry: &Entry<'_>) -> Option<u32> {
        match hash.version {
            Version::Stored => Some(entry.hash),
            // Beyond ASCII, what ignoring case means is a table of Unicode's; what is no text has no case.
            _ if home.casefold && entry.name.is_ascii() => hash.of(&entry.name.to_ascii_lowercase()),
            _ if home.casefold && std::str::from_utf8(entry.name).is_ok() => None,
            _ => hash.of(entry.name),
        }
    }

    fn bad_entry(&mut self, part: Part, entry: &Entry<'_>, problem: &'static str) {
        let what = What::Entry { ino: entry.ino, name: entry.name.to_vec(), problem };
        self.report.damaged(part, what);
    }

    /// The first two entries; `behind` begins behind the name.
    fn dot(&mut self, home: &Home, part: Part, dots: u8, entry: &Entry<'_>, behind: &[u8]) {
        let expected: &[u8] = if dots == 2 { b"." } else { b".." };
        if entry.ino.0 == 0 || entry.name != expected || behind.first() != Some(&0) {
            self.bad_entry(part, entry, "is where the directory itself or its parent belongs");
        } else if dots == 2 && entry.ino != home.ino {
            self.bad_entry(part, entry, "is not the directory itself");
        } else if dots == 1
            && let Some(dir) = self.dirs.get_mut(home.index)
        {
            dir.dotdot = entry.ino;
        }
    }

    /// Checks what an entry refers to; whether it counts.
    fn entry(&mut self, home: &Home, part: Part, dots: u8, entry: &Entry<'_>) -> Result<bool> {
        let (ino, sb) = (entry.ino, self.fs.sb());
        let raw = sb.raw();
        let hidden =
            [&raw.s_usr_quota_inum, &raw.s_grp_quota_inum, &raw.s_prj_quota_inum, &raw.s_orphan_file_inum];
        let reserved = ino != InodeNo::ROOT && ino < sb.first_inode();
        if reserved || ino.0 > self.fs.geom().inodes() || hidden.iter().any(|hidden| hidden.get() == ino.0) {
            self.bad_entry(part, entry, "refers to no inode that may have a name");
            return Ok(false);
        }
        if dots == 0 {
            let problem = match entry.name {
                b"." | b".." => Some("is not at the beginning"),
                b"" => Some("has no name"),
                _ if ino == InodeNo::ROOT => Some("refers to the root directory"),
                _ => None,
            };
            if let Some(problem) = problem {
                self.bad_entry(part, entry, problem);
            }
        }
        let fact = self.facts.get(ino);
        if !fact.has(USED) {
            self.bad_entry(part, entry, "refers to an inode that is not in use");
        }
        let filetype = sb.incompat().has(Incompat::FILETYPE);
        let wrong = if filetype {
            entry.file_type != 0 && entry.file_type != fact.kind
        } else {
            entry.file_type != 0
        };
        if wrong {
            self.bad_entry(part, entry, "says another kind than its inode");
        }
        if home.policy.is_some() && dots == 0 {
            let same = self.policy_of.get(&ino).copied() == home.policy;
            if entry.name.len() < CIPHERTEXT_MIN {
                self.bad_entry(part, entry, "is too short for an encrypted one");
            } else if !same && (fact.has(ENCRYPTED) || !fact.has(SPECIAL)) {
                self.bad_entry(part, entry, "has another encryption policy than its directory");
            }
        } else if home.policy.is_none() && entry.name.iter().any(|&byte| byte == b'/' || byte == 0) {
            self.bad_entry(part, entry, "has a character that names cannot have");
        }
        if dots == 0 && fact.is_dir() {
            self.parent(home, part, entry);
        }
        self.facts.edit(ino, |fact| fact.counted = fact.counted.saturating_add(1))?;
        Ok(true)
    }

    /// Notes which directory names another one.
    fn parent(&mut self, home: &Home, part: Part, entry: &Entry<'_>) {
        let Ok(index) = self.dirs.binary_search_by_key(&entry.ino, |dir| dir.ino) else { return };
        let Some(dir) = self.dirs.get_mut(index) else { return };
        if dir.parent == InodeNo(0) {
            dir.parent = home.ino;
        } else {
            self.bad_entry(part, entry, "is another name of a directory that has one");
        }
    }
}

/// The entry at a place of a block, if there is a sound one.
fn entry_at(bytes: &[u8], at: usize, limit: usize, extended: bool) -> Option<Entry<'_>> {
    let (raw, body) = Dirent::ref_from_prefix(bytes.get(at..limit)?).ok()?;
    let len = rec_len(raw.rec_len.get(), bytes.len());
    let name_len = usize::from(raw.name_len);
    let with_hash = if extended { 16 } else { 8 };
    let need = |name: usize| name.saturating_add(with_hash).next_multiple_of(4);
    if at.saturating_add(len) > limit || !len.is_multiple_of(4) || len < need(1) || len < need(name_len) {
        return None;
    }
    let hash = body.get(name_len.next_multiple_of(4)..).and_then(<[u8]>::first_chunk);
    Some(Entry {
        ino: InodeNo(raw.inode.get()),
        name: body.get(..name_len)?,
        file_type: raw.file_type,
        len,
        hash: hash.map_or(0, |hash| u32::from_le_bytes(*hash)),
    })
}

/// `rec_len` in bytes: blocks of 64 KiB need one bit more than there is.
pub(super) fn rec_len(raw: u16, block: usize) -> usize {
    match usize::from(raw) {
        len if block < 1 << 16 => len,
        0 | 0xffff => block,
        len => len & 0xfffc | (len & 3) << 16,
    }
}

/// Whether a chain of entries leads to the fake entry that holds a checksum.
fn has_tail(bytes: &[u8]) -> bool {
    let top = bytes.len().saturating_sub(size_of::<DirTail>());
    let mut at = 0;
    while at < top {
        let raw = bytes.get(at.saturating_add(4)..).and_then(<[u8]>::first_chunk);
        let len = rec_len(raw.map_or(0, |raw| u16::from_le_bytes(*raw)), bytes.len());
        if len < 8 || !len.is_multiple_of(4) {
            return false;
        }
        at = at.saturating_add(len);
    }
    at == top
        && DirTail::ref_from_suffix(bytes).is_ok_and(|(_, tail)| {
            tail.det_reserved_zero1.get() == 0
                && tail.det_rec_len.get() == 12
                && tail.det_reserved_zero2 == 0
                && tail.det_reserved_ft == TAIL_TYPE
        })
}

/// Where the entries of a hash tree begin in a block, if it looks like one of the tree's.
fn dx_entries(bytes: &[u8]) -> Option<usize> {
    let (first, _) = Dirent::ref_from_prefix(bytes).ok()?;
    if rec_len(first.rec_len.get(), bytes.len()) == bytes.len() && first.name_len == 0 {
        return Some(8);
    }
    let (second, _) = Dirent::ref_from_prefix(bytes.get(12..)?).ok()?;
    let rest = bytes.len().checked_sub(12)?;
    let root = first.rec_len.get() == 12 && rec_len(second.rec_len.get(), bytes.len()) == rest;
    let head = bytes.get(24..32)?;
    let zero = head.first_chunk() == Some(&[0; 4]) && head.get(5) == Some(&8);
    (root && zero).then_some(32)
}
