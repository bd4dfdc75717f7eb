//! Checks of all layers: what `check` prints, and what a staged change must pass.

use crate::grow::{Request, Sizes, Source};
use crate::layout::{Layout, Volume, VolumeId, discover};
use crate::content::Content;
use crate::{Error, Result};
use disk::{Cx, Overlay, ReadAt, Slice};
use extfs::Ext;
use extfs::check::Report;

pub use extfs::check::Scope;

/// Checks the ext filesystem of a volume as it will be after its journal is replayed.
///
/// # Errors
/// The first damage that was found, with the number of findings.
pub fn volume(disk: &dyn ReadAt, layout: &Layout, id: VolumeId, scope: Scope, cx: &Cx<'_>) -> Result<()> {
    let Some(volume) = layout.volume(id).filter(|volume| volume.content == Content::Ext) else { return Ok(()) };
    let report = filesystem(disk, volume, scope, cx)?;
    match report.damage().next() {
        None => Ok(()),
        Some(first) => Err(Error::Damaged { what: format!("{id}: {first}"), count: report.damage_count() }),
    }
}

/// Checks the ext filesystem of a volume, through its journal.
///
/// # Errors
/// Where it cannot be read, or its journal not be replayed.
pub fn filesystem(disk: &dyn ReadAt, volume: &Volume, scope: Scope, cx: &Cx<'_>) -> Result<Report> {
    let slice = Slice::new(disk, volume.span)?;
    let mut overlay = Overlay::new(&slice, &cx.limits);
    extfs::recovered(&mut overlay, cx).map_err(|source| Error::Replay { volume: volume.id, source })?;
    let fs = Ext::open(&overlay, &cx.limits).map_err(Error::ext(volume.id))?;
    extfs::check::check(&fs, scope, cx).map_err(Error::ext(volume.id))
}

/// Looks at a staged change from the outside: every layer must open again, and hold what was planned.
///
/// # Errors
/// Where it does not.
pub(crate) fn result(
    source: &Source<'_>,
    overlay: &Overlay<'_>,
    id: Option<VolumeId>,
    request: &Request,
    cx: &Cx<'_>,
) -> Result<Sizes> {
    let disk = source.open(overlay, cx)?;
    let layout = discover(&disk, cx)?;
    if let Some(table) = &layout.table
        && let Some(damage) = table.findings().iter().find(|finding| finding.severity == table::Severity::Damage)
    {
        return Err(Error::Result { what: damage.text.clone() });
    }
    if let Some(id) = id {
        let scope = if request.full_check { Scope::Full } else { Scope::Touched };
        volume(&disk, &layout, id, scope, cx).map_err(|error| Error::Result { what: error.to_string() })?;
    }
    if request.full_check {
        let findings = container::check(&disk)?;
        if let Some(damage) = findings.damage().next() {
            return Err(Error::Result { what: damage.text.clone() });
        }
    }
    Ok(Sizes::of(overlay.len(), disk.len(), &layout, id))
}
