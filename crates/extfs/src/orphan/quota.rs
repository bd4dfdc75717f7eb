//! Who has how much: usage in the quota files, where quota is a feature of the filesystem.
//!
//! ```text
//! block 0    header                        blocks of 1 KiB, whatever the filesystem's
//! block 1 …  a tree of depth 4: byte i of the identity, the highest first, is the index into a node of 256 numbers
//! leaf       [head 16] [entry 72] …
//! ```
//!
//! 1. Entries are changed where they are; one that falls to zero stays.

use super::edit::Edit;
use crate::error::{Error, Part, Result};
use crate::feature::RoCompat;
use crate::layout::record;
use crate::read::inode::{EA_INODE, Inode};
use crate::unit::{BlockNo, FileBlock, InodeNo};
use disk::ReadAt;
use ondisk::num::{to_u64, to_usize};
use std::collections::BTreeMap;
use zerocopy::FromBytes;
use zerocopy::little_endian::{U32, U64};

/// log2 of the size of a quota file's own block.
const BLOCK_BITS: u32 = 10;
const BLOCK: usize = 1 << BLOCK_BITS;
const ROOT: u32 = 1;
const LEAF_HEAD: usize = 16;
const ENTRY: usize = size_of::<Entry>();

record! {
    /// What one user, group or project has.
    Entry [72] {
        0x00 dqb_id: U32,
        0x04 dqb_pad: U32,
        0x08 dqb_ihardlimit: U64,
        0x10 dqb_isoftlimit: U64,
        0x18 dqb_curinodes: U64,
        0x20 dqb_bhardlimit: U64,
        0x28 dqb_bsoftlimit: U64,
        0x30 dqb_curspace: U64,
        0x38 dqb_btime: U64,
        0x40 dqb_itime: U64,
    }
}

/// Whose quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    User,
    Group,
    Project,
}

/// What each owner has less: bytes and inodes.
pub(super) type Usage = BTreeMap<(Owner, u32), (u64, u64)>;

/// Notes that an inode gives back bytes, and itself.
pub(super) fn charge<D: ReadAt>(
    edit: &mut Edit<'_, D>,
    inode: &Inode,
    bytes: u64,
    inodes: u64,
) -> Result<()> {
    if !edit.fs.sb().ro_compat().has(RoCompat::QUOTA) {
        return Ok(());
    }
    if inode.has(EA_INODE) {
        let what = "quota of attribute values in inodes of their own";
        return Err(Error::Unsupported { part: Part::Inode(inode.ino()), what });
    }
    let project = inode.extra().i_projid.get();
    for (owner, id) in [(Owner::User, inode.uid()), (Owner::Group, inode.gid()), (Owner::Project, project)] {
        edit.hold()?;
        let usage = edit.usage.entry((owner, id)).or_default();
        *usage = (usage.0.saturating_add(bytes), usage.1.saturating_add(inodes));
    }
    Ok(())
}

/// Brings the quota files up to date.
pub(super) fn settle<D: ReadAt>(edit: &mut Edit<'_, D>) -> Result<()> {
    for ((owner, id), (bytes, inodes)) in std::mem::take(&mut edit.usage) {
        let raw = edit.fs.sb().raw();
        let file = InodeNo(match owner {
            Owner::User => raw.s_usr_quota_inum.get(),
            Owner::Group => raw.s_grp_quota_inum.get(),
            Owner::Project => raw.s_prj_quota_inum.get(),
        });
        if file.0 != 0 {
            give_back(edit, file, id, (bytes, inodes))?;
        }
    }
    Ok(())
}

fn give_back<D: ReadAt>(edit: &mut Edit<'_, D>, file: InodeNo, id: u32, less: (u64, u64)) -> Result<()> {
    let part = Part::Inode(file);
    let inode = edit.fs.inode(file)?;
    let mut number = ROOT;
    for index in id.to_be_bytes() {
        let (_, bytes, at) = load(edit, &inode, number)?;
        let place = at.saturating_add(usize::from(index).saturating_mul(4));
        number = bytes.get(place..).and_then(<[u8]>::first_chunk).map_or(0, |word| u32::from_le_bytes(*word));
        if number == 0 {
            return Err(Error::broken(part, "is a quota file without an entry for the owner of a file"));
        }
    }
    let (block, mut bytes, at) = load(edit, &inode, number)?;
    let start = at.saturating_add(LEAF_HEAD);
    let leaf = bytes.get_mut(start..at.saturating_add(BLOCK)).unwrap_or_default();
    for entry in leaf.chunks_exact_mut(ENTRY) {
        let used = entry.iter().any(|&byte| byte != 0);
        let Some(entry) = Entry::mut_from_bytes(entry).ok().filter(|entry| used && entry.dqb_id.get() == id)
        else {
            continue;
        };
        entry.dqb_curspace.set(entry.dqb_curspace.get().saturating_sub(less.0));
        entry.dqb_curinodes.set(entry.dqb_curinodes.get().saturating_sub(less.1));
        return edit.put_block(block, bytes);
    }
    Err(Error::broken(part, "is a quota file without an entry for the owner of a file"))
}

/// The block of the filesystem that holds a block of a quota file, and where in it that begins.
fn load<D: ReadAt>(edit: &Edit<'_, D>, inode: &Inode, number: u32) -> Result<(BlockNo, Vec<u8>, usize)> {
    let part = Part::Inode(inode.ino());
    let at = u64::from(number) << BLOCK_BITS;
    let size = edit.fs.geom().block_size;
    let block = FileBlock(at >> size.bits());
    let run = edit.fs.map_from(inode, block)?.next().transpose()?;
    let ahead = run.as_ref().and_then(|run| block.0.checked_sub(run.at.0));
    let (Some(run), Some(ahead)) = (run, ahead) else {
        return Err(Error::field(part, "a block of the quota tree", number, "a block of the file"));
    };
    let block = run.start.plus(ahead);
    let within = at.checked_rem(to_u64(size.to_usize())).unwrap_or_default();
    Ok((block, edit.block(part, block)?, to_usize(within)))
}
