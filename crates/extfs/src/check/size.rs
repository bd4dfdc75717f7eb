//! What an inode says of its size and of its blocks, against its map.

use super::Check;
use super::facts::{BROKEN, INDEXED};
use super::finding::What;
use super::map::{Mapped, VERITY, full_size};
use super::xattr::Cost;
use crate::error::Result;
use crate::feature::{Compat, Incompat, RoCompat};
use crate::read::inode::{EXTENTS, HUGE_FILE, INDEX, INLINE_DATA, Inode, Kind};
use crate::unit::InodeNo;
use disk::ReadAt;
use ondisk::num::to_u64;

impl<D: ReadAt> Check<'_, D> {
    /// Follows the map of an inode and compares its counts; `inside` is what attributes in the inode cost.
    pub(super) fn blocks_of(&mut self, inode: &Inode, inside: Option<Cost>) -> Result<()> {
        let (inside, outside) = (inside.unwrap_or_default(), self.outside(inode)?);
        let has_blocks = self.has_blocks(inode);
        if inode.kind() == Some(Kind::Symlink) && inode.has(EXTENTS) && !has_blocks {
            self.damaged(inode, What::Broken("is a short symbolic link, and marked as having extents"));
        }
        let mut mapped = if has_blocks { self.map(inode)? } else { Mapped::nothing() };
        let is_dir = inode.kind() == Some(Kind::Dir);
        let left = if is_dir { self.dir_blocks.checked_sub(mapped.end) } else { Some(self.dir_blocks) };
        self.dir_blocks = left.unwrap_or_default();
        if !mapped.sound || left.is_none() {
            self.facts.edit(inode.ino(), |fact| fact.flags |= BROKEN)?;
            // What it holds cannot be counted.
            return Ok(());
        }
        mapped.clusters = mapped.clusters.saturating_add(inside.clusters).saturating_add(outside.clusters);
        if inode.has(INDEX) {
            self.facts.edit(inode.ino(), |fact| fact.flags |= INDEXED)?;
            if inode.kind() != Some(Kind::Dir) || !self.fs.sb().compat().has(Compat::DIR_INDEX) {
                self.damaged(inode, What::Broken("has a hash tree, and is no directory that may have one"));
            }
        }
        if mapped.clusters == 0 && inode.kind() == Some(Kind::Dir) && !inode.has(INLINE_DATA) {
            self.damaged(inode, What::Broken("is a directory without blocks"));
        }
        self.charge(inode, mapped.clusters, inside.inodes.saturating_add(outside.inodes))?;
        self.sizes(inode, &mapped);
        let ratio_files = self.fs.sb().ro_compat().has(RoCompat::BIGALLOC)
            && matches!(inode.kind(), Some(Kind::File | Kind::Dir))
            && mapped.clusters > outside.clusters
            && (inode.ino() == InodeNo::ROOT || inode.ino().0 >= 11)
            && inode.flags() & (EXTENTS | INLINE_DATA) == 0;
        if ratio_files {
            self.damaged(inode, What::Broken("has no extents, which bigalloc needs"));
        }
        Ok(())
    }

    /// `i_size` and `i_blocks` against the map.
    fn sizes(&mut self, inode: &Inode, mapped: &Mapped) {
        let (geom, raw) = (self.fs.geom(), inode.raw());
        let (size, bytes) = (full_size(inode).get(), geom.block_size.bytes());
        let extents = inode.has(EXTENTS) && self.fs.sb().incompat().has(Incompat::EXTENTS);
        let wrong = match inode.kind() {
            Some(Kind::Dir) if inode.has(INLINE_DATA) => {
                let there = self.inline_rest(inode).map(|rest| to_u64(rest).saturating_add(60));
                (there != Some(size)).then(|| format!("{} bytes", there.unwrap_or_default()))
            }
            Some(Kind::Dir) => {
                let blocks = size >> geom.block_size.bits();
                let spare = mapped.end.saturating_sub(blocks);
                let wrong = !size.is_multiple_of(bytes)
                    || blocks > mapped.end
                    || spare > self.fs.sb().raw().s_prealloc_dir_blocks.into();
                wrong.then(|| format!("{} blocks of {bytes} bytes", mapped.end))
            }
            Some(Kind::Symlink) => None,
            _ if mapped.written.is_some_and(|last| size < last.saturating_mul(bytes))
                && !inode.has(VERITY) =>
            {
                Some(format!("more than {} blocks of {bytes} bytes", mapped.written.unwrap_or_default()))
            }
            _ => {
                let fan = bytes >> 2;
                let pointers =
                    fan.saturating_pow(3).saturating_add(fan.saturating_pow(2)).saturating_add(fan);
                let blocks = if extents { 1_u64 << 32 } else { pointers.saturating_add(12) };
                let max = blocks.saturating_mul(bytes).saturating_sub(u64::from(extents));
                (size > max).then(|| format!("at most {max}"))
            }
        };
        if let Some(expected) = wrong {
            self.damaged(inode, What::field("i_size", size, expected));
        }
        if inode.kind() == Some(Kind::File)
            && size >= 1 << 31
            && !self.fs.sb().ro_compat().has(RoCompat::LARGE_FILE)
        {
            self.damaged(inode, What::field("i_size", size, "less than 2 GiB without large_file"));
        }
        let wide = self.fs.sb().ro_compat().has(RoCompat::HUGE_FILE);
        let huge = wide && inode.has(HUGE_FILE);
        let unit = if huge { 1 } else { bytes >> 9 };
        let counted = mapped.clusters.saturating_mul(unit).saturating_mul(geom.cluster_ratio());
        let found = if wide { inode.sectors() } else { raw.i_blocks_lo.get().into() };
        let linux = self.fs.sb().raw().s_creator_os.get() != 1;
        if linux && (found != counted || huge && raw.i_blocks_high.get() != 0) {
            self.damaged(inode, What::Count { name: "i_blocks", found, counted });
        }
    }
}
