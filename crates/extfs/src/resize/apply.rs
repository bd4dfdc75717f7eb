//! Writing a planned grow.
//!
//! Bitmaps come first, because their checksums are in the descriptors; then descriptors, then superblocks.

use super::place::Pack;
use super::reserve::{self, Reserve};
use super::{GroupEdit, GrowPlan, Place};
use crate::bitmap::Bitmap;
use crate::csum::Object;
use crate::error::{Error, Part, Result};
use crate::feature::{Compat, Incompat};
use crate::geom::Backups;
use crate::group::{Descriptor, Groups};
use crate::layout;
use crate::layout::group::{BLOCK_UNINIT, INODE_UNINIT, INODE_ZEROED};
use crate::read::Ext;
use crate::sb::{SUPER_OFFSET, Superblock};
use crate::unit::{BlockCount, BlockNo, GroupNo, InodeNo};
use disk::{Cx, Disk, Limits, Total};
use ondisk::num::{low16, low32};
use ondisk::{Len, Offset, Span};
use std::collections::BTreeSet;
use zerocopy::{FromBytes, IntoBytes};

impl GrowPlan {
    /// Carries it out on the disk that it was planned for, which must be long enough by now.
    ///
    /// # Errors
    /// Where the disk cannot be read or written, or work is cancelled.
    pub fn apply(self, disk: &mut dyn Disk, cx: &Cx<'_>) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let end = self.new.block_size.len_of(self.new.blocks);
        let whole = Span::whole(end.unwrap_or(Len::new(u64::MAX)));
        if !Span::whole(disk.len()).contains(whole) {
            return Err(disk::Error::OutOfBounds { span: whole, len: disk.len() }.into());
        }
        Writer::new(self, disk, &cx.limits)?.run(cx)
    }
}

struct Writer<'d> {
    plan: GrowPlan,
    disk: &'d mut dyn Disk,
    sb: Superblock,
    groups: Groups,
    /// Bitmaps of old groups, already changed.
    bitmaps: Vec<(GroupNo, Bitmap)>,
    /// Groups with a bitmap or table at a new place.
    moved_groups: Vec<GroupNo>,
    /// The resize inode.
    inode: Option<Vec<u8>>,
}

impl<'d> Writer<'d> {
    fn new(plan: GrowPlan, disk: &'d mut dyn Disk, limits: &Limits) -> Result<Self> {
        let fs = Ext::open(&*disk, limits)?;
        let sb = fs.sb().edited(|raw| plan.edit_super(raw))?;
        let groups = fs.groups().resized(&sb, limits)?;
        let edited =
            |edit: &GroupEdit| Ok((edit.group, edit.applied(fs.block_bitmap(edit.group)?, &plan.new)));
        let bitmaps = plan.edits.iter().map(edited);
        let bitmaps = bitmaps.collect::<Result<Vec<_>>>()?;
        let inode = match plan.reserve {
            Reserve::Same => None,
            _ => Some(fs.inode(InodeNo::RESIZE)?.bytes().to_vec()),
        };
        let moved_groups = plan.moves.places.iter().map(|&(group, _)| group).collect();
        Ok(Self { plan, disk, sb, groups, bitmaps, moved_groups, inode })
    }

    fn run(mut self, cx: &Cx<'_>) -> Result<()> {
        self.moves()?;
        for (group, bitmap) in std::mem::take(&mut self.bitmaps) {
            self.old_group(group, &bitmap)?;
        }
        let packs = std::mem::take(&mut self.plan.packs);
        let task = cx.progress.task("new groups", Total::Count(u64::from(self.new_groups())));
        for pack in &packs {
            cx.cancel.check()?;
            self.pack(pack)?;
            task.advance(pack.count().into());
        }
        self.resize_inode()?;
        self.descriptors()?;
        self.superblocks()
    }

    fn new_groups(&self) -> u32 {
        self.plan.new.groups().saturating_sub(self.plan.old.groups())
    }

    /// Copies what is in the way, switches descriptors, and writes changed pointers where they are now.
    fn moves(&mut self) -> Result<()> {
        let moves = std::mem::take(&mut self.plan.moves);
        for one in moves.copies {
            if one.fresh {
                self.mark(one.to, one.count)?;
            }
            let (from, to) = (self.span(one.from, one.count)?, self.offset(one.to)?);
            self.disk.copy(from, to)?;
        }
        for (group, place) in moves.places {
            let mut desc = self.groups.get(group)?;
            match place {
                Place::BlockBitmap(at) => desc.block_bitmap = at,
                Place::InodeBitmap(at) => desc.inode_bitmap = at,
                Place::InodeTable(at) => desc.inode_table = at,
            }
            self.groups.put(group, &desc)?;
        }
        for (at, bytes) in moves.blocks {
            self.write_block(at, &bytes)?;
        }
        for (ino, bytes) in moves.inodes {
            let at = self.inode_offset(ino)?;
            self.disk.write_at(at, &bytes)?;
        }
        Ok(())
    }

    fn inode_offset(&self, ino: InodeNo) -> Result<Offset> {
        let geom = &self.plan.new;
        let (group, index) = geom.place_of(ino).ok_or(Error::broken(Part::Inode(ino), "is not there"))?;
        let table = self.offset(self.groups.get(group)?.inode_table)?;
        let within = Len::new(u64::from(index).saturating_mul(geom.inode_size.into()));
        table.checked_add(within).ok_or(Error::broken(Part::Inode(ino), "lies beyond the end of all numbers"))
    }

    fn old_group(&mut self, group: GroupNo, bitmap: &Bitmap) -> Result<()> {
        let mut desc = self.groups.get(group)?;
        desc.flags &= !BLOCK_UNINIT;
        desc.free_clusters = bitmap.count_clear();
        desc.block_bitmap_csum = self.block_bitmap_sum(bitmap);
        self.write_block(desc.block_bitmap, bitmap.bytes())?;
        self.groups.put(group, &desc)
    }

    /// Writes bitmaps and tables of new groups. What is implied by a descriptor is not written.
    fn pack(&mut self, pack: &Pack) -> Result<()> {
        self.zero(pack.tables(), pack.table_blocks(&self.plan.new))?;
        let lazy = self.sb.has_group_flags();
        for group in pack.groups.clone().map(GroupNo) {
            let geom = &self.plan.new;
            let mut desc = Descriptor {
                block_bitmap: pack.block_bitmap(group),
                inode_bitmap: pack.inode_bitmap(group),
                inode_table: pack.inode_table(group, geom),
                free_clusters: pack.free_clusters(group, geom),
                free_inodes: geom.inodes_per_group,
                ..Descriptor::default()
            };
            if lazy {
                desc.flags = INODE_UNINIT | INODE_ZEROED;
                desc.itable_unused = geom.inodes_per_group;
            } else {
                let inodes = Bitmap::empty(geom.block_size, geom.inodes_per_group);
                self.write_block(desc.inode_bitmap, inodes.bytes())?;
            }
            if lazy && pack.is_implied(group, &self.plan.new) {
                desc.flags |= BLOCK_UNINIT;
            } else {
                let bitmap = pack.bitmap(group, &self.plan.new);
                desc.block_bitmap_csum = self.block_bitmap_sum(&bitmap);
                self.write_block(desc.block_bitmap, bitmap.bytes())?;
            }
            self.groups.put(group, &desc)?;
        }
        Ok(())
    }

    fn resize_inode(&mut self) -> Result<()> {
        let Some(mut bytes) = self.inode.take() else { return Ok(()) };
        let (old, new) = (self.plan.old.clone(), self.plan.new.clone());
        if let Reserve::Changed { dind } = self.plan.reserve {
            self.write_block(dind, &reserve::dind_block(&new))?;
            for index in reserve::indexes(&new) {
                self.write_block(reserve::primary(&new, index), &reserve::list_block(&new, index))?;
            }
            debug_assert!(new.reserved_gdt <= old.reserved_gdt, "a reserve only shrinks");
            if let Ok((raw, _)) = layout::Inode::mut_from_prefix(&mut bytes) {
                raw.i_blocks_lo.set(reserve::sectors(&new));
            }
            self.sb.sums().seal(Object::Inode(InodeNo::RESIZE), &mut bytes);
        } else {
            bytes.fill(0);
        }
        let at = self.inode_offset(InodeNo::RESIZE)?;
        Ok(self.disk.write_at(at, &bytes)?)
    }

    /// Writes each descriptor block that has changed, and all of them into new backup groups.
    fn descriptors(&mut self) -> Result<()> {
        let (old, new) = (self.plan.old.clone(), self.plan.new.clone());
        let first_new = new.desc_block_of(GroupNo(old.groups()));
        let grown = if self.new_groups() == 0 { 0..0 } else { first_new..new.desc_blocks() };
        let edited = self.plan.edits.iter().map(|edit| new.desc_block_of(edit.group));
        let moved = self.moved_groups.iter().map(|&group| new.desc_block_of(group));
        let changed: BTreeSet<u32> = grown.chain(edited).chain(moved).collect();
        for k in 0..new.desc_blocks() {
            let bytes = self.groups.block(k).unwrap_or_default().to_vec();
            let home = new.primary_desc_block(k);
            for at in new.desc_block_copies(k) {
                let fresh = at.0 >= old.blocks.0;
                let spare = reserve::indexes(&old).contains(&k) && Some(at) != home;
                if spare && !fresh {
                    self.mark(at, BlockCount(1))?;
                }
                if fresh || changed.contains(&k) {
                    self.write_block(at, &bytes)?;
                }
            }
        }
        Ok(())
    }

    /// Writes the superblock and its backups; a new backup fills its block.
    fn superblocks(&mut self) -> Result<()> {
        let new = self.plan.new.clone();
        for group in new.backup_groups() {
            let copy = self.sb.for_group(group)?;
            let at = new.super_block(group);
            if at.0 >= self.plan.old.blocks.0 {
                let mut block = vec![0; new.block_size.to_usize()];
                if let Some(place) = block.get_mut(..size_of::<layout::Superblock>()) {
                    place.copy_from_slice(copy.raw().as_bytes());
                }
                self.write_block(at, &block)?;
            } else {
                self.disk.write_at(self.offset(at)?, copy.raw().as_bytes())?;
            }
        }
        Ok(self.disk.write_at(SUPER_OFFSET, self.sb.raw().as_bytes())?)
    }

    fn block_bitmap_sum(&self, bitmap: &Bitmap) -> u32 {
        let geom = self.sb.geom();
        let covered = bitmap.bytes().get(..geom.block_bitmap_bytes()).unwrap_or(bitmap.bytes());
        self.sb.sums().bitmap(covered, geom.desc_size)
    }

    /// Writes a block; behind the old end it is fresh.
    fn write_block(&mut self, at: BlockNo, bytes: &[u8]) -> Result<()> {
        if at.0 >= self.plan.old.blocks.0 {
            self.mark(at, BlockCount(1))?;
        }
        Ok(self.disk.write_at(self.offset(at)?, bytes)?)
    }

    /// Makes fresh blocks read as zero; costs nothing where they already do.
    fn zero(&mut self, first: BlockNo, count: BlockCount) -> Result<()> {
        let span = self.span(first, count)?;
        let stale: Vec<Span> = self.disk.extents(span)?.data().collect();
        for part in stale {
            self.disk.mark_fresh(part)?;
            self.disk.zero(part)?;
        }
        Ok(())
    }

    fn mark(&mut self, first: BlockNo, count: BlockCount) -> Result<()> {
        let span = self.span(first, count)?;
        Ok(self.disk.mark_fresh(span)?)
    }

    fn offset(&self, at: BlockNo) -> Result<Offset> {
        self.span(at, BlockCount(1)).map(Span::start)
    }

    fn span(&self, first: BlockNo, count: BlockCount) -> Result<Span> {
        let span = self.plan.new.block_size.span_of(first, count);
        span.ok_or(Error::broken(Part::Superblock(GroupNo(0)), "has blocks beyond the end of all numbers"))
    }
}

impl GrowPlan {
    fn edit_super(&self, raw: &mut layout::Superblock) {
        let new = &self.new;
        let compat = Compat(raw.s_feature_compat.get());
        let incompat = Incompat(raw.s_feature_incompat.get());
        if self.converts_to_meta_bg() {
            raw.s_feature_incompat.set(incompat.with(Incompat::META_BG).0);
            raw.s_first_meta_bg.set(new.first_meta_bg.unwrap_or_default());
        }
        if let Reserve::Dropped { .. } = self.reserve {
            raw.s_feature_compat.set(compat.without(Compat::RESIZE_INODE).0);
        }
        if let Backups::Sparse2(two) = new.backups {
            for (place, group) in raw.s_backup_bgs.iter_mut().zip(two) {
                place.set(group.0);
            }
        }
        if let Some(map) = &self.moves.journal_map
            && raw.s_jnl_backup_type == 1
        {
            for (place, word) in raw.s_jnl_blocks.iter_mut().zip(map.as_chunks::<4>().0) {
                place.set(u32::from_le_bytes(*word));
            }
        }
        raw.s_reserved_gdt_blocks.set(low16(new.reserved_gdt.into()));
        raw.s_inodes_count.set(new.inodes());
        raw.s_free_inodes_count.set(low32(self.after.free_inodes));
        raw.set_blocks(new.blocks);
        raw.set_reserved_blocks(self.held_back);
        raw.set_free_blocks(BlockCount(self.after.free_clusters << new.cluster_bits));
        raw.s_overhead_clusters.set(self.overhead);
    }
}
