//! The checker: everything that the rest of the program, a kernel or a repair would rely on.
//!
//! ```text
//! sb, group     superblock, backups, descriptors      special   resize inode, journal, orphan file, mmp
//! inode         every inode by itself                 map       its blocks          xattr   its attributes
//! dir, htree    every entry of every directory        hash      of names
//! tree          parents and links                     count     bitmaps             quota   usage by owner
//! blocks, facts what is remembered meanwhile          finding   what comes out
//! ```
//!
//! 1. What `e2fsck -f` calls clean is clean here, and what it would repair is damage. Totals that kernels recompute,
//!    a journal to replay and orphans are notes.
//! 2. The checker reads only; it is given the filesystem as it looks after its journal was replayed.
//! 3. Memory is bounded by a bit for each cluster and eight bytes for each inode, only where some are in use.
//! 4. Damage hides nothing but what depends on it.
//! 5. No block of a map is followed twice, and directories are read as if none shared blocks: hostile images end soon.

mod blocks;
mod count;
mod dir;
mod facts;
mod finding;
mod group;
mod hash;
mod htree;
mod inode;
mod map;
mod quota;
mod sb;
mod size;
mod special;
mod tree;
mod xattr;

pub use finding::{Finding, Report, Severity, Stats, What};

use crate::Ext;
use crate::error::{Part, Result};
use crate::unit::{BlockCount, BlockNo, GroupNo, InodeNo};
use blocks::Blocks;
use disk::{Budget, Cx, ReadAt};
use facts::Facts;
use std::collections::{HashMap, HashSet};

/// How much to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    Full,
    /// What growing relies on: superblock, descriptors, the bitmaps of the last groups, a backup, and the inodes without
    /// which nothing can be mounted: root, journal, reserve.
    Touched,
}

/// A part of a check that stands for itself.
type Look<D> = fn(&Ext<D>, &Cx<'_>, &mut Report) -> Result<()>;

/// Checks a filesystem.
///
/// # Errors
/// Where the disk cannot be read, memory does not suffice, or the operator interrupts. Damage is no error.
pub fn check<D: ReadAt>(fs: &Ext<D>, scope: Scope, cx: &Cx<'_>) -> Result<Report> {
    let mut report = Report::default();
    sb::check(fs, cx, &mut report);
    let part = Part::Superblock(GroupNo(0));
    let parts: &[Look<D>] = match scope {
        Scope::Touched => {
            &[group::check, special::root, special::resize_inode, special::journal, special::mmp, touched]
        }
        Scope::Full => &[
            group::check,
            special::resize_inode,
            special::mmp,
            special::journal,
            special::orphan_file,
            backups,
        ],
    };
    for check in parts {
        if let Err(error) = check(fs, cx, &mut report) {
            report.error(part, error)?;
        }
    }
    match scope {
        Scope::Touched => Ok(report),
        Scope::Full => Check::new(fs, cx, report)?.run(),
    }
}

/// What is known of a directory.
#[derive(Clone, Copy, Debug, Default)]
struct Dir {
    ino: InodeNo,
    /// The directory that names it.
    parent: InodeNo,
    /// What its second entry says.
    dotdot: InodeNo,
}

/// A full check under way.
struct Check<'a, D> {
    fs: &'a Ext<D>,
    cx: Cx<'a>,
    report: Report,
    blocks: Blocks,
    facts: Facts,
    /// Ascending by inode.
    dirs: Vec<Dir>,
    orphans: HashSet<InodeNo>,
    /// Blocks of attributes.
    shared: HashMap<BlockNo, xattr::Shared>,
    /// Inodes that hold values of attributes, and how many refer to each.
    values: HashMap<InodeNo, u64>,
    /// Encryption policies, numbered, and who has which.
    policies: HashMap<Vec<u8>, u32>,
    policy_of: HashMap<InodeNo, u32>,
    usages: quota::Usages,
    /// Blocks of directories still to be read: no more than the filesystem has.
    dir_blocks: u64,
    /// Whether a small time of deletion is an inode number of an orphan list.
    low_times: bool,
    /// Of all that grows with what is found.
    budget: Budget,
}

impl<'a, D: ReadAt> Check<'a, D> {
    fn new(fs: &'a Ext<D>, cx: &Cx<'a>, report: Report) -> Result<Self> {
        let (raw, limits) = (fs.sb().raw(), &cx.limits);
        let times = [&raw.s_wtime, &raw.s_mtime, &raw.s_mkfs_time].map(|time| time.get());
        let low = |time: u32| time != 0 && time < fs.geom().inodes();
        Ok(Self {
            fs,
            cx: *cx,
            report,
            blocks: Blocks::new(fs.geom(), limits)?,
            facts: Facts::new(fs.geom(), limits)?,
            dirs: Vec::new(),
            orphans: HashSet::new(),
            shared: HashMap::new(),
            values: HashMap::new(),
            policies: HashMap::new(),
            policy_of: HashMap::new(),
            usages: quota::Usages::default(),
            dir_blocks: fs.geom().blocks.0,
            low_times: !times.into_iter().any(low),
            budget: limits.budget("what a check remembers"),
        })
    }

    fn run(mut self) -> Result<Report> {
        let steps: &[fn(&mut Self) -> Result<()>] = &[
            Self::find_orphans,
            Self::metadata,
            Self::inodes,
            Self::directories,
            Self::connected,
            Self::links,
            Self::bitmaps,
            Self::quotas,
        ];
        for step in steps {
            if let Err(error) = step(&mut self) {
                self.report.error(Part::Superblock(GroupNo(0)), error)?;
            }
        }
        Ok(self.report)
    }

    /// Claims blocks for a part of a file; whether nobody else has them.
    fn claim(&mut self, part: Part, first: BlockNo, count: BlockCount) -> Result<bool> {
        let shares = self.fs.sb().ro_compat().has(crate::feature::RoCompat::SHARED_BLOCKS);
        if let Some(block) = self.blocks.claim(first, count)?.filter(|_| !shares) {
            self.report.damaged(part, What::Claimed { block });
            return Ok(false);
        }
        Ok(true)
    }
}

/// All backups of the superblock.
fn backups<D: ReadAt>(fs: &Ext<D>, cx: &Cx<'_>, report: &mut Report) -> Result<()> {
    for group in fs.geom().backup_groups() {
        cx.cancel.check()?;
        sb::backup(fs, group, report)?;
    }
    Ok(())
}

/// The bitmaps of the groups at both ends, against their own counts, and the last backup.
fn touched<D: ReadAt>(fs: &Ext<D>, _: &Cx<'_>, report: &mut Report) -> Result<()> {
    let last = fs.geom().last_group();
    let mut groups = vec![GroupNo(0), GroupNo(last.0.saturating_sub(1)), last];
    groups.dedup();
    for group in groups {
        let Some(desc) = fs.groups().unverified(group) else { continue };
        let blocks = fs.block_bitmap(group).map(|bitmap| bitmap.count_clear());
        let inodes = fs.inode_bitmap(group).map(|bitmap| bitmap.count_clear());
        let both = [
            ("bg_free_blocks_count", Part::BlockBitmap(group), desc.free_clusters, blocks),
            ("bg_free_inodes_count", Part::InodeBitmap(group), desc.free_inodes, inodes),
        ];
        for (name, part, found, counted) in both {
            match counted {
                Ok(counted) if counted == found => {}
                Ok(counted) => {
                    let what = What::Count { name, found: found.into(), counted: counted.into() };
                    report.damaged(Part::Descriptor(group), what);
                }
                Err(error) => report.error(part, error)?,
            }
        }
    }
    match fs.geom().backup_groups().last() {
        Some(group) => sb::backup(fs, group, report),
        None => Ok(()),
    }
}
