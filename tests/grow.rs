//! `grow` on every flavour of filesystem, in every container, in every table.

use std::fs::File;
use std::path::Path;

use ondisk::{Len, Offset, SectorSize};
use testkit::files::Manifest;
use testkit::images::{FLAVORS, Fill, Flavor, flavor, make_at, place};
use testkit::oracle::{
    Loop, Mount, Partition, assert_clean, assert_qemu_check, assert_sfdisk_verify, assert_sgdisk_verify,
    dumpe2fs, partitions,
};
use testkit::tool::run;

use crate::disks::{KINDS, SCHEMES, Scheme, contain, content, sfdisk};
use crate::kit::{beside, document, each, ends, seen};

/// 41 flavours, 5 tables, 7 containers: every pair of table and container comes up.
#[test]
fn every_flavor_in_every_table_and_container() {
    each(FLAVORS.len(), |i| {
        let (scheme, kind) = match (SCHEMES[i % SCHEMES.len()], KINDS[i % KINDS.len()]) {
            // e2fsck looks for the MMP block at the start of the file, whatever the offset.
            (_, kind) if FLAVORS[i].name == "ext4-mmp" => (Scheme::Whole, kind),
            // The sectors of a VHD have 512 bytes, and so has its length.
            (Scheme::Gpt4k, (_, "vpc", _)) => (Scheme::Gpt, KINDS[i % KINDS.len()]),
            other => other,
        };
        grows(&FLAVORS[i], scheme, kind, Fill::Lived);
    });
}

fn grows(flavor: &Flavor, scheme: Scheme, kind: (&str, &str, &[&str]), fill: Fill) {
    let dir = tempfile::tempdir().unwrap();
    let [raw, after] = ["before.raw", "after.raw"].map(|name| dir.path().join(name));
    let what = format!("{} {scheme:?} {kind:?}", flavor.name);
    scheme.disk(flavor, fill, flavor.usual_len(), &raw);
    let image = contain(&raw, kind, dir.path());
    content(&image, kind.1, &raw); // a VHD may have become longer
    let files = beside(&image);
    let planned = seen(&image);
    ends(0, &image, "grow @ +700M --check -n");
    assert_eq!(seen(&image), planned, "{what}: a dry run writes nothing");

    let told = document(&image, "grow @ +700M --check");
    assert_eq!(told["changed"], true, "{what}");
    assert_eq!(beside(&image), files, "{what}: nothing is left beside the image");
    assert_container(&image, kind.1);
    content(&image, kind.1, &after);
    assert_eq!(told["after"]["virtual-size"], after.metadata().unwrap().len(), "{what}");

    assert_table(scheme, &raw, &after, &what);
    let (at, len) = scheme.span(&after);
    assert_clean(&after, at);
    assert_fills(&after, at, len, &what);
    if flavor.mounts {
        files_at(&raw, scheme).assert_same(&files_at(&after, scheme));
    }
    assert_eq!(
        ends(0, &image, "digest @ -q").split(' ').next().unwrap(),
        seen(&after).digest.to_hex().as_str()
    );
    ends(0, &image, "check @");

    let grown = seen(&image);
    let again = document(&image, &format!("grow @ {}s", after.metadata().unwrap().len() / 512));
    assert_eq!(again["changed"], false, "{what}: there is nothing more to do");
    assert_eq!(seen(&image), grown, "{what}");
}

fn assert_container(image: &Path, format: &str) {
    if format == "qcow2" {
        assert_qemu_check(image, format);
    }
}

/// Nothing has changed in the table but the one end (and that of the extended partition around it).
fn assert_table(scheme: Scheme, before: &Path, after: &Path, what: &str) {
    let Some(number) = scheme.partition() else { return };
    if scheme == Scheme::Gpt4k {
        let device = Loop::whole(after, SectorSize::B4096);
        assert_sfdisk_verify(device.path());
        assert_sgdisk_verify(device.path());
    } else {
        assert_sfdisk_verify(after);
    }
    if scheme == Scheme::Gpt {
        assert_sgdisk_verify(after);
    }
    let may_grow = |one: &Partition| one.number == number || (scheme == Scheme::Logical && one.number == 2);
    let [old, new] = [before, after].map(|disk| partitions(disk, scheme.sector()));
    assert_eq!(old.len(), new.len(), "{what}");
    for (old, new) in old.iter().zip(&new) {
        let expected = Partition { len: if may_grow(old) { new.len } else { old.len }, ..old.clone() };
        assert_eq!(new, &expected, "{what}");
        assert!(new.len >= old.len, "{what}");
    }
    let (at, len) = scheme.span(after);
    let free = after.metadata().unwrap().len() - at.get() - len.get();
    assert!(free <= 2 << 20, "{what}: {free} bytes are left behind the partition");
}

/// The filesystem takes all of its partition but a last group that is too small to hold its own tables.
pub fn assert_fills(disk: &Path, at: Offset, len: Len, what: &str) {
    let facts = dumpe2fs(disk, at);
    let number = |name: &str| facts[name].parse::<u64>().unwrap();
    let (blocks, block) = (number("Block count"), number("Block size"));
    let free = len.get().checked_sub(blocks * block).unwrap();
    let group = facts.get("Inode blocks per group").map_or(64, |text| text.parse::<u64>().unwrap());
    let reserved = facts.get("Reserved GDT blocks").map_or(0, |text| text.parse::<u64>().unwrap());
    let least = (group + reserved + 3 + 50 + 64) * block;
    assert!(free < least.max(1 << 20), "{what}: {free} bytes are not used, a group takes at least {least}");
}

fn files_at(disk: &Path, scheme: Scheme) -> Manifest {
    let (at, len) = scheme.span(disk);
    let options = format!("ro,noatime,loop,offset={},sizelimit={}", at.get(), len.get());
    Manifest::of(Mount::new(disk, &options).path())
}

/// A journal that waits for its replay: `grow` leaves what the kernel's own recovery and growth would.
#[test]
fn a_dirty_journal_is_replayed_first() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["ext4-4k", "ext3-centos5", "ext4-orphan-file"] {
        let image = dir.path().join(format!("{name}.raw"));
        testkit::images::make(flavor(name), Len::mib(64), Fill::Tree, &image);
        testkit::kernel::stop_while_mounted(&image, testkit::kernel::Stop::Committed, |root| {
            std::fs::create_dir(root.join("new")).unwrap();
            for i in 0..300 {
                std::fs::write(root.join(format!("new/{i}")), b"written by a guest").unwrap();
            }
            let orphan = File::open(root.join("new/7")).unwrap();
            std::fs::remove_file(root.join("new/7")).unwrap();
            orphan
        });
        let judged = dir.path().join("judged.raw");
        testkit::tool::copy_sparse(&image, &judged);
        testkit::kernel::recover(&judged);
        let before = seen(&image);
        let told = ends(0, &image, "check @");
        assert!(told.contains("needs recovery") && seen(&image) == before, "{told}");
        ends(0, &image, "grow @ +100M");
        assert_clean(&image, Offset::ZERO);
        let strip = |path: &Path| {
            let mut files = Manifest::of(Mount::read_only(path).path());
            files.0.values_mut().for_each(|file| file.changed = (0, 0));
            files
        };
        strip(&judged).assert_same(&strip(&image));
    }
}

/// Only what fits lies before a partition that is in the way; the disk alone grows when told so.
#[test]
fn depths_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    Scheme::Gpt.disk(flavor("ext4-1k"), Fill::Tree, Len::mib(64), &raw);
    let (at, before) = (Scheme::Gpt.span(&raw), dumpe2fs(&raw, Offset::new(1 << 20)));
    let table = std::fs::read(&raw).unwrap()[..1 << 20].to_vec();
    ends(0, &raw, "grow @ +64M --disk-only");
    assert_eq!(raw.metadata().unwrap().len(), (64 + 3 + 64) << 20);
    assert_eq!(std::fs::read(&raw).unwrap()[..1 << 20], table, "--disk-only leaves the table");
    ends(0, &raw, "grow @ max --no-fs");
    assert!(Scheme::Gpt.span(&raw).1 > at.1);
    assert_eq!(dumpe2fs(&raw, at.0)["Block count"], before["Block count"]);
    ends(0, &raw, "grow @ max");
    let (at, len) = Scheme::Gpt.span(&raw);
    assert_fills(&raw, at, len, "grow max");
    assert_clean(&raw, at);
    assert_sgdisk_verify(&raw);
}

/// Where partitions lie: the filesystem's number, all others that must keep everything but their place.
const SWAP_BEHIND: [(&str, u32, u64, &[u32]); 3] = [
    // Debian's installer: swap in an extended partition behind root.
    (
        "label: dos\nlabel-id: 0x5eed0003\n1: start=2048, size=65536, bootable\n2: start=69630, size=20482, type=5\n\
         5: start=69632, size=20480, type=82\n",
        1,
        1 << 20,
        &[5],
    ),
    (
        "label: gpt\nfirst-lba: 34\n1: start=2048, size=65536\n2: start=69632, size=20480, type=S, name=\"swap\"\n",
        1,
        1 << 20,
        &[2],
    ),
    (
        "label: dos\nlabel-id: 0x5eed0004\n1: start=2048, size=2048\n2: start=6144, size=100000, type=5\n\
         5: start=8192, size=65536\n6: start=75776, size=20480, type=82\n",
        5,
        4 << 20,
        &[6],
    ),
];

/// Swap behind the partition moves to the end, with UUID and label; nothing else of it changes, and nothing else moves.
#[test]
fn swap_moves_out_of_the_way() {
    for (script, number, at, swaps) in SWAP_BEHIND {
        for kind in [KINDS[0], KINDS[2], KINDS[5]] {
            let dir = tempfile::tempdir().unwrap();
            let [raw, after, swap] = ["before.raw", "after.raw", "swap"].map(|name| dir.path().join(name));
            File::create(&raw).unwrap().set_len(64 << 20).unwrap();
            sfdisk(&raw, script);
            make_at(flavor("ext4-1k"), Len::mib(32), Fill::Tree, &raw, Offset::new(at));
            File::create(&swap).unwrap().set_len(10 << 20).unwrap();
            let id = "11111111-2222-4333-8444-555555555555";
            run("mkswap", ["-q", "-L", "sleepy", "-U", id, swap.to_str().unwrap()]);
            let old = partitions(&raw, SectorSize::B512);
            for one in old.iter().filter(|one| swaps.contains(&one.number)) {
                place(&swap, &raw, one.start);
            }
            let image = contain(&raw, kind, dir.path());
            let told = document(&image, "grow @ +200M --check");
            assert_eq!(told["changed"], true, "{script}");
            content(&image, kind.1, &after);
            assert_sfdisk_verify(&after);
            assert_clean(&after, Offset::new(at));
            let new = partitions(&after, SectorSize::B512);
            assert_eq!(old.len(), new.len());
            for (old, new) in old.iter().zip(&new) {
                assert_eq!(
                    (old.number, &old.kind, &old.uuid, &old.name),
                    (new.number, &new.kind, &new.uuid, &new.name)
                );
                if swaps.contains(&old.number) {
                    assert_eq!(old.len, new.len);
                    let offset = new.start.get().to_string();
                    let blkid = run("blkid", ["-p", "-O", &offset, "-o", "export", after.to_str().unwrap()]);
                    assert!(blkid.contains(id) && blkid.contains("LABEL=sleepy"), "{blkid}");
                }
                if old.number == number {
                    assert_eq!(old.start, new.start);
                    assert!(new.len >= Len::mib(220), "{script}: {new:?}");
                    assert_fills(&after, new.start, new.len, script);
                }
            }
            let offset = format!("ro,noatime,loop,offset={at}");
            let files = [&raw, &after].map(|disk| Manifest::of(Mount::new(disk, &offset).path()));
            files[0].assert_same(&files[1]);
            ends(0, &image, "check @");
        }
    }
}

/// A disk with nothing on it becomes larger, and that is said.
#[test]
fn an_empty_disk_grows_alone() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.raw", "a.vhd", "a.qcow2"] {
        let image = dir.path().join(name);
        ends(0, &image, "create @ 64M");
        let told = document(&image, "grow @ +64M");
        assert_eq!(told["after"]["virtual-size"], 128 << 20, "{name}");
        assert!(told["notes"][0].as_str().unwrap().contains("the disk alone grows"), "{name}: {told}");
        ends(0, &image, "check @");
    }
}
