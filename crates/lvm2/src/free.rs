//! Extents that no logical volume has.

use crate::alloc::free;
use crate::model::{Area, Lv, Mapping, Vg};
use crate::{Error, Result};
use ondisk::Span;

/// What a logical volume is in the middle of, or waits for.
const UNSETTLED: [&str; 7] =
    ["LOCKED", "PVMOVE", "CONVERTING", "MERGING", "MIRROR_NOTSYNCED", "POSTPONED", "PENDING_DELETE"];
/// Types whose parts are logical volumes with extents of their own.
const KNOWN: [&str; 2] = ["thin-pool", "thin"];

impl Vg {
    /// The bytes of all extents that no logical volume uses, each with the place of its device among the disks that were
    /// read. What they hold means nothing to anybody.
    ///
    /// # Errors
    /// Where the volume group is damaged, not all there, or has something in it that we do not know all about: then the
    /// extents may mean something after all.
    pub fn free_spans(&self) -> Result<Vec<(usize, Span)>> {
        self.require_sound()?;
        let names: Vec<String> = self.missing().map(|pv| pv.name().to_owned()).collect();
        if !names.is_empty() {
            return Err(Error::Missing { vg: self.name.clone(), names });
        }
        for lv in &self.lvs {
            if let Some(why) = unsettled(lv) {
                return Err(Error::Refused {
                    what: format!("logical volume {}/{}", self.name, lv.name),
                    why,
                });
            }
        }
        let mut spans = Vec::new();
        for (number, (runs, pv)) in free(self).into_iter().zip(&self.pvs).enumerate() {
            let Some(device) = &pv.device else { continue };
            for extents in runs {
                let span = self.span_of(Area { pv: number, extents });
                spans.extend(span.map(|span| (device.index, span)));
            }
        }
        Ok(spans)
    }
}

fn unsettled(lv: &Lv) -> Option<String> {
    if let Some(status) = UNSETTLED.iter().find(|status| lv.has(status)) {
        return Some(format!("is {status}"));
    }
    let odd = lv.segments.iter().find_map(|segment| match &segment.mapping {
        Mapping::Other { kind, .. } if !KNOWN.contains(&kind.as_str()) => Some(kind),
        _ => None,
    });
    odd.map(|kind| format!("has segments of type {kind}"))
}
