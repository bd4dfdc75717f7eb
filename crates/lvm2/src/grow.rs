//! Growing: a physical volume takes what its device has got, a logical volume takes free extents.
//!
//! 1. A physical volume grows by whole extents; without one nothing changes. Extents are only ever added.
//! 2. A metadata area behind the extents moves to the new end.
//! 3. A logical volume grows at its end, by a longer last segment where the extents behind it are free, else by new
//!    segments of the same kind.

use crate::alloc::{self, Taken};
use crate::draft::{Change, Draft};
use crate::layout::SECTOR;
use crate::model::{Area, Lv, Mapping, Policy, Pv, Vg};
use crate::text::{Edit, Section};
use crate::unit::{EXTENTS_MAX, ExtentCount};
use crate::{Error, Result};
use ondisk::num::{div_up, round_down, to_u64};
use ondisk::{Len, Offset, Span};
use std::fmt::Write as _;

/// How much larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// By so many extents, rounded up to whole stripes.
    Extents(ExtentCount),
    /// To a size, rounded up to whole extents and stripes.
    To(Len),
    /// By all that it can have.
    AllFree,
}

/// A metadata area that moves begins at a multiple of this.
const AREA_ALIGN: u64 = 4096;

/// Lets the physical volume at that place of [`Vg::pvs`] fill a device of `len` bytes.
///
/// # Errors
/// Where there is none, the device would become shorter, or the physical volume must not be changed.
pub fn plan_grow_pv(draft: &mut Draft<'_>, number: usize, len: Len) -> Result<()> {
    let vg = &draft.new;
    let pv = vg.pv(number)?;
    let (Some(device), name) = (&pv.device, &pv.name) else {
        return Err(Error::Missing { vg: vg.name.clone(), names: vec![pv.name.clone()] });
    };
    let what = format!("physical volume {name} of volume group {}", vg.name);
    if !pv.is_allocatable() {
        return Err(Error::Refused {
            what,
            why: "is not allocatable (pvchange -x y makes it so)".to_owned(),
        });
    }
    if len < device.len {
        return Err(Error::Short { pv: name.clone(), len, need: device.len });
    }
    if device.label.boot.iter().any(|boot| boot.start() >= pv.pe_start) {
        return Err(Error::Unsupported { what, why: "has a bootloader area behind its extents".to_owned() });
    }
    let Some((end, moves)) = tail(pv, len) else { return Ok(()) };
    let count = room(vg, number, end);
    let before = pv.pe_count;
    if count <= before {
        return Ok(());
    }
    let sectors = Len::new(round_down(len.get(), SECTOR).unwrap_or_default());
    let edits = pv_edits(vg, name, count, sectors)?;
    let mut new = draft.edited(edits)?;
    let mut changes = vec![Change::Pv { name: name.clone(), before, after: count, size: vg.extent_size }];
    if let Some(device) = new.pvs.get_mut(number).and_then(|pv| pv.device.as_mut()) {
        device.len = len;
        device.label.set_device_len(sectors);
        for (index, span) in moves {
            let Some(area) = device.areas.get_mut(index) else { continue };
            changes.push(Change::Area { pv: name.clone(), before: area.at(), after: span.start() });
            device.label.set_area(area.slot, span);
            area.span = span;
        }
    }
    draft.new = new;
    draft.changes.extend(changes);
    Ok(())
}

/// Where extents may end on a device of `len` bytes, and where each metadata area behind them goes; `None` where
/// nothing would be gained.
fn tail(pv: &Pv, len: Len) -> Option<(Offset, Vec<(usize, Span)>)> {
    let areas = pv.device.iter().flat_map(|device| device.areas.iter().enumerate());
    let mut behind: Vec<_> = areas.filter(|(_, area)| area.at() >= pv.pe_start).collect();
    behind.sort_by_key(|(_, area)| std::cmp::Reverse(area.at()));
    let mut end = len.end();
    let mut moves = Vec::new();
    for (index, area) in behind {
        let start = round_down(end.checked_sub(area.span.len())?.get(), AREA_ALIGN)?;
        end = Some(Offset::new(start)).filter(|start| *start > area.at())?;
        moves.push((index, Span::new(end, area.span.len())?));
    }
    Some((end, moves))
}

/// How many extents a physical volume has if they may reach up to `end`. All of a volume group have 32 bits.
fn room(vg: &Vg, number: usize, end: Offset) -> ExtentCount {
    let Some(pv) = vg.pvs.get(number) else { return ExtentCount(0) };
    let others = vg.pvs.iter().enumerate().filter(|(other, _)| *other != number);
    let others = others.fold(0_u64, |sum, (_, pv)| sum.saturating_add(pv.pe_count.0));
    let count = vg.extent_size.whole_in(end.since(pv.pe_start).unwrap_or_default());
    count.min(ExtentCount(EXTENTS_MAX.saturating_sub(others)))
}

fn pv_edits(vg: &Vg, name: &str, count: ExtentCount, len: Len) -> Result<Vec<Edit>> {
    let section = section_of(vg, "physical_volumes", name)?;
    let sectors = len.get() / SECTOR;
    let size = section.value("dev_size").map(|value| value.replace(sectors.to_string()));
    let count = replace(section, "pe_count", count.0)?;
    Ok(size.into_iter().chain([count]).collect())
}

/// Gives a logical volume, by its name without that of the volume group, more extents.
///
/// # Errors
/// Where there is none, it is of a kind that cannot be grown or part of another, or there is not enough room.
pub fn plan_grow_lv(draft: &mut Draft<'_>, name: &str, by: By) -> Result<()> {
    let vg = &draft.new;
    let lv = vg.lv(name)?;
    let full = format!("{}/{name}", vg.name);
    let (stripe, areas) = growable(&full, lv)?;
    let stripes = to_u64(areas.len());
    let has = lv.extents();
    let rows = |extents: u64| div_up(extents, stripes).unwrap_or_default();
    let most = EXTENTS_MAX.saturating_sub(has.0).checked_div(stripes).unwrap_or_default();
    let wanted = match by {
        By::Extents(more) => Some(rows(more.0)),
        By::To(len) => {
            let wanted = vg.extent_size.needed_for(len);
            let more = wanted.0.checked_sub(has.0);
            let more = more.ok_or_else(|| Error::Backwards { lv: full.clone(), has, wanted })?;
            Some(rows(more))
        }
        By::AllFree => None,
    };
    let taken = alloc::take(vg, lv, ExtentCount(wanted.unwrap_or(most).min(most)));
    if let Some(wanted) = wanted.filter(|wanted| *wanted > taken.rows().0) {
        let extents = |rows: u64| ExtentCount(rows.saturating_mul(stripes));
        let contiguous = vg.policy_of(lv) == Policy::Contiguous;
        let (need, free) = (extents(wanted), extents(taken.rows().0));
        return Err(Error::NoRoom { lv: full, need, free, contiguous });
    }
    if taken.rows().0 == 0 {
        return Ok(());
    }
    let edits = lv_edits(vg, lv, &taken, stripe, stripes)?;
    let before = vg.len_of(lv);
    let new = draft.edited(edits)?;
    let after = new.lv(name).map(|lv| new.len_of(lv))?;
    draft.changes.push(Change::Lv { name: full, before, after, segments: taken.segments.len() });
    draft.new = new;
    Ok(())
}

/// The stripes of the last segment of a logical volume that may be grown.
fn growable<'a>(full: &str, lv: &'a Lv) -> Result<(Len, &'a [Area])> {
    let what = format!("logical volume {full}");
    let refused = |why: String| Err(Error::Refused { what: what.clone(), why });
    let unsupported = |why: String| Err(Error::Unsupported { what: what.clone(), why });
    if let Some(user) = lv.user() {
        return refused(format!("is the {} of {} ({})", user.role, user.lv, user.kind));
    }
    let other = lv.segments.iter().any(|segment| matches!(segment.mapping, Mapping::Other { .. }));
    if other {
        return unsupported(format!("is of type {}", lv.kind()));
    }
    if !lv.is_visible() {
        return refused("is hidden: something else needs it as it is".to_owned());
    }
    if lv.has("LOCKED") || lv.has("PVMOVE") {
        return refused("is locked: its extents are being moved".to_owned());
    }
    let known = |status: &&String| {
        matches!(
            status.as_str(),
            "READ" | "WRITE" | "WRITE_LOCKED" | "VISIBLE" | "FIXED_MINOR" | "ACTIVATION_SKIP"
        )
    };
    if let Some(status) = lv.status.iter().find(|status| !known(status)) {
        return unsupported(format!("has status {status}"));
    }
    match lv.segments.last().map(|last| &last.mapping) {
        Some(Mapping::Striped { stripe, areas }) => Ok((*stripe, areas)),
        _ => unsupported("has no segments".to_owned()),
    }
}

fn lv_edits(vg: &Vg, lv: &Lv, taken: &Taken, stripe: Len, stripes: u64) -> Result<Vec<Edit>> {
    let section = section_of(vg, "logical_volumes", &lv.name)?;
    let Some(last) = lv.segments.last() else { return Ok(Vec::new()) };
    let mut edits = Vec::new();
    if taken.behind.0 > 0 {
        let first = last.extents.first.0.to_string();
        let own = |segment: &Section<'_>| segment.value("start_extent").is_some_and(|value| value.is(&first));
        let own = section.sections().find(own).ok_or_else(|| odd(vg, &lv.name))?;
        let count = last.extents.count.0.saturating_add(taken.behind.0.saturating_mul(stripes));
        edits.push(replace(own, "extent_count", count)?);
    }
    let mut text = String::new();
    let mut start = lv.extents().0.saturating_add(taken.behind.0.saturating_mul(stripes));
    let mut number = to_u64(lv.segments.len());
    for areas in &taken.segments {
        number = number.saturating_add(1);
        let rows = areas.first().map_or(0, |area| area.extents.count.0);
        let count = rows.saturating_mul(stripes);
        text.push_str(&segment(vg, number, (start, count), stripe, areas));
        start = start.saturating_add(count);
    }
    if !taken.segments.is_empty() {
        let behind = section.sections().last().ok_or_else(|| odd(vg, &lv.name))?;
        edits.push(behind.insert_behind(text));
        edits.push(replace(section, "segment_count", number)?);
    }
    Ok(edits)
}

/// A segment as the tools write it.
fn segment(vg: &Vg, number: u64, (start, count): (u64, u64), stripe: Len, areas: &[Area]) -> String {
    let mut text = format!(
        "\n\nsegment{number} {{\nstart_extent = {start}\nextent_count = {count}\n\ntype = \"striped\"\n\
         stripe_count = {}\n",
        areas.len()
    );
    if areas.len() > 1 {
        let _ = writeln!(text, "stripe_size = {}", stripe.get() / SECTOR);
    }
    let names = areas.iter().filter_map(|area| Some((&vg.pvs.get(area.pv)?.name, area.extents.first)));
    let list: Vec<String> = names.map(|(name, first)| format!("\"{name}\", {first}")).collect();
    let _ = write!(text, "\nstripes = [\n{}\n]\n}}", list.join(",\n"));
    text
}

fn section_of<'a>(vg: &'a Vg, kind: &str, name: &str) -> Result<Section<'a>> {
    let section = vg.text.root().section(&vg.name).and_then(|own| own.section(kind)?.section(name));
    section.ok_or_else(|| odd(vg, name))
}

fn replace(section: Section<'_>, name: &str, number: u64) -> Result<Edit> {
    let value = section.value(name).ok_or_else(|| Error::Unsupported {
        what: format!("section {}", section.name()),
        why: format!("has no {name}"),
    })?;
    Ok(value.replace(number.to_string()))
}

fn odd(vg: &Vg, name: &str) -> Error {
    Error::Unsupported {
        what: format!("volume group {}", vg.name),
        why: format!("has no section for {name}"),
    }
}
