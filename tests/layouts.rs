//! The disks of real guests, grown by one command with no option but the size.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ondisk::{Len, Offset, SectorSize, Span};
use serde_json::{Value, json};
use testkit::files::Manifest;
use testkit::guest::{Home, Layout, Part, Role, SWAP_UUID, demo_root, layout, take};
use testkit::lvm::Lvm;
use testkit::oracle::{
    Loop, Mount, Partition, assert_clean, assert_sfdisk_verify, assert_sgdisk_verify, partitions,
};
use testkit::tool::{output, run, said};

use crate::grow::assert_fills;
use crate::kit::{document, ends};

/// An installed guest.
struct Guest {
    layout: &'static Layout,
    dir: tempfile::TempDir,
    disk: PathBuf,
}

/// What of a guest must stay, or change only as told.
struct Seen {
    partitions: Vec<Partition>,
    homes: Vec<Home>,
    files: BTreeMap<String, Manifest>,
    group: Vec<String>,
    boot_code: Vec<u8>,
    /// What `info` says of boot loaders.
    boot: Value,
}

impl Guest {
    fn installed(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [root, disk] = ["root", "disk.raw"].map(|name| dir.path().join(name));
        std::fs::create_dir(&root).unwrap();
        demo_root(&root, true);
        let layout = layout(name);
        layout.install(&root, &disk);
        Self { layout, dir, disk }
    }

    fn seen(&self) -> Seen {
        let homes = self.layout.homes(&self.disk);
        let files = |home: &Home| {
            let kind = match home.role {
                Role::Root(kind) | Role::Boot(kind) => kind,
                _ => return None,
            };
            let content = self.content(home, "looked-at");
            let options = if kind == "xfs" { "ro,noatime,loop,nouuid" } else { "ro,noatime,loop" };
            Some((home.name.clone(), Manifest::of(Mount::new(&content, options).path())))
        };
        let table = !self.layout.label.is_empty();
        Seen {
            partitions: if table { partitions(&self.disk, SectorSize::B512) } else { Vec::new() },
            files: homes.iter().filter_map(files).collect(),
            group: self.pv().map_or(Vec::new(), |pv| identities(&self.disk, pv)),
            boot_code: self.boot_code(&homes),
            boot: document(&self.disk, "info @")["boot"].clone(),
            homes,
        }
    }

    /// The content of a filesystem or swap space as a file of its own.
    fn content(&self, home: &Home, name: &str) -> PathBuf {
        let file = self.dir.path().join(name);
        // A new file each time: mount would take a loop device that still holds the old one, and is about to lose it.
        let _ = std::fs::remove_file(&file);
        take(&self.disk, &home.runs, &file);
        file
    }

    /// The physical volume as the table has it now.
    fn pv(&self) -> Option<Span> {
        let (Part(number, ..), _) = self.layout.group()?;
        if number == 0 {
            return Some(Span::whole(Len::new(self.disk.metadata().unwrap().len())));
        }
        let all = partitions(&self.disk, SectorSize::B512);
        let one = all.iter().find(|one| one.number == number).unwrap();
        Span::new(one.start, one.len)
    }

    /// GRUB's boot sector without the table, its core in the gap or in a partition, its copy for UEFI.
    fn boot_code(&self, homes: &[Home]) -> Vec<u8> {
        let start = Span::new(Offset::ZERO, Len::new(440)).unwrap();
        let gap = Span::new(Offset::new(512), Len::new(62 * 512)).filter(|_| self.layout.label == "dos");
        let areas = homes.iter().filter(|home| [Role::BiosBoot, Role::Esp].contains(&home.role));
        let runs = [start].into_iter().chain(gap).chain(areas.flat_map(|home| home.runs.clone()));
        let file = self.dir.path().join("boot-code");
        take(&self.disk, &runs.collect::<Vec<_>>(), &file);
        blake3::hash(&std::fs::read(file).unwrap()).as_bytes().to_vec()
    }
}

/// The names and UUIDs of a group and all that is in it; lvm2 must be content with it.
fn identities(disk: &Path, pv: Span) -> Vec<String> {
    let device = [Loop::span(disk, pv.start(), pv.len())];
    let lvm = Lvm::on(&device);
    let group = lvm.report("vgs", "vg_name").pop().unwrap();
    lvm.assert_clean(&group);
    let mut rows = lvm.report("lvs", "vg_name,vg_uuid,pv_count,lv_name,lv_uuid,lv_attr,segtype");
    rows.dedup(); // one row a segment
    rows.extend(lvm.report("pvs", "pv_uuid,pv_attr,pe_start"));
    rows
}

/// Whatever loader a guest has finds what it looks for, as far as that can be read here.
fn assert_resolves(guest: &Guest, boot: &Value) {
    let loaders = boot["loaders"].as_array().unwrap();
    let in_xfs = guest.layout.parts.iter().any(|one| one.3 == Role::Boot("xfs"));
    for loader in loaders {
        assert_eq!(loader["resolves"], if in_xfs { json!(null) } else { json!(true) }, "{loader:#}");
    }
}

fn grows(name: &str) {
    let guest = Guest::installed(name);
    let before = guest.seen();
    let kept: Vec<PathBuf> =
        before.homes.iter().map(|home| guest.content(home, &home.name.replace('/', "-"))).collect();
    let told = ends(0, &guest.disk, "grow @ +1G");
    assert_eq!(guest.disk.metadata().unwrap().len(), guest.layout.disk.get() + (1 << 30), "{told}");
    let after = guest.seen();
    assert_table(&guest, &before, &after);
    assert_eq!(before.group, after.group, "{name}");
    assert_eq!(before.boot_code, after.boot_code, "{name}: the boot loader");
    assert_eq!(before.boot, after.boot, "{name}: what the boot loader looks for");
    assert_resolves(&guest, &after.boot);
    assert_eq!(before.files.len(), after.files.len(), "{name}");
    for (home, files) in &before.files {
        files.assert_same(&after.files[home]);
    }
    for ((old, new), kept) in before.homes.iter().zip(&after.homes).zip(&kept) {
        assert_eq!((&old.name, old.role), (&new.name, new.role), "{name}");
        let content = guest.content(new, "grown");
        match new.role {
            Role::Root(kind) => assert_root_grown(kind, (old, kept), (new, &content), name),
            _ => {
                assert_eq!(old.size(), new.size(), "{name} {}", old.name);
                assert_starts_with(&content, kept);
            }
        }
        if new.role == Role::Swap {
            let told = run("blkid", ["-p", "-o", "export", content.to_str().unwrap()]);
            assert!(told.contains(SWAP_UUID), "{name}: {told}");
        }
    }
    ends(0, &guest.disk, "check @");
    ends(0, &guest.disk, "info @");
}

/// Numbers, types, UUIDs and names stay; only the last ends move, and swap that is in the way.
fn assert_table(guest: &Guest, before: &Seen, after: &Seen) {
    let (layout, disk) = (guest.layout, &guest.disk);
    if layout.label.is_empty() {
        return;
    }
    assert_sfdisk_verify(disk);
    if layout.label == "gpt" {
        assert_sgdisk_verify(disk);
    }
    assert_eq!(before.partitions.len(), after.partitions.len(), "{}", layout.name);
    let end = |one: &Partition| one.start.get() + one.len.get();
    for (old, new) in before.partitions.iter().zip(&after.partitions) {
        let what = format!("{}: {old:?} {new:?}", layout.name);
        let fixed = |one: &Partition| (one.number, one.kind.clone(), one.uuid.clone(), one.name.clone());
        assert_eq!(fixed(old), fixed(new), "{what}");
        let role = layout.parts.iter().find(|part| part.0 == old.number).unwrap().3;
        match role {
            Role::Extended => assert!(end(new) > end(old), "{what}"),
            Role::Swap => assert!(new.start >= old.start && new.len == old.len, "{what}"),
            _ if old.number == layout.root() => {
                assert!(
                    new.start == old.start && new.len.get() >= old.len.get() + (1 << 30) - (4 << 20),
                    "{what}"
                );
            }
            _ => assert_eq!((old.start, old.len), (new.start, new.len), "{what}"),
        }
    }
    let free = disk.metadata().unwrap().len() - after.partitions.iter().map(end).max().unwrap();
    assert!(free <= 2 << 20, "{}: {free} bytes are left behind the last partition", layout.name);
}

/// What holds the root filesystem has the space, and the filesystem takes it: by us, or by its own program.
fn assert_root_grown(kind: &str, old: (&Home, &Path), new: (&Home, &Path), name: &str) {
    let (len, content) = (new.0.size(), new.1);
    assert!(len.get() >= old.0.size().get() + (1 << 30) - (8 << 20), "{name}: {:?} {:?}", old.0, new.0);
    match kind {
        "xfs" | "btrfs" => {
            assert_starts_with(content, old.1);
            let (checker, option) = if kind == "xfs" { ("xfs_repair", "-n") } else { ("btrfs", "check") };
            let out = output(checker, [option, content.to_str().unwrap()]);
            assert!(out.status.success(), "{name}: {checker}: {}", said(&out));
            let mount = Mount::new(content, "noatime,loop");
            let root = mount.path().to_str().unwrap();
            match kind {
                "xfs" => run("xfs_growfs", [root]),
                _ => run("btrfs", ["filesystem", "resize", "max", root]),
            };
            assert!(mount.total().get() > len.get() / 100 * 95, "{name}: {:?} of {len:?}", mount.total());
        }
        _ => {
            assert_clean(content, Offset::ZERO);
            assert_fills(content, Offset::ZERO, len, name);
        }
    }
}

/// Byte by byte: `start` is all of the file, or what it begins with.
fn assert_starts_with(file: &Path, start: &Path) {
    let len = start.metadata().unwrap().len().to_string();
    let out = output("cmp", ["-n", &len, file.to_str().unwrap(), start.to_str().unwrap()]);
    assert!(out.status.success(), "{} {}: {}", file.display(), start.display(), said(&out));
}

/// The guest's own program is named where it has to finish the work.
#[test]
fn the_guest_is_told_how_to_grow_what_is_left_to_it() {
    for (name, how) in [
        ("rhel9-xfs", "xfs_growfs /"),
        ("rhel9-lvm-xfs", "xfs_growfs /"),
        ("fedora-btrfs", "btrfs filesystem resize max /"),
    ] {
        let guest = Guest::installed(name);
        let told = document(&guest.disk, "grow @ +1G -n");
        assert!(told["notes"].to_string().contains(how), "{name}: {told}");
    }
}

/// Free extents that the installer has left in a group stay with the administrator.
#[test]
fn a_group_keeps_what_was_free_in_it() {
    let guest = Guest::installed("ubuntu2404-lvm");
    let free = || {
        let pv = guest.pv().unwrap();
        let device = [Loop::span(&guest.disk, pv.start(), pv.len())];
        Lvm::on(&device).report("vgs", "vg_free").pop().unwrap().parse::<u64>().unwrap()
    };
    let before = free();
    assert!(before > 800 << 20, "{before}");
    ends(0, &guest.disk, "grow @ +1G");
    assert_eq!(free(), before);
}

/// One test a layout, so that they run side by side.
macro_rules! layouts {
    ($($test:ident: $layout:literal,)*) => {
        $(#[test] fn $test() { grows($layout); })*

        /// No layout is left out.
        #[test]
        fn all() {
            let tested = [$($layout),*];
            for Layout { name, .. } in testkit::guest::LAYOUTS {
                assert!(tested.contains(name), "{name}");
            }
        }
    };
}

layouts! {
    debian12_cloud: "debian12-cloud",
    debian12: "debian12",
    debian12_uefi: "debian12-uefi",
    debian12_lvm: "debian12-lvm",
    boot_in_lvm: "boot-in-lvm",
    logical_root: "logical-root",
    root_swap: "root-swap",
    centos5: "centos5",
    centos5_swap_last: "centos5-swap-last",
    centos6: "centos6",
    centos6_swap_last: "centos6-swap-last",
    centos6_lvm: "centos6-lvm",
    ubuntu2404: "ubuntu2404",
    ubuntu2404_lvm: "ubuntu2404-lvm",
    rhel9: "rhel9",
    rhel9_xfs: "rhel9-xfs",
    rhel9_lvm: "rhel9-lvm",
    rhel9_lvm_xfs: "rhel9-lvm-xfs",
    fedora_btrfs: "fedora-btrfs",
    whole_lvm: "whole-lvm",
}
