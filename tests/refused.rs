//! Refusals: the code, one line, and an image with not a byte changed.

use std::os::unix::fs::FileExt;
use std::path::Path;

use ondisk::{Len, Offset};
use testkit::images::{Fill, flavor};
use testkit::oracle::{debugfs, qemu_convert};
use testkit::tool::{copy_sparse, run};

use crate::disks::{Scheme, sfdisk};
use crate::kit::{assert_told, beside, on, seen};

pub fn refused(code: i32, image: &Path, line: &str) {
    let (before, files) = (seen(image), beside(image));
    for line in [line.to_owned(), format!("{line} --json"), format!("{line} -n")] {
        let out = on(image, &line);
        assert_told(&out, code, image, &line);
        if line.ends_with("--json") {
            let document: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
            assert_eq!(document["error"]["code"], code, "{line}: {document}");
        }
        assert_eq!(seen(image), before, "{line}: the image has changed");
        assert_eq!(beside(image), files, "{line}: something was left");
    }
}

pub fn patch(image: &Path, at: u64, bytes: &[u8]) {
    std::fs::File::options().write(true).open(image).unwrap().write_all_at(bytes, at).unwrap();
}

#[test]
fn sizes_places_and_formats() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk.raw");
    Scheme::Mbr.disk(flavor("ext4-1k"), Fill::Tree, Len::mib(32), &disk);
    for (code, line) in [
        (2, "grow @ 10"),
        (2, "grow @"),
        (2, "grow @ +1G --frobnicate"),
        (2, "grow @ +1G -f dmg"),
        (2, "grow @ +10%FREE"),
        (2, "grow @ +1000000000000G"),
        (3, "grow @ 20M"),
        (3, "grow @ +1G -p 2"),
        (3, "grow @ +1G -p LABEL=other"),
        (3, "grow @ +1G -p vg/lv"),
        (4, "grow @ +1G -f qcow2"),
        (4, "grow @ +1G -f vhd"),
    ] {
        refused(code, &disk, line);
    }
    for format in ["qcow2", "vpc"] {
        let image = dir.path().join(format!("{format}.img"));
        qemu_convert(&disk, "raw", &image, format, &[]);
        refused(3, &image, "grow @ +1G");
        let misnamed = dir.path().join(format!("{format}.raw"));
        copy_sparse(&image, &misnamed);
        refused(3, &misnamed, "grow @ +1G");
    }
}

#[test]
fn what_lies_behind_the_partition_is_not_moved() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk.raw");
    std::fs::File::create(&disk).unwrap().set_len(100 << 20).unwrap();
    sfdisk(&disk, "label: dos\n1: start=2048, size=65536\n2: start=67584, size=65536\n");
    for at in [1, 33] {
        testkit::images::make_at(flavor("ext4-1k"), Len::mib(32), Fill::Tree, &disk, Offset::new(at << 20));
    }
    refused(3, &disk, "grow @ +64M -p 1");
}

#[test]
fn a_hibernated_guest_is_left_asleep() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk.raw");
    Scheme::Logical.disk(flavor("ext4-1k"), Fill::Tree, Len::mib(32), &disk);
    patch(&disk, (4 << 20) + 4086, b"S1SUSPEND\0");
    refused(3, &disk, "grow @ +64M");
}

#[test]
fn damage_where_the_change_relies_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole.raw");
    testkit::images::make(flavor("ext4-1k"), Len::mib(32), Fill::Tree, &whole);
    let cases: [(&str, u64, &[u8]); 8] = [
        ("block size", 24, &[32]),
        ("blocks per group", 32, &[0; 4]),
        ("inodes per group", 40, &[0; 4]),
        ("inode size", 88, &[1, 0]),
        ("first data block", 20, &[9]),
        ("descriptor size", 0xfe, &[7, 0]),
        ("reserved descriptors", 0xce, &[0xff, 0xff]),
        ("checksum", 0x3fc, &[1, 2, 3, 4]),
    ];
    for (what, at, bytes) in cases {
        let image = dir.path().join("damaged.raw");
        copy_sparse(&whole, &image);
        patch(&image, 1024 + at, bytes);
        println!("{what}");
        refused(4, &image, "grow @ +64M");
    }
    for command in [
        "clri <7>",
        "clri <2>",
        "sif <2> mode 0100755",
        "sif <2> links_count 0",
        "sif <2> block[5] 0x7fffffff",
        "clri <8>",
        "sif <8> links_count 0",
        "sif <8> size 4096",
        "set_bg 0 inode_table 1",
        "freeb 20",
    ] {
        let image = dir.path().join("damaged.raw");
        copy_sparse(&whole, &image);
        let _ = debugfs(&image, Offset::ZERO, true, &format!("{command}\n"));
        println!("{command}");
        refused(4, &image, if command.starts_with("freeb") { "grow @ +64M --check" } else { "grow @ +64M" });
    }
}

#[test]
fn damaged_tables() {
    let dir = tempfile::tempdir().unwrap();
    let [whole, disk] = ["whole.raw", "disk.raw"].map(|name| dir.path().join(name));
    Scheme::Gpt.disk(flavor("ext4-1k"), Fill::Tree, Len::mib(32), &whole);
    let end = whole.metadata().unwrap().len();
    for at in [512 + 16, 1024 + 56, end - 512 + 16] {
        copy_sparse(&whole, &disk);
        patch(&disk, at, &[0x55; 4]);
        refused(4, &disk, "grow @ +64M");
    }
    run("truncate", ["-s", "-1M", whole.to_str().unwrap()]);
    refused(4, &whole, "grow @ +64M");
}
