//! Which volume a place means.

use crate::content::Content;
use crate::layout::{Layout, Volume, VolumeId};
use crate::{Error, Place, Result, way};
use ondisk::Len;
use ondisk::text::Printable;
use table::{PartUuid, Partition};

/// The volume that a command without a special wish means: what `place` names, else the root filesystem, else the only
/// ext filesystem.
///
/// # Errors
/// Where nothing is so named, or several could be meant.
pub fn filesystem(layout: &Layout, place: &Place) -> Result<VolumeId> {
    if *place != Place::Auto {
        return named(layout, place);
    }
    let ext: Vec<&Volume> = layout.volumes.iter().filter(|volume| volume.content == Content::Ext).collect();
    let roots: Vec<&Volume> = ext.iter().copied().filter(|volume| is_root(volume)).collect();
    match (roots.as_slice(), ext.as_slice()) {
        ([one], _) | ([], [one]) => Ok(one.id.clone()),
        ([], []) => {
            Err(Error::None { why: "there is no ext2, ext3 or ext4 filesystem on this disk".to_owned() })
        }
        ([], several) | (several, _) => Err(Error::Several { choices: list(several) }),
    }
}

/// The volume that `grow` means on a disk that will be `disk_len` bytes long: what `place` names, else the root
/// filesystem if it can grow, else the last volume that can.
///
/// # Errors
/// As [`filesystem`], and where nothing can grow.
pub fn growable(layout: &Layout, place: &Place, disk_len: Len) -> Result<VolumeId> {
    if *place != Place::Auto {
        return named(layout, place);
    }
    let mut able: Vec<&Volume> = Vec::new();
    for volume in &layout.volumes {
        // A disk that holds nothing has nobody to ask: it just becomes larger.
        let bare = volume.id == VolumeId::Whole && volume.content == Content::Empty;
        let grows = bare || matches!(volume.content, Content::Ext | Content::Foreign(_));
        if grows && has_room(layout, volume, disk_len)? {
            able.push(volume);
        }
    }
    able.sort_by_key(|volume| (is_root(volume), volume.region.start()));
    able.last().map(|volume| volume.id.clone()).ok_or_else(|| nothing_grows(layout))
}

fn named(layout: &Layout, place: &Place) -> Result<VolumeId> {
    let partition = |matches: &dyn Fn(&Partition) -> bool| {
        let partitions = layout.table.as_ref().map(table::Table::partitions).unwrap_or_default();
        partitions.iter().filter(|one| matches(one)).map(|one| VolumeId::Partition(one.number)).collect()
    };
    let volume = |matches: &dyn Fn(&Volume) -> bool| {
        layout.volumes.iter().filter(|one| matches(one)).map(|one| one.id.clone()).collect()
    };
    let found: Vec<VolumeId> = match place {
        Place::Auto => Vec::new(),
        Place::Whole => volume(&|one| one.id == VolumeId::Whole),
        Place::Partition(number) => partition(&|one| one.number == *number),
        Place::PartLabel(name) => partition(&|one| one.name == *name),
        Place::PartUuid(uuid) => partition(&|one| text_of(one.uuid).eq_ignore_ascii_case(uuid)),
        Place::Label(label) => volume(&|one| facts_match(one, |facts| facts.label == label.as_bytes())),
        Place::Uuid(uuid) => {
            volume(&|one| facts_match(one, |facts| facts.uuid.to_string().eq_ignore_ascii_case(uuid)))
        }
        Place::Volume { .. } => Vec::new(),
    };
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Error::NoPlace { wanted: shown(place), present: present(layout) }),
        several => {
            let names: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(Error::Several { choices: names.join(", ") })
        }
    }
}

/// A PARTUUID as Linux shows it.
#[must_use]
pub fn text_of(uuid: PartUuid) -> String {
    match uuid {
        PartUuid::Mbr(signature, number) => format!("{signature:08x}-{number:02x}"),
        PartUuid::Gpt(guid) => guid.to_string(),
    }
}

fn facts_match(volume: &Volume, matches: impl Fn(&crate::ExtFacts) -> bool) -> bool {
    volume.facts().is_some_and(matches)
}

fn is_root(volume: &Volume) -> bool {
    facts_match(volume, |facts| facts.guest.is_some())
}

/// Whether nothing lies between a volume and the end of the disk but what can be moved.
fn has_room(layout: &Layout, volume: &Volume, disk_len: Len) -> Result<bool> {
    match (&layout.table, &volume.id) {
        (Some(table), VolumeId::Partition(number)) => {
            let behind = table.limit(*number, disk_len)?.behind;
            Ok(behind.is_none() || way::can_be_made(layout, *number))
        }
        (None, VolumeId::Whole) => Ok(true),
        _ => Ok(false),
    }
}

fn nothing_grows(layout: &Layout) -> Error {
    let last = layout.volumes.iter().max_by_key(|volume| volume.region.start());
    let why = match last {
        None => "there is no partition on this disk".to_owned(),
        Some(Volume { id, content, .. }) => {
            format!(
                "{id} ({content}) is the last on the disk and is nothing that grows; --disk-only grows the disk alone"
            )
        }
    };
    Error::None { why }
}

fn shown(place: &Place) -> String {
    Printable(place.to_string().as_bytes()).to_string()
}

fn list(volumes: &[&Volume]) -> String {
    let names: Vec<String> = volumes.iter().map(|volume| volume.id.to_string()).collect();
    names.join(", ")
}

fn present(layout: &Layout) -> String {
    if layout.volumes.is_empty() {
        return "no volumes".to_owned();
    }
    list(&layout.volumes.iter().collect::<Vec<_>>())
}
