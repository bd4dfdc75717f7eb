//! A change of a volume group, as bytes and their places on each of its devices.
//!
//! 1. One new text with the next `seqno` goes behind the present one in every metadata area in use, and the header
//!    that makes it count is written last.
//! 2. What neither the present metadata nor any extent refers to is fresh: the present state survives such a write.
//! 3. Nothing else is touched but the label of a physical volume that grew, and the first sector of a metadata area
//!    that moved away.

use crate::check::places;
use crate::draft::{Change, Draft};
use crate::layout::{LabelSector, SECTOR};
use crate::mda::{Content, Mda};
use crate::model::{Area, Device, Pv, Vg};
use crate::unit::ExtentRange;
use crate::{Error, Result};
use disk::{Data, Disk};
use ondisk::num::round_up;
use ondisk::{Offset, Span, SpanSet};
use zerocopy::IntoBytes;

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where and what.
    pub write: disk::Write,
    /// Whether nothing of the present state refers to these bytes.
    pub fresh: bool,
}

/// A change of a volume group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub(crate) changes: Vec<Change>,
    /// For each device, by its place among the disks that were read.
    pub(crate) devices: Vec<(usize, Vec<Write>)>,
}

impl Plan {
    /// Whether nothing is to be done.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// What becomes of what.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The change in words.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        self.changes.iter().map(ToString::to_string).collect()
    }

    /// The writes to each device, by its place among the disks that were read.
    #[must_use]
    pub fn devices(&self) -> &[(usize, Vec<Write>)] {
        &self.devices
    }

    /// Does what concerns the device at that place; the whole change is done when all devices had their turn.
    ///
    /// # Errors
    /// Where the disk cannot be written, or is not as long as planned.
    pub fn apply(&self, index: usize, disk: &mut dyn Disk) -> disk::Result<()> {
        let own = self.devices.iter().filter(|(device, _)| *device == index);
        own.flat_map(|(_, writes)| writes).try_for_each(|one| {
            let span = one.write.span();
            if one.fresh {
                disk.mark_fresh(span)?;
            }
            match &one.write.data {
                Data::Bytes(bytes) => disk.write_at(one.write.at, bytes),
                Data::Zero(_) => disk.zero(span),
            }
        })
    }
}

/// Makes one change of all that the draft has. `now` is the time, in seconds since 1970.
///
/// # Errors
/// Where the new text does not fit beside the present one, or no metadata area is in use.
pub fn plan_commit(draft: Draft<'_>, now: u64) -> Result<Plan> {
    if draft.changes.is_empty() {
        return Ok(Plan::default());
    }
    draft.require_sound()?;
    let text = final_text(&draft, now)?;
    let mut devices = Vec::new();
    let mut texts = 0_usize;
    for (number, (old, new)) in draft.old.pvs.iter().zip(&draft.new.pvs).enumerate() {
        let (Some(was), Some(is)) = (&old.device, &new.device) else { continue };
        let mut edit = DeviceEdit { taken: referenced(draft.old, number, old, was), writes: Vec::new() };
        if was.label.sector != is.label.sector {
            edit.put(is.label.at, label_bytes(&is.label.sector));
        }
        for (was, is) in was.areas.iter().zip(&is.areas) {
            if edit.area(was, is.span, &text)? {
                texts = texts.saturating_add(1);
            }
        }
        devices.push((was.index, edit.writes));
    }
    if texts == 0 {
        let what = format!("volume group {}", draft.old.name);
        return Err(Error::Refused { what, why: "has no metadata area in use".to_owned() });
    }
    devices.retain(|(_, writes)| !writes.is_empty());
    Ok(Plan { changes: draft.changes, devices })
}

/// The text of the draft as the next one of the volume group.
fn final_text(draft: &Draft<'_>, now: u64) -> Result<Vec<u8>> {
    let what = || format!("volume group {}", draft.old.name);
    let next = draft.old.seqno.checked_add(1);
    let next =
        next.ok_or_else(|| Error::Unsupported { what: what(), why: "has used up its seqnos".to_owned() })?;
    let root = draft.new.text.root();
    let vg = root.section(&draft.new.name);
    let seqno = vg.and_then(|vg| vg.value("seqno")).map(|value| value.replace(next.to_string()));
    let time = root.value("creation_time").map(|value| value.replace(now.to_string()));
    let did = draft.changes.iter().map(|change| match change {
        Change::Pv { name, .. } | Change::Lv { name, .. } => name.as_str(),
        Change::Area { pv: name, .. } | Change::Mended { pv: name, .. } => name.as_str(),
    });
    let mut names: Vec<&str> = did.collect();
    names.dedup();
    let description = format!("\"imgtool grew {}\"", names.join(", "));
    let description = root.value("description").map(|value| value.replace(description));
    let new = draft.edited(seqno.into_iter().chain(time).chain(description).collect())?;
    let mut bytes = new.text.bytes().to_vec();
    if bytes.last() != Some(&0) {
        bytes.push(0);
    }
    Ok(bytes)
}

/// The bytes of a device that something of the present state refers to.
fn referenced(vg: &Vg, number: usize, pv: &Pv, device: &Device) -> SpanSet {
    let all = ExtentRange { count: pv.pe_count, ..ExtentRange::default() };
    let data = vg.span_of(Area { pv: number, extents: all });
    let others = places(device).filter(|(what, _)| *what != "metadata area").map(|(_, span)| span);
    let texts = device.areas.iter().flat_map(Mda::referenced);
    others.chain(texts).chain(data).collect()
}

fn label_bytes(sector: &LabelSector) -> Vec<u8> {
    sector.as_bytes().to_vec()
}

/// The writes to one device.
struct DeviceEdit {
    taken: SpanSet,
    writes: Vec<Write>,
}

impl DeviceEdit {
    fn put(&mut self, at: Offset, bytes: Vec<u8>) {
        self.push(disk::Write { at, data: Data::Bytes(bytes) });
    }

    fn push(&mut self, write: disk::Write) {
        let fresh = !self.taken.overlaps(write.span());
        self.writes.push(Write { write, fresh });
    }

    /// Writes the text into a metadata area, which may move to `span`; whether it takes texts.
    fn area(&mut self, was: &Mda, span: Span, text: &[u8]) -> Result<bool> {
        let moves = was.span != span;
        if moves {
            // Where it was become extents, in which nobody shall find remains of it.
            let old = Mda::head(was.span);
            self.push(disk::Write { at: old.start(), data: Data::Zero(old.len()) });
        }
        match was.content {
            Content::Ignored if moves => self.put(span.start(), was.moved(span).as_bytes().to_vec()),
            Content::Ignored | Content::Bad(_) => {}
            Content::Text(_) | Content::Empty => {
                let placed = was.place(text, span)?;
                let (head, tail) =
                    text.split_at_checked(placed.pieces[0].len().to_usize()).unwrap_or((text, &[]));
                for (piece, bytes) in
                    placed.pieces.iter().zip([head, tail]).filter(|(_, bytes)| !bytes.is_empty())
                {
                    self.put(piece.start(), self.whole_sectors(*piece, span, bytes));
                }
                self.put(span.start(), placed.header.as_bytes().to_vec());
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A text's bytes with zeros up to the end of the sector, where nothing else lies there: whole sectors can be fresh.
    fn whole_sectors(&self, piece: Span, area: Span, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let end = round_up(piece.end().get(), SECTOR).map(Offset::new);
        let rest = end.and_then(|end| Span::between(piece.end(), end));
        if let Some(rest) = rest.filter(|rest| area.contains(*rest) && !self.taken.overlaps(*rest)) {
            bytes.resize(bytes.len().saturating_add(rest.len().to_usize()), 0);
        }
        bytes
    }
}
