//! Boot loaders through `info` and `grow`: what was installed by its own program is shown, is the same after a grow, and a
//! grow that would break it is refused.

use crate::kit::{code, imgtool, json, text};
use ondisk::{Len, Offset};
use serde_json::{Value, json};
use std::fs::{create_dir_all, write};
use std::path::{Path, PathBuf};
use testkit::loader::{self, Grub2, UUID};
use testkit::oracle::assert_clean;
use testkit::tool::{self, said};

const MIB: u64 = 1 << 20;
const AT: Offset = Offset::new(MIB);
const MBR: &str = "label: dos\nlabel-id: 0x0a1b2c3d\nstart=2048,type=83,bootable\n";
const SWAP_BEHIND: &str =
    "label: dos\nlabel-id: 0x0a1b2c3d\nstart=2048,size=122880,type=83,bootable\nstart=124928,type=82\n";
const GPT: &str =
    "label: gpt\nstart=2048,size=2048,type=21686148-6449-6E6F-744E-656564454649\nstart=4096,type=L\n";
const BASE: [&str; 5] = ["biosdisk", "part_msdos", "part_gpt", "ext2", "search_fs_uuid"];

/// A disk with a filesystem of 60 MiB.
fn disk(dir: &Path, script: &str, start: Offset, flavor: &str) -> (PathBuf, (Offset, Len)) {
    let (path, boot) = (dir.join("disk"), (start, Len::mib(60)));
    let len = if start == Offset::ZERO { boot.1 } else { Len::mib(64) };
    loader::disk(&path, len, script, flavor, boot);
    (path, boot)
}

/// The part of `info` that is about boot loaders.
fn boot(disk: &Path) -> Value {
    json(&["info", "-f", "raw", text(disk), "--json"])["boot"].clone()
}

/// The same for people.
fn shown(disk: &Path) -> String {
    let out = String::from_utf8(code(0, &["info", "-f", "raw", text(disk)])).unwrap();
    out.lines().skip_while(|line| !line.contains("boot sector")).map(|line| format!("{line}\n")).collect()
}

/// What is the same before and after a grow: everything about the boot loader.
fn survives(disk: &Path, start: Offset) {
    let before = boot(disk);
    assert_ne!(before["loaders"], json!([]));
    for loader in before["loaders"].as_array().unwrap() {
        assert_ne!(loader["resolves"], json!(false), "{loader:#}");
    }
    code(0, &["grow", "-f", "raw", text(disk), "+200M"]);
    assert_eq!(boot(disk), before);
    assert_clean(disk, start);
}

#[test]
fn a_core_in_the_gap_survives_moved_swap() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, boot) = disk(dir.path(), SWAP_BEHIND, AT, "ext4-4k");
    let swap = tempfile::NamedTempFile::new().unwrap();
    swap.as_file().set_len(3 * MIB).unwrap();
    let uuid = "99999999-2222-4333-8444-555555555555";
    tool::run("mkswap", ["-q".as_ref(), "-U".as_ref(), uuid.as_ref(), swap.path().as_os_str()]);
    testkit::images::place(swap.path(), &disk, Offset::new(61 * MIB));
    loader::with_files(&disk, boot, |root| {
        let menu = format!("linux /vmlinuz root=UUID={UUID} ro resume=UUID={uuid}\n");
        create_dir_all(root.join("etc/initramfs-tools/conf.d")).unwrap();
        write(root.join("etc/initramfs-tools/conf.d/resume"), "RESUME=/dev/sda2\n").unwrap();
        write(
            root.join("etc/fstab"),
            format!("UUID={UUID} / ext4 x-systemd.growfs 0 1\n/dev/sda2 none swap sw\n"),
        )
        .unwrap();
        write(root.join("boot/grub/menu.lst"), menu).unwrap();
    });
    let config = format!("search.fs_uuid {UUID} root \nset prefix=($root)'/boot/grub'\n");
    Grub2 { prefix: "/boot/grub", config: Some(&config), modules: &BASE }.install(&disk, boot);
    let modules = "biosdisk part_msdos part_gpt fshelp ext2 search_fs_uuid";
    let shown = shown(&disk);
    let (head, tail) = shown.split_once("compressed\n").unwrap();
    let begin = "├─ boot sector: GRUB 2, its core at sector 1 in front of the first partition\n";
    assert!(head.starts_with(&format!("{begin}│  ├─ modules {modules}, ")), "{head}");
    let want = format!(
        "│  ├─ runs search.fs_uuid {UUID} root\n\
         │  ├─ runs set prefix=($root)'/boot/grub'\n\
         │  ├─ prefix /boot/grub\n\
         │  └─ finds its files in partition 1\n\
         ├─ when it starts, systemd grows the filesystem of /\n\
         ├─ partition 1: /etc/fstab none /dev/sda2 is partition 2\n\
         ├─ partition 1: /boot/grub/menu.lst resume UUID={uuid} is partition 2\n\
         └─ partition 1: /etc/initramfs-tools/conf.d/resume resume /dev/sda2 is partition 2\n"
    );
    assert_eq!(tail, want);
    survives(&disk, AT);
}

#[test]
fn a_core_in_a_bios_boot_partition_survives() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, boot) = disk(dir.path(), GPT, Offset::new(2 * MIB), "ext4-4k");
    Grub2 { prefix: "(,gpt2)/boot/grub", config: None, modules: &BASE }.install(&disk, boot);
    survives(&disk, boot.0);
}

#[test]
fn cores_in_files_survive() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, at) = disk(dir.path(), "", Offset::ZERO, "ext4-1k");
    Grub2 { prefix: "()/boot/grub", config: None, modules: &BASE }.install(&whole, at);
    survives(&whole, at.0);
    let (part, at) = disk(dir.path(), MBR, AT, "ext4-1k");
    Grub2 { prefix: "(,msdos1)/boot/grub", config: None, modules: &BASE }.install_into_partition(&part, at);
    survives(&part, at.0);
}

#[test]
fn grub_legacy_and_extlinux_survive() {
    let dir = tempfile::tempdir().unwrap();
    for script in ["setup (hd0)", "install /boot/grub/stage1 (hd0) /boot/grub/stage2 p /boot/grub/menu.lst"] {
        let (disk, boot) = disk(dir.path(), MBR, AT, "ext3-centos5");
        loader::install_legacy(&disk, boot, &format!("root (hd0,0)\n{script}"));
        survives(&disk, boot.0);
    }
    let (disk, boot) = disk(dir.path(), MBR, AT, "ext4-1k");
    loader::install_extlinux(&disk, boot);
    survives(&disk, boot.0);
}

/// A filesystem without reserve, whose first data are GRUB 0.97's stages: they are in the way of more descriptors.
fn in_the_way(dir: &Path) -> PathBuf {
    let (disk, _) = disk(dir, MBR, AT, "ext3-1k");
    let [root, image] = ["root", "image"].map(|name| dir.join(name));
    create_dir_all(root.join("boot/grub")).unwrap();
    loader::legacy_files(&root);
    let options =
        ["-q", "-F", "-t", "ext3", "-O", "^resize_inode", "-b", "1024", "-N", "128", "-I", "128", "-d"];
    let paths = [text(&root), text(&image), "60m"];
    tool::run("mke2fs", options.iter().chain(&paths));
    testkit::images::place(&image, &disk, AT);
    disk
}

#[test]
fn a_grow_that_would_move_pinned_blocks_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let disk = in_the_way(dir.path());
    let script = "root (hd0,0)\ninstall /boot/grub/stage1 (hd0) /boot/grub/stage2 p /boot/grub/menu.lst";
    loader::legacy_shell(&disk, script);
    let before = std::fs::read(&disk).unwrap();
    let out = imgtool(["grow", "-f", "raw", text(&disk), "30G"]);
    assert_eq!(out.status.code(), Some(3), "{}", said(&out));
    assert!(said(&out).contains("the boot loader reads it by its place"), "{}", said(&out));
    assert!(std::fs::read(&disk).unwrap() == before, "the image has changed");
    // As far as nothing has to move, it grows.
    survives(&disk, AT);
    // Stage 1.5 opens its files by name: nothing is pinned.
    loader::legacy_shell(&disk, "root (hd0,0)\nsetup (hd0)");
    let before = boot(&disk);
    code(0, &["grow", "-f", "raw", text(&disk), "30G"]);
    assert_eq!(boot(&disk), before);
    assert_clean(&disk, AT);
}

#[test]
fn what_the_guest_grows_by_itself_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, boot) = disk(dir.path(), MBR, AT, "ext4-4k");
    loader::with_files(&disk, boot, |root| {
        create_dir_all(root.join("etc/cloud/cloud.cfg.d")).unwrap();
        write(root.join("etc/cloud/cloud.cfg"), "cloud_init_modules:\n - migrator\n - growpart\n").unwrap();
        write(root.join("etc/fstab"), "LABEL=x / ext4 defaults,x-systemd.growfs 0 1\n").unwrap();
    });
    let notes = |options: &[&str]| {
        let args = [&["grow", "-f", "raw", text(&disk), "+10M", "-n", "--json"], options].concat();
        json(&args)["notes"].clone()
    };
    let both = "partition 1: cloud-init in it grows its partition and filesystem when the guest starts";
    assert_eq!(notes(&["--disk-only"]), json!([both]));
    assert_eq!(
        notes(&["--no-fs"]),
        json!([
            "partition 1: cloud-init in it grows its filesystem when the guest starts",
            "systemd grows the filesystem of / when the guest starts"
        ])
    );
    assert_eq!(notes(&[]), json!([]));
    loader::with_files(&disk, boot, |root| {
        write(root.join("etc/cloud/cloud.cfg.d/99.cfg"), "growpart:\n  mode: off\n").unwrap();
    });
    assert_eq!(notes(&["--disk-only"]), json!([]));
}
