//! The tree of directories, and the links of every inode.

use super::Check;
use super::facts::{INDEXED, UNCOUNTED, USED};
use super::finding::What;
use crate::error::{Part, Result};
use crate::feature::RoCompat;
use crate::read::inode::Inode;
use crate::unit::InodeNo;
use disk::ReadAt;
use ondisk::Len;
use ondisk::num::{to_u64, to_usize};

/// A directory with more links than this has 1.
const LINKS_MAX: u32 = 65000;

impl<D: ReadAt> Check<'_, D> {
    /// The root directory is its own parent.
    pub(super) fn root(&mut self) {
        match self.dirs.binary_search_by_key(&InodeNo::ROOT, |dir| dir.ino) {
            Ok(index) => {
                if let Some(root) = self.dirs.get_mut(index) {
                    root.parent = InodeNo::ROOT;
                }
            }
            Err(_) => {
                self.report.damaged(Part::Inode(InodeNo::ROOT), What::Broken("is missing: there is no root"))
            }
        }
    }

    /// Every directory hangs below the root, and knows its parent.
    pub(super) fn connected(&mut self) -> Result<()> {
        for index in 0..self.dirs.len() {
            let Some(dir) = self.dirs.get(index).copied() else { break };
            if self.dirs.binary_search_by_key(&dir.parent, |dir| dir.ino).is_err() {
                let what = What::Broken("is a directory that no other one names");
                self.report.damaged(Part::Inode(dir.ino), what);
            }
        }
        self.loops();
        for index in 0..self.dirs.len() {
            let Some(dir) = self.dirs.get(index).copied() else { break };
            if dir.dotdot != dir.parent && dir.parent != InodeNo(0) {
                let what = What::field("the inode of ..", dir.dotdot.0, dir.parent);
                self.report.damaged(Part::Inode(dir.ino), what);
            }
        }
        Ok(())
    }

    /// Directories that are above themselves.
    fn loops(&mut self) {
        // Which walk came by first: one that meets its own trace goes in circles.
        let mut trace = vec![0_usize; self.dirs.len()];
        for start in 0..self.dirs.len() {
            let (mut at, mark) = (start, start.saturating_add(1));
            while let Some(seen) = trace.get_mut(at).filter(|seen| **seen == 0 || **seen == mark) {
                let Some(dir) = self.dirs.get(at) else { break };
                if *seen == mark {
                    if dir.ino != InodeNo::ROOT {
                        let what = What::Broken("is a directory above itself");
                        self.report.damaged(Part::Inode(dir.ino), what);
                    }
                    break;
                }
                *seen = mark;
                match self.dirs.binary_search_by_key(&dir.parent, |dir| dir.ino) {
                    Ok(next) => at = next,
                    Err(_) => break,
                }
            }
        }
    }

    /// Every inode in use has as many names as it says.
    pub(super) fn links(&mut self) -> Result<()> {
        for group in self.fs.geom().all_groups() {
            for index in 0..self.facts.group(group).len() {
                let index = ondisk::num::low32(to_u64(index));
                self.link(self.fs.geom().inode_at(group, index));
            }
        }
        Ok(())
    }

    fn link(&mut self, ino: InodeNo) {
        let fact = self.facts.get(ino);
        let reserved = ino != InodeNo::ROOT && ino < self.fs.sb().first_inode();
        let raw = self.fs.sb().raw();
        let special = ino.0 == raw.s_prj_quota_inum.get() || ino.0 == raw.s_orphan_file_inum.get();
        if !fact.has(USED) || fact.has(UNCOUNTED) || reserved || special {
            return;
        }
        if fact.counted == 0 {
            self.report.damaged(Part::Inode(ino), What::Broken("is in use, and no directory names it"));
            return;
        }
        let many = fact.is_dir() && fact.counted > LINKS_MAX;
        if many && !self.fs.sb().ro_compat().has(RoCompat::DIR_NLINK) {
            self.report
                .damaged(Part::Inode(ino), What::Broken("has too many directories in it without dir_nlink"));
        }
        let counted = if many { 1 } else { fact.counted };
        let stays = fact.is_dir() && counted > 1 && fact.has(INDEXED) && fact.links == 1;
        if counted != u32::from(fact.links) && !stays {
            let what =
                What::Count { name: "i_links_count", found: fact.links.into(), counted: counted.into() };
            self.report.damaged(Part::Inode(ino), what);
        }
    }

    /// The orphans that the superblock's list and the orphan file name: deleted, or about to be truncated.
    pub(super) fn find_orphans(&mut self) -> Result<()> {
        let inodes = self.fs.geom().inodes();
        let mut next = InodeNo(self.fs.sb().raw().s_last_orphan.get());
        while next.0 != 0 && next.0 <= inodes && self.orphans.insert(next) {
            let inode = self.raw_inode(next);
            next = InodeNo(inode.map_or(0, |inode: Inode| inode.raw().i_dtime.get()));
        }
        let file = InodeNo(self.fs.sb().raw().s_orphan_file_inum.get());
        if !self.fs.sb().ro_compat().has(RoCompat::ORPHAN_PRESENT) {
            return Ok(());
        }
        let bytes = self.raw_inode(file).and_then(|inode| self.fs.read_whole(&inode)).unwrap_or_default();
        self.budget.take(Len::new(to_u64(bytes.len()).saturating_mul(4)))?;
        let size = to_usize(self.fs.geom().block_size.bytes());
        for block in bytes.chunks(size) {
            let slots = block.get(..size.saturating_sub(8)).unwrap_or_default();
            self.orphans
                .extend(super::special::words(slots).into_iter().filter(|&ino| ino != 0).map(InodeNo));
        }
        Ok(())
    }
}
