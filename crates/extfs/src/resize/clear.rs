//! Making room for longer heads, where `meta_bg` cannot be used.
//!
//! ```text
//! old   [super][descriptors    ][whatever lies here][…
//! new   [super][descriptors … and more of them     ][…
//! ```
//!
//! 1. Everything in the way moves to blocks that are free in the old state, so the copies are fresh; only pointers and
//!    descriptors are home.
//! 2. Without `flex_bg` a group's bitmaps and table stay in their group. Where it has no room, data of files make way
//!    for them too, and those copies are home.
//! 3. Each block in the way that is in use has exactly one owner, and all owners are known.

use super::owners::Owners;
use super::relink::{Relinked, Targets, relink};
use super::space::Space;
use super::{Copied, Moves, Place, Refusal};
use crate::csum::Object;
use crate::error::{Error, Part, Result};
use crate::feature::Incompat;
use crate::geom::Geometry;
use crate::read::Ext;
use crate::read::map::Piece;
use crate::unit::{BlockCount, BlockNo, GroupNo, InodeNo};
use disk::ReadAt;
use ondisk::Len;
use ondisk::num::{to_u64, to_usize};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// So much metadata at most may be written over data that made way for it, because it goes through the journal.
const HOME_MAX: Len = Len::mib(16);
/// The inode of bad blocks.
const BAD_BLOCKS: InodeNo = InodeNo(1);

struct Clearing<'a, 's, D> {
    fs: &'a Ext<D>,
    space: &'s mut Space<'a, D>,
    ways: Vec<Range<BlockNo>>,
    /// Blocks of files in the way, and whose they are.
    claims: BTreeMap<BlockNo, InodeNo>,
    /// Attribute blocks in the way.
    xattrs: BTreeSet<BlockNo>,
    /// Files with blocks in the way.
    files: BTreeSet<InodeNo>,
    targets: Targets,
    moves: Moves,
}

/// What must move so that all heads can become as long as the new ones. `dind` is free already.
pub(super) fn plan<'a, D: ReadAt>(
    fs: &'a Ext<D>,
    owners: &Owners,
    new: &Geometry,
    dind: Option<BlockNo>,
    space: &mut Space<'a, D>,
) -> Result<Moves> {
    let mut ways = Vec::new();
    for group in fs.geom().all_groups().filter(|&group| new.has_classic(group)) {
        let (head, end) = (fs.geom().first_block(group), fs.geom().end_block(group));
        let way = head.plus(fs.geom().head_blocks(group).0)..head.plus(new.head_blocks(group).0);
        if way.end > end {
            return Err(Refusal::Head { want: new.blocks, per_group: new.blocks_per_group }.into());
        }
        ways.push(way);
    }
    let mut clearing = Clearing {
        fs,
        space,
        ways,
        claims: BTreeMap::new(),
        xattrs: BTreeSet::new(),
        files: BTreeSet::new(),
        targets: Targets::new(),
        moves: Moves::default(),
    };
    for way in clearing.ways.clone() {
        clearing.space.set(way)?;
    }
    let groups = clearing.move_groups()?;
    clearing.refuse_special()?;
    clearing.find_files()?;
    clearing.verify(owners, dind)?;
    clearing.move_files()?;
    clearing.moves.copies.extend(groups);
    Ok(clearing.moves)
}

impl<D: ReadAt> Clearing<'_, '_, D> {
    /// The parts of some blocks that are in the way.
    fn hits(&self, start: BlockNo, count: BlockCount) -> Vec<Range<BlockNo>> {
        let end = start.plus(count.0);
        let parts = self.ways.iter().map(|way| way.start.max(start)..way.end.min(end));
        parts.filter(|part| part.start < part.end).collect()
    }

    fn hit(&self, start: BlockNo, count: BlockCount) -> bool {
        !self.hits(start, count).is_empty()
    }

    fn refuse_special(&self) -> Result<()> {
        match self.fs.sb().mmp_block() {
            Some(block) if self.hit(block, BlockCount(1)) => {
                Err(Refusal::InTheWay { what: "the block of multiple mount protection (mmp)", at: block }
                    .into())
            }
            _ => Ok(()),
        }
    }

    /// Looks at every file for blocks in the way.
    fn find_files(&mut self) -> Result<()> {
        let geom = self.fs.geom();
        for group in geom.all_groups() {
            let desc = self.fs.groups().get(group)?;
            let bitmap = self.fs.inode_bitmap(group)?;
            let unused = if self.fs.sb().has_group_flags() { desc.itable_unused } else { 0 };
            let end = geom.inodes_per_group.saturating_sub(unused);
            if desc.inode_uninit() || bitmap.next(0, true) >= end {
                continue;
            }
            let part = Part::Inode(geom.inode_at(group, 0));
            let table = self.fs.read_blocks(part, desc.inode_table, geom.table_blocks())?;
            for index in bitmap.runs(true).flatten().filter(|&index| index < end) {
                let size = usize::from(geom.inode_size);
                let start = to_usize(index.into()).saturating_mul(size);
                let bytes = table.get(start..start.saturating_add(size)).unwrap_or_default();
                self.find_file(geom.inode_at(group, index), bytes)?;
            }
        }
        Ok(())
    }

    fn find_file(&mut self, ino: InodeNo, bytes: &[u8]) -> Result<()> {
        if ino == InodeNo::RESIZE {
            return Ok(());
        }
        let inode = self.fs.parse_inode(ino, bytes.to_vec())?;
        if let Some(block) = inode.xattr_block().filter(|&block| self.hit(block, BlockCount(1))) {
            self.xattrs.insert(block);
            self.files.insert(ino);
        }
        for piece in self.fs.walk(&inode)? {
            let (start, count) = match piece? {
                Piece::Node(at, _) => (at, BlockCount(1)),
                Piece::Run(run) => (run.start, run.count),
            };
            for part in self.hits(start, count) {
                self.claim(ino, part)?;
            }
        }
        Ok(())
    }

    fn claim(&mut self, ino: InodeNo, blocks: Range<BlockNo>) -> Result<()> {
        let what = match ino {
            BAD_BLOCKS => Some("a bad block"),
            _ if ino.0 == self.fs.sb().raw().s_orphan_file_inum.get() => Some("a block of the orphan file"),
            _ => None,
        };
        if let Some(what) = what {
            return Err(Refusal::InTheWay { what, at: blocks.start }.into());
        }
        self.files.insert(ino);
        for block in (blocks.start.0..blocks.end.0).map(BlockNo) {
            if self.claims.insert(block, ino).is_some() {
                return Err(Error::broken(Part::MapBlock(ino, block), "belongs to another file as well"));
            }
        }
        Ok(())
    }

    /// Whether the owners that were found are those that the bitmaps know of.
    fn verify(&mut self, owners: &Owners, dind: Option<BlockNo>) -> Result<()> {
        for block in self.ways.clone().into_iter().flat_map(|way| (way.start.0..way.end.0).map(BlockNo)) {
            let found = [
                !owners.avoid(block..block.plus(1)),
                self.claims.contains_key(&block),
                self.xattrs.contains(&block),
                dind == Some(block),
            ];
            let (found, used) = (found.iter().filter(|found| **found).count(), self.space.was_used(block)?);
            if found != usize::from(used) {
                let group = self.fs.geom().group_of(block).unwrap_or_default();
                let expected = format!("{} for block {block}", u8::from(used));
                return Err(Error::field(
                    Part::BlockBitmap(group),
                    "the number of owners",
                    to_u64(found),
                    expected,
                ));
            }
        }
        Ok(())
    }

    /// Moves bitmaps and tables.
    fn move_groups(&mut self) -> Result<Vec<Copied>> {
        let mut copies = Vec::new();
        let table_blocks = self.fs.geom().table_blocks();
        let heads = self.ways.clone();
        let in_way = |at: BlockNo, count: BlockCount| {
            heads.iter().any(|way| way.start.max(at) < way.end.min(at.plus(count.0)))
        };
        for group in self.fs.geom().all_groups() {
            let desc = self.fs.groups().get(group)?;
            if in_way(desc.block_bitmap, BlockCount(1)) {
                let to = self.move_part(group, desc.block_bitmap, BlockCount(1), &mut copies)?;
                self.space.touch(group)?;
                self.moves.places.push((group, Place::BlockBitmap(to)));
            }
            if in_way(desc.inode_bitmap, BlockCount(1)) {
                let to = self.move_part(group, desc.inode_bitmap, BlockCount(1), &mut copies)?;
                self.moves.places.push((group, Place::InodeBitmap(to)));
            }
            if in_way(desc.inode_table, table_blocks) {
                let to = self.move_part(group, desc.inode_table, table_blocks, &mut copies)?;
                self.moves.places.push((group, Place::InodeTable(to)));
                self.free(desc.inode_table, table_blocks)?;
            }
        }
        Ok(copies)
    }

    /// Finds a new place for a bitmap or table.
    fn move_part(
        &mut self,
        group: GroupNo,
        from: BlockNo,
        count: BlockCount,
        copies: &mut Vec<Copied>,
    ) -> Result<BlockNo> {
        let flex = self.fs.sb().incompat().has(Incompat::FLEX_BG);
        if let Some(to) = self.space.take(group, count.0, flex)? {
            copies.push(Copied { from, to, count, fresh: true });
            return Ok(to);
        }
        let refusal = Refusal::NoRoom { group, count };
        let window = self.space.window(group, count.0)?.ok_or(refusal.clone())?;
        copies.push(Copied { from, to: window.start, count, fresh: false });
        let home = copies.iter().filter(|copy| !copy.fresh).map(|copy| copy.count.0);
        let home = BlockCount(home.fold(0, u64::saturating_add));
        if self.fs.geom().block_size.len_of(home).is_none_or(|len| len > HOME_MAX) {
            return Err(refusal.into());
        }
        self.ways.push(window.clone());
        Ok(window.start)
    }

    /// Frees blocks; where they are in the way they stay in use. They may reach over a border of groups.
    fn free(&mut self, start: BlockNo, count: BlockCount) -> Result<()> {
        let end = start.plus(count.0);
        let mut at = start;
        while at < end {
            let geom = self.fs.geom();
            let stop = geom.group_of(at).map_or(end, |group| geom.end_block(group)).min(end);
            self.space.clear(at..stop)?;
            at = stop;
        }
        Ok(())
    }

    /// Moves blocks of files, neighbours together where that is possible, and rewrites what points at them.
    fn move_files(&mut self) -> Result<()> {
        let blocks: Vec<BlockNo> = self.claims.keys().chain(&self.xattrs).copied().collect();
        let mut rest = blocks.as_slice();
        while let Some(&first) = rest.first() {
            let near = self.fs.geom().group_of(first).unwrap_or_default();
            let neighbours =
                (1_u64..).zip(rest.iter().skip(1)).take_while(|&(n, &next)| next == first.plus(n));
            let count = to_u64(neighbours.count()).saturating_add(1);
            let (to, count) = match self.space.take(near, count, true)? {
                Some(to) => (to, count),
                None => {
                    let refusal = Refusal::NoRoom { group: near, count: BlockCount(1) };
                    (self.space.take(near, 1, true)?.ok_or(refusal)?, 1)
                }
            };
            self.moves.copies.push(Copied { from: first, to, count: BlockCount(count), fresh: true });
            self.targets.extend((0..count).map(|n| (first.plus(n), to.plus(n))));
            rest = rest.get(to_usize(count)..).unwrap_or_default();
        }
        for ino in self.files.clone() {
            self.relink(ino)?;
        }
        self.seal_xattrs()
    }

    fn relink(&mut self, ino: InodeNo) -> Result<()> {
        let inode = self.fs.inode(ino)?;
        let Relinked { inode: bytes, blocks } = relink(self.fs, &inode, &self.targets)?;
        if self.fs.sb().journal_inode() == Some(ino) {
            self.moves.journal_map = bytes.get(0x28..0x64).map(<[u8]>::to_vec);
        }
        self.moves.inodes.push((ino, bytes));
        self.moves.blocks.extend(blocks);
        Ok(())
    }

    /// The checksum of an attribute block depends on its place.
    fn seal_xattrs(&mut self) -> Result<()> {
        for &from in &self.xattrs {
            let Some(&to) = self.targets.get(&from) else { continue };
            let mut bytes = self.fs.read_block(Part::XattrBlock(from), from)?;
            self.fs.sb().sums().seal(Object::XattrBlock(to), &mut bytes);
            self.moves.blocks.push((to, bytes));
        }
        Ok(())
    }
}
