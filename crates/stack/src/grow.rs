//! Grow a disk and what lies on it, as one change.
//!
//! ```text
//! file       container::plan_grow      a longer file, tables of the container
//! disk       table::plan_grow_*        the partition's end, GPT's backup at the new end
//! volume     extfs::recovered          a journal to be replayed comes first
//!            extfs::resize::plan_grow  new groups
//! ```
//!
//! 1. Every layer is planned and applied on an overlay over the file; the file is only read.
//! 2. What was staged is looked at again from the outside before it becomes a [`Change`].
//! 3. A refusal of any layer leaves nothing behind.

use crate::content::{Content, Member};
use crate::layout::{Layout, Volume, VolumeId, discover};
use crate::source::Source;
use crate::{Error, Place, Region, Result, check, select, target, view, way};
use container::{Container, Format, Severity};
use disk::{Change, Cx, Disk, Overlay, ReadAt};
use extfs::Ext;
use extfs::resize::GrowOptions;
use ondisk::size::{Human, SizeSpec};
use ondisk::{Len, Span};
use table::To;

/// How deep growing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// The disk; what lies on it stays as it is.
    Disk,
    /// The disk and the partition.
    Partition,
    /// The disk, the partition and its filesystem.
    Filesystem,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Request {
    /// The size of the disk.
    pub size: SizeSpec,
    /// The volume that takes the space.
    pub place: Place,
    /// How deep it goes.
    pub depth: Depth,
    /// Whether everything is checked before and after, and not only what the change relies on.
    pub full_check: bool,
}

/// Sizes of the layers at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// The file.
    pub file: Len,
    /// The virtual disk.
    pub disk: Len,
    /// The volume that takes the space: where it lies.
    pub volume: Option<Region>,
    /// The filesystem: its size, and what is free in it.
    pub filesystem: Option<(Len, Len)>,
}

/// A change that is staged and checked, ready to be committed.
#[derive(Clone, Debug)]
pub struct Grown {
    /// The change of the file.
    pub change: Change,
    /// The volume that takes the space.
    pub volume: Option<VolumeId>,
    /// What happens, a sentence a step.
    pub steps: Vec<String>,
    /// What the operator should know besides.
    pub notes: Vec<String>,
    /// Before.
    pub before: Sizes,
    /// After.
    pub after: Sizes,
}

/// What is told about a change while it is made.
#[derive(Default)]
struct Log {
    steps: Vec<String>,
    notes: Vec<String>,
}

/// Plans, stages and checks the growing of an image. Nothing is written.
///
/// # Errors
/// Where a layer cannot grow as asked, is damaged where the change relies on it, or is in the way.
pub fn stage(source: &Source<'_>, request: &Request, cx: &Cx<'_>) -> Result<Grown> {
    let old = source.open(source.file, cx)?;
    let layout = discover(&old, cx)?;
    refuse_hibernated(&layout)?;
    let old_len = old.len();
    let mut log = Log::default();
    let mut overlay = Overlay::new(source.file, &cx.limits);
    grow_container(source, request.size, &old, &mut overlay, &mut log)?;

    let mut volume = None;
    if request.depth > Depth::Disk {
        let mut disk = source.open(&mut overlay, cx)?;
        let id = choose(&layout, request, old_len, disk.len())?;
        if request.full_check {
            check::volume(&old, &layout, &id, check::Scope::Full, cx)?;
        }
        match make_way(&mut disk, &layout, &id, cx, &mut log)? {
            Some(cleared) => grow_volume(&mut disk, &cleared, &id, request, cx, &mut log)?,
            None => grow_volume(&mut disk, &layout, &id, request, cx, &mut log)?,
        }
        volume = Some(id);
    }
    let before = Sizes::of(source.file.len(), old_len, &layout, volume.as_ref());
    let after = match look_again(source, &overlay, volume.as_ref(), request, cx) {
        // What is wrong with the result may have been wrong before: then it is the input that is damaged.
        Err(error @ Error::Result { .. }) => {
            volume.as_ref().map_or(Ok(()), |id| check::volume(&old, &layout, id, check::Scope::Full, cx))?;
            return Err(error);
        }
        after => after?,
    };
    let change = overlay.into_change()?;
    Ok(Grown { change, volume, steps: log.steps, notes: log.notes, before, after })
}

/// Looks at a staged change from the outside: every layer must open again, and hold what was planned.
///
/// # Errors
/// Where it does not.
fn look_again(
    source: &Source<'_>,
    overlay: &Overlay<'_>,
    id: Option<&VolumeId>,
    request: &Request,
    cx: &Cx<'_>,
) -> Result<Sizes> {
    let disk = source.open(overlay, cx)?;
    let layout = discover(&disk, cx)?;
    let wrong = |what: String| Error::Result { what };
    let findings = layout.table.iter().flat_map(|table| table.findings());
    if let Some(damage) = findings.into_iter().find(|finding| finding.severity == table::Severity::Damage)
        && request.depth > Depth::Disk
    {
        return Err(wrong(damage.text.clone()));
    }
    if let Some(id) = id {
        let scope = if request.full_check { check::Scope::Full } else { check::Scope::Touched };
        check::volume(&disk, &layout, id, scope, cx).map_err(|error| wrong(error.to_string()))?;
    }
    if request.full_check {
        let findings = disk.check()?;
        if let Some(damage) = findings.iter().find(|finding| finding.severity == Severity::Damage) {
            return Err(wrong(damage.text.clone()));
        }
    }
    Ok(Sizes::of(overlay.len(), disk.len(), &layout, id))
}

impl Sizes {
    /// The sizes that a layout shows.
    pub(crate) fn of(file: Len, disk: Len, layout: &Layout, volume: Option<&VolumeId>) -> Self {
        let volume = volume.and_then(|id| layout.volume(id));
        let facts = volume.and_then(Volume::facts);
        Self {
            file,
            disk,
            volume: volume.map(|volume| volume.region.clone()),
            filesystem: facts.map(|facts| (facts.size, facts.free)),
        }
    }
}

fn refuse_hibernated(layout: &Layout) -> Result<()> {
    match layout.volumes.iter().find(|one| one.content == Content::Swap { hibernated: true }) {
        None => Ok(()),
        Some(swap) => Err(Error::Refused {
            volume: swap.id.clone(),
            why: "holds the memory of a hibernated system, which would wake up over a changed disk"
                .to_owned(),
            help: Some("start the guest and shut it down properly".to_owned()),
        }),
    }
}

fn grow_container(
    source: &Source<'_>,
    size: SizeSpec,
    old: &Container<&dyn ReadAt>,
    overlay: &mut Overlay<'_>,
    log: &mut Log,
) -> Result<()> {
    let Some(want) = target::disk_len(size, old.len())? else { return Ok(()) };
    if source.fixed_len && source.format == Format::Raw {
        let what = format!("the device has {} and cannot get longer by itself", Human(old.len()));
        let help = Some("extend the device first, then grow to max".to_owned());
        return Err(disk::Error::Refused { what, help }.into());
    }
    let plan = old.plan_grow(want)?;
    log.steps.extend(plan.sentences());
    Ok(plan.apply(overlay)?)
}

/// The volume that takes the space; refused where it cannot.
fn choose(layout: &Layout, request: &Request, old_len: Len, new_len: Len) -> Result<VolumeId> {
    let id = select::growable(layout, &request.place, new_len)?;
    let volume =
        layout.volume(&id).ok_or_else(|| Error::None { why: format!("{id} holds other partitions") })?;
    let refused = |why: &str, help: Option<&str>| Error::Refused {
        volume: id.clone(),
        why: why.to_owned(),
        help: help.map(str::to_owned),
    };
    match volume.content {
        Content::LvmPv => {
            return Err(refused("holds a volume group, and LVM inside guests is not grown yet", None));
        }
        Content::Member(Member::Md) => {
            return Err(refused("is part of an md array, whose metadata may lie at its end", None));
        }
        Content::Member(Member::Zfs) => {
            return Err(refused("is part of a ZFS pool, whose labels lie at its end", None));
        }
        _ => {}
    }
    if let (Some(table), VolumeId::Partition(number)) = (&layout.table, &id)
        && let Some(next) = table.limit(*number, new_len)?.behind
        && new_len > old_len
        && !way::can_be_made(layout, *number)
    {
        let swap = if next.swap { " (swap)" } else { "" };
        let why = format!("partition {}{swap} lies behind it, so it cannot take the new space", next.number);
        return Err(refused(
            &why,
            Some("choose the last partition with -p, or grow the disk alone with --disk-only"),
        ));
    }
    Ok(id)
}

/// Moves swap out of the way of a partition; the layout that the disk then has, where anything has moved.
fn make_way<D: Disk>(
    disk: &mut Container<D>,
    layout: &Layout,
    id: &VolumeId,
    cx: &Cx<'_>,
    log: &mut Log,
) -> Result<Option<Layout>> {
    let VolumeId::Partition(number) = *id else { return Ok(None) };
    if !way::can_be_made(layout, number) {
        return Ok(None);
    }
    let steps = way::make(disk, layout, number, &cx.limits)?;
    if steps.is_empty() {
        return Ok(None);
    }
    log.steps.extend(steps);
    discover(disk, cx).map(Some)
}

fn grow_volume<D: Disk>(
    disk: &mut Container<D>,
    layout: &Layout,
    id: &VolumeId,
    request: &Request,
    cx: &Cx<'_>,
    log: &mut Log,
) -> Result<()> {
    let Some(volume) = layout.volume(id) else { return Ok(()) };
    let deep = request.depth == Depth::Filesystem;
    if deep && volume.content == Content::Ext {
        log.steps.extend(view::replay(&mut *volume.region.writer(disk)?, id, cx)?);
    }
    let legacy_boot = is_legacy_boot(disk)?;
    let region = grow_partition(disk, layout, id, &volume.region, log)?;
    match volume.content {
        Content::Ext if deep => grow_filesystem(&mut *region.writer(disk)?, id, legacy_boot, cx, log),
        Content::Ext => Ok(()),
        content => {
            log.notes.push(left_to_the_guest(id, content));
            Ok(())
        }
    }
}

/// Moves the partition's end, and tells where the volume then lies.
fn grow_partition<D: Disk>(
    disk: &mut Container<D>,
    layout: &Layout,
    id: &VolumeId,
    old: &Region,
    log: &mut Log,
) -> Result<Region> {
    let (Some(table), VolumeId::Partition(number)) = (&layout.table, id) else {
        return Ok(Region::Span(Span::whole(disk.len())));
    };
    let number = *number;
    let plan = table::plan_grow_partition(table, number, To::Max, disk.len())?;
    let grown = plan.growth().iter().find(|one| one.number == number);
    let region = grown.map_or_else(|| old.clone(), |one| Region::Span(one.after));
    log.steps.extend(plan.sentences());
    plan.apply(disk)?;
    Ok(region)
}

fn grow_filesystem(
    volume: &mut dyn Disk,
    id: &VolumeId,
    legacy_boot: bool,
    cx: &Cx<'_>,
    log: &mut Log,
) -> Result<()> {
    let ext = Error::ext(id);
    let fs = Ext::open(&*volume, &cx.limits).map_err(&ext)?;
    let blocks = extfs::resize::blocks_on(fs.sb(), volume.len());
    let plan = extfs::resize::plan_grow(&fs, blocks, GrowOptions { legacy_boot }).map_err(&ext)?;
    if !plan.is_empty() {
        log.steps.extend(plan.sentences().into_iter().map(|sentence| format!("{id}: {sentence}")));
    }
    plan.apply(volume, cx).map_err(&ext)
}

/// Whether the disk starts with GRUB 0.97's first stage, whose filesystem code knows no `meta_bg`.
fn is_legacy_boot(disk: &impl ReadAt) -> Result<bool> {
    let mut sector = [0_u8; 512];
    if disk.len() < Len::of(&sector) {
        return Ok(false);
    }
    disk.read_at(ondisk::Offset::ZERO, &mut sector)?;
    // Stage 1 of GRUB 0.9x carries the version of its interface, 3.2, at byte 0x3e; GRUB 2's boot sector has code there.
    let names_itself = sector.windows(5).any(|text| text == b"GRUB ");
    Ok(names_itself && sector.get(0x3e..0x40) == Some(&[3, 2]))
}

fn left_to_the_guest(id: &VolumeId, content: Content) -> String {
    match content {
        Content::Foreign(foreign) => match foreign.grown_by() {
            Some(how) => format!("{id}: its {content} is left as it is; the guest grows it: {how}"),
            None => format!("{id}: {content} cannot be grown; only the partition has the space"),
        },
        Content::Empty if *id == VolumeId::Whole => {
            "there is no partition table and no filesystem on it: the disk alone grows".to_owned()
        }
        Content::Swap { .. } => {
            format!("{id}: the swap space is left as it is; in the guest: swapoff, mkswap, swapon")
        }
        Content::Member(Member::Luks) => {
            format!(
                "{id}: the encrypted volume takes the space when it is opened; the guest grows what is in it"
            )
        }
        content => {
            format!("{id}: its content ({content}) is left as it is; only the partition has the space")
        }
    }
}
