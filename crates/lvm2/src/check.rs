//! What is wrong with volume groups.

use crate::model::{Area, Device, Lv, Vg};
use crate::unit::ExtentRange;
use crate::{Result, read};
use disk::{Limits, ReadAt};
use ondisk::{Finding, Len, Offset, Severity, Span, SpanSet};
use std::collections::BTreeMap;

/// Of one volume group, no more are told.
const FINDINGS_MAX: usize = 100;

/// Everything wrong or strange about the physical volumes and their volume groups.
///
/// # Errors
/// Where a disk cannot be read.
pub fn check(disks: &[&dyn ReadAt], limits: &Limits) -> Result<Vec<Finding>> {
    let volumes = read(disks, limits)?;
    let groups = volumes.vgs.into_iter().flat_map(|vg| vg.findings);
    Ok(volumes.findings.into_iter().chain(groups).collect())
}

/// What the text of a volume group says that cannot be.
pub(crate) fn model(vg: &Vg) -> Vec<Finding> {
    let mut findings = Vec::new();
    let pvs = vg.pvs.iter().map(|pv| (pv.uuid, &pv.name));
    let lvs = vg.lvs.iter().map(|lv| (lv.uuid, &lv.name));
    let mut seen = BTreeMap::new();
    for (uuid, name) in pvs.chain(lvs) {
        if let Some(other) = seen.insert(uuid, name) {
            findings.push(Finding::damage(format!("{other} and {name} have the same identifier {uuid}")));
        }
    }
    vg.lvs.iter().for_each(|lv| segments(lv, &mut findings));
    extents(vg, &mut findings);
    if let Some(more) = findings.len().checked_sub(FINDINGS_MAX).filter(|more| *more > 0) {
        findings.truncate(FINDINGS_MAX);
        findings.push(Finding::damage(format!("{more} more in volume group {}", vg.name)));
    }
    findings
}

/// Segments follow each other from extent 0.
fn segments(lv: &Lv, findings: &mut Vec<Finding>) {
    let there = ondisk::num::to_u64(lv.segments.len());
    if there != lv.segment_count {
        findings.push(Finding::damage(format!(
            "{} has {there} segments, its segment_count is {}",
            lv.name, lv.segment_count
        )));
    }
    let mut next = 0;
    for segment in &lv.segments {
        let extents = segment.extents;
        if extents.first.0 != next || extents.count.0 == 0 {
            findings.push(Finding::damage(format!(
                "{} has a segment of {} extents from {}, expected one from {next}",
                lv.name, extents.count, extents.first
            )));
        }
        next = extents.end().0;
    }
}

/// Every extent is used at most once, and is one.
fn extents(vg: &Vg, findings: &mut Vec<Finding>) {
    let mut areas: Vec<(Area, &Lv)> = areas(vg).collect();
    areas.sort_by_key(|(area, _)| *area);
    let mut before: Option<(Area, &Lv)> = None;
    for (area, lv) in areas {
        let Some(pv) = vg.pvs.get(area.pv) else { continue };
        if area.extents.end().0 > pv.pe_count.0 {
            findings.push(Finding::damage(format!(
                "{} uses extents {} of {}, which has {}",
                lv.name, area.extents, pv.name, pv.pe_count
            )));
        }
        match before.filter(|(other, _)| other.pv == area.pv) {
            Some((other, owner)) if other.extents.end() > area.extents.first => {
                findings.push(Finding::damage(format!(
                    "{} uses extents {} of {}, of which {} uses {}",
                    lv.name, area.extents, pv.name, owner.name, other.extents
                )));
                if area.extents.end() > other.extents.end() {
                    before = Some((area, lv));
                }
            }
            _ => before = Some((area, lv)),
        }
    }
}

/// All runs of extents that are used, and by whom.
pub(crate) fn areas(vg: &Vg) -> impl Iterator<Item = (Area, &Lv)> {
    let of = |lv| move |area: &Area| (*area, lv);
    let all = vg.lvs.iter().flat_map(move |lv| {
        lv.segments.iter().flat_map(move |segment| segment.mapping.areas().iter().map(of(lv)))
    });
    all.filter(|(area, _)| area.extents.count.0 > 0)
}

/// Where text and devices contradict each other.
pub(crate) fn devices(vg: &Vg) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, pv) in vg.pvs.iter().enumerate() {
        let Some(device) = &pv.device else { continue };
        let who = format!("physical volume {} ({})", pv.name, pv.uuid);
        let all = ExtentRange { count: pv.pe_count, ..ExtentRange::default() };
        let data = vg.span_of(Area { pv: number, extents: all }).unwrap_or_default();
        // A size that is written down and too large costs nothing while all extents are there; growing puts it right.
        let sizes = [
            (Severity::Damage, "extents end at", data.end().since(Offset::ZERO)),
            (Severity::Note, "size in the metadata is", pv.device_len),
            (Severity::Note, "size in the label is", Some(device.label.device_len)),
        ];
        for (severity, what, len) in sizes {
            if let Some(len) = len.filter(|len| *len > device.len) {
                let text = format!("{who}: its {what} {len} bytes, the device has {}", device.len);
                findings.push(Finding { severity, text });
            }
        }
        if let Some(start) = device.label.data.filter(|start| *start != pv.pe_start) {
            findings.push(Finding::damage(format!(
                "{who}: its extents begin at byte {}, in the label at {start}",
                pv.pe_start
            )));
        }
        if device.label.in_use == Some(false) {
            findings.push(Finding::note(format!("{who}: the label does not say that a volume group has it")));
        }
        let mut taken = SpanSet::new();
        for (name, span) in places(device).chain([("data area", data)]) {
            if taken.overlaps(span) {
                findings
                    .push(Finding::damage(format!("{who}: its {name} at {span} overlaps what is in front")));
            }
            taken.insert(span);
        }
    }
    findings
}

/// What lies on a device besides extents: label, metadata areas, bootloader areas.
pub(crate) fn places(device: &Device) -> impl Iterator<Item = (&'static str, Span)> + '_ {
    use crate::layout::{LABEL_SECTORS, SECTOR};
    let label = Span::whole(Len::new(LABEL_SECTORS.saturating_mul(SECTOR)));
    let areas = device.areas.iter().map(|area| ("metadata area", area.span));
    let boot = device.label.boot.iter().map(|span| ("bootloader area", *span));
    [("label", label)].into_iter().chain(areas).chain(boot)
}
