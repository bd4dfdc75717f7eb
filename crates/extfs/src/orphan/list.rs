//! Who is an orphan.

use super::edit::Edit;
use crate::csum::Object;
use crate::error::{Error, Part, Result};
use crate::feature::Compat;
use crate::layout::OrphanTail;
use crate::layout::misc::ORPHAN_MAGIC;
use crate::read::inode::Kind;
use crate::unit::{BlockNo, InodeNo};
use disk::ReadAt;
use std::collections::HashSet;
use zerocopy::FromBytes;

/// Linux makes no larger orphan file.
const FILE_BLOCKS_MAX: u64 = 512;

/// All orphans: those of the list, then those of the file, whose slots are cleared.
pub(super) fn orphans<D: ReadAt>(edit: &mut Edit<'_, D>) -> Result<Vec<InodeNo>> {
    let (mut all, mut seen) = (Vec::new(), HashSet::new());
    let mut next = InodeNo(edit.fs.sb().raw().s_last_orphan.get());
    while next.0 != 0 {
        check(edit, next, &mut seen)?;
        all.push(next);
        next = InodeNo(edit.inode(next)?.raw().i_dtime.get());
    }
    if edit.fs.sb().compat().has(Compat::ORPHAN_FILE) {
        for ino in file(edit)? {
            check(edit, ino, &mut seen)?;
            all.push(ino);
        }
    }
    Ok(all)
}

/// An orphan is an inode in use, no reserved one, named once.
fn check<D: ReadAt>(edit: &mut Edit<'_, D>, ino: InodeNo, seen: &mut HashSet<InodeNo>) -> Result<()> {
    let (first, last) = (edit.fs.sb().first_inode(), edit.fs.geom().inodes());
    if ino < first || ino.0 > last {
        let part = Part::Superblock(crate::GroupNo(0));
        return Err(Error::field(part, "an orphan's inode", ino.0, format!("{first} to {last}")));
    }
    let part = Part::Inode(ino);
    if !edit.inode_in_use(ino)? {
        return Err(Error::broken(part, "is an orphan, and not in use"));
    }
    if !seen.insert(ino) {
        return Err(Error::broken(part, "is an orphan twice"));
    }
    edit.hold()?;
    let inode = edit.inode(ino)?;
    let kind = inode.kind().ok_or(Error::broken(part, "is an orphan, and no kind of file"))?;
    let cuttable = matches!(kind, Kind::File | Kind::Dir) || kind == Kind::Symlink && inode.has_map();
    if inode.links() > 0 && !cuttable {
        return Err(Error::broken(part, "is an orphan with links that cannot be truncated"));
    }
    Ok(())
}

fn file<D: ReadAt>(edit: &mut Edit<'_, D>) -> Result<Vec<InodeNo>> {
    let ino = InodeNo(edit.fs.sb().raw().s_orphan_file_inum.get());
    let inode = edit.fs.inode(ino)?;
    let size = edit.fs.geom().block_size;
    let blocks = size.blocks_in(inode.size()).0;
    if inode.kind() != Some(Kind::File) || blocks > FILE_BLOCKS_MAX {
        return Err(Error::broken(Part::Inode(ino), "is not an orphan file of at most 512 blocks"));
    }
    let (mut all, mut done) = (Vec::new(), 0);
    for run in edit.fs.map(&inode)? {
        let run = run?;
        for by in 0..run.count.0 {
            let at = run.at.plus(by).0;
            if at >= blocks {
                break;
            }
            all.extend(slots(edit, &inode, run.start.plus(by))?);
            done = at.saturating_add(1);
        }
    }
    if done != blocks {
        return Err(Error::broken(Part::Inode(ino), "is an orphan file with holes"));
    }
    Ok(all)
}

/// The orphans that a block names. It names none afterwards.
fn slots<D: ReadAt>(edit: &mut Edit<'_, D>, inode: &crate::Inode, block: BlockNo) -> Result<Vec<InodeNo>> {
    let part = Part::Orphans(block);
    let mut bytes = edit.fs.read_block(part, block)?;
    let sums = *edit.fs.sb().sums();
    let object = Object::OrphanBlock(inode.seed(&sums), block);
    let end = bytes.len().saturating_sub(size_of::<OrphanTail>());
    let (slots, tail) = bytes.split_at_mut(end);
    let magic = OrphanTail::read_from_bytes(tail).map_or(0, |tail| tail.ob_magic.get());
    if magic != ORPHAN_MAGIC {
        return Err(Error::field(part, "ob_magic", magic, ORPHAN_MAGIC));
    }
    let words = slots.as_chunks::<4>().0.iter().map(|word| InodeNo(u32::from_le_bytes(*word)));
    let found: Vec<InodeNo> = words.filter(|ino| ino.0 != 0).collect();
    sums.verify(object, &bytes).map_err(Error::checksum(part))?;
    if !found.is_empty() {
        bytes.get_mut(..end).unwrap_or_default().fill(0);
        sums.seal(object, &mut bytes);
        edit.put_block(block, bytes)?;
    }
    Ok(found)
}
