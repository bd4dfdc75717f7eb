//! Deciding everything about a grow.

use super::owners::Owners;
use super::place::packs;
use super::reserve::{self, Reserve};
use super::space::Space;
use super::{Count, GroupEdit, GrowOptions, GrowPlan, Moves, Refusal, clear, size};
use crate::error::{Error, Part, Result};
use crate::feature::Incompat;
use crate::geom::Geometry;
use crate::read::{Ext, MmpState};
use crate::unit::{BlockCount, BlockNo, GroupNo, InodeNo};
use disk::ReadAt;
use ondisk::Len;
use ondisk::num::{low32, to_u64};
use std::ops::Range;

/// Staged bytes take memory in pieces of this size.
const PAGE: u64 = 4096;

/// Plans to grow a filesystem to `to` blocks, or to as many of them as it can use.
///
/// # Errors
/// Where the filesystem is in use or dirty, damaged where the change relies on it, or cannot be made that large.
pub fn plan_grow<D: ReadAt>(fs: &Ext<D>, to: BlockCount, options: GrowOptions) -> Result<GrowPlan> {
    settled(fs)?;
    let (old, new) = (fs.geom().clone(), size::choose(fs.sb(), to, options.legacy_boot)?);
    let owners = Owners::of(fs)?;
    let reserve = reserve::plan(fs, &new)?;
    if let Reserve::Changed { dind } | Reserve::Dropped { dind } = reserve
        && !owners.avoid(dind..dind.plus(1))
    {
        return Err(Error::broken(Part::MapBlock(InodeNo::RESIZE, dind), "lies in other metadata"));
    }
    let per_flex = match fs.sb().raw().s_log_groups_per_flex {
        log if fs.sb().incompat().has(Incompat::FLEX_BG) => 1_u64.checked_shl(log.into()).unwrap_or(u64::MAX),
        _ => 1,
    };
    let packs = packs(&new, old.groups()..new.groups(), per_flex);
    let (edits, moves) = changes(fs, &owners, &new, &reserve)?;
    let (before, mut after) = counts(fs)?;
    for edit in &edits {
        after.free_clusters = after.free_clusters.saturating_add_signed(edit.gained);
    }
    for (pack, group) in packs.iter().flat_map(|pack| pack.groups.clone().map(move |g| (pack, GroupNo(g)))) {
        after.free_clusters = after.free_clusters.saturating_add(pack.free_clusters(group, &new).into());
        after.free_inodes = after.free_inodes.saturating_add(new.inodes_per_group.into());
    }
    let notes = notes(fs);
    let mut plan = GrowPlan {
        old,
        new,
        before,
        after,
        held_back: BlockCount(0),
        overhead: 0,
        packs,
        edits,
        moves,
        reserve,
        notes,
    };
    plan.held_back = scaled(fs.sb().reserved_blocks(), &plan);
    plan.overhead = overhead(fs.sb().raw().s_overhead_clusters.get(), &plan);
    affordable(fs, &plan)?;
    Ok(plan)
}

/// Whether the blocks that will be written fit into memory, once as pages and once as a change.
fn affordable<D: ReadAt>(fs: &Ext<D>, plan: &GrowPlan) -> Result<()> {
    let geom = &plan.new;
    let groups = u64::from(geom.groups().saturating_sub(plan.old.groups()));
    let bitmaps = if fs.sb().has_group_flags() { to_u64(plan.packs.len()) } else { groups.saturating_mul(2) };
    let copies = match geom.first_meta_bg {
        Some(_) => 3,
        None => to_u64(geom.backup_groups().count()).saturating_add(1),
    };
    let written = u64::from(geom.desc_blocks().saturating_sub(plan.old.desc_blocks())).saturating_mul(copies);
    let blocks = bitmaps.saturating_add(written).saturating_add(plan.new.reserved_gdt.into());
    let each = geom.block_size.bytes().saturating_add(geom.block_size.bytes().max(PAGE));
    let need = Len::new(blocks.saturating_mul(each));
    let limit = fs.limits().memory;
    if need > limit {
        return Err(disk::Error::Memory { what: "the metadata of new groups", need, limit }.into());
    }
    Ok(())
}

/// Whether what is on disk is the whole truth, and nobody else is at it.
fn settled<D: ReadAt>(fs: &Ext<D>) -> Result<()> {
    let sb = fs.sb();
    sb.writable()?;
    let refusal = match () {
        () if sb.needs_recovery() => Some(Refusal::Replay),
        () if sb.has_errors() => Some(Refusal::Errors),
        () if sb.has_orphans() => Some(Refusal::Orphans),
        () if !sb.is_valid_state() => Some(Refusal::NotUnmounted),
        () => None,
    };
    if let Some(refusal) = refusal {
        return Err(refusal.into());
    }
    match fs.mmp()? {
        MmpState::Clean => Ok(()),
        MmpState::Checking => Err(Refusal::Mounted { by: "a checker".to_owned() }.into()),
        MmpState::Mounted { node, .. } => {
            Err(Refusal::Mounted { by: ondisk::text::Printable(&node).to_string() }.into())
        }
    }
}

/// The counts of the old state, as the descriptors have them; twice, the second to be added to.
fn counts<D: ReadAt>(fs: &Ext<D>) -> Result<(Count, Count)> {
    let mut count = Count { free_clusters: 0, free_inodes: 0 };
    for group in fs.geom().all_groups() {
        let desc = fs.groups().get(group)?;
        count.free_clusters = count.free_clusters.saturating_add(desc.free_clusters.into());
        count.free_inodes = count.free_inodes.saturating_add(desc.free_inodes.into());
    }
    Ok((count, count))
}

/// Blocks of the old state that nobody needs any more.
fn freed(old: &Geometry, new: &Geometry, reserve: &Reserve) -> Vec<Range<BlockNo>> {
    let mut freed = Vec::new();
    for group in old.backup_groups().filter(|&group| !new.has_super(group)) {
        let head = old.first_block(group);
        freed.push(head..head.plus(old.head_blocks(group).0));
    }
    if let Reserve::Dropped { dind } = *reserve {
        freed.push(dind..dind.plus(1));
    }
    freed
}

/// What changes in the bitmaps of old groups, and what moves.
fn changes<D: ReadAt>(
    fs: &Ext<D>,
    owners: &Owners,
    new: &Geometry,
    reserve: &Reserve,
) -> Result<(Vec<GroupEdit>, Moves)> {
    let old = fs.geom();
    let mut space = Space::new(fs, owners);
    let last = old.last_group();
    if new.clusters_in(last) != old.clusters_in(last) || fs.groups().get(last)?.block_uninit() {
        space.touch(last)?;
    }
    for blocks in freed(old, new, reserve) {
        space.clear(blocks)?;
    }
    let moves = if reserve::grows_heads(old, new) {
        let dind = match *reserve {
            Reserve::Dropped { dind } => Some(dind),
            _ => None,
        };
        clear::plan(fs, owners, new, dind, &mut space)?
    } else {
        Moves::default()
    };
    Ok((space.into_edits(new), moves))
}

/// Blocks held back for root: the same share as before.
fn scaled(reserved: BlockCount, plan: &GrowPlan) -> BlockCount {
    let (old, new) = (u128::from(plan.old.blocks.0), u128::from(plan.new.blocks.0));
    let scaled = u128::from(reserved.0).saturating_mul(new).checked_div(old).unwrap_or_default();
    BlockCount(u64::try_from(scaled).unwrap_or(u64::MAX).min(plan.new.blocks.0))
}

/// `s_overhead_clusters`, to which a grow adds whatever it takes; 0 stays 0 and means that the kernel counts.
fn overhead(old: u32, plan: &GrowPlan) -> u32 {
    let used = |geom: &Geometry, count: Count| {
        let clusters: u64 = geom.blocks.0.div_ceil(geom.cluster_ratio());
        clusters.saturating_sub(count.free_clusters)
    };
    let (before, after) = (used(&plan.old, plan.before), used(&plan.new, plan.after));
    match old {
        0 => 0,
        old => low32(u64::from(old).saturating_add(after).saturating_sub(before).min(u64::from(u32::MAX))),
    }
}

/// What is odd, and will be right afterwards.
fn notes<D: ReadAt>(fs: &Ext<D>) -> Vec<String> {
    let mut notes = Vec::new();
    for group in fs.geom().backup_groups() {
        match fs.sb().read_backup(fs.disk(), group) {
            Ok(backup) if backup.geom() == fs.geom() && backup.uuid() == fs.sb().uuid() => {}
            Ok(_) => notes.push(format!("group {group}: the backup superblock differs; it is written anew")),
            Err(error) => notes.push(format!("{error}; it is written anew")),
        }
    }
    debug_assert!(to_u64(notes.len()) <= u64::from(fs.geom().groups()), "one for each backup at most");
    notes
}
