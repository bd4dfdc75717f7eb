//! `grow --move`: partitions of any content behind the one that grows move to the end, whole.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ondisk::{Len, Offset, SectorSize};
use testkit::files::Manifest;
use testkit::images::{Fill, flavor, make_at, noise, place};
use testkit::oracle::{
    Mount, Partition, assert_clean, assert_qemu_check, assert_sfdisk_verify, assert_sgdisk_verify, dumpe2fs,
    partitions,
};
use testkit::tool::{output, run, said, tool};

use crate::crash::{Unmount, injected};
use crate::disks::{KINDS, contain, content, sfdisk};
use crate::kit::{IMGTOOL, beside, document, each, ends, on, seen, words};
use crate::memory::peak;
use crate::refused::{patch, refused};

/// What a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Ext,
    Fat,
    Swap,
    Noise,
}

use Holds::{Ext, Fat, Noise, Swap};

/// A table, the partition that grows, and what all of them hold.
struct Guest {
    script: &'static str,
    mib: u64,
    grows: u32,
    holds: &'static [(u32, Holds)],
}

const GUESTS: [Guest; 4] = [
    // Root and home.
    Guest {
        script: "label: gpt\nfirst-lba: 34\n1: start=2048, size=65536, name=\"root\"\n\
                 2: start=67584, size=98304, name=\"home\", type=933AC7E1-2EB4-4F13-B844-0E14E2AEF915\n",
        mib: 82,
        grows: 1,
        holds: &[(1, Ext), (2, Ext)],
    },
    // Behind root: FAT with its place in its boot sector, swap, a gap, something unknown. Out of order.
    Guest {
        script: "label: gpt\nfirst-lba: 34\n3: start=2048, size=65536, name=\"root\"\n\
                 1: start=67584, size=69632, type=U, name=\"ESP\"\n7: start=137216, size=20480, type=S\n\
                 2: start=167936, size=8192, attrs=\"LegacyBIOSBootable,GUID:60\"\n",
        mib: 87,
        grows: 3,
        holds: &[(3, Ext), (1, Fat), (7, Swap), (2, Noise)],
    },
    // A primary partition with logical ones behind it.
    Guest {
        script: "label: dos\nlabel-id: 0x5eed0005\n1: start=2048, size=65536, bootable\n\
                 2: start=69630, size=143362, type=5\n3: start=212992, size=8192, type=da\n\
                 5: start=69632, size=20480, type=82\n6: start=92160, size=65536\n\
                 7: start=159744, size=53248, type=c\n",
        mib: 109,
        grows: 1,
        holds: &[(1, Ext), (5, Swap), (6, Ext), (7, Noise), (3, Noise)],
    },
    // A logical partition with others behind it, and a primary one behind all of them.
    Guest {
        script: "label: dos\nlabel-id: 0x5eed0006\n1: start=2048, size=2048\n2: start=6144, size=145408, type=5\n\
                 3: start=151552, size=8192, type=da\n5: start=8192, size=65536\n6: start=75776, size=75776\n",
        mib: 79,
        grows: 5,
        holds: &[(5, Ext), (6, Ext), (3, Noise)],
    },
];

impl Guest {
    fn disk(&self, raw: &Path) -> Vec<Partition> {
        File::create(raw).unwrap().set_len(self.mib << 20).unwrap();
        sfdisk(raw, self.script);
        let all = partitions(raw, SectorSize::B512);
        for &(number, holds) in self.holds {
            let one = all.iter().find(|one| one.number == number).unwrap();
            let part = raw.with_extension("part");
            File::create(&part).unwrap().set_len(one.len.get()).unwrap();
            match holds {
                Ext => make_at(flavor("ext4-1k"), one.len, Fill::Tree, raw, one.start),
                Fat => {
                    let hidden = (one.start.get() / 512).to_string();
                    let options = ["-F", "32", "-n", "ESP", "-i", "0a1b2c3d", "-h", &hidden];
                    run("mkfs.fat", options.iter().copied().chain(part.to_str()));
                    run("mcopy", ["-i", part.to_str().unwrap(), "/bin/true", "::TRUE.EFI"]);
                }
                Swap => {
                    run("mkswap", ["-q", "-L", "sleepy", part.to_str().unwrap()]);
                }
                Noise => std::fs::write(&part, noise(one.start.get(), one.len.to_usize())).unwrap(),
            }
            if holds != Ext {
                place(&part, raw, one.start);
            }
            std::fs::remove_file(part).unwrap();
        }
        all
    }

    fn sound(&self, raw: &Path, what: &str) {
        assert_sfdisk_verify(raw);
        if self.script.starts_with("label: gpt") {
            assert_sgdisk_verify(raw);
        }
        for one in partitions(raw, SectorSize::B512) {
            match self.holds.iter().find(|(number, _)| *number == one.number) {
                Some((_, Ext)) => assert_clean(raw, one.start),
                Some((_, Fat)) => {
                    let hidden = bytes(raw, one.start, 0x1c, 4);
                    assert_eq!(hidden, ((one.start.get() / 512) as u32).to_le_bytes(), "{what}");
                    assert_eq!(bytes(raw, one.start, 6 * 512 + 0x1c, 4), hidden, "{what}: the copy");
                    let part = raw.with_extension("fat");
                    std::fs::write(&part, bytes(raw, one.start, 0, one.len.to_usize())).unwrap();
                    run("fsck.fat", ["-n", part.to_str().unwrap()]);
                }
                _ => {}
            }
        }
    }

    /// Everything that must be the same before and after of one partition.
    fn identity(&self, raw: &Path, one: &Partition) -> (Option<Manifest>, String, Vec<u8>) {
        let holds = self.holds.iter().find(|(number, _)| *number == one.number).map(|(_, holds)| *holds);
        let start = one.start.get().to_string();
        let blkid = tool("blkid").args(["-p", "-O", &start, "-o", "export"]).arg(raw).output().unwrap();
        let known = String::from_utf8_lossy(&blkid.stdout).into_owned();
        let ids = known
            .lines()
            .filter(|line| line.contains("UUID=") || line.contains("LABEL="))
            .collect::<Vec<_>>();
        let mounts = holds == Some(Ext);
        let options = format!("ro,loop,offset={start},sizelimit={}", one.len.get());
        let files = mounts.then(|| Manifest::of(Mount::new(raw, &options).path()));
        let mut whole = Vec::new();
        if matches!(holds, Some(Fat | Noise)) {
            whole = bytes(raw, one.start, 0, one.len.to_usize());
        }
        if holds == Some(Fat) {
            [0x1c, 6 * 512 + 0x1c].into_iter().for_each(|hidden| whole[hidden..hidden + 4].fill(0));
        }
        (files, ids.join("\n"), whole)
    }
}

fn bytes(raw: &Path, at: Offset, ahead: u64, len: usize) -> Vec<u8> {
    let mut buf = vec![0; len];
    std::os::unix::fs::FileExt::read_exact_at(&File::open(raw).unwrap(), &mut buf, at.get() + ahead).unwrap();
    buf
}

/// By less than what moves is long, and by more; in every container.
#[test]
fn anything_moves_when_told() {
    let cases: Vec<_> = (0..GUESTS.len())
        .flat_map(|guest| {
            [10, 300].into_iter().flat_map(move |mib| [0, 1, 2, 5].map(|kind| (guest, mib, kind)))
        })
        .collect();
    each(cases.len(), |i| {
        let (guest, mib, kind) = cases[i];
        moves(&GUESTS[guest], mib, KINDS[kind]);
    });
}

fn moves(guest: &Guest, mib: u64, kind: (&str, &str, &[&str])) {
    let what = format!("{} by {mib} MiB in {kind:?}", guest.script);
    let dir = tempfile::tempdir().unwrap();
    let [raw, after] = ["before.raw", "after.raw"].map(|name| dir.path().join(name));
    let old = guest.disk(&raw);
    let image = contain(&raw, kind, dir.path());
    content(&image, kind.1, &raw);
    let (before, files) = (seen(&image), beside(&image));
    let line = format!("grow @ +{mib}M -p {} --check", guest.grows);
    ends(3, &image, &line);
    let planned = ends(0, &image, &format!("{line} --move -n"));
    for word in ["moves from byte", "all of it is copied", "journal of up to"] {
        assert!(planned.contains(word), "{what}: {planned}");
    }
    assert_eq!(seen(&image), before, "{what}: nothing is written by a refusal or a dry run");
    let told = document(&image, &format!("{line} --move"));
    assert_eq!(told["changed"], true, "{what}");
    assert_eq!(beside(&image), files, "{what}");
    if kind.1 == "qcow2" {
        assert_qemu_check(&image, kind.1);
    }
    content(&image, kind.1, &after);
    guest.sound(&after, &what);
    let new = partitions(&after, SectorSize::B512);
    assert_eq!(old.len(), new.len(), "{what}");
    let grown = old.iter().find(|one| one.number == guest.grows).unwrap();
    for (was, is) in old.iter().zip(&new) {
        let behind = was.start > grown.start;
        let same = Partition { start: is.start, len: is.len, ..was.clone() };
        assert_eq!(is, &same, "{what}: number, type, name, flags and identity are kept");
        if behind {
            assert_eq!(is.len, was.len, "{what}");
            let by = is.start.get() - was.start.get();
            assert!(by >= (mib - 1) << 20 && by % (1 << 20) == 0, "{what}: {by}");
        } else if was.number == guest.grows {
            assert!(
                is.start == was.start && is.len.get() - was.len.get() >= (mib - 2) << 20,
                "{what}: {is:?}"
            );
            let blocks: u64 = dumpe2fs(&after, is.start)["Block count"].parse().unwrap();
            assert!(is.len.get() - blocks * 1024 < 4 << 20, "{what}: the filesystem takes the space");
        }
        let ours = guest.identity(&raw, was);
        let theirs = guest.identity(&after, is);
        match (ours.0, theirs.0) {
            (Some(one), Some(two)) => one.assert_same(&two),
            (one, two) => assert!(one.is_none() && two.is_none()),
        }
        assert_eq!((ours.1, ours.2), (theirs.1, theirs.2), "{what}: partition {}", was.number);
    }
    ends(0, &image, "check @");
}

/// A large and nearly empty partition behind: its holes stay holes, and what it leaves gives its space back.
#[test]
fn holes_stay_holes() {
    let dir = tempfile::tempdir().unwrap();
    for (name, kind) in [("raw", KINDS[0]), ("vhd", KINDS[2]), ("qcow2", KINDS[5])] {
        let dir = dir.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        let raw = dir.join("before.raw");
        File::create(&raw).unwrap().set_len((3 << 30) + (34 << 20)).unwrap();
        sfdisk(&raw, "label: gpt\n1: start=2048, size=65536\n2: start=67584, size=6291456\n");
        make_at(flavor("ext4-1k"), Len::mib(32), Fill::Tree, &raw, Offset::new(1 << 20));
        make_at(flavor("ext4-4k"), Len::gib(3), Fill::Tree, &raw, Offset::new(33 << 20));
        let image = contain(&raw, kind, &dir);
        let taken = |path: &PathBuf| path.metadata().unwrap().blocks() * 512;
        let before = taken(&image);
        let told = document(&image, "grow @ +1G -p 1 --move");
        let journal = told["journal-bytes"].as_u64().unwrap();
        let after = taken(&image);
        println!("{name}: {before} -> {after} bytes, journal {journal}");
        assert!(after < before + before / 2 + (40 << 20), "{name}: {before} -> {after}");
        assert!(journal < before + (8 << 20), "{name}: the journal has {journal} bytes, the image {before}");
        ends(0, &image, "check @");
    }
}

/// Two filesystems, one behind the other.
fn two(raw: &Path, script: &str) {
    File::create(raw).unwrap().set_len(66 << 20).unwrap();
    sfdisk(raw, script);
    for at in [1, 33] {
        make_at(flavor("ext4-1k"), Len::mib(32), Fill::Tree, raw, Offset::new(at << 20));
    }
}

/// What is known by its place stays, and that is said by name before anything is written.
#[test]
fn what_is_known_by_its_place_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    let second = 33 << 20;
    let table = |label: &str, kind: &str| {
        format!("label: {label}\n1: start=2048, size=65536\n2: start=67584, size=65536, type={kind}\n")
    };
    let nothing: (u64, &[u8]) = (0x1b0, &[0]);
    for (label, kind, (at, bytes), why) in [
        ("gpt", "21686148-6449-6E6F-744E-656564454649", nothing, "finds GRUB in it by its place"),
        ("gpt", "9E1A2D38-C612-4316-AA26-8B49521E5A8B", nothing, "PowerPC firmware"),
        ("gpt", "AF9B60A0-1431-4F62-BC68-3311714A69AD", nothing, "dynamic disk"),
        ("dos", "41", nothing, "PowerPC firmware"),
        ("dos", "42", nothing, "dynamic disk"),
        ("dos", "a5", nothing, "disk label"),
        ("dos", "83", (second + 510, &[0x55, 0xaa]), "begins with a boot loader"),
        ("dos", "83", (0, b"\xfa\xeb\x21\x01\xb4\x01LILO"), "a boot loader reads it by its place"),
        ("dos", "7", (second, b"\xeb\x52\x90NTFS    "), "by its first byte"),
        ("dos", "82", (second + 4086, b"S1SUSPEND\0"), "hibernated"),
    ] {
        two(&raw, &table(label, kind));
        if why == "by its first byte" || why == "hibernated" {
            patch(&raw, second + 1024, &[0; 1024]);
        }
        patch(&raw, at, bytes);
        patch(&raw, 510, &[0x55, 0xaa]);
        refused(3, &raw, "grow @ +64M -p 1 --move");
        let out = on(&raw, "grow @ +64M -p 1 --move");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(said.contains(why) && said.contains("partition 2"), "{label} {kind} {why}: {said}");
    }
    two(&raw, &table("gpt", "L"));
    refused(2, &raw, "grow @ +64M --move --disk-only");
}

/// Hundreds of MiB that overlap: memory stays as it is told, an interrupt takes everything back, a kill is recovered, and
/// where the journal does not fit, nothing begins.
#[test]
fn a_large_move_is_bounded_and_can_be_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("tmpfs");
    std::fs::create_dir(&disk).unwrap();
    let size = |how: &str| run("mount", ["-t", "tmpfs", "-o", how, "none", disk.to_str().unwrap()]);
    size("size=390m");
    let _unmount = Unmount(disk.clone());
    let raw = disk.join("disk.raw");
    File::create(&raw).unwrap().set_len(234 << 20).unwrap();
    sfdisk(&raw, "label: dos\n1: start=2048, size=65536\n2: start=67584, size=409600, type=da\n");
    make_at(flavor("ext4-1k"), Len::mib(32), Fill::Tree, &raw, Offset::new(1 << 20));
    for at in (33..233).step_by(4) {
        patch(&raw, at << 20, &noise(at, 4 << 20));
    }
    let moved = blake3::hash(&bytes(&raw, Offset::new(33 << 20), 0, 200 << 20));
    let line = "grow @ +40M -p 1 --move";
    refused(5, &raw, line);
    size("remount,size=600m");
    let (before, files) = (seen(&raw), beside(&raw));
    // Some while into the journal, and into the copy.
    for calls in [20, 120, 185] {
        for (signal, code) in [("INT", 130), ("KILL", 137)] {
            let inject = format!("inject=pwrite64:signal={signal}:when={calls}");
            let trace = ["-f", "-e", "trace=pwrite64", "-o", "/dev/null", "-e", &inject];
            let options = trace.into_iter().chain(["env", "--default-signal=INT", IMGTOOL]);
            let out = output("strace", options.map(str::to_owned).chain(words(&raw, line)));
            if signal == "INT" {
                assert_eq!(out.status.code(), Some(code), "{calls}: {}", said(&out));
            } else {
                ends(6, &raw, line);
                ends(0, &raw, "info @ --memory 32M");
                ends(0, &raw, "recover @");
            }
            assert_eq!((seen(&raw).digest, beside(&raw)), (before.digest, files.clone()), "{signal} {calls}");
        }
    }
    // Behind the commit point there is only the way forward, also for who looks.
    assert!(!injected(&raw, line, "pwrite64", "signal=KILL:when=280").status.success());
    let shown = document(&raw, "info @ --memory 32M");
    assert_eq!(shown["virtual-size"], 274 << 20, "{shown}");
    let mut used = vec![peak(&raw, "recover @ --memory 32M", &[0])];
    for by in [41, 81] {
        let now = partitions(&raw, SectorSize::B512);
        assert_eq!(now[1].start, Offset::new((33 + by) << 20));
        assert_eq!(blake3::hash(&bytes(&raw, now[1].start, 0, 200 << 20)), moved);
        assert_clean(&raw, now[0].start);
        if by == 41 {
            used.push(peak(&raw, &format!("{line} --memory 32M"), &[0]));
        }
    }
    assert!(used.iter().all(|used| *used < 80 << 20), "{used:?} bytes of memory");
    println!("{used:?} bytes of memory");
}

/// Children, whose parents hold most of what moves: the parents stay as they are.
#[test]
fn in_children_of_chains() {
    for (kind, grows) in [(KINDS[2], 10), (KINDS[2], 300), (KINDS[5], 10), (KINDS[5], 300)] {
        let dir = tempfile::tempdir().unwrap();
        let [raw, after] = ["before.raw", "after.raw"].map(|name| dir.path().join(name));
        let guest = &GUESTS[0];
        let old = guest.disk(&raw);
        let parent = contain(&raw, kind, dir.path());
        let kept = seen(&parent);
        let child = dir.path().join(format!("child.{}", kind.0));
        run(IMGTOOL, ["create", child.to_str().unwrap(), "--backing", parent.to_str().unwrap()]);
        // The child has become longer before, and has blocks of its own.
        ends(0, &child, "grow @ +8M --disk-only");
        ends(0, &child, &format!("grow @ +{grows}M -p 1 --move --check"));
        assert_eq!(seen(&parent), kept, "{kind:?}");
        ends(0, &child, "check @");
        let what = format!("child {kind:?} by {grows}");
        let flat = dir.path().join("flat.qcow2");
        if kind.1 == "qcow2" {
            testkit::oracle::qemu_convert(&child, kind.1, &flat, "qcow2", &[]);
            content(&flat, "qcow2", &after);
            guest.sound(&after, &what);
            let new = partitions(&after, SectorSize::B512);
            for (was, is) in old.iter().zip(&new) {
                let (ours, theirs) = (guest.identity(&raw, was), guest.identity(&after, is));
                ours.0.unwrap().assert_same(&theirs.0.unwrap());
                assert_eq!(ours.1, theirs.1, "{what}");
            }
        }
        for part in [1, 2] {
            let list = |image: &Path| ends(0, image, &format!("fs find @ / -p {part}"));
            assert_eq!(list(&raw), list(&child), "{what}");
        }
    }
}
