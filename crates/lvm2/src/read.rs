//! From devices to volume groups.
//!
//! 1. Of all texts of a volume group the one with the highest `seqno` counts, wherever it lies.
//! 2. A copy that is older is a note: a change was interrupted, and the next one brings it in step. A copy that cannot
//!    be read, or says something else under the same `seqno`, is damage.
//! 3. Physical volumes belong to the volume group that names their identifier.

use crate::build::{self, Head};
use crate::check;
use crate::label;
use crate::mda::{self, Content};
use crate::model::{Device, Vg};
use crate::text::{BadText, Text};
use crate::{Result, Uuid};
use disk::{Limits, ReadAt};
use ondisk::Finding;
use std::collections::{BTreeMap, BTreeSet};

/// What some devices hold.
#[derive(Clone, Debug, Default)]
pub struct Volumes {
    /// The volume groups, by name.
    pub vgs: Vec<Vg>,
    /// The devices, by their places, whose volume group is not known or not there.
    pub orphans: Vec<usize>,
    /// What is wrong or strange and belongs to none of the volume groups.
    pub findings: Vec<Finding>,
}

/// A metadata area's text: on which device it was found, and what it says.
struct Copy {
    device: usize,
    head: Head,
    text: Text,
}

/// The volume groups on `disks`, of which those without a label are passed over.
///
/// # Errors
/// Where a disk cannot be read, or the metadata need more memory than the limits allow.
pub fn read(disks: &[&dyn ReadAt], limits: &Limits) -> Result<Volumes> {
    let mut volumes = Volumes::default();
    let mut devices = find(disks, limits, &mut volumes.findings)?;
    let mut by_vg: BTreeMap<Uuid, Vec<Copy>> = BTreeMap::new();
    for (device, held) in devices.iter_mut().enumerate() {
        for copy in copies(device, held, limits)? {
            by_vg.entry(copy.head.uuid).or_default().push(copy);
        }
    }
    let mut held: Vec<Option<Device>> = devices.into_iter().map(Some).collect();
    for copies in by_vg.into_values() {
        if let Some(vg) = assemble(copies, &mut held, &mut volumes.findings) {
            volumes.vgs.push(vg);
        }
    }
    volumes.vgs.sort_by(|a, b| (&a.name, a.uuid).cmp(&(&b.name, b.uuid)));
    for pair in volumes.vgs.windows(2) {
        if let [a, b] = pair
            && a.name == b.name
        {
            volumes.findings.push(Finding::note(format!("two volume groups are called {}", a.name)));
        }
    }
    for device in held.into_iter().flatten() {
        if device.label.in_use == Some(true) {
            let text = "says that a volume group has it, which is not here";
            volumes.findings.push(Finding::note(format!("physical volume {} {text}", device.label.uuid)));
        }
        volumes.findings.extend(device.findings);
        volumes.orphans.push(device.index);
    }
    Ok(volumes)
}

/// The devices with a label, and their metadata areas.
fn find(disks: &[&dyn ReadAt], limits: &Limits, findings: &mut Vec<Finding>) -> Result<Vec<Device>> {
    let mut devices = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, disk) in disks.iter().enumerate() {
        let label = match label::read(*disk) {
            Ok(Some(label)) => label,
            Ok(None) => continue,
            Err(crate::Error::Unreadable(why)) => {
                findings.push(Finding::damage(why));
                continue;
            }
            Err(error) => return Err(error),
        };
        if !seen.insert(label.uuid) {
            findings.push(Finding::damage(format!("two devices are physical volume {}", label.uuid)));
            continue;
        }
        let areas = label.areas.iter().map(|area| mda::read(*disk, *area, limits));
        let areas = areas.collect::<Result<_>>()?;
        devices.push(Device { index, len: disk.len(), label, areas, findings: Vec::new() });
    }
    Ok(devices)
}

/// The texts of a device. They are taken out of it.
fn copies(device: usize, held: &mut Device, limits: &Limits) -> Result<Vec<Copy>> {
    let mut copies = Vec::new();
    let who = format!("physical volume {}", held.label.uuid);
    for area in &mut held.areas {
        if area.header.precommitted.size.get() != 0 && !matches!(area.content, Content::Bad(_)) {
            let text = "a change of its volume group was interrupted before it counted";
            held.findings.push(Finding::note(format!("{who}: {text}")));
        }
        if let Content::Text(bytes) = &mut area.content {
            match parse(std::mem::take(bytes), limits)? {
                Ok((head, text)) => copies.push(Copy { device, head, text }),
                Err(why) => area.content = Content::Bad(why),
            }
        }
        if let Content::Bad(why) = &area.content {
            held.findings.push(Finding::damage(format!("{who}: the metadata area at {} {why}", area.at())));
        }
    }
    Ok(copies)
}

fn parse(bytes: Vec<u8>, limits: &Limits) -> Result<std::result::Result<(Head, Text), String>> {
    match Text::parse(bytes, limits) {
        Ok(text) => {
            let head = build::head(&text).map(|(head, _)| head);
            Ok(head.map(|head| (head, text)).map_err(|why| format!("cannot be read: {why}")))
        }
        Err(BadText::Syntax { at, what }) => {
            Ok(Err(format!("cannot be read: {what} at byte {at} of its text")))
        }
        Err(BadText::Memory(error)) => Err(error.into()),
    }
}

/// The volume group of some copies of its text, with those of the devices that belong to it.
fn assemble(mut copies: Vec<Copy>, held: &mut [Option<Device>], findings: &mut Vec<Finding>) -> Option<Vg> {
    copies.sort_by_key(|copy| std::cmp::Reverse(copy.head.seqno));
    let newest = copies.first()?.head.clone();
    let mut found = Vec::new();
    let places: BTreeSet<usize> = copies.iter().map(|copy| copy.device).collect();
    let mut texts = copies.into_iter();
    let first = texts.next()?;
    for copy in texts {
        let seqno = copy.head.seqno;
        if seqno != newest.seqno {
            found.push(Finding::note(format!(
                "volume group {}: a copy of the metadata has seqno {seqno}, the newest {}",
                newest.name, newest.seqno
            )));
        } else if copy.text.bytes() != first.text.bytes() {
            found.push(Finding::damage(format!(
                "volume group {}: two copies of the metadata with seqno {seqno} differ",
                newest.name
            )));
        }
    }
    let mut vg = match build::vg(first.text) {
        Ok(vg) => vg,
        Err(why) => {
            let text = format!("volume group {}, seqno {}: {why}", newest.name, newest.seqno);
            findings.push(Finding::damage(text));
            return None;
        }
    };
    attach(&mut vg, held);
    // Who still has a text of this volume group, and is not named in the newest.
    let strangers = places.iter().filter_map(|at| held.get(*at)?.as_ref());
    found.extend(strangers.map(|device| {
        let text = "has old metadata of it, and is no part of it any more";
        Finding::note(format!("volume group {}: physical volume {} {text}", vg.name, device.label.uuid))
    }));
    found.append(&mut vg.findings);
    found.extend(vg.missing().map(|pv| {
        Finding::note(format!(
            "volume group {}: physical volume {} ({}) is not here",
            vg.name, pv.name, pv.uuid
        ))
    }));
    for pv in &mut vg.pvs {
        found.extend(pv.device.iter_mut().flat_map(|device| device.findings.drain(..)));
    }
    found.extend(check::devices(&vg));
    vg.findings = found;
    Some(vg)
}

/// Gives a volume group the devices that it names.
fn attach(vg: &mut Vg, held: &mut [Option<Device>]) {
    let places = held.iter().enumerate().filter_map(|(at, device)| Some((device.as_ref()?.label.uuid, at)));
    let places: BTreeMap<Uuid, usize> = places.collect();
    for pv in &mut vg.pvs {
        let at = places.get(&pv.uuid);
        pv.device = at.and_then(|at| held.get_mut(*at)).and_then(Option::take);
    }
}
