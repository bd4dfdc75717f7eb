//! What an ext filesystem has.

use super::{Amount, Ledger, Use, names};
use crate::region::Located;
use crate::view::Filesystem;
use disk::Cx;
use extfs::read::map::Piece;
use extfs::{BlockCount, BlockNo, Descriptor, GroupNo, Inode, InodeNo, Kind};
use ondisk::Span;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Numbers below this one, but for the root, are no files of anybody.
const FIRST: u32 = 11;

/// A filesystem may claim so many times the blocks that it has: more than a few are shared only where it is damaged.
const SHARED: u64 = 4;

/// A filesystem that claims its bytes.
pub(super) struct Claims<'a, 'p> {
    pub(super) fs: &'a Filesystem<'a>,
    pub(super) place: &'a Located<'a>,
    pub(super) ledger: &'a mut Ledger<'p>,
    pub(super) cx: &'a Cx<'a>,
}

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    /// How many of its structures could not be read.
    pub(super) damaged: u64,
    /// The largest files: how much, their number and path.
    pub(super) files: Vec<(Amount, u32, Option<Vec<u8>>)>,
}

impl Claims<'_, '_> {
    /// Claims all that the filesystem has; names so many of the largest files.
    pub(super) fn all(mut self, most: usize) -> disk::Result<Found> {
        let mut found = Found::default();
        for group in self.fs.geom().all_groups() {
            self.cx.cancel.check()?;
            let head = self.fs.geom().head_blocks(group);
            self.claim(self.fs.geom().first_block(group), head, Use::Metadata)?;
            match self.fs.groups().get(group) {
                Ok(desc) => self.tables(&desc)?,
                Err(_) => found.damaged = found.damaged.saturating_add(1),
            }
        }
        self.free(&mut found)?;
        let (largest, folders) = self.inodes(most, &mut found)?;
        self.claim(BlockNo(0), self.fs.geom().blocks, Use::Metadata)?;
        let wanted = largest.iter().map(|Reverse((_, ino))| *ino).collect();
        let mut paths = names::paths(self.fs, wanted, &folders, self.cx)?;
        let file = |Reverse((amount, ino))| (amount, ino, paths.remove(&ino));
        found.files = largest.into_iter().map(file).collect();
        Ok(found)
    }

    fn claim(&mut self, first: BlockNo, count: BlockCount, what: Use) -> disk::Result<Amount> {
        let span = self.fs.geom().block_size.span_of(first, count);
        let all = self.fs.geom().block_size.len_of(self.fs.geom().blocks).map(Span::whole);
        let inside = span.zip(all).and_then(|(span, all)| span.intersect(all));
        inside.map_or(Ok(Amount::default()), |span| self.ledger.claim(self.place, span, what))
    }

    fn tables(&mut self, desc: &Descriptor) -> disk::Result<()> {
        self.claim(desc.block_bitmap, BlockCount(1), Use::Bitmaps)?;
        self.claim(desc.inode_bitmap, BlockCount(1), Use::Bitmaps)?;
        self.claim(desc.inode_table, self.fs.geom().table_blocks(), Use::Inodes).map(drop)
    }

    fn free(&mut self, found: &mut Found) -> disk::Result<()> {
        let (fs, cx) = (self.fs, self.cx);
        if let Err(error) = fs.each_free(cx, |first, count| self.claim(first, count, Use::Free).map(drop)) {
            found.note(error)?;
        }
        Ok(())
    }

    /// File by file; the largest ones, and all folders.
    fn inodes(&mut self, most: usize, found: &mut Found) -> disk::Result<(Largest, Vec<u32>)> {
        let (mut largest, mut folders) = (Largest::new(), Vec::new());
        let mut blocks = self.fs.geom().blocks.0.saturating_mul(SHARED);
        let budget = self.cx.limits.budget("the list of folders");
        for group in self.fs.geom().all_groups() {
            for ino in self.used(group, found)? {
                self.cx.cancel.check()?;
                let inode = match self.fs.inode(ino) {
                    Ok(inode) => inode,
                    Err(error) => {
                        found.note(error)?;
                        continue;
                    }
                };
                let what = used_for(&inode);
                if what == Use::Directories {
                    budget.take(ondisk::Len::new(4))?;
                    folders.push(ino.0);
                }
                let amount = self.blocks(&inode, what, &mut blocks, found)?;
                if what == Use::Files && amount.literal > 0 {
                    largest.push(Reverse((amount, ino.0)));
                }
                if largest.len() > most {
                    largest.pop();
                }
            }
        }
        Ok((largest, folders))
    }

    /// The inodes of a group that are in use.
    fn used(&self, group: GroupNo, found: &mut Found) -> disk::Result<Vec<InodeNo>> {
        match self.fs.inode_bitmap(group) {
            Ok(bitmap) => {
                let geom = self.fs.geom();
                Ok(bitmap.runs(true).flatten().map(|index| geom.inode_at(group, index)).collect())
            }
            Err(error) => found.note(error).map(|()| Vec::new()),
        }
    }

    /// What an inode has, as far as there are blocks `left`.
    fn blocks(
        &mut self,
        inode: &Inode,
        what: Use,
        left: &mut u64,
        found: &mut Found,
    ) -> disk::Result<Amount> {
        let mut amount = Amount::default();
        if let Some(block) = inode.xattr_block() {
            self.claim(block, BlockCount(1), Use::Metadata)?;
        }
        let fs = self.fs;
        let walk = match fs.walk(inode) {
            Ok(walk) => walk,
            Err(error) => return found.note(error).map(|()| amount),
        };
        for piece in walk {
            let count = piece.as_ref().map_or(1, |piece| match piece {
                Piece::Run(run) => run.count.0,
                Piece::Node(..) => 1,
            });
            let Some(rest) = left.checked_sub(count) else {
                found.damaged = found.damaged.saturating_add(1);
                break;
            };
            *left = rest;
            match piece {
                Ok(Piece::Run(run)) => amount.add(self.claim(run.start, run.count, what)?),
                Ok(Piece::Node(block, _)) => drop(self.claim(block, BlockCount(1), Use::Metadata)?),
                Err(error) => {
                    found.note(error)?;
                    break;
                }
            }
        }
        Ok(amount)
    }
}

/// The largest files so far, the smallest of them on top.
type Largest = BinaryHeap<Reverse<(Amount, u32)>>;

impl Found {
    /// Counts damage, and gives back what is none.
    fn note(&mut self, error: extfs::Error) -> disk::Result<()> {
        match error {
            extfs::Error::Disk(error) => Err(error),
            _ => {
                self.damaged = self.damaged.saturating_add(1);
                Ok(())
            }
        }
    }
}

fn used_for(inode: &Inode) -> Use {
    match (inode.ino(), inode.kind()) {
        (InodeNo::JOURNAL, _) => Use::Journal,
        (ino, _) if ino != InodeNo::ROOT && ino.0 < FIRST => Use::Metadata,
        (_, Some(Kind::Dir)) => Use::Directories,
        _ => Use::Files,
    }
}
