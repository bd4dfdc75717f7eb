//! Growing what lies on the disk: the partition, and what is in it.

use super::hidden;
use super::logical::{self, Wish};
use super::{BootNeeds, Depth, Log, Request};
use crate::content::{Content, Member};
use crate::layout::{Layout, Volume, VolumeId, discover};
use crate::{Error, Region, Result, select, view, way};
use container::Container;
use disk::{Cx, Disk, ReadAt};
use extfs::Ext;
use extfs::resize::{Copied, GrowOptions, GrowPlan};
use ondisk::size::SizeSpec;
use ondisk::{Len, Span, SpanSet};
use table::To;

/// What grows.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The volume that takes the space.
    pub id: VolumeId,
    /// The partition, or the whole disk, whose end moves: the same, or what holds a physical volume for it.
    pub carrier: VolumeId,
}

/// The volume that takes the space; refused where it cannot.
pub(super) fn choose(layout: &Layout, request: &Request, old_len: Len, new_len: Len) -> Result<Target> {
    let id = select::growable(layout, &request.place, new_len, request.move_behind)?;
    let volume =
        layout.volume(&id).ok_or_else(|| Error::None { why: format!("{id} holds other partitions") })?;
    let refused = |why: &str, help: Option<&str>| Error::Refused {
        volume: id.clone(),
        why: why.to_owned(),
        help: help.map(str::to_owned),
    };
    hidden::refuse_volume(volume)?;
    let able = select::room(layout, &id, new_len, request.move_behind)?;
    let carrier = match able.iter().max_by_key(|one| one.region.start()) {
        Some(carrier) => carrier.id.clone(),
        // Where the disk does not grow, the space may lie in front of the neighbour, or be free in the volume group.
        None => layout.carriers(&id).last().map_or_else(|| id.clone(), |one| one.id.clone()),
    };
    if let (Some(table), VolumeId::Partition(number)) = (&layout.table, &carrier)
        && let Some(next) = table.limit(*number, new_len)?.behind
        && new_len > old_len
        && able.is_empty()
    {
        let swap = if next.swap { " (swap)" } else { "" };
        let own = if carrier == id { "it".to_owned() } else { format!("its physical volume in {carrier}") };
        let why =
            format!("partition {}{swap} lies behind {own}, so it cannot take the new space", next.number);
        return Err(refused(
            &why,
            Some("let --move move what lies behind, or grow the disk alone with --disk-only"),
        ));
    }
    Ok(Target { id, carrier })
}

/// Moves what lies behind a partition out of its way; the layout that the disk then has, where anything has moved.
pub(super) fn make_way<D: Disk>(
    disk: &mut Container<D>,
    layout: &Layout,
    id: &VolumeId,
    request: &Request,
    cx: &Cx<'_>,
    log: &mut Log,
) -> Result<Option<Layout>> {
    let VolumeId::Partition(number) = *id else { return Ok(None) };
    if !way::can_be_made(layout, number, request.move_behind) {
        return Ok(None);
    }
    let Some(way) = way::plan(disk, layout, number, &request.boot, &cx.limits)? else { return Ok(None) };
    log.steps.extend(way.sentences());
    way.apply(disk)?;
    discover(disk, cx).map(Some)
}

pub(super) fn grow<D: Disk>(
    disk: &mut Container<D>,
    layout: &Layout,
    target: &Target,
    request: &Request,
    cx: &Cx<'_>,
    log: &mut Log,
) -> Result<()> {
    let (Some(volume), Some(carrier)) = (layout.volume(&target.id), layout.volume(&target.carrier)) else {
        return Ok(());
    };
    let id = &volume.id;
    let deep = request.depth == Depth::Filesystem;
    if deep && volume.content == Content::Ext {
        log.steps.extend(view::replay(&mut *volume.region.writer(disk)?, id, cx)?);
    }
    let span = grow_partition(disk, layout, carrier, log)?;
    let region = if carrier.content == Content::LvmPv {
        let wish = if request.size == SizeSpec::Max { Wish::AllFree } else { Wish::New };
        logical::grow(disk, layout, (&carrier.id, span), (id, wish), cx, log)?
    } else {
        Region::Span(span)
    };
    match volume.content {
        Content::Ext if deep => grow_filesystem(&mut *region.writer(disk)?, id, &request.boot, cx, log),
        Content::Ext | Content::LvmPv => Ok(()),
        content => {
            log.notes.push(left_to_the_guest(id, content));
            Ok(())
        }
    }
}

/// Moves a partition's end, and tells where it then lies.
fn grow_partition<D: Disk>(
    disk: &mut Container<D>,
    layout: &Layout,
    carrier: &Volume,
    log: &mut Log,
) -> Result<Span> {
    let (Some(table), VolumeId::Partition(number)) = (&layout.table, &carrier.id) else {
        return Ok(Span::whole(disk.len()));
    };
    let plan = table::plan_grow_partition(table, *number, To::Max, disk.len())?;
    let grown = plan.growth().iter().find(|one| one.number == *number);
    let old = Span::new(carrier.region.start(), carrier.region.len()).unwrap_or_default();
    let span = grown.map_or(old, |one| one.after);
    log.steps.extend(plan.sentences());
    plan.apply(disk)?;
    Ok(span)
}

fn grow_filesystem(
    volume: &mut dyn Disk,
    id: &VolumeId,
    boot: &BootNeeds,
    cx: &Cx<'_>,
    log: &mut Log,
) -> Result<()> {
    let ext = Error::ext(id);
    let fs = Ext::open(&*volume, &cx.limits).map_err(&ext)?;
    let blocks = extfs::resize::blocks_on(fs.sb(), volume.len());
    let options = GrowOptions { legacy_boot: boot.classic_descriptors };
    let plan = extfs::resize::plan_grow(&fs, blocks, options).map_err(&ext)?;
    refuse_pinned(&plan, id, boot)?;
    if !plan.is_empty() {
        log.steps.extend(plan.sentences().into_iter().map(|sentence| format!("{id}: {sentence}")));
    }
    plan.apply(volume, cx).map_err(&ext)
}

/// Refuses to move what a boot loader reads by its place.
fn refuse_pinned(plan: &GrowPlan, id: &VolumeId, boot: &BootNeeds) -> Result<()> {
    let pinned: SpanSet =
        boot.pinned.iter().filter(|(volume, _)| volume == id).map(|(_, span)| *span).collect();
    let size = plan.old.block_size;
    let leaves = |one: &&Copied| size.span_of(one.from, one.count).is_none_or(|span| pinned.overlaps(span));
    match plan.moves.copies.iter().find(leaves) {
        None => Ok(()),
        Some(one) => Err(Error::Refused {
            volume: id.clone(),
            why: format!(
                "what lies at block {} must make room for more group descriptors, and the boot loader reads it by \
                 its place: the guest would not start",
                one.from
            ),
            help: Some(
                "grow to less, or let the boot loader read its files by name first (GRUB 0.97: `setup` with stage 1.5)"
                    .to_owned(),
            ),
        }),
    }
}

fn left_to_the_guest(id: &VolumeId, content: Content) -> String {
    match content {
        Content::Foreign(foreign) => match foreign.grown_by() {
            Some(how) => format!("{id}: its {content} is left as it is; the guest grows it: {how}"),
            None => format!("{id}: {content} cannot be grown; only the volume around it has the space"),
        },
        Content::Empty if *id == VolumeId::Whole => {
            "there is no partition table and no filesystem on it: the disk alone grows".to_owned()
        }
        Content::Swap { .. } => {
            format!("{id}: the swap space is left as it is; in the guest: swapoff, mkswap, swapon")
        }
        Content::Member(Member::Md) => format!(
            "{id}: the md array is left as it is; when all of its members have the space, the guest grows it: mdadm --grow --size=max"
        ),
        Content::Member(Member::BitLocker) => {
            format!(
                "{id}: the encrypted volume is left as it is; Windows grows it when it is unlocked: Extend Volume"
            )
        }
        Content::Member(Member::Luks) => {
            format!(
                "{id}: the encrypted volume takes the space when it is opened; the guest grows what is in it"
            )
        }
        content => {
            format!("{id}: its content ({content}) is left as it is; only the volume around it has the space")
        }
    }
}
