//! What lies on a virtual disk: the table, and the volumes with their content.
//!
//! 1. One walk, read-only, bounded; it follows no name and opens nothing.
//! 2. A volume whose content is damaged is listed with its error: the picture of a disk is most wanted when it is not
//!    well.
//! 3. Filesystems that were not unmounted are looked at as they will be after their journal is replayed, in memory.

use crate::content::{Content, hashes_behind, recognise};
use crate::guest::{self, Guest};
use crate::ident::{Ident, identify};
use crate::{Error, Groups, Region, Result};
use disk::{Cx, Overlay, ReadAt};
use extfs::Ext;
use ondisk::guid::Uuid;
use ondisk::{Len, Span};
use std::fmt;
use table::{Partition, Role, Table};

/// How a volume is named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VolumeId {
    /// The disk as it is, without a table.
    Whole,
    /// The partition of that number.
    Partition(u32),
    /// A logical volume.
    Logical {
        /// Its volume group.
        vg: String,
        /// Its own name.
        lv: String,
    },
}

impl VolumeId {
    /// Whether it is a logical volume.
    #[must_use]
    pub const fn is_logical(&self) -> bool {
        matches!(self, Self::Logical { .. })
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("whole disk"),
            Self::Partition(number) => write!(f, "partition {number}"),
            Self::Logical { vg, lv } => write!(f, "{vg}/{lv}"),
        }
    }
}

/// A part of the disk that holds something.
#[derive(Debug)]
pub struct Volume {
    /// Its name.
    pub id: VolumeId,
    /// Where its bytes lie.
    pub region: Region,
    /// What it holds.
    pub content: Content,
    /// What it calls itself, where it is no ext filesystem.
    pub ident: Ident,
    /// What is known of its ext filesystem, if it has one.
    pub ext: Option<Result<ExtFacts>>,
}

impl Volume {
    /// What is known of its ext filesystem, where it has one that can be read.
    #[must_use]
    pub fn facts(&self) -> Option<&ExtFacts> {
        self.ext.as_ref()?.as_ref().ok()
    }
}

/// What one wants to know of an ext filesystem at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtFacts {
    /// `ext2`, `ext3` or `ext4`, by its features as `blkid` tells them.
    pub version: &'static str,
    /// Its label; bytes of the image.
    pub label: Vec<u8>,
    /// Its UUID.
    pub uuid: Uuid,
    /// The size of a block.
    pub block_size: Len,
    /// The size of the filesystem.
    pub size: Len,
    /// What is free, reserved blocks included.
    pub free: Len,
    /// Inodes in all, and free ones.
    pub inodes: (u32, u32),
    /// The names of its features.
    pub features: Vec<&'static str>,
    /// Whether it was not unmounted: its journal waits to be replayed.
    pub needs_recovery: bool,
    /// Whether files wait to be deleted or cut.
    pub has_orphans: bool,
    /// Whether the kernel has seen damage in it.
    pub has_errors: bool,
    /// Whether the hashes of dm-verity lie behind it in its volume.
    pub is_sealed: bool,
    /// What the guest is, where this is its root.
    pub guest: Option<Guest>,
}

/// What lies on a disk.
#[derive(Debug)]
pub struct Layout {
    /// The partition table.
    pub table: Option<Table>,
    /// The partitions in the order of their numbers (the extended partition is none), or the whole disk; behind them
    /// the logical volumes whose bytes can be told.
    pub volumes: Vec<Volume>,
    /// The volume groups.
    pub groups: Groups,
}

impl Layout {
    /// The volume of that name.
    #[must_use]
    pub fn volume(&self, id: &VolumeId) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.id == *id)
    }

    /// What holds a volume's bytes: itself, or the partitions (or the whole disk) with its physical volumes.
    #[must_use]
    pub fn carriers(&self, id: &VolumeId) -> Vec<&Volume> {
        let VolumeId::Logical { vg, .. } = id else { return self.volume(id).into_iter().collect() };
        let pvs = self.groups.named(vg).map(lvm2::Vg::pvs).unwrap_or_default();
        pvs.iter().filter_map(|pv| self.volume(self.groups.carrier(pv)?)).collect()
    }

    /// The table's entry of a volume.
    #[must_use]
    pub fn partition(&self, id: &VolumeId) -> Option<&Partition> {
        let VolumeId::Partition(number) = id else { return None };
        self.table.as_ref()?.partition(*number).ok()
    }
}

/// Looks at a disk.
///
/// # Errors
/// Where the disk cannot be read. Damage in a volume is part of the picture, not an error.
pub fn discover(disk: &dyn ReadAt, cx: &Cx<'_>) -> Result<Layout> {
    let table = table::read(disk, &cx.limits)?;
    let whole = Span::whole(disk.len());
    let places: Vec<(VolumeId, Span)> = match &table {
        None => vec![(VolumeId::Whole, whole)],
        Some(table) => table
            .partitions()
            .iter()
            .filter(|partition| partition.role != Role::Extended)
            .filter_map(|p| Some((VolumeId::Partition(p.number), p.span.intersect(whole)?)))
            .collect(),
    };
    let volumes = places.into_iter().map(|(id, span)| look(disk, id, Region::Span(span), cx));
    let mut volumes: Vec<Volume> = volumes.collect::<Result<_>>()?;
    let groups = Groups::read(disk, physical(&volumes), cx)?;
    volumes.extend(logical(disk, &groups, cx)?);
    Ok(Layout { table, volumes, groups })
}

/// The physical volumes.
fn physical(volumes: &[Volume]) -> Vec<(VolumeId, Span)> {
    let span = |volume: &Volume| match volume.region {
        Region::Span(span) if volume.content == Content::LvmPv => Some((volume.id.clone(), span)),
        _ => None,
    };
    volumes.iter().filter_map(span).collect()
}

/// The logical volumes that people see, and whose bytes can be told.
fn logical(disk: &dyn ReadAt, groups: &Groups, cx: &Cx<'_>) -> Result<Vec<Volume>> {
    let mut volumes = Vec::new();
    for vg in groups.all().iter().filter(|vg| groups.named(vg.name()).is_some()) {
        for lv in vg.lvs().iter().filter(|lv| lv.is_visible()) {
            let Ok(region) = groups.region(vg, lv) else { continue };
            let id = VolumeId::Logical { vg: vg.name().to_owned(), lv: lv.name().to_owned() };
            volumes.push(look(disk, id, region, cx)?);
        }
    }
    Ok(volumes)
}

fn look(disk: &dyn ReadAt, id: VolumeId, region: Region, cx: &Cx<'_>) -> Result<Volume> {
    let view = region.reader(disk)?;
    let content = recognise(&*view)?;
    let ext = (content == Content::Ext).then(|| ext_facts(&*view, &id, cx));
    let ident = identify(&*view, content)?;
    Ok(Volume { id, region, content, ident, ext })
}

fn ext_facts(volume: &dyn ReadAt, id: &VolumeId, cx: &Cx<'_>) -> Result<ExtFacts> {
    let as_stored = Ext::open(volume, &cx.limits).map_err(Error::ext(id))?;
    let mut overlay = Overlay::new(volume, &cx.limits);
    // A journal that cannot be replayed leaves the picture as it is stored; `check` tells what is wrong with it.
    let replayed = extfs::recovered(&mut overlay, cx).is_ok();
    let view: &dyn ReadAt = if replayed { &overlay } else { volume };
    let fs = Ext::open(view, &cx.limits).map_err(Error::ext(id))?;
    let mut facts = facts_of(&fs, id)?;
    facts.needs_recovery = as_stored.needs_recovery();
    facts.has_orphans = as_stored.has_orphans();
    facts.has_errors = as_stored.sb().has_errors();
    facts.is_sealed = hashes_behind(volume, facts.size)?;
    Ok(facts)
}

fn facts_of<D: ReadAt>(fs: &Ext<D>, id: &VolumeId) -> Result<ExtFacts> {
    let sb = fs.sb();
    let block = fs.geom().block_size;
    let free = fs.free_blocks().map_err(Error::ext(id))?;
    Ok(ExtFacts {
        version: sb.version(),
        label: sb.label().to_vec(),
        uuid: sb.uuid(),
        block_size: Len::new(block.bytes()),
        size: block.len_of(fs.geom().blocks).unwrap_or_default(),
        free: block.len_of(free).unwrap_or_default(),
        inodes: (fs.geom().inodes(), sb.free_inodes()),
        features: sb.feature_names(),
        needs_recovery: false,
        has_orphans: false,
        has_errors: false,
        is_sealed: false,
        guest: guest::recognise(fs),
    })
}
