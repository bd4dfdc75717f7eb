//! Boot loaders that their own programs have installed: all of it is read, followed as the loader would, and told broken
//! where it is.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use disk::{Cancel, Cx, FileDev, Limits, Quiet};
use grub::{Boot, Chain, CorePlace, GrubLegacy, Loader, Next, Resolution, core::Core};
use ondisk::{Len, Offset, Span};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use testkit::loader::{self, Grub2, UUID, blocks};
use testkit::tool::{find, run};

use stack::{Layout, VolumeId};

const MIB: u64 = 1 << 20;
const MBR: &str = "label: dos\nlabel-id: 0x0a1b2c3d\nstart=2048,type=83,bootable\n";
const GPT: &str =
    "label: gpt\nstart=2048,size=2048,type=21686148-6449-6E6F-744E-656564454649\nstart=4096,type=L\n";
const BASE: [&str; 3] = ["biosdisk", "part_msdos", "ext2"];

/// A disk in a folder of its own.
struct Disk {
    _dir: tempfile::TempDir,
    path: PathBuf,
    boot: (Offset, Len),
}

impl Disk {
    fn new(script: &str, start: u64, flavor: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let boot = (Offset::new(start), Len::mib(60));
        let len = Len::mib(64).max(boot.1);
        loader::disk(&path, if script.is_empty() { boot.1 } else { len }, script, flavor, boot);
        Self { _dir: dir, path, boot }
    }

    fn look(&self) -> (Layout, Boot) {
        look(&self.path)
    }

    /// The blocks of a file as spans of its volume.
    fn spans(&self, path: &str, block: u64) -> Vec<Span> {
        let blocks = blocks(&self.path, self.boot.0, path);
        blocks.iter().map(|n| Span::new(Offset::new(n * block), Len::new(block)).unwrap()).collect()
    }
}

fn look(path: &Path) -> (Layout, Boot) {
    let file = FileDev::new(File::open(path).unwrap()).unwrap();
    let cancel = Cancel::new();
    let cx = Cx { progress: &Quiet, cancel: &cancel, limits: Limits::default(), now: 0 };
    let layout = stack::discover(&file, &cx).unwrap();
    let boot = grub::look(&file, &layout, &cx).unwrap();
    (layout, boot)
}

/// The one GRUB 2 on a disk.
fn grub2(boot: &Boot) -> (&CorePlace, &Core, &Resolution) {
    let [sector] = boot.sectors.as_slice() else { panic!("{boot:?}") };
    let Loader::Grub2(grub) = &sector.loader else { panic!("{boot:?}") };
    let (core, resolution) = grub.core.as_ref().unwrap();
    (&grub.place, core, resolution)
}

/// What is wrong with the GRUB 2 on a disk.
fn problems(disk: &Disk) -> Vec<String> {
    grub2(&disk.look().1).2.problems.clone()
}

/// The modules and all that they depend on, as GRUB's own list has it.
fn with_dependencies(modules: &[&str]) -> Vec<String> {
    let list = std::fs::read_to_string(find("/usr/lib/grub/i386-pc/moddep.lst")).unwrap();
    let mut all: Vec<String> = modules.iter().map(|name| (*name).to_owned()).collect();
    let mut at = 0;
    while at < all.len() {
        let line = list.lines().find_map(|line| line.split_once(':').filter(|(name, _)| *name == all[at]));
        for name in line.map_or("", |(_, rest)| rest).split_whitespace() {
            if !all.iter().any(|one| one == name) {
                all.push(name.to_owned());
            }
        }
        at += 1;
    }
    all.sort();
    all
}

#[test]
fn a_core_in_the_gap_names_its_partition() {
    let disk = Disk::new(MBR, MIB, "ext4-4k");
    Grub2 { prefix: "(,msdos1)/boot/grub", config: None, modules: &BASE }.install(&disk.path, disk.boot);
    let (layout, boot) = disk.look();
    let (place, core, resolution) = grub2(&boot);
    assert_eq!(*place, CorePlace::Gap);
    assert_eq!(core.prefix.as_deref(), Some(b"(,msdos1)/boot/grub".as_slice()));
    assert_eq!(core.config, None);
    assert!(!core.redundancy.is_zero(), "a roomy gap is filled with redundancy");
    let mut modules = core.modules.clone();
    modules.sort();
    assert_eq!(modules, with_dependencies(&BASE));
    assert_eq!(*resolution, Resolution { volume: Some(VolumeId::Partition(1)), ..Resolution::default() });
    assert_eq!(boot.needs(&layout).pinned, []);
    assert!(!boot.needs(&layout).classic_descriptors);
}

#[test]
fn a_core_in_a_bios_boot_partition() {
    let disk = Disk::new(GPT, 2 * MIB, "ext4-4k");
    let modules = ["biosdisk", "part_gpt", "ext2"];
    Grub2 { prefix: "(,gpt2)/boot/grub", config: None, modules: &modules }.install(&disk.path, disk.boot);
    let (layout, boot) = disk.look();
    let (place, _, resolution) = grub2(&boot);
    assert_eq!((place, resolution.resolves()), (&CorePlace::BiosBoot(1), Some(true)));
    // It is pinned to its partition, which nothing moves.
    assert!(boot.needs(&layout).pinned.iter().all(|(id, _)| *id == VolumeId::Partition(1)));
}

#[test]
fn a_search_by_uuid_is_followed() {
    let disk = Disk::new(MBR, MIB, "ext4-4k");
    let config = format!("search.fs_uuid {UUID} root hd0,msdos1\nset prefix=($root)'/boot/grub'\n");
    let core = Grub2 {
        prefix: "/boot/grub",
        config: Some(&config),
        modules: &["biosdisk", "part_msdos", "ext2", "search_fs_uuid"],
    };
    core.install(&disk.path, disk.boot);
    let (_, boot) = disk.look();
    let (_, read, resolution) = grub2(&boot);
    assert_eq!(read.config.as_deref(), Some(config.as_bytes()));
    assert_eq!((resolution.resolves(), &resolution.volume), (Some(true), &Some(VolumeId::Partition(1))));

    // Every link of the chain, broken by the tools that would break it.
    loader::with_files(&disk.path, disk.boot, |root| {
        std::fs::remove_file(root.join("boot/grub/i386-pc/normal.mod")).unwrap();
    });
    assert_eq!(problems(&disk), ["partition 1 has no file /boot/grub/i386-pc/normal.mod"]);
    let device = testkit::oracle::Loop::span(&disk.path, disk.boot.0, disk.boot.1);
    run("e2fsck", ["-fp".as_ref(), device.path().as_os_str()]);
    run("tune2fs", ["-U".as_ref(), "clear".as_ref(), device.path().as_os_str()]);
    drop(device);
    assert_eq!(problems(&disk), [format!("no filesystem on this disk has the UUID {UUID}")]);
}

#[test]
fn what_grub_install_itself_writes_is_read() {
    let disk = Disk::new(MBR, MIB, "ext4-4k");
    let head = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/grub-install/head.gz");
    let head = testkit::tool::output("gzip", ["-dc".as_ref(), head.as_os_str()]).stdout;
    File::options().write(true).open(&disk.path).unwrap().write_all_at(&head, 0).unwrap();
    loader::with_files(&disk.path, disk.boot, |root| {
        std::fs::copy(find("/usr/lib/grub/i386-pc/normal.mod"), root.join("boot/grub/i386-pc/normal.mod"))
            .unwrap();
    });
    let (_, boot) = disk.look();
    let (place, core, resolution) = grub2(&boot);
    assert_eq!((place, resolution.resolves()), (&CorePlace::Gap, Some(true)));
    assert_eq!(core.modules, ["part_msdos", "fshelp", "ext2", "biosdisk", "search_fs_uuid"]);
    let config = format!("search.fs_uuid {UUID} root \nset prefix=($root)'/boot/grub'\n");
    assert_eq!(core.config.as_deref(), Some(config.as_bytes()));
    assert_eq!(core.prefix.as_deref(), Some(b"/boot/grub".as_slice()));
}

#[test]
fn lilo_pins_every_file() {
    let disk = Disk::new(MBR, MIB, "ext3-1k");
    // LILO's boot sector begins with a jump and names itself behind it, as file(1) knows it.
    File::options().write(true).open(&disk.path).unwrap().write_all_at(b"\xeb\x6c\0\0\0\0LILO", 0).unwrap();
    let (layout, boot) = disk.look();
    assert!(matches!(boot.sectors[0].loader, Loader::Lilo));
    let needs = boot.needs(&layout);
    assert_eq!(needs.pinned, [(VolumeId::Partition(1), Span::whole(Len::mib(63)))]);
    assert!(!needs.classic_descriptors);
}

#[test]
fn what_a_core_lacks_is_named() {
    for (prefix, modules, want) in [
        ("(,msdos2)/boot/grub", &BASE[..], "it names partition 2, which does not exist"),
        ("(,gpt1)/boot/grub", &BASE, "it names a partition of gpt, the table is msdos"),
        ("()/boot/grub", &BASE, "it names no partition, and the disk has some"),
        ("(,msdos1)/grub", &BASE, "partition 1 has no file /grub/i386-pc/normal.mod"),
        ("(,msdos1)/boot/grub", &BASE[..2], "the core has no module ext2 for ext"),
        (
            "(,msdos1)/boot/grub",
            &["biosdisk", "part_gpt", "ext2"],
            "the core has no module part_msdos for the partition table",
        ),
        ("(,msdos1)/boot/grub", &["part_msdos", "ext2"], "the core has no module biosdisk for disks"),
        ("(lvm/vg-root)/boot/grub", &BASE, "it names the logical volume vg-root, which does not exist"),
    ] {
        let disk = Disk::new(MBR, MIB, "ext4-4k");
        Grub2 { prefix, config: None, modules }.install(&disk.path, disk.boot);
        assert_eq!(problems(&disk), [want], "{prefix}");
    }
}

#[test]
fn what_cannot_be_told_is_said() {
    for (prefix, want) in [
        ("(hd1,msdos1)/boot/grub", "it names the disk hd1, which is another one"),
        ("(mduuid/0a1b2c3d)/boot/grub", "it names the device mduuid/0a1b2c3d"),
    ] {
        let disk = Disk::new(MBR, MIB, "ext4-4k");
        Grub2 { prefix, config: None, modules: &BASE }.install(&disk.path, disk.boot);
        let (_, boot) = disk.look();
        let resolution = grub2(&boot).2;
        assert_eq!(resolution.resolves(), None);
        assert_eq!(resolution.unknown, [want]);
    }
}

#[test]
fn large_cores_are_read() {
    let sets: [&[&str]; 3] = [
        &["biosdisk", "part_msdos", "part_gpt", "ext2", "normal", "linux", "serial", "echo", "search"],
        &["biosdisk", "part_msdos", "xfs", "btrfs", "fat", "ntfs", "lvm", "mdraid1x", "search_fs_uuid"],
        &["biosdisk"],
    ];
    for modules in sets {
        let disk = Disk::new(MBR, MIB, "ext4-4k");
        Grub2 { prefix: "(,msdos1)/boot/grub", config: None, modules }.install(&disk.path, disk.boot);
        let (_, boot) = disk.look();
        let mut found = grub2(&boot).1.modules.clone();
        found.sort();
        assert_eq!(found, with_dependencies(modules));
    }
}

#[test]
fn a_core_in_a_file_is_pinned_block_by_block() {
    for whole in [true, false] {
        let (script, start) = if whole { ("", 0) } else { (MBR, MIB) };
        let disk = Disk::new(script, start, "ext4-1k");
        let prefix = if whole { "()/boot/grub" } else { "(,msdos1)/boot/grub" };
        let core = Grub2 { prefix, config: None, modules: &BASE };
        if whole {
            core.install(&disk.path, disk.boot);
        } else {
            core.install_into_partition(&disk.path, disk.boot);
        }
        let (layout, boot) = disk.look();
        let id = if whole { VolumeId::Whole } else { VolumeId::Partition(1) };
        let (place, _, resolution) = grub2(&boot);
        assert_eq!((place, resolution.volume.as_ref()), (&CorePlace::Volume(id.clone()), Some(&id)));
        assert_pinned(&layout, &boot, &id, &disk.spans("/boot/grub/i386-pc/core.img", 1024));
    }
}

/// Expects that exactly these blocks of one volume are pinned, the last of them perhaps in part.
fn assert_pinned(layout: &Layout, boot: &Boot, id: &VolumeId, blocks: &[Span]) {
    let pinned = boot.needs(layout).pinned;
    assert!(pinned.iter().all(|(volume, _)| volume == id), "{pinned:?}");
    let spans: ondisk::SpanSet = pinned.iter().map(|(_, span)| *span).collect();
    let file: ondisk::SpanSet = blocks.iter().copied().collect();
    assert!(spans.iter().all(|span| file.contains(span)), "{spans:?} {file:?}");
    assert!(blocks.iter().all(|block| spans.overlaps(*block)), "{spans:?} {file:?}");
}

fn legacy(boot: &Boot) -> &GrubLegacy {
    let [sector] = boot.sectors.as_slice() else { panic!("{boot:?}") };
    let Loader::GrubLegacy(grub) = &sector.loader else { panic!("{boot:?}") };
    grub
}

#[test]
fn grub_legacy_with_stage_1_5() {
    let disk = Disk::new(MBR, MIB, "ext3-centos5");
    loader::install_legacy(&disk.path, disk.boot, "root (hd0,0)\nsetup (hd0)");
    let (layout, boot) = disk.look();
    let (stages, resolution) = legacy(&boot).stages.as_ref().unwrap();
    assert_eq!((stages.next, stages.version.as_slice()), (Next::Stage1_5, b"0.97".as_slice()));
    assert_eq!(stages.stage2.as_deref(), Some(b"/boot/grub/stage2".as_slice()));
    assert_eq!(stages.menu.as_deref(), Some(b"/boot/grub/menu.lst".as_slice()));
    assert_eq!((stages.partition, resolution.resolves()), (Some(1), Some(true)));
    assert_eq!(boot.needs(&layout).pinned, []);
    assert!(boot.needs(&layout).classic_descriptors);

    loader::with_files(&disk.path, disk.boot, |root| {
        std::fs::remove_file(root.join("boot/grub/stage2")).unwrap();
    });
    let (_, boot) = disk.look();
    let (_, resolution) = legacy(&boot).stages.as_ref().unwrap();
    assert_eq!(resolution.problems, ["partition 1 has no file /boot/grub/stage2"]);
}

#[test]
fn grub_legacy_without_stage_1_5_is_pinned() {
    let disk = Disk::new(MBR, MIB, "ext3-1k");
    let script = "root (hd0,0)\ninstall /boot/grub/stage1 (hd0) /boot/grub/stage2 p /boot/grub/menu.lst";
    loader::install_legacy(&disk.path, disk.boot, script);
    let (layout, boot) = disk.look();
    let (stages, resolution) = legacy(&boot).stages.as_ref().unwrap();
    assert_eq!((stages.next, stages.partition), (Next::Stage2, Some(1)));
    assert_eq!(stages.menu.as_deref(), Some(b"/boot/grub/menu.lst".as_slice()));
    assert_eq!(resolution.resolves(), Some(true), "{resolution:?}");
    let mut file = disk.spans("/boot/grub/stage2", 1024);
    // debugfs lists the blocks of the map as well; those hold nothing that is loaded.
    let pinned: ondisk::SpanSet = boot.needs(&layout).pinned.iter().map(|(_, span)| *span).collect();
    file.retain(|block| pinned.overlaps(*block));
    assert_eq!(
        file.len(),
        std::fs::metadata(find("/usr/lib/grub/x86_64-pc/stage2")).unwrap().len().div_ceil(1024) as usize
    );
    assert_pinned(&layout, &boot, &VolumeId::Partition(1), &file);
}

#[test]
fn grub_2_over_grub_legacy_is_grub_2() {
    let disk = Disk::new(MBR, MIB, "ext3-centos5");
    loader::install_legacy(&disk.path, disk.boot, "root (hd0,0)\nsetup (hd0)");
    Grub2 { prefix: "(,msdos1)/boot/grub", config: None, modules: &BASE }.install(&disk.path, disk.boot);
    let (layout, boot) = disk.look();
    assert_eq!(grub2(&boot).2.resolves(), Some(true));
    assert!(!boot.needs(&layout).classic_descriptors);
}

#[test]
fn extlinux_is_pinned() {
    let disk = Disk::new(MBR, MIB, "ext4-1k");
    loader::install_extlinux(&disk.path, disk.boot);
    let (layout, boot) = disk.look();
    let [mbr, partition] = boot.sectors.as_slice() else { panic!("{boot:?}") };
    assert!(matches!(mbr.loader, Loader::Chain(Chain::Syslinux)));
    let Loader::Syslinux(syslinux) = &partition.loader else { panic!("{boot:?}") };
    assert_eq!(partition.partition, Some(1));
    assert_eq!(syslinux.file.as_ref().unwrap().0, "/boot/extlinux/ldlinux.sys");
    assert_pinned(&layout, &boot, &VolumeId::Partition(1), &disk.spans("/boot/extlinux/ldlinux.sys", 1024));
    assert!(boot.needs(&layout).classic_descriptors);
}

#[test]
fn a_disk_without_boot_loader_has_none() {
    for script in [MBR, GPT] {
        let disk = Disk::new(script, if script == MBR { MIB } else { 2 * MIB }, "ext4-4k");
        assert!(disk.look().1.sectors.is_empty());
    }
}
