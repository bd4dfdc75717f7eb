//! The disk as a boot loader finds its way on it.

use disk::{Cx, ReadAt};
use lvm2::{Lv, Vg};
use stack::view::Filesystem;
use stack::{Content, Layout, Place, Volume, VolumeId, select, view};

/// A disk with all that can be named on it.
pub(crate) struct World<'a> {
    pub disk: &'a dyn ReadAt,
    pub layout: &'a Layout,
    pub cx: &'a Cx<'a>,
}

/// The first disk of its kind: names of others name other disks.
const FIRST_DISKS: [&str; 6] = ["sda", "vda", "xvda", "hda", "nvme0n1", "mmcblk0"];

impl<'a> World<'a> {
    /// A volume that may hold filesystems which are not seen here.
    pub fn hidden(&self) -> Option<&'a Volume> {
        let hides = |volume: &&Volume| match volume.content {
            Content::Member(_) => true,
            Content::LvmPv => self.layout.groups.on(&volume.id).is_none_or(|(vg, _)| {
                vg.lvs().iter().any(|lv| lv.is_visible() && self.layout.volume(&id_of(vg, lv)).is_none())
            }),
            Content::Ext => volume.facts().is_none(),
            Content::Foreign(_) => volume.ident.uuid.is_none(),
            Content::Swap { .. } | Content::Empty | Content::Unknown => false,
        };
        self.layout.volumes.iter().find(hides)
    }

    /// What a specification as in fstab or behind `resume=` means on this disk.
    pub fn place(&self, spec: &str) -> Option<VolumeId> {
        let place = spec.parse::<Place>().ok()?;
        if let Place::Volume { vg, lv } = &place {
            return self.logical(|group, volume| group.name() == vg && volume.name() == lv);
        }
        if matches!(place, Place::Partition(_) | Place::Whole) {
            let name = spec.strip_prefix("/dev/")?;
            FIRST_DISKS.iter().any(|disk| name.starts_with(disk)).then_some(())?;
        }
        select::named(self.layout, &place).ok()
    }

    /// A logical volume, whether its bytes can be told or not.
    pub fn logical(&self, is: impl Fn(&Vg, &Lv) -> bool) -> Option<VolumeId> {
        let all = self.layout.groups.all().iter().flat_map(|vg| vg.lvs().iter().map(move |lv| (vg, lv)));
        let found = all.into_iter().find(|(vg, lv)| is(vg, lv));
        found.map(|(vg, lv)| id_of(vg, lv))
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

fn id_of(vg: &Vg, lv: &Lv) -> VolumeId {
    VolumeId::Logical { vg: vg.name().to_owned(), lv: lv.name().to_owned() }
}
