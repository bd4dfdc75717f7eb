//! Bootable guests: the disk layouts that distributions install, with GRUB, a kernel and a userland that looks around,
//! reports on the serial console and powers off.
//!
//! Kernel and userland come out of the demo guest in `fixtures/`; its recipe makes that guest with this module as well.

use std::fmt::Write as _;
use std::fs::{OpenOptions, copy, create_dir_all, read, read_to_string, set_permissions, write};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use ondisk::{Len, Offset};

use crate::images::{flavor, format, place, plant};
use crate::oracle::{debugfs, qemu_raw};
use crate::tool::{done, find, run, said, tool};

/// What a partition is there for. Filesystems name their flavour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    BiosBoot,
    Esp,
    Boot(&'static str),
    Root(&'static str),
    Swap,
    Extended,
}

/// A partition: its number, first sector, sectors, role.
#[derive(Clone, Copy, Debug)]
struct Part(u32, u64, u64, Role);

/// What starts a guest from a BIOS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loader {
    Grub2,
    /// GRUB 0.97: knows neither `meta_bg` nor large group descriptors.
    GrubLegacy,
}

/// How a distribution divides a disk.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// For messages and look-up.
    pub name: &'static str,
    /// `dos` or `gpt`.
    label: &'static str,
    loader: Loader,
    /// The size of the disk.
    pub disk: Len,
    parts: &'static [Part],
}

const MIB: u64 = 2048; // in sectors

/// The layouts of the guests that matter.
pub const LAYOUTS: &[Layout] = &[
    // The demo guest: as Debian's cloud images, the root partition is the first by number and the last by place.
    Layout {
        name: "debian12-cloud",
        label: "gpt",
        loader: Loader::Grub2,
        disk: Len::gib(2),
        parts: &[
            Part(1, 32 * MIB, 2015 * MIB, Role::Root("ext4-4k")),
            Part(14, MIB, 3 * MIB, Role::BiosBoot),
            Part(15, 4 * MIB, 28 * MIB, Role::Esp),
        ],
    },
    // Debian's installer: root, then swap as a logical partition behind it.
    Layout {
        name: "debian12",
        label: "dos",
        loader: Loader::Grub2,
        disk: Len::gib(1),
        parts: &[
            Part(1, MIB, 893 * MIB, Role::Root("ext4-4k")),
            Part(2, 894 * MIB + 2046, 128 * MIB + 2, Role::Extended),
            Part(5, 895 * MIB, 128 * MIB, Role::Swap),
        ],
    },
    // Everything in logical partitions, as older guides had it.
    Layout {
        name: "logical-root",
        label: "dos",
        loader: Loader::Grub2,
        disk: Len::gib(1),
        parts: &[
            Part(1, MIB, 100 * MIB, Role::Boot("ext2-1k")),
            Part(2, 101 * MIB + 2046, 922 * MIB + 2, Role::Extended),
            Part(5, 102 * MIB, 64 * MIB, Role::Swap),
            Part(6, 167 * MIB, 857 * MIB, Role::Root("ext4-4k")),
        ],
    },
    // CentOS 5: GRUB 0.97, sector 63, ext3 with small inodes, swap before root.
    Layout {
        name: "centos5",
        label: "dos",
        loader: Loader::GrubLegacy,
        disk: Len::gib(1),
        parts: &[
            Part(1, 63, 208_782, Role::Boot("ext3-1k")),
            Part(2, 208_845, 257_040, Role::Swap),
            Part(3, 465_885, 1_622_565, Role::Root("ext3-centos5")),
        ],
    },
    // Ubuntu 24.04's cloud images: a boot partition with the number 16.
    Layout {
        name: "ubuntu2404",
        label: "gpt",
        loader: Loader::Grub2,
        disk: Len::gib(2),
        parts: &[
            Part(1, 1025 * MIB, 1022 * MIB, Role::Root("ext4-4k")),
            Part(14, MIB, 4 * MIB, Role::BiosBoot),
            Part(15, 5 * MIB, 106 * MIB, Role::Esp),
            Part(16, 111 * MIB, 914 * MIB, Role::Boot("ext4-4k")),
        ],
    },
    // RHEL 9's cloud images with ext4 in place of xfs.
    Layout {
        name: "rhel9",
        label: "gpt",
        loader: Loader::Grub2,
        disk: Len::gib(2),
        parts: &[
            Part(1, MIB, MIB, Role::BiosBoot),
            Part(2, 2 * MIB, 100 * MIB, Role::Esp),
            Part(3, 102 * MIB, 500 * MIB, Role::Boot("ext4-4k")),
            Part(4, 602 * MIB, 1445 * MIB, Role::Root("ext4-csum-seed")),
        ],
    },
];

/// The layout of that name.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn layout(name: &str) -> &'static Layout {
    LAYOUTS.iter().find(|layout| layout.name == name).unwrap_or_else(|| panic!("there is no layout {name}"))
}

impl Layout {
    fn part(&self, is: impl Fn(Role) -> bool) -> Option<Part> {
        self.parts.iter().copied().find(|part| is(part.3))
    }

    /// The number of the root partition.
    #[must_use]
    pub fn root(&self) -> u32 {
        self.root_part().0
    }

    /// Where the root partition lies.
    #[must_use]
    pub fn root_span(&self) -> (Offset, Len) {
        let Part(_, start, sectors, _) = self.root_part();
        (Offset::new(start * 512), Len::new(sectors * 512))
    }

    /// Whether it has a system partition for UEFI.
    #[must_use]
    pub fn has_uefi(&self) -> bool {
        self.part(|role| role == Role::Esp).is_some()
    }

    fn root_part(&self) -> Part {
        self.part(|role| matches!(role, Role::Root(_))).expect("each layout has a root")
    }

    fn part_uuid(&self, number: u32) -> String {
        if self.label == "gpt" {
            format!("0a1b2c3d-0000-4000-8000-{number:012}")
        } else {
            format!("0a1b2c3d-{number:02}")
        }
    }

    /// Its partition table as sfdisk reads it.
    fn script(&self) -> String {
        let gpt = self.label == "gpt";
        let id = if gpt { "0a1b2c3d-0000-4000-8000-00000000000d" } else { "0x0a1b2c3d" };
        let mut script = format!("label: {}\nlabel-id: {id}\nunit: sectors\n", self.label);
        for &Part(number, start, sectors, role) in self.parts {
            let kind = match role {
                Role::BiosBoot => "21686148-6449-6E6F-744E-656564454649",
                Role::Esp => "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
                Role::Swap if gpt => "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F",
                Role::Swap => "82",
                Role::Extended => "5",
                Role::Boot(_) | Role::Root(_) if gpt => "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
                Role::Boot(_) | Role::Root(_) => "83",
            };
            let _ = write!(script, "disk{number} : start={start}, size={sectors}, type={kind}");
            if gpt {
                let _ = write!(script, ", uuid={}", self.part_uuid(number));
            }
            script.push('\n');
        }
        script
    }

    /// Installs a bootable guest whose root holds `tree`, as a raw image.
    ///
    /// # Panics
    /// Where one of the programs that make it fails.
    pub fn install(&self, tree: &Path, to: &Path) {
        let file = std::fs::File::create(to).and_then(|file| file.set_len(self.disk.get()));
        file.expect("a sparse file");
        partition(to, &self.script());
        let work = tempfile::tempdir().expect("a temporary folder");
        let boot = self.part(|role| matches!(role, Role::Boot(_))).unwrap_or(self.root_part());
        self.write_config(tree, boot);
        let prefix = if boot.0 == self.root() { "/boot/grub" } else { "/grub" };
        let prefix = format!("(hd0,{}{}){prefix}", if self.label == "gpt" { "gpt" } else { "msdos" }, boot.0);
        for &Part(_, start, sectors, role) in self.parts {
            let at = Offset::new(start * 512);
            let len = Len::new(sectors * 512);
            let image = work.path().join("partition");
            match role {
                // GRUB reads /boot of the boot partition where there is one; root keeps its copy, as a backup would.
                Role::Boot(name) => format(flavor(name), len, Some(&tree.join("boot")), &image),
                Role::Root(name) => format(flavor(name), len, Some(tree), &image),
                Role::Esp => system_partition(len, &prefix, &image),
                Role::Swap => swap(len, &image),
                Role::BiosBoot | Role::Extended => continue,
            }
            place(&image, to, at);
        }
        match self.part(|role| role == Role::BiosBoot) {
            _ if self.loader == Loader::GrubLegacy => install_legacy(to, boot.0),
            Some(part) => {
                install_bios(to, part.1, &prefix, &[&MODULES[..], &["biosdisk", "part_gpt"]].concat())
            }
            None => install_bios(to, 1, &prefix, &[&MODULES[..], &["biosdisk", "part_msdos"]].concat()),
        }
    }

    /// GRUB's menu and fstab for this layout; then the digests of all files, which the guest verifies when it is up.
    fn write_config(&self, tree: &Path, boot: Part) {
        let root = self.part_uuid(self.root());
        let kernel = if boot.0 == self.root() { "/boot/vmlinuz" } else { "/vmlinuz" };
        let serial = "serial --unit=0 --speed=115200\n";
        let arguments = format!("root=PARTUUID={root} ro console=ttyS0,115200 panic=-1");
        let (name, menu) = match self.loader {
            Loader::Grub2 => {
                let terminal = "terminal_input serial console\nterminal_output serial console\n";
                ("grub.cfg", format!("{serial}{terminal}linux {kernel} {arguments}\nboot\n"))
            }
            Loader::GrubLegacy => {
                run("cp", legacy_stages().iter().chain([&tree.join("boot/grub")]));
                let title = format!("default 0\ntimeout 0\ntitle guest\nroot (hd0,{})", boot.0 - 1);
                ("menu.lst", format!("{serial}terminal serial\n{title}\nkernel {kernel} {arguments}\n"))
            }
        };
        write(tree.join("boot/grub").join(name), menu).expect("GRUB's menu");
        write(tree.join("etc/fstab"), format!("PARTUUID={root} / ext4 errors=remount-ro 0 1\n"))
            .expect("fstab");
        sign(tree);
    }
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

fn swap(len: Len, image: &Path) {
    std::fs::File::create(image).and_then(|file| file.set_len(len.get())).expect("a sparse file");
    run("mkswap", ["-q".as_ref(), image.as_os_str()]);
}

/// What the core image holds where there is room.
const MODULES: [&str; 4] = ["ext2", "normal", "linux", "serial"];

fn core_image(target: &str, prefix: &str, modules: &[&str], to: &Path) {
    let options = ["-O", target, "-p", prefix, "-o", to.to_str().expect("test paths are UTF-8")];
    run("grub-mkimage", options.iter().chain(modules));
}

/// A FAT filesystem with GRUB where UEFI looks on removable media.
fn system_partition(len: Len, prefix: &str, image: &Path) {
    std::fs::File::create(image).and_then(|file| file.set_len(len.get())).expect("a sparse file");
    run("mkfs.fat", ["-n".as_ref(), "EFI".as_ref(), "-i".as_ref(), "0a1b2c3d".as_ref(), image.as_os_str()]);
    let work = tempfile::tempdir().expect("a temporary folder");
    let dir = work.path().join("EFI/BOOT");
    create_dir_all(&dir).expect("a folder");
    let modules = [&MODULES[..], &["part_gpt", "efi_gop"]].concat();
    core_image("x86_64-efi", prefix, &modules, &dir.join("BOOTX64.EFI"));
    let from = work.path().join("EFI");
    run("mcopy", ["-s".as_ref(), "-i".as_ref(), image.as_os_str(), from.as_os_str(), "::".as_ref()]);
}

/// Puts GRUB's boot sector and core image where `grub-bios-setup` would, the core at sector `core_at`.
fn install_bios(disk: &Path, core_at: u64, prefix: &str, modules: &[&str]) {
    let work = tempfile::tempdir().expect("a temporary folder");
    let core = work.path().join("core.img");
    core_image("i386-pc", prefix, modules, &core);
    let mut core = read(core).expect("a core image");
    core.resize(core.len().next_multiple_of(512), 0);
    core[0x1f4..0x1fc].copy_from_slice(&(core_at + 1).to_le_bytes()); // diskboot's list: where the rest lies
    let mut boot = read(find("/usr/lib/grub/i386-pc/boot.img")).expect("a boot sector");
    boot[0x5c..0x64].copy_from_slice(&core_at.to_le_bytes());
    boot[0x66..0x68].copy_from_slice(&[0x90, 0x90]); // a hard disk: trust no drive number but the BIOS's
    let disk = OpenOptions::new().read(true).write(true).open(disk).expect("a disk");
    let mut old = [0; 512];
    disk.read_exact_at(&mut old, 0).expect("the partition table's sector");
    boot[0x003..0x05a].copy_from_slice(&old[0x003..0x05a]);
    boot[0x1b8..0x200].copy_from_slice(&old[0x1b8..0x200]);
    disk.write_all_at(&boot, 0).expect("the boot sector");
    disk.write_all_at(&core, core_at * 512).expect("the core image");
}

/// The files of GRUB 0.97 that a guest keeps in its `/boot/grub`.
fn legacy_stages() -> [PathBuf; 3] {
    ["stage1", "stage2", "e2fs_stage1_5"].map(|name| find(&format!("/usr/lib/grub/x86_64-pc/{name}")))
}

/// Lets GRUB 0.97 install itself from the boot partition's files.
fn install_legacy(disk: &Path, boot: u32) {
    let mut grub = tool("grub");
    grub.args(["--batch", "--device-map=/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = grub.spawn().expect("grub starts");
    let script = format!("device (hd0) {}\nroot (hd0,{})\nsetup (hd0)\nquit\n", disk.display(), boot - 1);
    child.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("grub reads its script");
    let said = said(&child.wait_with_output().expect("grub ends"));
    assert!(said.contains("succeeded") && !said.contains("Error"), "{said}");
}

/// The userland's first and only process.
const INIT: &str = r#"#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -o remount,rw / && echo boot >> /var/log/boots
cd / && sha256sum -c -s /etc/checksums && files=good || files=bad
echo "$(uname -sr) is up"
df -h /
set -- $(df -k / | tail -n 1)
echo "guest-up size_kib=$2 used_kib=$3 boots=$(wc -l < /var/log/boots) files=$files"
sync
mount -o remount,ro /
poweroff -f
"#;

/// The root folder of a guest around a kernel and a static busybox.
///
/// # Panics
/// Where a file cannot be made.
pub fn skeleton(root: &Path, kernel: &Path, busybox: &Path) {
    for dir in ["bin", "boot/grub", "dev", "etc", "home", "proc", "root", "sbin", "sys", "tmp", "var/log"] {
        create_dir_all(root.join(dir)).expect("a folder");
    }
    copy(kernel, root.join("boot/vmlinuz")).expect("the kernel");
    copy(busybox, root.join("bin/busybox")).expect("busybox");
    for name in
        ["cat", "df", "echo", "ls", "mount", "poweroff", "sh", "sha256sum", "sync", "tail", "uname", "wc"]
    {
        symlink("busybox", root.join("bin").join(name)).expect("a link");
    }
    write(root.join("sbin/init"), INIT).expect("init");
    for program in ["sbin/init", "bin/busybox"] {
        set_permissions(root.join(program), PermissionsExt::from_mode(0o755)).expect("its mode");
    }
    write(root.join("etc/hostname"), "demo\n").expect("a file");
    let release = "ID=demo\nNAME=\"Demo guest\"\nPRETTY_NAME=\"Demo guest (Linux, busybox)\"\nVERSION_ID=1\n";
    write(root.join("etc/os-release"), release).expect("a file");
    write(root.join("var/log/boots"), "").expect("a file");
}

/// Writes down the digests of all files that stay as they are; busybox cannot read names with line feeds back.
fn sign(root: &Path) {
    let stays = "find . -type f ! -path ./etc/checksums ! -path './var/*' ! -name '*\n*' -print0";
    let sums =
        done(tool("sh").arg("-c").arg(format!("{stays} | sort -z | xargs -0 sha256sum")).current_dir(root));
    write(root.join("etc/checksums"), sums).expect("the digests");
}

/// The compressed VHD of the demo guest.
#[must_use]
pub fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/demo-guest/guest.vhd.gz")
}

/// Unpacks the demo guest to `to`, a dynamic VHD.
///
/// # Panics
/// Where gzip fails.
pub fn unpack_demo(to: &Path) {
    let out = std::fs::File::create(to).expect("an image");
    done(tool("gzip").arg("-dc").arg(demo()).stdout(out));
}

/// The demo guest's root folder, with the test tree below `data` when `planted`.
///
/// # Panics
/// Where debugfs cannot read it.
pub fn demo_root(root: &Path, planted: bool) {
    let work = tempfile::tempdir().expect("a temporary folder");
    let [vhd, raw] = ["guest.vhd", "guest.raw"].map(|name| work.path().join(name));
    unpack_demo(&vhd);
    qemu_raw(&vhd, "vpc", &raw);
    let (at, _) = layout("debian12-cloud").root_span();
    let _ = debugfs(&raw, at, false, &format!("rdump / {}", root.display()));
    std::fs::remove_dir(root.join("lost+found")).expect("an empty folder");
    if planted {
        plant(&root.join("data"));
    }
    assert!(
        read_to_string(root.join("sbin/init")).is_ok_and(|text| text == INIT),
        "the demo guest is out of date"
    );
}

/// The firmware that starts a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// A PC BIOS and an IDE disk.
    Bios,
    /// UEFI and a virtio disk.
    Uefi,
}

/// What a guest says of itself when it is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Up {
    /// The size of its root filesystem as `df` has it.
    pub size: Len,
    /// How much of it is used.
    pub used: Len,
    /// How often it was started, this time included.
    pub boots: u64,
    /// Whether all its files have the digests that they were installed with.
    pub files_good: bool,
}

/// Starts the guest in `image` (`format` is qemu's name of the container), and waits until it powers off.
/// The guest writes to the image.
///
/// # Panics
/// Where it does not come up within two minutes: with its console's text.
#[must_use]
pub fn boot(image: &Path, format: &str, firmware: Firmware) -> Up {
    let mut qemu = tool("qemu-system-x86_64");
    // Emulated, not virtualised: a few seconds more, but the same on every host, nested ones included.
    qemu.args(["-accel", "tcg", "-m", "256", "-display", "none", "-serial", "stdio"]);
    qemu.args(["-monitor", "none", "-nic", "none", "-no-reboot"]);
    let bus = match firmware {
        Firmware::Bios => "ide",
        Firmware::Uefi => {
            qemu.arg("-bios").arg(find("/usr/share/ovmf/OVMF.fd"));
            "virtio"
        }
    };
    qemu.arg("-drive").arg(format!("file={},format={format},if={bus}", image.display()));
    let child = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let text = console(child.expect("qemu starts"), Duration::from_secs(120));
    report(&text).unwrap_or_else(|| panic!("{} did not come up:\n{text}", image.display()))
}

/// All that a machine says until it powers off or its time is up.
fn console(mut child: Child, time: Duration) -> String {
    let mut out = child.stdout.take().expect("a pipe");
    let mut err = child.stderr.take().expect("a pipe");
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = out.read_to_end(&mut bytes);
        let _ = err.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let end = Instant::now() + time;
    while child.try_wait().expect("qemu is our child").is_none() {
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    reader.join().expect("the console was read")
}

fn report(text: &str) -> Option<Up> {
    let line = text.lines().find_map(|line| line.split_once("guest-up ")).map(|(_, line)| line.trim())?;
    let value = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let number = |name: &str| value(name)?.parse::<u64>().ok();
    Some(Up {
        size: Len::new(number("size_kib")? * 1024),
        used: Len::new(number("used_kib")? * 1024),
        boots: number("boots")?,
        files_good: value("files")? == "good",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_clean, assert_sfdisk_verify};

    fn goes(name: &str, firmware: Firmware) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let [root, raw] = ["root", "disk.raw"].map(|name| dir.path().join(name));
        std::fs::create_dir(&root).expect("a folder");
        demo_root(&root, true);
        let layout = layout(name);
        layout.install(&root, &raw);
        assert_sfdisk_verify(&raw);
        let (at, len) = layout.root_span();
        assert_clean(&raw, at);
        let up = boot(&raw, "raw", firmware);
        assert!(up.files_good && up.boots == 1, "{name}: {up:?}");
        assert!(up.size < len && up.size.get() > len.get() / 10 * 9, "{name}: {up:?}");
        assert_clean(&raw, at);
    }

    /// One test a layout, so that they run side by side.
    macro_rules! boots {
        ($($name:ident: $layout:literal $firmware:ident,)*) => {
            $(#[test] fn $name() { goes($layout, Firmware::$firmware); })*
        };
    }

    boots! {
        debian12_cloud: "debian12-cloud" Bios,
        debian12: "debian12" Bios,
        logical_root: "logical-root" Bios,
        centos5: "centos5" Bios,
        ubuntu2404: "ubuntu2404" Uefi,
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
