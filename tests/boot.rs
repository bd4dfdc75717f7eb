//! Guests start after their disks have grown, and see the space.

use std::path::Path;

use testkit::guest::{Firmware, boot, demo_root, layout, unpack_demo};
use testkit::oracle::{assert_clean, qemu_convert, qemu_raw};

use crate::kit::ends;

fn grows_and_boots(name: &str, format: (&str, &str), firmware: Firmware) {
    let dir = tempfile::tempdir().unwrap();
    let [root, raw] = ["root", "disk.raw"].map(|name| dir.path().join(name));
    std::fs::create_dir(&root).unwrap();
    demo_root(&root, true);
    let layout = layout(name);
    layout.install(&root, &raw);
    let image = dir.path().join(format!("guest.{}", format.0));
    qemu_convert(&raw, "raw", &image, format.1, &[]);
    ends(0, &image, "grow @ +10G");
    comes_up(&image, format.1, firmware);
    qemu_raw(&image, format.1, &raw);
    assert_clean(&raw, layout.root_span().0);
}

fn comes_up(image: &Path, format: &str, firmware: Firmware) {
    let up = boot(image, format, firmware);
    assert!(up.files_good && up.boots == 1, "{up:?}");
    assert!(up.size.get() > 10 << 30, "{up:?}");
}

#[test]
fn the_demo_guest() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("guest.vhd");
    unpack_demo(&image);
    ends(0, &image, "grow @ +10G --check");
    comes_up(&image, "vpc", Firmware::Bios);
}

#[test]
fn centos5() {
    grows_and_boots("centos5", ("vhd", "vpc"), Firmware::Bios);
}

#[test]
fn debian12() {
    grows_and_boots("debian12", ("qcow2", "qcow2"), Firmware::Bios);
}

#[test]
fn ubuntu2404() {
    grows_and_boots("ubuntu2404", ("vhd", "vpc"), Firmware::Uefi);
}
