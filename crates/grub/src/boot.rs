//! Everything on a disk that could start it.

use crate::core::{self, Core};
use crate::legacy::{self, Stages};
use crate::list::{self, Form, read_sector};
use crate::resolve::{self, Resolution};
use crate::sector::{self, Chain, Code};
use crate::startup::{self, Startup};
use crate::world::World;
use crate::{Error, Result};
use disk::{Cx, ReadAt};
use ondisk::{Lba, Len, Offset, Span};
use stack::grow::{BootNeeds, Depth};
use stack::{Content, Layout, Region, Volume, VolumeId};
use table::Kind;

/// What could start a disk, and what its guests do then.
#[derive(Debug)]
pub struct Boot {
    /// Boot sectors with code, that of the disk first.
    pub sectors: Vec<BootSector>,
    /// The partitions that firmware without a BIOS starts from.
    pub system_partitions: Vec<u32>,
    /// What guests do when they start.
    pub startup: Startup,
}

/// A boot sector with code.
#[derive(Debug)]
pub struct BootSector {
    /// The partition that it is the first sector of; `None` for the first of the disk.
    pub partition: Option<u32>,
    /// Whose code it is.
    pub loader: Loader,
}

/// Whose code a boot sector holds.
#[derive(Debug)]
pub enum Loader {
    /// GRUB 2.
    Grub2(Box<Grub2>),
    /// GRUB 0.9x.
    GrubLegacy(Box<GrubLegacy>),
    /// LILO, which knows each sector of each file that it loads.
    Lilo,
    /// EXTLINUX or SYSLINUX, which loads its second part sector by sector.
    Syslinux(Syslinux),
    /// Code that starts the boot sector of a partition.
    Chain(Chain),
    /// Code of somebody else.
    Unknown,
}

/// GRUB 2, started by a BIOS.
#[derive(Debug)]
pub struct Grub2 {
    /// The first sector of its core.
    pub at: Lba,
    /// What its core lies in.
    pub place: CorePlace,
    /// All sectors of its core, as the lists have them.
    pub spans: Vec<Span>,
    /// What its core holds, and whether it would find what it looks for.
    pub core: Result<(Core, Resolution)>,
}

/// What a core lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorePlace {
    /// Between the partition table and the first partition.
    Gap,
    /// A partition made for it.
    BiosBoot(u32),
    /// The blocks of a file.
    Volume(VolumeId),
    /// Space that nobody owns, or another disk.
    Elsewhere,
}

/// GRUB 0.9x.
#[derive(Debug)]
pub struct GrubLegacy {
    /// All sectors of what its boot sector loads, as the lists have them.
    pub spans: Vec<Span>,
    /// What is loaded, and whether it would find what it looks for.
    pub stages: Result<(Stages, Resolution)>,
}

/// EXTLINUX or SYSLINUX in a partition.
#[derive(Debug)]
pub struct Syslinux {
    /// The volume that it is in.
    pub volume: VolumeId,
    /// The path of its second part, and where that lies in the volume; `None` where it cannot be found.
    pub file: Option<(&'static str, Vec<Span>)>,
}

/// 2^32 sectors of 512 bytes.
const COUNTED_WITH_32_BITS: Offset = Offset::new(2 << 40);
/// No disk has more boot sectors with code; what a list names costs time.
const SECTORS_MAX: usize = 16;
/// Where installers of EXTLINUX put its second part.
const LDLINUX: [&str; 6] = [
    "/boot/extlinux/ldlinux.sys",
    "/extlinux/ldlinux.sys",
    "/boot/syslinux/ldlinux.sys",
    "/syslinux/ldlinux.sys",
    "/boot/ldlinux.sys",
    "/ldlinux.sys",
];
/// Partitions for GRUB's core, and for firmware, as GPT and MBR name them.
const BIOS_BOOT: &str = "21686148-6449-6e6f-744e-656564454649";
const SYSTEM: [&str; 2] = ["c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "ef"];

/// Looks for everything that could start a disk.
///
/// # Errors
/// Where boot sectors cannot be read. A boot loader that is damaged is a part of the picture.
pub fn look(disk: &dyn ReadAt, layout: &Layout, cx: &Cx<'_>) -> Result<Boot> {
    let world = World { disk, layout, cx };
    let partitions = layout.table.as_ref().map(table::Table::partitions).unwrap_or_default();
    let places = partitions.iter().map(|one| (Some(one.number), one.span.start()));
    let mut sectors = Vec::new();
    for (partition, at) in [(None, Offset::ZERO)].into_iter().chain(places) {
        let span = Span::new(at, Len::new(512)).filter(|span| Span::whole(disk.len()).contains(*span));
        let Some(span) = span.filter(|_| sectors.len() < SECTORS_MAX) else { continue };
        let loader = match sector::recognise(&read_sector(disk, span.start())?) {
            Code::Empty => continue,
            // What begins a partition is more often data than code.
            Code::Unknown if partition.is_some() || layout.table.is_none() => continue,
            code => loader(&world, partition, code)?,
        };
        sectors.push(BootSector { partition, loader });
    }
    let is_system = |kind: String| SYSTEM.iter().any(|system| kind.eq_ignore_ascii_case(system));
    let system = partitions.iter().filter(|one| is_system(one.kind.to_string()));
    let system_partitions = system.map(|one| one.number).collect();
    Ok(Boot { sectors, system_partitions, startup: startup::look(&world) })
}

fn loader(world: &World<'_>, partition: Option<u32>, code: Code) -> Result<Loader> {
    Ok(match code {
        Code::Grub2(record) => {
            let at = Lba(record.kernel_sector.get());
            Loader::Grub2(Box::new(grub2(world, at, record.boot_drive)?))
        }
        Code::GrubLegacy(stage1) => {
            let (spans, stages) = match legacy::read(world.disk, &stage1, &world.cx.limits) {
                Ok((stages, loaded)) => {
                    let resolution = resolve::legacy(world, &stages);
                    (loaded.spans(), Ok((stages, resolution)))
                }
                Err(error) => (Vec::new(), Err(keep(error)?)),
            };
            Loader::GrubLegacy(Box::new(GrubLegacy { spans, stages }))
        }
        Code::Lilo => Loader::Lilo,
        Code::Syslinux => Loader::Syslinux(syslinux(world, partition)),
        Code::Chain(chain) => Loader::Chain(chain),
        Code::Empty | Code::Unknown => Loader::Unknown,
    })
}

fn grub2(world: &World<'_>, at: Lba, drive: u8) -> Result<Grub2> {
    if drive != 0xff && drive != 0x80 {
        let error = Error::OtherDrive { part: "the core", drive };
        return Ok(Grub2 { at, place: CorePlace::Elsewhere, spans: Vec::new(), core: Err(error) });
    }
    let place = place(world, at);
    let (spans, core) = match list::load(world.disk, "the core", at, Form::Grub2, &world.cx.limits) {
        Ok(loaded) => (loaded.spans(), core::parse(at, &loaded)),
        Err(error) => (Vec::new(), Err(keep(error)?)),
    };
    let core = core.map(|core| {
        let resolution = resolve::grub2(world, &core);
        (core, resolution)
    });
    Ok(Grub2 { at, place, spans, core })
}

/// What is wrong with a loader belongs to the picture; what is wrong with reading does not.
fn keep(error: Error) -> Result<Error> {
    match error {
        Error::Disk(_) => Err(error),
        other => Ok(other),
    }
}

/// What owns a sector.
fn place(world: &World<'_>, at: Lba) -> CorePlace {
    let Some(sector) = list::sector_span(at, 1, world.disk) else { return CorePlace::Elsewhere };
    let Some(table) = &world.layout.table else { return CorePlace::Volume(VolumeId::Whole) };
    let owner = world.layout.volumes.iter().find(|volume| owned(volume, sector).is_some());
    match owner {
        Some(volume) => match world.layout.partition(&volume.id) {
            Some(one) if one.kind.to_string().eq_ignore_ascii_case(BIOS_BOOT) => {
                CorePlace::BiosBoot(one.number)
            }
            _ => CorePlace::Volume(volume.id.clone()),
        },
        None => {
            let first = table.partitions().iter().map(|one| one.span.start()).min();
            let in_gap = table.kind() == Kind::Mbr && first.is_none_or(|first| sector.end() <= first);
            if in_gap { CorePlace::Gap } else { CorePlace::Elsewhere }
        }
    }
}

/// The part of a span of the disk that a volume owns, as the volume counts.
fn owned(volume: &Volume, span: Span) -> Option<Span> {
    match &volume.region {
        Region::Span(own) => own.intersect(span)?.relative_to(own.start()),
        // No BIOS reads one, and no installer lists the sectors of one.
        Region::Logical { .. } => None,
    }
}

fn syslinux(world: &World<'_>, partition: Option<u32>) -> Syslinux {
    let id = partition.map_or(VolumeId::Whole, VolumeId::Partition);
    let volume = world.layout.volume(&id);
    let file = volume.and_then(|volume| {
        world.with(volume, |fs| {
            LDLINUX.iter().find_map(|path| {
                let inode = fs.resolve(path.as_bytes()).ok()?;
                let size = fs.geom().block_size;
                let runs = fs.map(&inode).ok()?;
                let spans = runs.map(|run| run.ok().and_then(|run| size.span_of(run.start, run.count)));
                Some((*path, spans.collect::<Option<Vec<Span>>>()?))
            })
        })
    });
    Syslinux { volume: id, file: file.flatten() }
}

impl Boot {
    /// What boot loaders read by its place: by volume, as the volume counts.
    fn pinned(&self, layout: &Layout) -> Vec<(VolumeId, Span)> {
        let mut pinned = Vec::new();
        for sector in &self.sectors {
            match &sector.loader {
                Loader::Grub2(grub) => pinned.extend(inside(layout, &grub.spans)),
                Loader::GrubLegacy(grub) => pinned.extend(inside(layout, &grub.spans)),
                Loader::Syslinux(syslinux) => {
                    let spans = syslinux.file.iter().flat_map(|(_, spans)| spans);
                    pinned.extend(spans.map(|span| (syslinux.volume.clone(), *span)));
                }
                // Only its map says which files it loads: they could be any.
                Loader::Lilo => {
                    let ext = layout.volumes.iter().filter(|volume| volume.content == Content::Ext);
                    pinned.extend(ext.map(|volume| (volume.id.clone(), Span::whole(volume.region.len()))));
                }
                Loader::Chain(_) | Loader::Unknown => {}
            }
        }
        pinned
    }

    /// What a grow must leave as it is.
    #[must_use]
    pub fn needs(&self, layout: &Layout) -> BootNeeds {
        // GRUB 0.9x and EXTLINUX know no `meta_bg`.
        let classic = |one: &BootSector| match &one.loader {
            Loader::GrubLegacy(_) => true,
            Loader::Syslinux(syslinux) => {
                layout.volume(&syslinux.volume).is_some_and(|volume| volume.content == Content::Ext)
            }
            _ => false,
        };
        BootNeeds { classic_descriptors: self.sectors.iter().any(classic), pinned: self.pinned(layout) }
    }

    /// What the operator should know when a disk has been grown that deep, and the partition that took
    /// the space then lies there.
    #[must_use]
    pub fn notes(&self, depth: Depth, partition: Option<Span>) -> Vec<String> {
        let mut notes = Vec::new();
        let left = match depth {
            Depth::Disk => Some("partition and filesystem"),
            Depth::Partition => Some("filesystem"),
            Depth::Filesystem => None,
        };
        for (what, id) in
            left.into_iter().flat_map(|what| self.startup.growpart.iter().map(move |id| (what, id)))
        {
            notes.push(format!("{id}: cloud-init in it grows its {what} when the guest starts"));
        }
        if depth == Depth::Partition {
            let mounts = self.startup.growfs.iter();
            notes.extend(
                mounts.map(|at| format!("systemd grows the filesystem of {at} when the guest starts")),
            );
        }
        let end = partition.map_or(Offset::ZERO, Span::end);
        notes.extend(self.counts_with_32_bits().filter(|_| end > COUNTED_WITH_32_BITS).map(|loader| {
            format!("{loader} counts sectors with 32 bits: it starts no kernel that lies behind 2 TiB")
        }));
        notes
    }

    /// The name of a boot loader that counts sectors with 32 bits, if there is one.
    fn counts_with_32_bits(&self) -> Option<&'static str> {
        self.sectors.iter().find_map(|one| match one.loader {
            Loader::GrubLegacy(_) => Some("GRUB 0.9x"),
            Loader::Lilo => Some("LILO"),
            _ => None,
        })
    }
}

fn inside(layout: &Layout, spans: &[Span]) -> Vec<(VolumeId, Span)> {
    let pairs = spans.iter().flat_map(|span| layout.volumes.iter().map(move |volume| (volume, *span)));
    pairs.filter_map(|(volume, span)| Some((volume.id.clone(), owned(volume, span)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(loader: Loader, growpart: Vec<VolumeId>) -> Boot {
        let startup = Startup { growpart, growfs: vec!["/".to_owned()], ..Startup::default() };
        let sectors = vec![BootSector { partition: None, loader }];
        Boot { sectors, system_partitions: Vec::new(), startup }
    }

    #[test]
    fn notes_are_few() {
        let near = Span::new(Offset::new(1 << 20), Len::gib(1));
        let far = Span::new(Offset::new(1 << 20), Len::gib(2048));
        let chain = boot(Loader::Chain(Chain::Syslinux), vec![VolumeId::Partition(1)]);
        assert_eq!(chain.notes(Depth::Filesystem, far), Vec::<String>::new());
        assert_eq!(chain.notes(Depth::Disk, near).len(), 1);
        assert_eq!(chain.notes(Depth::Partition, near).len(), 2);
        let lilo = boot(Loader::Lilo, Vec::new());
        assert_eq!(lilo.notes(Depth::Filesystem, near), Vec::<String>::new());
        assert_eq!(
            lilo.notes(Depth::Filesystem, far),
            ["LILO counts sectors with 32 bits: it starts no kernel that lies behind 2 TiB"]
        );
    }
}
