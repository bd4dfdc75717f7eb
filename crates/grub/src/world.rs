//! The disk as a boot loader finds its way on it.

use crate::ident::{self, Ident};
use disk::{Cx, ReadAt};
use lvm2::{Lv, Vg};
use stack::view::Filesystem;
use stack::{Content, Layout, Place, Volume, VolumeId, select, view};

/// A disk with all that can be named on it.
pub(crate) struct World<'a> {
    pub disk: &'a dyn ReadAt,
    pub layout: &'a Layout,
    pub cx: &'a Cx<'a>,
    idents: Vec<Ident>,
}

/// The first disk of its kind: names of others name other disks.
const FIRST_DISKS: [&str; 6] = ["sda", "vda", "xvda", "hda", "nvme0n1", "mmcblk0"];

impl<'a> World<'a> {
    pub fn new(disk: &'a dyn ReadAt, layout: &'a Layout, cx: &'a Cx<'a>) -> Self {
        let idents = layout.volumes.iter().map(|volume| ident::of(disk, volume)).collect();
        Self { disk, layout, cx, idents }
    }

    /// The volumes whose identity is as wanted.
    fn identified(&self, is: impl Fn(&Ident) -> bool) -> Option<&'a Volume> {
        let both = self.layout.volumes.iter().zip(&self.idents);
        both.into_iter().find(|(_, ident)| is(ident)).map(|(volume, _)| volume)
    }

    /// The volume with that UUID.
    pub fn by_uuid(&self, uuid: &str) -> Option<&'a Volume> {
        self.identified(|ident| ident.uuid.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(uuid)))
    }

    /// The volume with that label.
    pub fn by_label(&self, label: &str) -> Option<&'a Volume> {
        self.identified(|ident| !label.is_empty() && ident.label == label.as_bytes())
    }

    /// A volume that may hold filesystems which are not seen here.
    pub fn hidden(&self) -> Option<&'a Volume> {
        let both = self.layout.volumes.iter().zip(&self.idents);
        let hides = |volume: &Volume, ident: &Ident| match volume.content {
            Content::Member(_) => true,
            Content::LvmPv => self.layout.groups.on(&volume.id).is_none(),
            Content::Ext | Content::Foreign(_) => ident.uuid.is_none(),
            Content::Swap { .. } | Content::Empty | Content::Unknown => false,
        };
        both.into_iter().find(|(volume, ident)| hides(volume, ident)).map(|(volume, _)| volume)
    }

    /// What a specification as in fstab or behind `resume=` means on this disk.
    pub fn place(&self, spec: &str) -> Option<VolumeId> {
        let partitions = self.layout.table.as_ref().map(table::Table::partitions).unwrap_or_default();
        let numbered = |is: &dyn Fn(&table::Partition) -> bool| {
            partitions.iter().find(|one| is(one)).map(|one| VolumeId::Partition(one.number))
        };
        match spec.parse::<Place>().ok()? {
            Place::Partition(number) => {
                let name = spec.strip_prefix("/dev/")?;
                FIRST_DISKS.iter().any(|disk| name.starts_with(disk)).then_some(())?;
                numbered(&|one| one.number == number)
            }
            Place::Uuid(uuid) => self.by_uuid(&uuid).map(|volume| volume.id.clone()),
            Place::Label(label) => self.by_label(&label).map(|volume| volume.id.clone()),
            Place::PartLabel(name) => numbered(&|one| one.name == name),
            Place::PartUuid(uuid) => numbered(&|one| select::text_of(one.uuid).eq_ignore_ascii_case(&uuid)),
            Place::Volume { vg, lv } => {
                self.logical(|group, volume| group.name() == vg && volume.name() == lv)
            }
            Place::Auto | Place::Whole => None,
        }
    }

    /// A logical volume, whether its bytes can be told or not.
    pub fn logical(&self, is: impl Fn(&Vg, &Lv) -> bool) -> Option<VolumeId> {
        let all = self.layout.groups.all().iter().flat_map(|vg| vg.lvs().iter().map(move |lv| (vg, lv)));
        let found = all.into_iter().find(|(vg, lv)| is(vg, lv));
        found.map(|(vg, lv)| VolumeId::Logical { vg: vg.name().to_owned(), lv: lv.name().to_owned() })
    }

    /// Lets `look` see the filesystem of a volume; `None` where it cannot be read.
    pub fn with<T>(&self, volume: &Volume, look: impl FnOnce(&Filesystem<'_>) -> T) -> Option<T> {
        if volume.content != Content::Ext {
            return None;
        }
        view::with_filesystem(self.disk, volume, self.cx, look).ok()
    }

    /// Whether a path leads to something in the filesystem of a volume; `None` where that cannot be told.
    pub fn has(&self, volume: &Volume, path: &[u8]) -> Option<bool> {
        self.with(volume, |fs| match fs.resolve(path) {
            Ok(_) => Some(true),
            Err(extfs::Error::NotFound { .. }) => Some(false),
            Err(_) => None,
        })?
    }
}
