//! Growing inside a volume group: the physical volume takes what its partition has got, and a logical volume the
//! extents that came with it.

use super::Log;
use crate::layout::{Layout, VolumeId};
use crate::{Error, Region, Result};
use disk::{Cx, Disk, Slice};
use lvm2::{By, Draft, ExtentCount};
use ondisk::Span;

/// What shall have the new extents.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wish {
    /// The extents that the physical volume gains.
    New,
    /// All that are free.
    AllFree,
}

/// Grows the physical volume in `carrier`, which now is at `span`, and the logical volume `id`, or none where `id` is
/// the carrier itself. Tells where `id` then lies.
pub(super) fn grow(
    disk: &mut dyn Disk,
    layout: &Layout,
    (carrier, span): (&VolumeId, Span),
    (id, wish): (&VolumeId, Wish),
    cx: &Cx<'_>,
    log: &mut Log,
) -> Result<Region> {
    let Some((vg, at)) = layout.groups.on(carrier) else {
        log.notes.push(format!("{carrier}: its physical volume belongs to no volume group that is here"));
        return Ok(Region::Span(span));
    };
    let mut draft = Draft::of(vg, &cx.limits)?;
    let had = vg.pv(at)?.extents();
    lvm2::plan_grow_pv(&mut draft, at, span.len())?;
    let gained = draft.vg().pv(at)?.extents().0.saturating_sub(had.0);
    if let VolumeId::Logical { lv, .. } = id {
        let by = match wish {
            Wish::New => By::Extents(ExtentCount(gained)),
            Wish::AllFree => By::AllFree,
        };
        lvm2::plan_grow_lv(&mut draft, lv, by)?;
    } else if gained > 0 {
        log.notes.push(format!("{carrier}: the new extents of volume group {} stay free", vg.name()));
    }
    let region = match id {
        VolumeId::Logical { lv, .. } => {
            let grown = draft.vg();
            layout.groups.region_with(grown, grown.lv(lv)?, Some((carrier, span)))?
        }
        _ => Region::Span(span),
    };
    let plan = lvm2::plan_commit(draft, cx.now)?;
    log.steps.extend(plan.sentences());
    for (index, _) in plan.devices() {
        let place = layout.groups.place(*index).map(|(id, old)| if id == carrier { span } else { old });
        let place = place.ok_or_else(|| Error::Result { what: "a physical volume is gone".to_owned() })?;
        plan.apply(*index, &mut Slice::new(&mut *disk, place)?)?;
    }
    Ok(region)
}
