//! Guests start after their disks have grown, and see the space.

use std::path::Path;

use ondisk::Offset;
use testkit::guest::{Firmware, Role, Up, boot, demo_root, layout, take, unpack_demo};
use testkit::oracle::{assert_clean, qemu_convert, qemu_raw};

use crate::kit::ends;

fn grows_and_boots(name: &str, format: (&str, &str), firmware: Firmware) {
    let dir = tempfile::tempdir().unwrap();
    let [root, raw, content] = ["root", "disk.raw", "content"].map(|name| dir.path().join(name));
    std::fs::create_dir(&root).unwrap();
    demo_root(&root, true);
    let layout = layout(name);
    layout.install(&root, &raw);
    let image = dir.path().join(format!("guest.{}", format.0));
    qemu_convert(&raw, "raw", &image, format.1, &[]);
    ends(0, &image, "grow @ +10G");
    let up = comes_up(&image, format.1, firmware);
    qemu_raw(&image, format.1, &raw);
    for home in layout.homes(&raw) {
        match home.role {
            Role::Root(_) => {
                take(&raw, &home.runs, &content);
                assert_clean(&content, Offset::ZERO);
            }
            // The guest finds its swap by UUID, wherever it lies now; the header is no part of the space.
            Role::Swap => assert_eq!(up.swap.get(), home.size().get() - 4096, "{name}"),
            _ => {}
        }
    }
}

fn comes_up(image: &Path, format: &str, firmware: Firmware) -> Up {
    let up = boot(image, format, firmware);
    assert!(up.files_good && up.boots == 1, "{up:?}");
    assert!(up.size.get() > 10 << 30, "{up:?}");
    up
}

#[test]
fn the_demo_guest() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("guest.vhd");
    unpack_demo(&image);
    ends(0, &image, "grow @ +10G --check");
    comes_up(&image, "vpc", Firmware::Bios);
}

/// One test a guest: its layout, ending and qemu's name of its format, firmware.
macro_rules! boots {
    ($($test:ident: $layout:literal $ending:literal $format:literal $firmware:ident,)*) => {
        $(#[test] fn $test() { grows_and_boots($layout, ($ending, $format), Firmware::$firmware); })*
    };
}

boots! {
    centos5: "centos5" "vhd" "vpc" Bios,
    centos5_swap_last: "centos5-swap-last" "vhd" "vpc" Bios,
    centos6_lvm: "centos6-lvm" "qcow2" "qcow2" Bios,
    debian12: "debian12" "qcow2" "qcow2" Bios,
    debian12_uefi: "debian12-uefi" "qcow2" "qcow2" Uefi,
    debian12_lvm: "debian12-lvm" "vhd" "vpc" Bios,
    boot_in_lvm: "boot-in-lvm" "raw" "raw" Bios,
    root_swap: "root-swap" "vhd" "vpc" Bios,
    ubuntu2404: "ubuntu2404" "vhd" "vpc" Uefi,
    rhel9_lvm: "rhel9-lvm" "qcow2" "qcow2" Uefi,
}
