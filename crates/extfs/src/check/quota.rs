//! Quota files against what was counted.
//!
//! ```text
//! 1 KiB each: [head, info] [256 references] … four levels by the bytes of the number … [head, 14 entries of 72 bytes]
//! ```

use super::Check;
use super::finding::What;
use crate::error::{Part, Result};
use crate::feature::RoCompat;
use crate::read::inode::{EA_INODE, Inode};
use crate::unit::InodeNo;
use disk::ReadAt;
use ondisk::num::{low32, to_u64, to_usize};
use ondisk::{Len, Offset};
use std::collections::{BTreeMap, HashSet};

/// Bytes of a block of a quota file.
const BLOCK: usize = 1024;
/// The deepest level of references.
const DEPTH: u32 = 3;
/// Bytes of an entry, in the first form and in the present one.
const ENTRY: [usize; 2] = [48, 72];

/// What one owner uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    bytes: u64,
    inodes: u64,
}

/// What every user, group and project uses.
pub(super) type Usages = [BTreeMap<u32, Usage>; 3];

impl<D: ReadAt> Check<'_, D> {
    /// The quota files: those of users, groups and projects.
    fn quota_files(&self) -> [InodeNo; 3] {
        let raw = self.fs.sb().raw();
        [&raw.s_usr_quota_inum, &raw.s_grp_quota_inum, &raw.s_prj_quota_inum].map(|ino| InodeNo(ino.get()))
    }

    /// Charges an inode to its owners.
    pub(super) fn charge(&mut self, inode: &Inode, clusters: u64, values: u64) -> Result<()> {
        let (ino, raw) = (inode.ino(), self.fs.sb().raw());
        let hidden = ino.0 == raw.s_prj_quota_inum.get() || ino.0 == raw.s_orphan_file_inum.get();
        let counts = ino == InodeNo::ROOT || ino >= self.fs.sb().first_inode();
        if !self.fs.sb().ro_compat().has(RoCompat::QUOTA) || hidden || !counts || inode.has(EA_INODE) {
            return Ok(());
        }
        let geom = self.fs.geom();
        let bytes = clusters.saturating_mul(geom.cluster_ratio()).saturating_mul(geom.block_size.bytes());
        let owners = [inode.uid(), inode.gid(), inode.extra().i_projid.get()];
        let files = self.quota_files();
        for ((usages, owner), file) in self.usages.iter_mut().zip(owners).zip(files) {
            if file == InodeNo(0) {
                continue;
            }
            if !usages.contains_key(&owner) {
                self.budget.take(Len::new(64))?;
            }
            let usage = usages.entry(owner).or_default();
            usage.bytes = usage.bytes.saturating_add(bytes);
            usage.inodes = usage.inodes.saturating_add(values).saturating_add(1);
        }
        Ok(())
    }

    /// Compares all quota files.
    pub(super) fn quotas(&mut self) -> Result<()> {
        let usages = std::mem::take(&mut self.usages);
        if !self.fs.sb().ro_compat().has(RoCompat::QUOTA) {
            return Ok(());
        }
        for ((mut usages, ino), kind) in usages.into_iter().zip(self.quota_files()).zip(0_u32..) {
            let invalid = [1, 2, 5, 6, 7, 8, 9, 10].contains(&ino.0) || ino.0 > self.fs.geom().inodes();
            if ino == InodeNo(0) {
                continue;
            }
            if invalid {
                let what = What::field("a quota file's inode", ino.0, "an inode of its own");
                self.report.damaged(Part::Superblock(crate::GroupNo(0)), what);
                continue;
            }
            // Inodes of 128 bytes have no project.
            if kind == 2 && self.fs.geom().inode_size <= 128 {
                usages.clear();
            }
            if let Err(what) = self.quota(ino, &usages)? {
                self.report.damaged(Part::Inode(ino), what);
            }
        }
        Ok(())
    }

    fn quota(&self, ino: InodeNo, usages: &BTreeMap<u32, Usage>) -> Result<std::result::Result<(), What>> {
        let inode = self.raw_inode(ino)?;
        let mut head = vec![0; 48];
        if self.fs.read_file(&inode, Offset::ZERO, &mut head).is_err() {
            return Ok(Err(What::Broken("is a quota file that cannot be read")));
        }
        let words = super::special::words(&head);
        let word = |n: usize| words.get(n).copied().unwrap_or_default();
        let (version, blocks) = (word(1), word(5));
        let file_blocks = inode.size().get().div_ceil(to_u64(BLOCK));
        let Some(&entry_size) = ENTRY.get(to_usize(version.into())) else {
            return Ok(Err(What::field("the version of the quota file", version, "0 or 1")));
        };
        if u64::from(blocks) > file_blocks || word(6) >= blocks || word(7) >= blocks {
            return Ok(Err(What::field(
                "the blocks of the quota file",
                blocks,
                format!("at most {file_blocks}"),
            )));
        }
        // References still to follow, each with its level; no block counts twice.
        let (mut todo, mut seen, mut owners) = (vec![(1_u32, 0_u32)], HashSet::new(), HashSet::new());
        while let Some((block, level)) = todo.pop() {
            let mut bytes = vec![0; BLOCK];
            let at = Offset::new(u64::from(block).saturating_mul(to_u64(BLOCK)));
            if self.fs.read_file(&inode, at, &mut bytes).is_err() {
                return Ok(Err(What::Broken("is a quota file that cannot be read")));
            }
            if level <= DEPTH {
                let next = super::special::words(&bytes);
                if let Some(far) = next.iter().find(|&&next| next >= blocks) {
                    return Ok(Err(What::field(
                        "a reference in the quota file",
                        *far,
                        format!("less than {blocks}"),
                    )));
                }
                let level = level.saturating_add(1);
                let fresh = next.into_iter().filter(|&next| next != 0 && seen.insert((next, level)));
                todo.extend(fresh.map(|next| (next, level)));
                continue;
            }
            for entry in bytes.get(16..).unwrap_or_default().chunks_exact(entry_size) {
                if entry.iter().all(|&byte| byte == 0) {
                    continue;
                }
                let (owner, stored) = usage_of(entry, version);
                let counted = usages.get(&owner).copied().unwrap_or_default();
                owners.insert(owner);
                if counted.inodes != stored.inodes {
                    let (found, counted) = (stored.inodes, counted.inodes);
                    return Ok(Err(What::Count { name: "the inodes of an owner", found, counted }));
                }
                if counted.bytes != stored.bytes {
                    let (found, counted) = (stored.bytes, counted.bytes);
                    return Ok(Err(What::Count { name: "the bytes of an owner", found, counted }));
                }
            }
        }
        match usages.keys().find(|owner| !owners.contains(owner)) {
            Some(owner) => Ok(Err(What::field("an owner without an entry", *owner, "none"))),
            None => Ok(Ok(())),
        }
    }
}

fn usage_of(entry: &[u8], version: u32) -> (u32, Usage) {
    let words = super::special::words(entry);
    let word = |n: usize| u64::from(words.get(n).copied().unwrap_or_default());
    let wide = |n: usize| word(n.saturating_add(1)) << 32 | word(n);
    let owner = low32(word(0));
    match version {
        0 => (owner, Usage { inodes: word(3), bytes: wide(6) }),
        _ => (owner, Usage { inodes: wide(6), bytes: wide(12) }),
    }
}
