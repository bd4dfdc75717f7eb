//! Mend an image, from the outside in, as one change.
//!
//! ```text
//! file     container::repair::mend   footers, header, batmap; refcounts
//! disk     table::plan_repair        one copy of a GPT from the other
//! group    lvm2::plan_repair         a metadata area from the others
//! volume   extfs::recounted          counts in descriptors
//! ```
//!
//! 1. Only what a copy or a count proves is mended; everything else is told, and left alone.
//! 2. What could be read of the disk reads the same afterwards, bytes of the mended structures on it aside.
//! 3. Layers inside a container are mended only where nothing is wrong with the container any more.
//! 4. What is left is found by looking at the staged image as `check` does.

use crate::check::{self, Checked};
use crate::content::{Content, behind};
use crate::layout::{Layout, discover};
use crate::source::Source;
use crate::{Error, Region, Result};
use container::{Container, Severity};
use disk::{Change, Cx, Disk, Overlay, ReadAt};
use ondisk::{Class, Classified};

/// How much is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The container, and what lies on the disk.
    All,
    /// The container alone: no byte of the disk changes, and who stands on the image reads what it did.
    Container,
}

/// A repair that is staged and checked, ready to be committed.
#[derive(Debug)]
pub struct Repaired {
    /// The change of the file; empty where nothing can be mended.
    pub change: Change,
    /// What happens, a sentence a step.
    pub steps: Vec<String>,
    /// How many of the steps are about the container; they come first.
    pub outside: usize,
    /// Why something that could be mended is left.
    pub notes: Vec<String>,
    /// What was wrong; `None` where the image could not even be opened.
    pub before: Option<Checked>,
    /// What is left.
    pub after: Checked,
}

/// Plans, stages and checks the repair of an image. Nothing is written.
///
/// # Errors
/// Where what is left of the image is not enough to read it, or the file cannot be read.
pub fn stage(source: &Source<'_>, reach: Reach, cx: &Cx<'_>) -> Result<Repaired> {
    let before = match source.open(source.file, cx) {
        Ok(old) => Some(check::all(&old, cx)?),
        Err(error) if error.class() == Class::Corrupt => None,
        Err(error) => return Err(error),
    };
    let mut overlay = Overlay::new(source.file, &cx.limits);
    let says = container::repair::mend(&mut overlay, source.format, source.fixed_len, &cx.limits)?;
    let mut steps: Vec<String> = says.iter().map(|text| format!("container: {text}")).collect();
    let outside = steps.len();
    let mut disk = source.open(&mut overlay, cx)?;
    require_same(source, &disk, cx)?;
    let mut notes = Vec::new();
    if reach == Reach::All && disk.check()?.count(Severity::Damage) == 0 {
        for mend in [mend_table, mend_groups, mend_filesystems] {
            match mend(&mut disk, cx) {
                Ok(more) => steps.extend(more),
                // A container that may not be written to refuses the first write.
                Err(error) if matches!(error.class(), Class::Refused | Class::Unsupported) => {
                    notes.push(format!("what lies inside is left as it is: {error}"));
                    break;
                }
                Err(error) => return Err(error),
            }
        }
    }
    let after = check::all(&disk, cx)?;
    drop(disk);
    Ok(Repaired { change: overlay.into_change()?, steps, outside, notes, before, after })
}

/// Refuses where the mended container has another map than the damaged one, as far as that one has any.
fn require_same<D: ReadAt>(source: &Source<'_>, new: &Container<D>, cx: &Cx<'_>) -> Result<()> {
    let Ok(old) = source.open(source.file, cx) else { return Ok(()) };
    let differs = |what: &str| Error::Result { what: format!("the mended image would have another {what}") };
    if old.len() != new.len() {
        return Err(differs("size"));
    }
    for (was, is) in old.map().zip(new.map()) {
        match (was, is) {
            (Ok(was), Ok(is)) if was == is => {}
            (Err(_), _) => return Ok(()),
            _ => return Err(differs("content")),
        }
    }
    Ok(())
}

/// One copy of a GPT from the other one.
fn mend_table(disk: &mut dyn Disk, cx: &Cx<'_>) -> Result<Vec<String>> {
    let table = match table::read(&*disk, &cx.limits) {
        Ok(Some(table)) => table,
        Ok(None) | Err(table::Error::Unreadable(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let plan = table::plan_repair(&table, &*disk, &cx.limits)?;
    // Who keeps something at the end of the disk keeps it where a backup would go.
    if plan.is_empty() || behind(&*disk)?.is_some() {
        return Ok(Vec::new());
    }
    let says = plan.sentences();
    plan.apply(disk)?;
    Ok(says)
}

/// What lies on the disk; nothing where its table cannot be read.
fn layout(disk: &dyn ReadAt, cx: &Cx<'_>) -> Result<Option<Layout>> {
    match discover(disk, cx) {
        Ok(layout) => Ok(Some(layout)),
        Err(Error::Table(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Metadata areas of volume groups.
fn mend_groups(disk: &mut dyn Disk, cx: &Cx<'_>) -> Result<Vec<String>> {
    let Some(layout) = layout(&*disk, cx)? else { return Ok(Vec::new()) };
    let mut says = Vec::new();
    for vg in layout.groups.all() {
        let plan = lvm2::plan_repair(vg)?;
        for (index, _) in plan.devices() {
            let Some((_, span)) = layout.groups.place(*index) else { continue };
            plan.apply(*index, &mut *Region::Span(span).writer(disk)?)?;
        }
        says.extend(plan.sentences().into_iter().map(|text| format!("volume group {}: {text}", vg.name())));
    }
    Ok(says)
}

/// Counts of ext filesystems.
fn mend_filesystems(disk: &mut dyn Disk, cx: &Cx<'_>) -> Result<Vec<String>> {
    let Some(layout) = layout(&*disk, cx)? else { return Ok(Vec::new()) };
    let mut says = Vec::new();
    for volume in layout.volumes.iter().filter(|volume| volume.content == Content::Ext) {
        match extfs::recounted(&mut *volume.region.writer(disk)?, cx) {
            Ok(more) => says.extend(more.into_iter().map(|text| format!("{}: {text}", volume.id))),
            Err(error) if error.class() == Class::Corrupt => {}
            Err(error) => return Err(Error::ext(&volume.id)(error)),
        }
    }
    Ok(says)
}
