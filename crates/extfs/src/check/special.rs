//! What the filesystem keeps for itself: the reserve, the journal, the orphan file, multiple mount protection.

use super::finding::{Report, What};
use crate::Ext;
use crate::csum::Object;
use crate::error::{Error, Part, Result};
use crate::feature::{Compat, RoCompat};
use crate::layout::misc::ORPHAN_MAGIC;
use crate::layout::{OrphanTail, jbd2};
use crate::read::inode::{ENCRYPT, INLINE_DATA, Inode, Kind};
use crate::unit::{BlockNo, FileBlock, GroupNo, InodeNo};
use disk::{Cx, ReadAt};
use ondisk::num::{to_u64, to_usize};
use ondisk::{Offset, Sealed};
use zerocopy::{FromBytes, IntoBytes};

/// Where `i_block` has the pointer to a block of pointers to blocks of pointers.
const DOUBLE: usize = 13;

/// Checks inode 7: every pointer to the reserved descriptor blocks and from them to their backups.
pub(super) fn resize_inode<D: ReadAt>(fs: &Ext<D>, _: &Cx<'_>, report: &mut Report) -> Result<()> {
    let (ino, geom) = (InodeNo::RESIZE, fs.geom());
    let part = Part::Inode(ino);
    let inode = match fs.inode(ino) {
        Ok(inode) => inode,
        Err(error) => return report.error(part, error),
    };
    let raw = inode.raw();
    let pointers = words(&raw.i_block);
    let double = pointers.get(DOUBLE).copied().unwrap_or_default();
    if !fs.sb().compat().has(Compat::RESIZE_INODE) {
        if pointers.iter().any(|&pointer| pointer != 0) {
            report.damaged(part, What::Broken("has blocks without the feature resize_inode"));
        }
        return Ok(());
    }
    let others = pointers.iter().enumerate().any(|(i, &pointer)| i != DOUBLE && pointer != 0);
    let place = BlockNo(double.into());
    let outside = place < geom.first_data_block || place.0 >= geom.blocks.0 || double == 0;
    if others || outside || inode.links() == 0 || inode.mode() & 0x8000 == 0 {
        report.damaged(part, What::Broken("is not a file with nothing but a doubly indirect block"));
        return Ok(());
    }
    let table = words(&fs.read_block(Part::MapBlock(ino, place), place)?);
    for k in 0..geom.reserved_gdt {
        let index = geom.desc_blocks().saturating_add(k);
        let slot = to_usize(index.into()).checked_rem(table.len()).unwrap_or_default();
        let primary = geom.super_block(GroupNo(0)).plus(1).plus(index.into());
        let found = table.get(slot).copied().unwrap_or_default();
        if u64::from(found) != primary.0 {
            report.damaged(
                Part::MapBlock(ino, place),
                What::field("a reserved descriptor block", found, primary),
            );
            return Ok(());
        }
        let copies = words(&fs.read_block(Part::MapBlock(ino, primary), primary)?);
        let backups = geom
            .backup_groups()
            .map(|group| primary.plus(u64::from(group.0).saturating_mul(geom.blocks_per_group.into())));
        for (slot, expected) in backups.enumerate() {
            let found = copies.get(slot).copied().unwrap_or_default();
            if u64::from(found) != expected.0 && expected.0 <= u64::from(u32::MAX) {
                report
                    .damaged(Part::MapBlock(ino, primary), What::field("a backup's block", found, expected));
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Checks inode 2: a directory in use, whose blocks can be found.
pub(super) fn root<D: ReadAt>(fs: &Ext<D>, _: &Cx<'_>, report: &mut Report) -> Result<()> {
    let part = Part::Inode(InodeNo::ROOT);
    let inode = match fs.inode(InodeNo::ROOT) {
        Ok(inode) => inode,
        Err(error) => return report.error(part, error),
    };
    if inode.links() == 0 || inode.kind() != Some(Kind::Dir) {
        report.damaged(part, What::Broken("is no directory in use"));
        return Ok(());
    }
    match mapped(fs, &inode) {
        Ok(0) if !inode.has(INLINE_DATA) => report.damaged(part, What::Broken("has no first block")),
        Ok(_) => {}
        Err(error) => return report.error(part, error),
    }
    Ok(())
}

/// The shortest journal, in blocks.
const JOURNAL_MIN: u64 = 1024;
/// Features of journals that somebody knows.
const JOURNAL_INCOMPAT: u32 = jbd2::INCOMPAT_REVOKE
    | jbd2::INCOMPAT_64BIT
    | jbd2::INCOMPAT_ASYNC_COMMIT
    | jbd2::INCOMPAT_CSUM_V2
    | jbd2::INCOMPAT_CSUM_V3
    | jbd2::INCOMPAT_FAST_COMMIT;

/// Checks the journal's inode and superblock; not what is in it.
pub(super) fn journal<D: ReadAt>(fs: &Ext<D>, _: &Cx<'_>, report: &mut Report) -> Result<()> {
    let raw = fs.sb().raw();
    let sb = Part::Superblock(GroupNo(0));
    if !fs.sb().compat().has(Compat::HAS_JOURNAL) {
        if raw.s_journal_inum.get() != 0 || raw.s_journal_uuid != [0; 16] || fs.needs_recovery() {
            report.damaged(sb, What::Broken("says something about a journal without has_journal"));
        }
        return Ok(());
    }
    if raw.s_journal_uuid != [0; 16] && raw.s_journal_inum.get() != 0 {
        report.damaged(sb, What::Broken("says that the journal is in it and on another device"));
    }
    if raw.s_journal_uuid != [0; 16] {
        report.note(Part::Journal, What::Broken("is on another device, which was not looked at"));
        return Ok(());
    }
    let ino = InodeNo(raw.s_journal_inum.get());
    let size = fs.geom().block_size;
    let inode = match fs.inode(ino) {
        Ok(inode) => inode,
        Err(error) => return report.error(Part::Journal, error),
    };
    if inode.links() == 0 || inode.kind() != Some(Kind::File) || inode.has(ENCRYPT) {
        report.damaged(Part::Journal, What::Broken("is no file in use"));
        return Ok(());
    }
    let blocks = size.blocks_in(inode.size()).0;
    if blocks < JOURNAL_MIN {
        report.damaged(
            Part::Journal,
            What::field("its length in blocks", blocks, format!("at least {JOURNAL_MIN}")),
        );
        return Ok(());
    }
    match mapped(fs, &inode) {
        Ok(end) if end < blocks => {
            report.damaged(
                Part::Journal,
                What::field("its first hole", end, format!("none in {blocks} blocks")),
            );
            return Ok(());
        }
        Ok(_) => {}
        Err(error) => return report.error(Part::Journal, error),
    }
    let mut head = [0; size_of::<jbd2::Superblock>()];
    fs.read_file(&inode, Offset::ZERO, &mut head)?;
    if let Ok(head) = jbd2::Superblock::read_from_bytes(&head) {
        journal_head(fs, &head, blocks, report);
    }
    Ok(())
}

/// How many blocks of a file follow one another without a hole.
fn mapped<D: ReadAt>(fs: &Ext<D>, inode: &Inode) -> Result<u64> {
    let mut end = 0;
    for run in fs.map(inode)? {
        let run = run?;
        if run.at != FileBlock(end) {
            break;
        }
        end = run.end().0;
    }
    Ok(end)
}

fn journal_head<D: ReadAt>(fs: &Ext<D>, head: &jbd2::Superblock, blocks: u64, report: &mut Report) {
    let part = Part::Journal;
    let mut field = |name, found: u32, right: bool, expected: String| {
        if !right {
            report.damaged(part, What::field(name, found, expected));
        }
        right
    };
    let (magic, kind) = (head.s_header.h_magic.get(), head.s_header.h_blocktype.get());
    if !field("h_magic", magic, magic == jbd2::MAGIC, jbd2::MAGIC.to_string())
        || !field("h_blocktype", kind, kind == 3 || kind == 4, "3 or 4".to_owned())
    {
        return;
    }
    let incompat = if kind == jbd2::SUPERBLOCK_V1 { 0 } else { head.s_feature_incompat.get() };
    field("s_feature_incompat", incompat, incompat & !JOURNAL_INCOMPAT == 0, "known features".to_owned());
    let sums = incompat & (jbd2::INCOMPAT_CSUM_V2 | jbd2::INCOMPAT_CSUM_V3);
    let one = sums != jbd2::INCOMPAT_CSUM_V2 | jbd2::INCOMPAT_CSUM_V3;
    let old = head.s_feature_compat.get() & jbd2::COMPAT_CHECKSUM != 0 && kind == jbd2::SUPERBLOCK_V2;
    field("s_feature_incompat", incompat, one && (sums == 0 || !old), "one kind of checksum".to_owned());
    if kind == jbd2::SUPERBLOCK_V2 {
        let ro = head.s_feature_ro_compat.get();
        field("s_feature_ro_compat", ro, ro == 0, "0".to_owned());
        let users = head.s_nr_users.get();
        field("s_nr_users", users, users <= 1, "at most 1".to_owned());
    }
    let (size, len) = (head.s_blocksize.get(), head.s_maxlen.get());
    field(
        "s_blocksize",
        size,
        u64::from(size) == fs.geom().block_size.bytes(),
        fs.geom().block_size.bytes().to_string(),
    );
    field("s_maxlen", len, u64::from(len) <= blocks, format!("at most {blocks}"));
    if incompat & jbd2::INCOMPAT_FAST_COMMIT != 0 {
        let fast = match head.s_num_fc_blks.get() {
            0 => 256,
            fast => fast,
        };
        let left = u64::from(len.saturating_sub(fast));
        field("s_num_fc_blks", fast, left >= JOURNAL_MIN, format!("{JOURNAL_MIN} fewer than {len}"));
    }
    let start = head.s_start.get();
    field("s_start", start, start == 0 || fs.needs_recovery(), "0 without needs_recovery".to_owned());
    if sums != 0 {
        let kind = head.s_checksum_type;
        field("s_checksum_type", kind.into(), kind == 4, "4 (crc32c)".to_owned());
        if let Err(mismatch) = head.verify(&()) {
            report.damaged(part, What::Checksum(mismatch));
        }
    }
    if head.s_errno.get() != 0 {
        report.note(part, What::field("s_errno", head.s_errno.get(), 0));
    }
}

/// Checks the blocks of the orphan file: all empty, or sealed where there are orphans.
pub(super) fn orphan_file<D: ReadAt>(fs: &Ext<D>, _: &Cx<'_>, report: &mut Report) -> Result<()> {
    if !fs.sb().compat().has(Compat::ORPHAN_FILE) {
        return Ok(());
    }
    let ino = InodeNo(fs.sb().raw().s_orphan_file_inum.get());
    let part = Part::Inode(ino);
    if !fs.sb().compat().has(Compat::HAS_JOURNAL) {
        report.damaged(part, What::Broken("is an orphan file without a journal"));
    }
    let size = fs.geom().block_size;
    let walk = fs.inode(ino).and_then(|inode| {
        let runs: Result<Vec<_>> = fs.map(&inode)?.collect();
        Ok((inode, runs?))
    });
    let (inode, runs) = match walk {
        Ok(found) => found,
        Err(error) => return report.error(part, error),
    };
    if !inode.size().is_aligned(size.bytes()) {
        report.damaged(part, What::field("i_size", inode.size().get(), "whole blocks"));
        return Ok(());
    }
    let (mut next, blocks) = (0, size.blocks_in(inode.size()).0);
    for run in runs {
        if run.at.0 > next && next < blocks {
            break;
        }
        for k in 0..run.count.0 {
            orphan_block(fs, &inode, run.start.plus(k), report)?;
        }
        next = run.end().0;
    }
    if next < blocks {
        report.damaged(part, What::field("its first hole", next, format!("none in {blocks} blocks")));
    }
    Ok(())
}

fn orphan_block<D: ReadAt>(fs: &Ext<D>, inode: &Inode, block: BlockNo, report: &mut Report) -> Result<()> {
    let part = Part::Orphans(block);
    let bytes = fs.read_block(part, block)?;
    let Ok((slots, tail)) = OrphanTail::ref_from_suffix(&bytes) else { return Ok(()) };
    if tail.ob_magic.get() != ORPHAN_MAGIC {
        report.damaged(part, What::field("ob_magic", tail.ob_magic.get(), ORPHAN_MAGIC));
        return Ok(());
    }
    let sums = fs.sb().sums();
    if let Err(mismatch) = sums.verify(Object::OrphanBlock(inode.seed(sums), block), &bytes) {
        report.damaged(part, What::Checksum(mismatch));
    }
    if !sums.cover_all() && tail.ob_checksum.as_bytes() != [0; 4] {
        report.damaged(part, What::field("ob_checksum", tail.ob_checksum.get(), "0 without metadata_csum"));
    }
    let used = words(slots).iter().filter(|&&slot| slot != 0).count();
    if used != 0 && !fs.sb().ro_compat().has(RoCompat::ORPHAN_PRESENT) {
        report.damaged(part, What::field("its number of orphans", to_u64(used), "0 without orphan_present"));
    }
    Ok(())
}

/// Notes who has the filesystem; a damaged block keeps it from being mounted.
pub(super) fn mmp<D: ReadAt>(fs: &Ext<D>, _: &Cx<'_>, report: &mut Report) -> Result<()> {
    use crate::read::MmpState;
    let part = Part::Mmp(fs.sb().mmp_block().unwrap_or_default());
    match fs.mmp() {
        Ok(MmpState::Clean) => Ok(()),
        Ok(MmpState::Checking) => {
            report.note(part, What::Broken("says that a checker is running"));
            Ok(())
        }
        Ok(MmpState::Mounted { .. }) => {
            report.note(part, What::Broken("says that the filesystem is mounted somewhere"));
            Ok(())
        }
        Err(error @ Error::Disk(_)) => Err(error),
        Err(error) => report.error(part, error),
    }
}

/// Little-endian numbers of 32 bits.
pub(super) fn words(bytes: &[u8]) -> Vec<u32> {
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().map(|word| u32::from_le_bytes(*word)).collect()
}
