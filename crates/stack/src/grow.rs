//! Grow a disk and what lies on it, as one change.
//!
//! ```text
//! file       container::plan_grow      a longer file, tables of the container
//! disk       table::plan_grow_*        the partition's end, GPT's backup at the new end
//! group      lvm2::plan_grow_*         the physical volume's end, extents of the logical volume
//! volume     extfs::recovered          a journal to be replayed comes first
//!            extfs::resize::plan_grow  new groups
//! ```
//!
//! 1. Every layer is planned and applied on an overlay over the file; the file is only read.
//! 2. What was staged is looked at again from the outside before it becomes a [`Change`].
//! 3. A refusal of any layer leaves nothing behind.

mod hidden;
mod logical;
mod volume;

use crate::content::Content;
use crate::layout::{Layout, Volume, VolumeId, discover};
use crate::source::Source;
use crate::{Error, Place, Result, check, target};
use container::{Container, Format};
use disk::{Change, Cx, Overlay, ReadAt};
use ondisk::size::{Human, SizeSpec};
use ondisk::{Len, Span};
use volume::Target;

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
    /// Whether what lies behind the volume moves to the end of the disk, whatever it is.
    pub move_behind: bool,
    /// Whether everything is checked before and after, and not only what the change relies on.
    pub full_check: bool,
    /// What boot loaders rely on.
    pub boot: BootNeeds,
}

/// What must stay so that boot loaders find what they start.
#[derive(Clone, Debug, Default)]
pub struct BootNeeds {
    /// One of them reads group descriptors in the classic place only: no filesystem gets the feature `meta_bg`.
    pub classic_descriptors: bool,
    /// Bytes that one of them reads by their place: by volume, as the volume counts.
    pub pinned: Vec<(VolumeId, Span)>,
}

/// Sizes of the layers at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// The file.
    pub file: Len,
    /// The virtual disk.
    pub disk: Len,
    /// The partition whose end moves, or the whole disk.
    pub partition: Option<Span>,
    /// The logical volume in it.
    pub logical: Option<Len>,
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
    grow_container(source, request.size, (&old, &layout), &mut overlay, &mut log)?;

    let mut grown = None;
    if request.depth > Depth::Disk {
        let mut disk = source.open(&mut overlay, cx)?;
        let target = volume::choose(&layout, request, old_len, disk.len())?;
        if request.full_check {
            check::volume(&old, &layout, &target.id, check::Scope::Full, cx)?;
        }
        let cleared = volume::make_way(&mut disk, &layout, &target.carrier, request, cx, &mut log)?;
        volume::grow(&mut disk, cleared.as_ref().unwrap_or(&layout), &target, request, cx, &mut log)?;
        grown = Some(target);
    }
    let before = Sizes::of(source.file.len(), old_len, &layout, grown.as_ref());
    let after = match look_again(source, &overlay, grown.as_ref(), request, cx) {
        // What is wrong with the result may have been wrong before: then it is the input that is damaged.
        Err(error @ Error::Result { .. }) => {
            grown
                .as_ref()
                .map_or(Ok(()), |target| check::volume(&old, &layout, &target.id, check::Scope::Full, cx))?;
            return Err(error);
        }
        after => after?,
    };
    let change = overlay.into_change()?;
    let volume = grown.map(|target| target.id);
    Ok(Grown { change, volume, steps: log.steps, notes: log.notes, before, after })
}

/// Looks at a staged change from the outside: every layer must open again, and hold what was planned.
///
/// # Errors
/// Where it does not.
fn look_again(
    source: &Source<'_>,
    overlay: &Overlay<'_>,
    target: Option<&Target>,
    request: &Request,
    cx: &Cx<'_>,
) -> Result<Sizes> {
    let disk = source.open(overlay, cx)?;
    let layout = discover(&disk, cx)?;
    let wrong = |what: String| Error::Result { what };
    let findings = layout.table.iter().flat_map(|table| table.findings());
    if let Some(damage) = findings.into_iter().find(|finding| finding.is_damage())
        && request.depth > Depth::Disk
    {
        return Err(wrong(damage.text.clone()));
    }
    if let Some(damage) = layout.groups.findings().find(|one| one.is_damage())
        && target.is_some_and(|target| target.carrier != target.id)
    {
        return Err(wrong(damage.text.clone()));
    }
    if let Some(Target { id, .. }) = target {
        let scope = if request.full_check { check::Scope::Full } else { check::Scope::Touched };
        check::volume(&disk, &layout, id, scope, cx).map_err(|error| wrong(error.to_string()))?;
    }
    if request.full_check {
        let findings = disk.check()?;
        if let Some(damage) = findings.iter().find(|finding| finding.severity == ondisk::Severity::Damage) {
            return Err(wrong(damage.text.clone()));
        }
    }
    Ok(Sizes::of(overlay.len(), disk.len(), &layout, target))
}

impl Sizes {
    /// The sizes that a layout shows.
    fn of(file: Len, disk: Len, layout: &Layout, target: Option<&Target>) -> Self {
        let volume = target.and_then(|target| layout.volume(&target.id));
        let carrier = target.and_then(|target| layout.volume(&target.carrier));
        let facts = volume.and_then(Volume::facts);
        Self {
            file,
            disk,
            partition: carrier.and_then(|one| Span::new(one.region.start(), one.region.len())),
            logical: volume.filter(|one| one.id.is_logical()).map(|one| one.region.len()),
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
    (old, layout): (&Container<&dyn ReadAt>, &Layout),
    overlay: &mut Overlay<'_>,
    log: &mut Log,
) -> Result<()> {
    let Some(want) = target::disk_len(size, old.len())? else { return Ok(()) };
    hidden::refuse_disk(old, layout)?;
    if source.fixed_len && source.format == Format::Raw {
        let what = format!("the device has {} and cannot get longer by itself", Human(old.len()));
        let help = Some("extend the device first, then grow to max".to_owned());
        return Err(disk::Error::Refused { what, help }.into());
    }
    let plan = old.plan_grow(want)?;
    log.steps.extend(plan.sentences());
    Ok(plan.apply(overlay)?)
}
