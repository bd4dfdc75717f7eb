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
/// filesystem if it can grow, else the last volume that can, where with `moving` anything that lies behind may move.
/// Partitions come before logical volumes only by their place.
///
/// # Errors
/// As [`filesystem`], and where nothing can grow.
pub fn growable(layout: &Layout, place: &Place, disk_len: Len, moving: bool) -> Result<VolumeId> {
    if *place != Place::Auto {
        return named(layout, place);
    }
    let mut able: Vec<&Volume> = Vec::new();
    for volume in &layout.volumes {
        // A disk that holds nothing has nobody to ask: it just becomes larger.
        let bare = volume.id == VolumeId::Whole && volume.content == Content::Empty;
        let grows = bare || matches!(volume.content, Content::Ext | Content::Foreign(_));
        if grows && !room(layout, &volume.id, disk_len, moving)?.is_empty() {
            able.push(volume);
        }
    }
    // A stable order: the logical volumes of a group follow each other as its metadata have them.
    able.sort_by_key(|volume| {
        (is_root(volume), layout.carriers(&volume.id).iter().map(|one| one.region.start()).max())
    });
    able.last().map(|volume| volume.id.clone()).ok_or_else(|| nothing_grows(layout))
}

/// The volume that a place names; `Auto` names none.
///
/// # Errors
/// Where nothing is so named, or several are.
pub fn named(layout: &Layout, place: &Place) -> Result<VolumeId> {
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
        Place::Label(label) => volume(&|one| {
            one.ident.label.as_deref() == Some(label.as_bytes())
                || facts_match(one, |facts| facts.label == label.as_bytes())
        }),
        Place::Uuid(uuid) => volume(&|one| {
            one.ident.uuid.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(uuid))
                || facts_match(one, |facts| facts.uuid.to_string().eq_ignore_ascii_case(uuid))
        }),
        Place::Volume { vg, lv } => {
            let found =
                volume(&|one| matches!(&one.id, VolumeId::Logical { vg: v, lv: l } if v == vg && l == lv));
            if found.is_empty() {
                tell_why_not_mapped(layout, vg, lv)?;
            }
            found
        }
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

/// What holds a volume and could become longer: nothing lies between it and the end of a disk of `disk_len` bytes but
/// what can be moved; with `moving` that is anything.
pub(crate) fn room<'l>(
    layout: &'l Layout,
    id: &VolumeId,
    disk_len: Len,
    moving: bool,
) -> Result<Vec<&'l Volume>> {
    let mut able = Vec::new();
    for carrier in layout.carriers(id) {
        let has_room = match (&layout.table, &carrier.id) {
            (Some(table), VolumeId::Partition(number)) => {
                let behind = table.limit(*number, disk_len)?.behind;
                behind.is_none() || way::can_be_made(layout, *number, moving)
            }
            (None, VolumeId::Whole) => true,
            _ => false,
        };
        if has_room {
            able.push(carrier);
        }
    }
    Ok(able)
}

/// A logical volume that is there but is none of the volumes: the reason.
fn tell_why_not_mapped(layout: &Layout, vg: &str, lv: &str) -> Result<()> {
    let Some(group) = layout.groups.named(vg) else {
        return damaged_group(layout).map_or(Ok(()), Err);
    };
    match group.lvs().iter().find(|one| one.name() == lv) {
        Some(lv) => layout.groups.region(group, lv).map(drop),
        None => Ok(()),
    }
}

fn nothing_grows(layout: &Layout) -> Error {
    if let Some(damaged) = damaged_group(layout) {
        return damaged;
    }
    let last = layout.volumes.iter().max_by_key(|volume| volume.region.start());
    let why = match last {
        None => "there is no partition on this disk".to_owned(),
        Some(Volume { content: Content::LvmPv, id, .. }) => {
            format!("no logical volume on {id} takes the space; -p grows the physical volume in it alone")
        }
        Some(Volume { id: id @ VolumeId::Logical { .. }, content, .. }) => format!(
            "no logical volume holds a filesystem (the last, {id}, is {content}); name with -p what shall grow"
        ),
        Some(Volume { id, content, .. }) => {
            format!(
                "{id} ({content}) is the last on the disk and is nothing that grows; --disk-only grows the disk alone"
            )
        }
    };
    Error::None { why }
}

/// The first damage of a volume group, which may be why something is not found.
fn damaged_group(layout: &Layout) -> Option<Error> {
    let count = layout.groups.findings().filter(|one| one.is_damage()).count();
    let first = layout.groups.findings().find(|one| one.is_damage())?;
    Some(Error::Damaged { what: first.text.clone(), count: u64::try_from(count).unwrap_or(u64::MAX) })
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
