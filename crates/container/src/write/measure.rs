//! How large the file of a new image would be.

use super::walk::Walk;
use super::{Layer, Piece};
use crate::{Create, Result, qcow2, vhd};
use disk::{Cx, Total};
use ondisk::Len;
use ondisk::num::to_u64;

/// So much is read at once where zeros are looked for.
const PIECE: Len = Len::mib(1);
/// Every format leaves zeros out in units of this length at most.
const GRANULE: Len = Len::kib(4);

/// Lengths of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// With the content of the source. Zeros that only reading would show count as data.
    pub required: Len,
    /// When the whole disk has been written to.
    pub fully_allocated: Len,
}

/// Measures what [`write`](super::write()) would make; of an empty disk where there is no source.
///
/// # Errors
/// Where the format cannot hold the disk, or the source cannot be read.
pub fn measure(layer: Option<Layer<'_>>, create: &Create) -> Result<Measure> {
    let stored = |unit: Len| layer.map_or(Ok(0), |layer| units(layer, unit));
    Ok(match create {
        Create::Raw(len) => Measure { required: *len, fully_allocated: *len },
        Create::Vhd(spec) => {
            let used = vhd::fill::unit(spec).map_or(Ok(0), stored)?;
            Measure {
                required: vhd::fill::file_len(spec, used)?,
                fully_allocated: vhd::fill::file_len(spec, u64::MAX)?,
            }
        }
        Create::Qcow2(spec) => {
            let unit = Len::new(1_u64.wrapping_shl(spec.cluster_bits));
            let whole = qcow2::fill::file_len(spec)?;
            let absent = spec.len.get().div_ceil(unit.get()).saturating_sub(stored(unit)?);
            let required = whole.saturating_sub(Len::new(absent.saturating_mul(unit.get())));
            Measure { required, fully_allocated: whole }
        }
    })
}

/// The bytes that images of all of `layers` certainly store, where these are more than `free`; compressed ones may be
/// smaller. What the maps say is the most: zeros in data are left out, which only reading shows. So disks whose maps
/// promise too much are read, until more than `free` has been found.
///
/// # Errors
/// Where a source cannot be read, or the operator interrupts.
pub fn shortage(layers: &[Layer<'_>], free: Len, cx: &Cx<'_>) -> Result<Option<Len>> {
    let mapped = layers.iter().try_fold(0_u64, |sum, layer| -> Result<u64> {
        Ok(sum.saturating_add(units(*layer, GRANULE)?.saturating_mul(GRANULE.get())))
    })?;
    if mapped <= free.get() {
        return Ok(None);
    }
    let task = cx.progress.task("look for zeros", Total::Bytes(Len::new(mapped)));
    let (mut piece, mut stored) = (Piece::new(PIECE, &cx.limits)?, 0_u64);
    for layer in layers {
        let mut walk = Walk::new(*layer, GRANULE);
        while let Some((span, parts)) = walk.next_piece(PIECE)? {
            cx.cancel.check()?;
            let there = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.span.len().get()));
            piece.fill(&layer.disk, span, parts, GRANULE)?;
            stored = piece.runs().iter().fold(stored, |sum, run| sum.saturating_add(to_u64(run.len())));
            if stored > free.get() {
                return Ok(Some(Len::new(mapped)));
            }
            task.advance(there);
        }
    }
    Ok(None)
}

/// How many units of that length hold something.
fn units(layer: Layer<'_>, unit: Len) -> Result<u64> {
    let mut walk = Walk::new(layer, unit);
    let (mut count, mut known) = (0_u64, 0_u64);
    while let Some(part) = walk.next_part()? {
        let first = part.span.start().get().checked_div(unit.get()).unwrap_or_default().max(known);
        let end = part.span.end().get().div_ceil(unit.get());
        count = count.saturating_add(end.saturating_sub(first));
        known = known.max(end);
    }
    Ok(count)
}
