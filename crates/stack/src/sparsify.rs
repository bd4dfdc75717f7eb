//! Give the space that a guest does not need back to whoever keeps its image.
//!
//! ```text
//! survey     what is free on the disk, what is stored and reads as zero       nothing changes
//! drop       whole blocks and clusters leave the container's tables           a change
//! spare      bytes of the file that nothing refers to or cares for            holes, by `disk::Image::give_back`
//! compact    what lies last moves down, the file is cut                       changes
//! ```
//!
//! 1. Each step leaves an image that is whole, and repeated finds nothing to do: a crash between two of them costs
//!    nothing but the space that was not given back yet.
//! 2. A step looks at the image anew, and what it has staged is checked as the container's own check does it.

use crate::free::{self, Free};
use crate::layout::{VolumeId, discover};
use crate::source::Source;
use crate::{Error, Result, check};
use container::sparsify::Compacted;
use container::{BlockStatus, Container, Mapped, Severity};
use disk::{Change, Coarse, Cx, Disk, ExtentKind, ExtentMap, Overlay, ReadAt};
use ondisk::{Len, Offset, Span};

/// So many blocks or clusters leave the tables in one change.
const DROP_MAX: u64 = 1 << 20;
/// So many bytes move in one change.
const MOVE_MAX: Len = Len::gib(1);

/// A change that is staged and checked.
#[derive(Debug)]
pub struct Staged {
    /// The change of the file; empty where nothing is left to do.
    pub change: Change,
    /// Blocks or clusters that left the tables.
    pub dropped: u64,
    /// Bytes that moved.
    pub moved: Len,
}

/// Refuses an image that no step would change: before all of its data are read.
///
/// # Errors
/// Where the image may not be written to, or is damaged.
pub fn refuse(source: &Source<'_>, cx: &Cx<'_>) -> Result<()> {
    let disk = source.open(source.file, cx)?;
    Ok(disk.spare(&Coarse::new(disk.len(), &cx.limits), &cx.limits).map(drop)?)
}

/// Finds out what is free on the disk of an image.
///
/// # Errors
/// Where the image cannot be read, or memory does not suffice.
pub fn survey(source: &Source<'_>, keep: &[(VolumeId, Span)], cx: &Cx<'_>) -> Result<Free> {
    let disk = source.open(source.file, cx)?;
    let layout = discover(&disk, cx)?;
    let mut free = free::find(&disk, &layout, keep, cx)?;
    free.add_zeros(&disk, |range| disk.own_data(range), cx)?;
    Ok(free)
}

/// Checks the disk as it will be: with all that is free reading as zero.
///
/// # Errors
/// Where the image is damaged already, or a filesystem would be.
pub fn check_result(source: &Source<'_>, free: &Coarse, cx: &Cx<'_>) -> Result<()> {
    let disk = source.open(source.file, cx)?;
    refuse_damage(&disk, |what, count| Error::Damaged { what, count })?;
    let layout = discover(&disk, cx)?;
    let hollow = Hollow { disk: &disk, free };
    for volume in layout.volumes.iter().filter(|volume| volume.facts().is_some()) {
        let before = check::filesystem(&disk, volume, check::Scope::Full, cx)?;
        let after = check::filesystem(&hollow, volume, check::Scope::Full, cx)?;
        if before.is_clean() && !after.is_clean() {
            let what = after.damage().next().map(ToString::to_string).unwrap_or_default();
            return Err(Error::Result { what: format!("{}: {what}", volume.id) });
        }
    }
    Ok(())
}

fn refuse_damage<D: ReadAt>(disk: &Container<D>, error: impl Fn(String, u64) -> Error) -> Result<()> {
    let findings = disk.check()?;
    match findings.iter().find(|finding| finding.severity == Severity::Damage) {
        Some(damage) => Err(error(damage.text.clone(), findings.count(Severity::Damage))),
        None => Ok(()),
    }
}

/// Stages that blocks or clusters that are wholly free leave the tables. Repeated until the change is empty.
///
/// # Errors
/// Where the image may not be written to, or is damaged.
pub fn stage_drop(source: &Source<'_>, free: &Coarse, cx: &Cx<'_>) -> Result<Staged> {
    let mut overlay = Overlay::new(source.file, &cx.limits);
    let dropped = source.open(&mut overlay, cx)?.drop_free(free, DROP_MAX)?;
    staged(source, overlay, dropped, Len::ZERO, cx)
}

/// The bytes of the file that can be given back once the tables refer to them no more.
///
/// # Errors
/// As [`stage_drop`].
pub fn spare(source: &Source<'_>, free: &Coarse, cx: &Cx<'_>) -> Result<Coarse> {
    Ok(source.open(source.file, cx)?.spare(free, &cx.limits)?)
}

/// Stages that what lies last in the file moves down. Repeated until the change is empty.
///
/// # Errors
/// As [`stage_drop`].
pub fn stage_compact(source: &Source<'_>, cx: &Cx<'_>) -> Result<Staged> {
    let mut overlay = Overlay::new(source.file, &cx.limits);
    let Compacted { moved, .. } = source.open(&mut overlay, cx)?.compact(MOVE_MAX)?;
    staged(source, overlay, 0, moved, cx)
}

fn staged(
    source: &Source<'_>,
    overlay: Overlay<'_>,
    dropped: u64,
    moved: Len,
    cx: &Cx<'_>,
) -> Result<Staged> {
    refuse_damage(&source.open(&overlay, cx)?, |what, _| Error::Result { what })?;
    Ok(Staged { change: overlay.into_change()?, dropped, moved })
}

/// All steps as one change, that may be taken back: what is given back is zeroed.
#[derive(Debug)]
pub struct Whole {
    /// What all of it comes to.
    pub staged: Staged,
    /// How much is given back, and what of that is stored.
    pub given: Given,
}

/// Bytes that become holes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Those that are stored.
    pub stored: Len,
    /// All: of the others some may be reserved.
    pub all: Len,
}

impl Given {
    fn plus(self, other: Self) -> Self {
        let sum = |a: Len, b: Len| a.checked_add(b).unwrap_or(a);
        Self { stored: sum(self.stored, other.stored), all: sum(self.all, other.all) }
    }
}

/// Stages all steps in one change.
///
/// # Errors
/// As [`stage_drop`], and where the change does not fit into the memory allowed.
pub fn stage_whole(source: &Source<'_>, free: &Coarse, cx: &Cx<'_>) -> Result<Whole> {
    let mut overlay = Overlay::new(source.file, &cx.limits);
    let dropped = source.open(&mut overlay, cx)?.drop_free(free, u64::MAX)?;
    let before = discard_spare(source, &mut overlay, free, cx)?;
    let mut moved = Len::ZERO;
    loop {
        let turn = source.open(Referred(&mut overlay), cx)?.compact(Len::new(u64::MAX))?;
        moved = moved.checked_add(turn.moved).unwrap_or(moved);
        if !turn.more {
            break;
        }
    }
    // What has moved may lie where more of it can become a hole.
    let behind =
        if moved.is_zero() { Given::default() } else { discard_spare(source, &mut overlay, free, cx)? };
    let given = before.plus(behind);
    let staged = staged(source, overlay, dropped, moved, cx)?;
    Ok(Whole { staged, given })
}

/// Gives back what is spare in a staged file; how much that is.
fn discard_spare(
    source: &Source<'_>,
    overlay: &mut Overlay<'_>,
    free: &Coarse,
    cx: &Cx<'_>,
) -> Result<Given> {
    let spare = source.open(&*overlay, cx)?.spare(free, &cx.limits)?;
    let mut given = Given { all: spare.total(), ..Given::default() };
    for span in spare.iter() {
        for data in overlay.extents(span)?.data() {
            given.stored = given.stored.checked_add(data.len()).unwrap_or(given.stored);
        }
        overlay.discard(span)?;
    }
    Ok(given)
}

/// A disk in which nothing is fresh: what one step of a change has freed is in use before that change.
struct Referred<D>(D);

impl<D: ReadAt> ReadAt for Referred<D> {
    fn len(&self) -> Len {
        self.0.len()
    }
    fn read_at(&self, at: Offset, buf: &mut [u8]) -> disk::Result<()> {
        self.0.read_at(at, buf)
    }
    fn extents(&self, within: Span) -> disk::Result<ExtentMap> {
        self.0.extents(within)
    }
}

impl<D: Disk> Disk for Referred<D> {
    fn write_at(&mut self, at: Offset, buf: &[u8]) -> disk::Result<()> {
        self.0.write_at(at, buf)
    }
    fn zero(&mut self, span: Span) -> disk::Result<()> {
        self.0.zero(span)
    }
    fn discard(&mut self, span: Span) -> disk::Result<()> {
        self.0.discard(span)
    }
    fn copy(&mut self, from: Span, to: Offset) -> disk::Result<()> {
        self.0.copy(from, to)
    }
    fn resize(&mut self, len: Len) -> disk::Result<()> {
        self.0.resize(len)
    }
    fn mark_fresh(&mut self, _: Span) -> disk::Result<()> {
        Ok(())
    }
}

/// A disk without what is free: that reads as zero, and is not stored.
pub struct Hollow<'a, D> {
    /// The disk.
    pub disk: D,
    /// What is free on it.
    pub free: &'a Coarse,
}

impl<D: ReadAt> ReadAt for Hollow<'_, D> {
    fn len(&self) -> Len {
        self.disk.len()
    }

    fn read_at(&self, at: Offset, buf: &mut [u8]) -> disk::Result<()> {
        let want = disk::traits::bounded(at, buf.len(), self.disk.len())?;
        self.disk.read_at(at, buf)?;
        for part in self.free.intersect(want) {
            let from = part.start().since(at).unwrap_or_default().to_usize();
            let bytes = buf.get_mut(from..).and_then(|rest| rest.get_mut(..part.len().to_usize()));
            bytes.unwrap_or_default().fill(0);
        }
        Ok(())
    }

    fn extents(&self, within: Span) -> disk::Result<ExtentMap> {
        let mut map = ExtentMap::new();
        for extent in self.disk.extents(within)?.iter() {
            let mut at = extent.span.start();
            for part in self.free.intersect(extent.span) {
                map.push(Span::between(at, part.start()).unwrap_or_default(), extent.kind);
                map.push(part, ExtentKind::Hole);
                at = part.end();
            }
            map.push(Span::between(at, extent.span.end()).unwrap_or_default(), extent.kind);
        }
        Ok(map)
    }
}

impl<D: Mapped> Mapped for Hollow<'_, D> {
    fn status(&self, range: Span) -> container::Result<Vec<BlockStatus>> {
        let mut list = Vec::new();
        for run in self.disk.status(range)? {
            let mut at = run.span.start();
            let part = |from: Offset, to: Offset| {
                let ahead = from.since(run.span.start()).unwrap_or_default();
                let offset = run.offset.and_then(|offset| offset.checked_add(ahead));
                BlockStatus { span: Span::between(from, to).unwrap_or_default(), offset, ..run }
            };
            for free in self.free.intersect(run.span) {
                list.push(part(at, free.start()));
                list.push(BlockStatus { span: free, zero: true, data: false, offset: None, ..run });
                at = free.end();
            }
            list.push(part(at, run.span.end()));
        }
        list.retain(|run| !run.span.is_empty());
        Ok(list)
    }
}
