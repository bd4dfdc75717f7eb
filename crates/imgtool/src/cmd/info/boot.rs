//! Boot loaders in the picture of a disk: what is installed, what it looks for, and whether that is there.

use crate::json::put_bytes;
use crate::render::Tree;
use grub::core::Core;
use grub::{
    Boot, BootSector, CorePlace, Error, Grub2, GrubLegacy, Loader, Next, Resolution, Stages, Startup,
    Syslinux,
};
use ondisk::size::Human;
use ondisk::text::Printable;
use serde_json::{Map, Value, json};
use stack::VolumeId;

/// What could start the disk, and what its guests do then.
pub(super) fn push(tree: &mut Tree, boot: &Boot) {
    for sector in &boot.sectors {
        push_sector(tree, sector);
    }
    for number in &boot.system_partitions {
        tree.push(1, format!("UEFI firmware starts what lies in partition {number}"));
    }
    push_startup(tree, &boot.startup);
}

fn push_sector(tree: &mut Tree, sector: &BootSector) {
    let at = match sector.partition {
        None => "boot sector".to_owned(),
        Some(number) => format!("boot sector of partition {number}"),
    };
    match &sector.loader {
        Loader::Grub2(grub) => push_grub2(tree, &at, grub),
        Loader::GrubLegacy(grub) => push_legacy(tree, &at, grub),
        Loader::Lilo => tree.push(1, format!("{at}: LILO, which reads its files block by block")),
        Loader::Syslinux(Syslinux { file: Some((path, _)), .. }) => {
            tree.push(1, format!("{at}: EXTLINUX, which reads {path} block by block"));
        }
        Loader::Syslinux(Syslinux { file: None, .. }) => tree.push(1, format!("{at}: SYSLINUX")),
        Loader::Chain(chain) => {
            tree.push(1, format!("{at}: {}, which starts the active partition", chain.name()));
        }
        Loader::Unknown => tree.push(1, format!("{at}: code of an unknown boot loader")),
    }
}

fn push_grub2(tree: &mut Tree, at: &str, grub: &Grub2) {
    tree.push(1, format!("{at}: GRUB 2, its core at sector {} {}", grub.at, place(&grub.place)));
    match &grub.core {
        Err(error) => tree.push(2, broken(error)),
        Ok((core, resolution)) => {
            let modules = core.modules.join(" ");
            tree.push(2, format!("modules {modules}, {} compressed", Human(core.compressed)));
            if let Some(config) = &core.config {
                for line in config.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
                    tree.push(2, format!("runs {}", Printable(line.trim_ascii())));
                }
            }
            if let Some(prefix) = &core.prefix {
                tree.push(2, format!("prefix {}", Printable(prefix)));
            }
            push_resolution(tree, resolution);
        }
    }
}

fn place(place: &CorePlace) -> String {
    match place {
        CorePlace::Gap => "in front of the first partition".to_owned(),
        CorePlace::BiosBoot(number) => format!("in partition {number}, made for it"),
        CorePlace::Volume(id) => format!("in {id}, in blocks of a file that must not move"),
        CorePlace::Elsewhere => "in space that belongs to nobody".to_owned(),
    }
}

fn push_legacy(tree: &mut Tree, at: &str, grub: &GrubLegacy) {
    match &grub.stages {
        Err(error) => {
            tree.push(1, format!("{at}: GRUB 0.9x"));
            tree.push(2, broken(error));
        }
        Ok((stages, resolution)) => {
            let how = match stages.next {
                Next::Stage1_5 => "with stage 1.5",
                Next::Stage2 => "which reads stage 2 block by block",
            };
            tree.push(1, format!("{at}: GRUB {}, {how}", Printable(&stages.version)));
            let stage2 = stages.stage2.iter().map(|path| format!("stage 2 {}", Printable(path)));
            let menu = format!("menu {}", Printable(stages.menu_or_default()));
            tree.push(2, stage2.chain([menu]).collect::<Vec<_>>().join(", "));
            push_resolution(tree, resolution);
        }
    }
}

fn broken(error: &Error) -> String {
    format!("cannot be read: {error}")
}

fn push_resolution(tree: &mut Tree, resolution: &Resolution) {
    for problem in &resolution.problems {
        tree.push(2, format!("broken: {problem}"));
    }
    for unknown in &resolution.unknown {
        tree.push(2, format!("cannot be told: {unknown}"));
    }
    if let (Some(true), Some(id)) = (resolution.resolves(), &resolution.volume) {
        tree.push(2, format!("finds its files in {id}"));
    }
}

fn push_startup(tree: &mut Tree, startup: &Startup) {
    for id in &startup.growpart {
        tree.push(1, format!("when it starts, cloud-init in {id} grows partition and filesystem"));
    }
    for at in &startup.growfs {
        tree.push(1, format!("when it starts, systemd grows the filesystem of {at}"));
    }
    for named in &startup.names {
        let place =
            named.place.as_ref().map_or_else(|| "is not on this disk".to_owned(), |id| format!("is {id}"));
        tree.push(1, format!("{}: {} {} {} {place}", named.volume, named.file, named.purpose, named.spec));
    }
}

/// The same for scripts.
pub(super) fn json(boot: &Boot) -> Value {
    let names = boot.startup.names.iter().map(|named| {
        json!({
            "volume": named.volume.to_string(),
            "file": named.file,
            "purpose": named.purpose,
            "spec": named.spec,
            "place": named.place.as_ref().map(VolumeId::to_string),
        })
    });
    json!({
        "loaders": boot.sectors.iter().map(sector_json).collect::<Vec<_>>(),
        "system-partitions": boot.system_partitions,
        "growpart": boot.startup.growpart.iter().map(VolumeId::to_string).collect::<Vec<_>>(),
        "growfs": boot.startup.growfs,
        "names": names.collect::<Vec<_>>(),
    })
}

fn sector_json(sector: &BootSector) -> Value {
    let mut object = Map::new();
    object.insert("partition".to_owned(), sector.partition.into());
    let name = match &sector.loader {
        Loader::Grub2(_) => "grub2",
        Loader::GrubLegacy(_) => "grub-legacy",
        Loader::Lilo => "lilo",
        Loader::Syslinux(_) => "syslinux",
        Loader::Chain(_) => "mbr",
        Loader::Unknown => "unknown",
    };
    object.insert("name".to_owned(), name.into());
    match &sector.loader {
        Loader::Grub2(grub) => {
            object.insert("core-sector".to_owned(), grub.at.0.into());
            let (kind, volume) = match &grub.place {
                CorePlace::Gap => ("gap", None),
                CorePlace::BiosBoot(number) => ("bios-boot", Some(VolumeId::Partition(*number))),
                CorePlace::Volume(id) => ("file", Some(id.clone())),
                CorePlace::Elsewhere => ("elsewhere", None),
            };
            object.insert("core-place".to_owned(), kind.into());
            object.insert("core-volume".to_owned(), volume.map(|id| id.to_string()).into());
            put_result(&mut object, &grub.core, put_core);
        }
        Loader::GrubLegacy(grub) => put_result(&mut object, &grub.stages, put_stages),
        Loader::Syslinux(syslinux) => {
            object.insert("file".to_owned(), syslinux.file.as_ref().map(|(path, _)| *path).into());
        }
        Loader::Chain(chain) => {
            object.insert("code".to_owned(), chain.name().into());
        }
        Loader::Lilo | Loader::Unknown => {}
    }
    Value::Object(object)
}

fn put_result<T>(
    object: &mut Map<String, Value>,
    result: &Result<(T, Resolution), Error>,
    put: impl Fn(&mut Map<String, Value>, &T),
) {
    match result {
        Err(error) => {
            object.insert("error".to_owned(), error.to_string().into());
        }
        Ok((what, resolution)) => {
            put(object, what);
            object.insert("resolves".to_owned(), resolution.resolves().into());
            object.insert("volume".to_owned(), resolution.volume.as_ref().map(VolumeId::to_string).into());
            object.insert("problems".to_owned(), resolution.problems.clone().into());
            object.insert("unknown".to_owned(), resolution.unknown.clone().into());
        }
    }
}

fn put_core(object: &mut Map<String, Value>, core: &Core) {
    object.insert("modules".to_owned(), core.modules.clone().into());
    object.insert("compressed-size".to_owned(), core.compressed.get().into());
    object.insert("redundancy".to_owned(), core.redundancy.get().into());
    put_bytes(object, "prefix", core.prefix.as_deref().unwrap_or_default());
    put_bytes(object, "config", core.config.as_deref().unwrap_or_default());
}

fn put_stages(object: &mut Map<String, Value>, stages: &Stages) {
    object.insert("stage-1.5".to_owned(), (stages.next == Next::Stage1_5).into());
    put_bytes(object, "version", &stages.version);
    put_bytes(object, "menu", stages.menu_or_default());
}
