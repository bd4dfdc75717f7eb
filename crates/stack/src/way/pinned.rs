//! What is known by its place on the disk, and so must stay there.
//!
//! 1. Partitions that firmware or a boot sector finds by number of sector: BIOS boot, `PReP`, and whatever a boot loader
//!    reads by its place.
//! 2. Partitions that begin with a loader of their own.
//! 3. Volumes that somebody else's table names by sector: dynamic disks, BSD's slices; Windows knows its volumes on an
//!    MBR disk by their first byte.

use super::layout::{BOOT_SIGNATURE, BootSector};
use crate::content::{Content, Foreign};
use crate::grow::BootNeeds;
use crate::layout::{Layout, VolumeId};
use crate::{Error, Result};
use disk::{ReadAt, read_record};
use ondisk::Len;
use table::{Growth, Kind, Partition, Table, Type};

/// Types that other tables or firmware know by place: bytes of an MBR slot, GUIDs of a GPT entry.
const MBR_TYPES: [(u8, &str); 6] = [
    (0x41, "PowerPC firmware finds the loader in it by its place"),
    (0x42, "it belongs to a dynamic disk, whose database names it by its place"),
    (0xa5, BSD),
    (0xa6, BSD),
    (0xa9, BSD),
    (0xbf, BSD),
];
const BSD: &str = "a disk label inside of it counts from the start of the disk";
const GPT_TYPES: [(&str, &str); 4] = [
    ("21686148-6449-6e6f-744e-656564454649", "a boot sector finds GRUB in it by its place"),
    ("9e1a2d38-c612-4316-aa26-8b49521e5a8b", "PowerPC firmware finds the loader in it by its place"),
    (
        "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3",
        "it belongs to a dynamic disk, whose database names it by its place",
    ),
    (
        "af9b60a0-1431-4f62-bc68-3311714a69ad",
        "it belongs to a dynamic disk, whose database names it by its place",
    ),
];

/// Refuses to move what is known by its place.
pub(super) fn refuse(
    disk: &dyn ReadAt,
    layout: &Layout,
    table: &Table,
    moved: &[Growth],
    boot: &BootNeeds,
) -> Result<()> {
    for one in moved {
        let Some(volume) = layout.volume(&VolumeId::Partition(one.number)) else { continue };
        let why = by_type(table.partition(one.number)?)
            .or_else(|| by_content(table, volume.content))
            .or_else(|| by_loader(layout, &volume.id, boot));
        let why = match why {
            None => by_boot_code(disk, one, volume.content)?,
            why => why,
        };
        if let Some(why) = why {
            return Err(Error::Refused {
                volume: volume.id.clone(),
                why: format!("cannot move: {why}"),
                help: Some("grow the disk alone with --disk-only, or another partition with -p".to_owned()),
            });
        }
    }
    Ok(())
}

/// Something in a partition, or in a logical volume on it.
fn by_loader(layout: &Layout, id: &VolumeId, boot: &BootNeeds) -> Option<&'static str> {
    let lies_there = |of: &VolumeId| layout.carriers(of).iter().any(|carrier| carrier.id == *id);
    let pinned = boot.pinned.iter().any(|(of, _)| lies_there(of));
    pinned.then_some("a boot loader reads it by its place on the disk")
}

fn by_type(part: &Partition) -> Option<&'static str> {
    match part.kind {
        Type::Mbr(byte) => MBR_TYPES.iter().find(|(known, _)| *known == byte).map(|(_, why)| *why),
        Type::Gpt(guid) => {
            let text = guid.to_string();
            GPT_TYPES.iter().find(|(known, _)| *known == text).map(|(_, why)| *why)
        }
    }
}

fn by_content(table: &Table, content: Content) -> Option<&'static str> {
    let ntfs = content == Content::Foreign(Foreign::Ntfs);
    (ntfs && table.kind() == Kind::Mbr).then_some("Windows knows a volume of an MBR disk by its first byte")
}

/// A loader's code in front of a filesystem that keeps none itself. Boot sectors of FAT, NTFS and exFAT have code from
/// the start; they are told their new place.
fn by_boot_code(disk: &dyn ReadAt, one: &Growth, content: Content) -> Result<Option<&'static str>> {
    if one.before.len() < Len::new(512) {
        return Ok(None);
    }
    let sector: BootSector = read_record(disk, one.before.start())?;
    let signed = sector.signature.get() == BOOT_SIGNATURE;
    let pins = match content {
        Content::Ext | Content::Unknown | Content::Foreign(Foreign::Btrfs | Foreign::F2fs) => signed,
        _ => false,
    };
    Ok(pins.then_some("it begins with a boot loader, which may know the sectors of its files"))
}
