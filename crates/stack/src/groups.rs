//! The volume groups of a disk.
//!
//! ```text
//! partition ─ physical volume ─ volume group ─ logical volume ─ filesystem
//! ```

use crate::layout::VolumeId;
use crate::{Error, Region, Result};
use disk::{Cx, ReadAt, Stripes};
use lvm2::{Lv, Vg, Volumes};
use ondisk::{Len, Span};

/// The volume groups of a disk, and where their physical volumes lie.
#[derive(Debug, Default)]
pub struct Groups {
    volumes: Volumes,
    /// The partitions, or the whole disk, that hold physical volumes: the disks of `lvm2`, in its order.
    carriers: Vec<(VolumeId, Span)>,
}

impl Groups {
    /// Reads the volume groups of the physical volumes in `carriers`.
    ///
    /// # Errors
    /// Where the disk cannot be read.
    pub(crate) fn read(disk: &dyn ReadAt, carriers: Vec<(VolumeId, Span)>, cx: &Cx<'_>) -> Result<Self> {
        let views = carriers.iter().map(|(_, span)| Region::Span(*span).reader(disk));
        let views: Vec<Box<dyn ReadAt + '_>> = views.collect::<disk::Result<_>>()?;
        let disks: Vec<&dyn ReadAt> = views.iter().map(|view| &**view).collect();
        let volumes = lvm2::read(&disks, &cx.limits)?;
        Ok(Self { volumes, carriers })
    }

    /// The volume groups.
    #[must_use]
    pub fn all(&self) -> &[Vg] {
        &self.volumes.vgs
    }

    /// Everything wrong or strange about them.
    pub fn findings(&self) -> impl Iterator<Item = &lvm2::Finding> {
        self.volumes.findings.iter().chain(self.volumes.vgs.iter().flat_map(Vg::findings))
    }

    /// The volume group of that name; of several, none.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Vg> {
        let mut found = self.all().iter().filter(|vg| vg.name() == name);
        found.next().filter(|_| found.next().is_none())
    }

    /// What holds the physical volume at that place of a volume group's; `None` where it is missing.
    #[must_use]
    pub fn carrier(&self, pv: &lvm2::Pv) -> Option<&VolumeId> {
        self.carriers.get(pv.disk()?).map(|(id, _)| id)
    }

    /// What holds the physical volume that `lvm2` knows by that place among its disks.
    pub(crate) fn place(&self, index: usize) -> Option<(&VolumeId, Span)> {
        self.carriers.get(index).map(|(id, span)| (id, *span))
    }

    /// The volume group that has the physical volume in a partition, and its place there.
    #[must_use]
    pub fn on(&self, carrier: &VolumeId) -> Option<(&Vg, usize)> {
        self.all().iter().find_map(|vg| {
            let at = vg.pvs().iter().position(|pv| self.carrier(pv) == Some(carrier))?;
            Some((vg, at))
        })
    }

    /// Where the bytes of a logical volume lie on the disk.
    ///
    /// # Errors
    /// Where it is of a kind whose bytes cannot be told, or lies on physical volumes that are not here.
    pub fn region(&self, vg: &Vg, lv: &Lv) -> Result<Region> {
        self.region_with(vg, lv, None)
    }

    /// As [`Self::region`], where one of the carriers has got another span.
    pub(crate) fn region_with(&self, vg: &Vg, lv: &Lv, moved: Option<(&VolumeId, Span)>) -> Result<Region> {
        let outside = || Error::Result { what: format!("extents of {} lie outside the disk", lv.name()) };
        let place = |(disk, span): &(usize, Span)| {
            let (id, old) = self.carriers.get(*disk)?;
            let carrier = moved.filter(|(moved, _)| *moved == id).map_or(*old, |(_, new)| new);
            span.shifted(Len::new(carrier.start().get()))
        };
        let parts = vg.map(lv)?.into_iter().map(|part| {
            let spans = part.spans.iter().map(|span| place(span).ok_or_else(outside));
            Ok(Stripes { stripe: part.stripe, spans: spans.collect::<Result<_>>()? })
        });
        Ok(Region::Logical { parts: parts.collect::<Result<_>>()?, len: vg.len_of(lv) })
    }
}
