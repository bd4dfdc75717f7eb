//! What lies at the old end and would be hidden by a new one: growing is refused by name, wherever it lies.

use std::fs::File;
use std::path::Path;

use ondisk::{Len, Offset};
use testkit::images::{Fill, flavor, make, make_at, place};
use testkit::lvm::Lvm;
use testkit::oracle::{Loop, dumpe2fs};
use testkit::tool::run;

use crate::disks::sfdisk;
use crate::kit::{ends, on};
use crate::refused::{patch, refused};

const DRBD: (u64, &[u8]) = (4096 - 60, b"\x83\x74\x02\x6d");
const AVB: (u64, &[u8]) = (64, b"AVBf\0\0\0\x01");
const ISW: (u64, &[u8]) = (1024, b"Intel Raid ISM Cfg Sig. 1.3.00");

fn says(image: &Path, line: &str, why: &str) {
    refused(3, image, line);
    let said = String::from_utf8(on(image, line).stderr).unwrap();
    assert!(said.contains(why), "{line}: {said}");
}

fn sized(image: &Path, mib: u64) {
    File::create(image).unwrap().set_len(mib << 20).unwrap();
}

#[test]
fn at_the_end_of_a_whole_disk() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    for ((back, mark), why) in [(DRBD, "DRBD"), (AVB, "footer at its end"), (ISW, "RAID of the firmware")] {
        make(flavor("ext4-1k"), Len::mib(64), Fill::Empty, &raw);
        patch(&raw, (64 << 20) - back, mark);
        for line in ["grow @ +64M", "grow @ +64M --disk-only", "grow @ +64M -p whole"] {
            says(&raw, line, why);
        }
        // The disk below a partition table.
        sized(&raw, 64);
        sfdisk(&raw, "label: dos\n1: start=2048, size=65536\n");
        make_at(flavor("ext4-1k"), Len::mib(32), Fill::Empty, &raw, Offset::new(1 << 20));
        patch(&raw, (64 << 20) - back, mark);
        says(&raw, "grow @ +64M", why);
        says(&raw, "grow @ +64M --disk-only", why);
    }
}

/// A partition's own end keeps that partition from growing, and no other: it may even move.
#[test]
fn at_the_end_of_a_partition() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    let script = "label: dos\n1: start=2048, size=65536\n2: start=67584, size=63488\n";
    for ((back, mark), why) in [(DRBD, "DRBD"), (AVB, "footer at its end"), (ISW, "RAID of the firmware")] {
        sized(&raw, 64);
        sfdisk(&raw, script);
        make_at(flavor("ext4-1k"), Len::mib(32), Fill::Empty, &raw, Offset::new(1 << 20));
        patch(&raw, (64 << 20) - back, mark);
        says(&raw, "grow @ +64M -p 2", why);
        ends(0, &raw, "grow @ +64M -p 1 --move");
        assert_eq!(dumpe2fs(&raw, Offset::new(1 << 20))["Block count"], (96 * 1024).to_string());
        says(&raw, "grow @ +64M -p 2", why);
    }
}

#[test]
fn at_the_end_of_a_logical_volume() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    sized(&raw, 64);
    let devices = [Loop::span(&raw, Offset::ZERO, Len::mib(64))];
    let lvm = Lvm::on(&devices);
    lvm.create("vg", &[], &[]);
    lvm.lvcreate(&["-l", "4", "-n", "replicated", "vg"]);
    drop(devices);
    let (back, mark) = DRBD;
    patch(&raw, (1 << 20) + (16 << 20) - back, mark);
    says(&raw, "grow @ +64M -p vg/replicated", "DRBD");
    ends(0, &raw, "grow @ +64M -p whole");
}

/// Hashes behind the filesystem, as an image that boots verified has them.
#[test]
fn hashes_behind_a_filesystem() {
    let dir = tempfile::tempdir().unwrap();
    let [raw, part] = ["disk.raw", "part"].map(|name| dir.path().join(name));
    make(flavor("ext4-4k"), Len::mib(32), Fill::Empty, &part);
    File::options().write(true).open(&part).unwrap().set_len(40 << 20).unwrap();
    let name = part.to_str().unwrap();
    let blocks = (32 << 8).to_string();
    let at = (32 << 20).to_string();
    run("veritysetup", ["format", "--data-blocks", &blocks, "--hash-offset", &at, name, name]);
    sized(&raw, 42);
    sfdisk(&raw, "label: gpt\n1: start=2048, size=81920\n");
    place(&part, &raw, Offset::new(1 << 20));
    says(&raw, "grow @ +64M", "dm-verity");
    says(&raw, "grow @ +64M --no-fs", "dm-verity");
    ends(0, &raw, "grow @ +64M --disk-only");
    says(&part, "grow @ +64M --disk-only", "dm-verity");
}
