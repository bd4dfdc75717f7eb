//! Mending a metadata area from the text that counts.
//!
//! 1. Only an area that cannot be read is written, in a volume group with which nothing else is wrong and whose physical
//!    volumes are all here: what counts is known then.
//! 2. The text is that of the other areas, byte for byte: for the volume group nothing changes.

use crate::draft::Change;
use crate::layout::{MDA_MAGIC, MDA_VERSION, MdaHeader};
use crate::mda::{Content, Mda};
use crate::model::{Device, Vg};
use crate::plan::{Plan, Write};
use crate::{Finding, Result};
use disk::Data;
use ondisk::{Sealed, Span};
use zerocopy::{FromZeros, IntoBytes};

/// Plans to write the areas of a volume group anew that cannot be read. With anything else wrong nothing is planned.
///
/// # Errors
/// Where the text does not fit into an area.
pub fn plan_repair(vg: &Vg) -> Result<Plan> {
    let mut plan = Plan::default();
    let bad = |device: &Device| device.areas.iter().filter(|area| is_bad(area)).count();
    let areas: usize = vg.pvs.iter().filter_map(|pv| pv.device.as_ref()).map(bad).sum();
    let damage = vg.findings.iter().filter(|one| Finding::is_damage(one)).count();
    if areas != damage || vg.missing().next().is_some() {
        return Ok(plan);
    }
    for pv in &vg.pvs {
        let Some(device) = &pv.device else { continue };
        let mut writes = Vec::new();
        let inside = |area: &&Mda| is_bad(area) && Span::whole(device.len).contains(area.span);
        for area in device.areas.iter().filter(inside) {
            writes.extend(rewritten(area, vg.text.bytes())?);
            plan.changes.push(Change::Mended { pv: pv.name.clone(), at: area.at() });
        }
        if !writes.is_empty() {
            plan.devices.push((device.index, writes));
        }
    }
    Ok(plan)
}

const fn is_bad(area: &Mda) -> bool {
    matches!(area.content, Content::Bad(_))
}

/// The text and a header that makes it count.
fn rewritten(area: &Mda, text: &[u8]) -> Result<Vec<Write>> {
    let known = area.header.magic == MDA_MAGIC && area.header.verify(&()).is_ok();
    let kept = if known { area.header } else { MdaHeader::new_zeroed() };
    let mut header = MdaHeader { magic: MDA_MAGIC, version: MDA_VERSION.into(), ..kept };
    header.committed = FromZeros::new_zeroed();
    let placed = Mda { header, ..area.clone() }.place(text, area.span)?;
    let [head, tail] = placed.pieces;
    let (first, second) = text.split_at_checked(head.len().to_usize()).unwrap_or((text, &[]));
    let parts = [(head, first), (tail, second), (Mda::head(area.span), placed.header.as_bytes())];
    let home = |(span, bytes): (Span, &[u8])| Write {
        write: disk::Write { at: span.start(), data: Data::Bytes(bytes.to_vec()) },
        fresh: false,
    };
    Ok(parts.into_iter().filter(|(_, bytes)| !bytes.is_empty()).map(home).collect())
}
