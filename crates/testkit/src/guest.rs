//! Bootable guests: the disk layouts that distributions install, with GRUB, a kernel and a userland that looks around,
//! reports on the serial console and powers off.
//!
//! Kernel and userland come out of the demo guest in `fixtures/`; its recipe makes that guest with this module as well.
//! A root filesystem in LVM is found by lvm2 itself, from an initramfs.

mod group;
mod initramfs;
mod layout;
mod loader;
mod machine;
mod userland;

use std::fs::{File, write};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use ondisk::{Len, Offset, SectorSize, Span};

use crate::images::{flavor, format};
use crate::oracle::{Mount, dumpe2fs, partitions};
use crate::tool::{run, tool};

pub use group::{Extents, extents, put, take};
pub use layout::{Group, LAYOUTS, Layout, Part, Role, layout};
pub use machine::{Firmware, Up, boot};
pub use userland::{demo, demo_root, skeleton, unpack_demo};

use layout::Loader;
use loader::Core;

/// The UUID of each guest's swap space.
pub const SWAP_UUID: &str = "0a1b2c3d-0000-4000-8000-0000000000ff";

/// A filesystem, swap space or boot area, and where it lies on a disk.
#[derive(Clone, Debug)]
pub struct Home {
    /// As `imgtool -p` takes it: `3`, `vg/lv`, `whole`.
    pub name: String,
    /// What it is there for.
    pub role: Role,
    /// Where its bytes lie, in their order.
    pub runs: Vec<Span>,
}

impl Home {
    /// How long it is.
    #[must_use]
    pub fn size(&self) -> Len {
        Len::new(self.runs.iter().map(|run| run.len().get()).sum())
    }
}

impl Layout {
    /// All that lies in the partitions and logical volumes of a raw disk, before or after it has changed.
    ///
    /// # Panics
    /// Where partx or lvm2 does not find what the layout has.
    #[must_use]
    pub fn homes(&self, disk: &Path) -> Vec<Home> {
        let found = partitions_of(self, disk);
        let span = |number: u32| {
            let one = found.iter().find(|one| one.0 == number);
            one.unwrap_or_else(|| panic!("{}: there is no partition {number}", self.name)).1
        };
        let mut homes = Vec::new();
        for &part in self.parts {
            let Part(number, .., role) = part;
            let Role::Pv(Group(group, volumes)) = role else {
                if role != Role::Extended {
                    homes.push(Home { name: number.to_string(), role, runs: vec![span(number)] });
                }
                continue;
            };
            let all = extents(disk, span(number));
            for &(volume, _, role) in *volumes {
                let runs = all.iter().filter(|run| run.volume == volume).map(|run| run.span).collect();
                homes.push(Home { name: format!("{group}/{volume}"), role, runs });
            }
        }
        homes
    }

    /// Installs a bootable guest whose root holds `tree`, as a raw image.
    ///
    /// # Panics
    /// Where one of the programs that make it fails.
    pub fn install(&self, tree: &Path, to: &Path) {
        let file = File::create(to).and_then(|file| file.set_len(self.disk.get()));
        file.expect("a sparse file");
        if !self.label.is_empty() {
            partition(to, &self.script());
        }
        if let Some((part, group)) = self.group() {
            group::create(to, part.span(), group);
        }
        self.write_config(tree);
        let work = tempfile::tempdir().expect("a temporary folder");
        let image = work.path().join("content");
        let homes = self.homes(to);
        let mut uuid = String::new();
        for home in &homes {
            let len = home.size();
            match home.role {
                // GRUB reads /boot of the boot partition where there is one; root keeps its copy, as a backup would.
                Role::Boot(name) => filesystem(name, len, &tree.join("boot"), &image),
                Role::Root(name) => filesystem(name, len, tree, &image),
                Role::Swap => swap(len, &image),
                Role::Esp | Role::BiosBoot | Role::Extended | Role::Pv(_) => continue,
            }
            if self.loader == Loader::Grub2Search && home.role != Role::Swap {
                uuid = dumpe2fs(&image, Offset::ZERO).remove("Filesystem UUID").unwrap_or(uuid);
            }
            group::put(&image, to, &home.runs);
        }
        self.install_loader(to, &homes, &uuid);
    }

    fn install_loader(&self, disk: &Path, homes: &[Home], uuid: &str) {
        let boot = self.boot_part();
        let dir = if boot.0 == self.root() { "/boot/grub" } else { "/grub" };
        let core = match (self.loader, boot.3) {
            (Loader::Nothing, _) => return,
            (Loader::GrubLegacy, _) => return loader::install_legacy(disk, boot.0),
            (Loader::Grub2Search, _) => Core::searching(uuid, dir),
            (Loader::Grub2, Role::Pv(group)) => Core::at(&group::grub_name(disk, boot.span(), group), dir),
            (Loader::Grub2, _) => {
                let label = if self.label == "gpt" { "gpt" } else { "msdos" };
                Core::at(&format!("hd0,{label}{}", boot.0), dir)
            }
        };
        for home in homes {
            match home.role {
                Role::Esp => {
                    let image = tempfile::NamedTempFile::new().expect("a temporary file");
                    loader::system_partition(home.size(), &core, image.path());
                    group::put(image.path(), disk, &home.runs);
                }
                Role::BiosBoot => core.embed(disk, home.runs[0].start().get() / 512),
                _ => {}
            }
        }
        if self.label == "dos" {
            core.embed(disk, 1);
        }
    }

    /// GRUB's menu and fstab for this layout; then the digests of all files, which the guest verifies when it is up.
    fn write_config(&self, tree: &Path) {
        let root = self.root_argument();
        let dir = if self.boot_part().0 == self.root() { "/boot" } else { "" };
        let initramfs = self.group().is_some();
        if initramfs {
            initramfs::pack(tree, &tree.join("boot/initrd.img"));
        }
        let initrd = if initramfs { format!("initrd {dir}/initrd.img\n") } else { String::new() };
        let serial = "serial --unit=0 --speed=115200\n";
        let kernel = format!("{dir}/vmlinuz root={root} ro console=ttyS0,115200 panic=-1\n{initrd}");
        let (name, menu) = match self.loader {
            Loader::GrubLegacy => {
                crate::loader::legacy_files(tree);
                let title =
                    format!("default 0\ntimeout 0\ntitle guest\nroot (hd0,{})", self.boot_part().0 - 1);
                ("menu.lst", format!("{serial}terminal serial\n{title}\nkernel {kernel}"))
            }
            _ => {
                let terminal = "terminal_input serial console\nterminal_output serial console\n";
                ("grub.cfg", format!("{serial}{terminal}linux {kernel}boot\n"))
            }
        };
        write(tree.join("boot/grub").join(name), menu).expect("GRUB's menu");
        let swap =
            self.part(|role| role == Role::Swap).map(|_| format!("UUID={SWAP_UUID} none swap sw 0 0\n"));
        let fstab = format!("{root} / auto defaults 0 1\n{}", swap.unwrap_or_default());
        write(tree.join("etc/fstab"), fstab).expect("fstab");
        userland::sign(tree);
    }
}

/// The partitions of a disk by number; a disk without a table is one with the number 0.
fn partitions_of(layout: &Layout, disk: &Path) -> Vec<(u32, Span)> {
    if layout.label.is_empty() {
        return vec![(0, Span::whole(Len::new(disk.metadata().expect("a disk").len())))];
    }
    let span = |start, len| Span::new(start, len).expect("within the disk");
    partitions(disk, SectorSize::B512).into_iter().map(|one| (one.number, span(one.start, one.len))).collect()
}

/// Divides a disk image as a script for sfdisk says.
///
/// # Panics
/// Where sfdisk does not.
pub fn partition(disk: &Path, script: &str) {
    let mut sfdisk = tool("sfdisk");
    sfdisk.args(["-q", "--no-reread", "--no-tell-kernel"]).arg(disk).stdin(Stdio::piped());
    let mut child = sfdisk.spawn().expect("sfdisk starts");
    child.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("sfdisk reads its script");
    assert!(child.wait().expect("sfdisk ends").success(), "sfdisk: {script}");
}

/// Makes a filesystem with a tree of files, by name of its flavour.
fn filesystem(name: &str, len: Len, tree: &Path, image: &Path) {
    if !["xfs", "btrfs"].contains(&name) {
        return format(flavor(name), len, Some(tree), image);
    }
    File::create(image).and_then(|file| file.set_len(len.get())).expect("a sparse file");
    run(&format!("mkfs.{name}"), ["-q".as_ref(), "-f".as_ref(), image.as_os_str()]);
    let mount = Mount::new(image, "loop");
    run("cp", ["-a".as_ref(), tree.join(".").as_os_str(), mount.path().as_os_str()]);
}

fn swap(len: Len, image: &Path) {
    File::create(image).and_then(|file| file.set_len(len.get())).expect("a sparse file");
    run("mkswap", ["-q".as_ref(), "-U".as_ref(), SWAP_UUID.as_ref(), image.as_os_str()]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_clean, assert_sfdisk_verify};

    fn goes(name: &str, firmware: Firmware) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let [root, raw, content] = ["root", "disk.raw", "content"].map(|name| dir.path().join(name));
        std::fs::create_dir(&root).expect("a folder");
        demo_root(&root, true);
        let layout = layout(name);
        layout.install(&root, &raw);
        assert_sfdisk_verify(&raw);
        let homes = layout.homes(&raw);
        let one = |is: fn(Role) -> bool| homes.iter().find(|home| is(home.role));
        let home = one(|role| matches!(role, Role::Root(_))).expect("a root");
        let up = boot(&raw, "raw", firmware);
        assert!(up.files_good && up.boots == 1, "{name}: {up:?}");
        let len = home.size();
        assert!(up.size < len && up.size.get() > len.get() / 10 * 9, "{name}: {up:?}");
        let swap = one(|role| role == Role::Swap).map_or(0, |swap| swap.size().get() - 4096);
        assert_eq!(up.swap.get(), swap, "{name}");
        take(&raw, &home.runs, &content);
        assert_clean(&content, Offset::ZERO);
    }

    /// One test a layout, so that they run side by side.
    macro_rules! boots {
        ($($name:ident: $layout:literal $firmware:ident,)*) => {
            $(#[test] fn $name() { goes($layout, Firmware::$firmware); })*
        };
    }

    // The others boot in the end-to-end suite, after they have grown.
    boots! {
        debian12_cloud: "debian12-cloud" Bios,
        logical_root: "logical-root" Bios,
        centos6: "centos6" Bios,
        ubuntu2404_lvm: "ubuntu2404-lvm" Bios,
        rhel9: "rhel9" Uefi,
    }

    #[test]
    fn the_demo_guest_boots_as_it_lies_in_the_fixture() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let vhd = dir.path().join("guest.vhd");
        unpack_demo(&vhd);
        let up = boot(&vhd, "vpc", Firmware::Bios);
        assert!(up.files_good && up.boots == 1, "{up:?}");
    }
}
