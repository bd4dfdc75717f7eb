//! Inodes that the filesystem keeps for itself.

use super::finding::{Report, What};
use crate::Ext;
use crate::error::{Part, Result};
use crate::feature::Compat;
use crate::unit::{BlockNo, GroupNo, InodeNo};
use disk::ReadAt;
use ondisk::num::to_usize;

/// Where `i_block` has the pointer to a block of pointers to blocks of pointers.
const DOUBLE: usize = 13;

/// Checks inode 7: every pointer to the reserved descriptor blocks and from them to their backups.
pub(super) fn resize_inode<D: ReadAt>(fs: &Ext<D>, report: &mut Report) -> Result<()> {
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
            report.damaged(Part::MapBlock(ino, place), What::field("a reserved descriptor block", found, primary));
            return Ok(());
        }
        let copies = words(&fs.read_block(Part::MapBlock(ino, primary), primary)?);
        let backups = geom.backup_groups().map(|group| {
            primary.plus(u64::from(group.0).saturating_mul(geom.blocks_per_group.into()))
        });
        for (slot, expected) in backups.enumerate() {
            let found = copies.get(slot).copied().unwrap_or_default();
            if u64::from(found) != expected.0 && expected.0 <= u64::from(u32::MAX) {
                report.damaged(Part::MapBlock(ino, primary), What::field("a backup's block", found, expected));
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Little-endian numbers of 32 bits.
pub(super) fn words(bytes: &[u8]) -> Vec<u32> {
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().map(|word| u32::from_le_bytes(*word)).collect()
}
