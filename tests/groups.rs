//! Volume groups from outside: what takes the space, and what is refused with not a byte written.

use std::path::{Path, PathBuf};

use ondisk::{Len, Offset, Span};
use testkit::guest::{extents, partition, put, take};
use testkit::images::{Fill, flavor, make, place};
use testkit::lvm::Lvm;
use testkit::oracle::{Loop, assert_clean, assert_sgdisk_verify};
use testkit::tool::{copy_sparse, run};

use crate::kit::{document, ends, seen};
use crate::refused::{patch, refused};

pub const PV: u64 = 1 << 20;
pub const PV_LEN: u64 = 159 << 20;

/// A disk with one physical volume: swap, a root filesystem, another one, and free extents.
pub fn disk(dir: &Path) -> PathBuf {
    disk_with(dir, &[])
}

/// As [`disk`], with options for `pvcreate`.
pub fn disk_with(dir: &Path, pvcreate: &[&str]) -> PathBuf {
    let (disk, fs) = (dir.join("disk.raw"), dir.join("fs"));
    std::fs::File::create(&disk).unwrap().set_len(161 << 20).unwrap();
    partition(&disk, &format!("label: gpt\nstart=2048, size={}", PV_LEN / 512));
    on_group(&disk, |lvm| {
        lvm.create("vg-0", pvcreate, &["-s", "1m"]);
        for (name, count) in [("swap", "4"), ("root", "64"), ("data", "64")] {
            lvm.lvcreate(&["-l", count, "-n", name, "vg-0"]);
        }
    });
    for (name, label) in [("root", "root"), ("data", "data")] {
        make(flavor("ext4-1k"), Len::mib(64), if name == "root" { Fill::Lived } else { Fill::Tree }, &fs);
        run("e2label", [fs.as_os_str(), label.as_ref()]);
        put(&fs, &disk, &runs(&disk, name));
    }
    disk
}

fn span() -> Span {
    Span::new(Offset::new(PV), Len::new(PV_LEN)).unwrap()
}

pub fn runs(disk: &Path, name: &str) -> Vec<Span> {
    let all = extents(disk, span());
    all.into_iter().filter(|one| one.volume == name).map(|one| one.span).collect()
}

pub fn on_group<T>(disk: &Path, work: impl FnOnce(&Lvm<'_>) -> T) -> T {
    let devices = [Loop::span(disk, Offset::new(PV), Len::new(PV_LEN))];
    work(&Lvm::on(&devices))
}

/// What the volume group is after a grow: sizes in extents of 1 MiB.
fn sizes(disk: &Path) -> Vec<String> {
    let (at, len) = crate::disks::Scheme::Gpt.span(disk);
    let devices = [Loop::span(disk, at, len)];
    let lvm = Lvm::on(&devices);
    lvm.assert_clean("vg-0");
    let lvs = lvm.report("lvs", "lv_name,lv_size");
    let mib = |row: &String| {
        let (name, size) = row.split_once('|').unwrap();
        format!("{name} {}", size.parse::<u64>().unwrap() >> 20)
    };
    let free = lvm.report("vgs", "vg_name,vg_free");
    let mut sizes: Vec<String> = lvs.iter().chain(&free).map(mib).collect();
    sizes.dedup();
    sizes
}

#[test]
fn the_volume_that_is_meant_takes_the_space() {
    let dir = tempfile::tempdir().unwrap();
    let base = disk(dir.path());
    let image = dir.path().join("grown.raw");
    for (line, expect) in [
        // Without a root, the last that holds a filesystem.
        ("grow @ +40M", ["data 104", "root 64", "swap 4", "vg-0 26"]),
        ("grow @ +40M -p vg-0/root", ["data 64", "root 104", "swap 4", "vg-0 26"]),
        ("grow @ +40M -p /dev/mapper/vg--0-root", ["data 64", "root 104", "swap 4", "vg-0 26"]),
        ("grow @ +40M -p LABEL=root", ["data 64", "root 104", "swap 4", "vg-0 26"]),
        ("grow @ +40M -p vg-0/swap", ["data 64", "root 64", "swap 44", "vg-0 26"]),
        ("grow @ +40M -p 1", ["data 64", "root 64", "swap 4", "vg-0 66"]),
        ("grow @ +40M -p vg-0/root --no-fs", ["data 64", "root 104", "swap 4", "vg-0 26"]),
        ("grow @ max -p vg-0/root", ["data 64", "root 91", "swap 4", "vg-0 0"]),
    ] {
        copy_sparse(&base, &image);
        let planned = document(&image, &format!("{line} -n"));
        let told = document(&image, line);
        assert_eq!(planned["after"], told["after"], "{line}");
        ends(0, &image, "check @");
        let sizes = sizes(&image);
        let near = |found: &String, expect: &&str| {
            // The end of the disk's table moves the last extents by one.
            let number = |text: &str| text.rsplit(' ').next().unwrap().parse::<i64>().unwrap();
            found.split(' ').next() == expect.split(' ').next() && (number(found) - number(expect)).abs() <= 1
        };
        assert!(sizes.iter().zip(&expect).all(|(found, expect)| near(found, expect)), "{line}: {sizes:?}");
        for name in ["root", "data"] {
            let (at, len) = crate::disks::Scheme::Gpt.span(&image);
            let spans = extents(&image, Span::new(at, len).unwrap());
            let spans: Vec<Span> =
                spans.into_iter().filter(|one| one.volume == name).map(|one| one.span).collect();
            let copy = dir.path().join("volume");
            take(&image, &spans, &copy);
            assert_clean(&copy, Offset::ZERO);
        }
        let rest = line.replace("+40M", "max");
        ends(0, &image, &rest);
        assert_eq!(document(&image, &rest)["changed"], false, "{line}: there is nothing more to take");
    }
}

#[test]
fn groups_that_must_not_be_changed() {
    let dir = tempfile::tempdir().unwrap();
    let base = disk(dir.path());
    let image = dir.path().join("refused.raw");
    let other = dir.path().join("other");
    std::fs::File::create(&other).unwrap().set_len(64 << 20).unwrap();
    let change = |work: &dyn Fn(&Lvm<'_>)| {
        copy_sparse(&base, &image);
        on_group(&image, work);
    };
    change(&|lvm| drop(lvm.run(&["vgexport", "--driverloaded", "n", "vg-0"])));
    refused(3, &image, "grow @ +40M");
    change(&|lvm| drop(lvm.run(&["vgchange", "-q", "-x", "n", "vg-0"])));
    refused(3, &image, "grow @ +40M -p vg-0/root");
    change(&|lvm| drop(lvm.run(&["pvchange", "-q", "-x", "n", "dev0"])));
    refused(3, &image, "grow @ +40M");
    // A part of the group is on a disk that is not here.
    copy_sparse(&base, &image);
    {
        let devices = [
            Loop::span(&image, Offset::new(PV), Len::new(PV_LEN)),
            Loop::span(&other, Offset::ZERO, Len::mib(64)),
        ];
        let lvm = Lvm::on(&devices);
        lvm.run(&["pvcreate", "-q", "dev1"]);
        lvm.run(&["vgextend", "-q", "vg-0", "dev1"]);
    }
    refused(3, &image, "grow @ +40M");
    ends(0, &image, "fs ls @ / -p vg-0/root");
    // The text is damaged; the label still tells that there is one.
    copy_sparse(&base, &image);
    let text = on_group(&image, |lvm| lvm.text("dev0"));
    let bytes = std::fs::read(&image).unwrap();
    let found: Vec<usize> = bytes[..2 << 20]
        .windows(9)
        .enumerate()
        .filter(|(_, w)| *w == b"seqno = 4")
        .map(|(at, _)| at)
        .collect();
    assert!(text.contains("seqno = 4") && found.len() == 1, "{found:?}");
    patch(&image, u64::try_from(found[0]).unwrap(), b"seqno = 5");
    ends(1, &image, "check @");
    refused(4, &image, "grow @ +40M");
    refused(4, &image, "grow @ +40M -p vg-0/root");
    // A snapshot keeps what its origin had, and must not be left behind.
    change(&|lvm| {
        let text = lvm.text("dev0");
        let (head, tail) = text.split_once("\nlogical_volumes {\n").unwrap();
        let snapshot = "\nsnapshot0 {\nid = \"aaaaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaaaa\"\nstatus = [\"READ\", \"WRITE\"]\nflags = []\n\
            segment_count = 1\n\nsegment1 {\nstart_extent = 0\nextent_count = 64\n\ntype = \"snapshot\"\nchunk_size = 8\n\
            origin = \"root\"\ncow_store = \"data\"\n}\n}\n";
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{head}\nlogical_volumes {{\n{snapshot}{tail}")).unwrap();
        let path = file.path().to_str().unwrap();
        lvm.run(&["vgcfgrestore", "--driverloaded", "n", "--force", "-y", "-f", path, "vg-0"]);
        lvm.assert_clean("vg-0");
    });
    refused(3, &image, "grow @ +40M -p vg-0/root");
    refused(3, &image, "grow @ +40M -p vg-0/data");
}

/// A physical volume knows places only from its own start: it moves like any other partition.
#[test]
fn a_physical_volume_moves_out_of_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let [disk, fs, before, after] = ["disk.raw", "fs", "before", "after"].map(|name| dir.path().join(name));
    let pv = |mib: u64| Span::new(Offset::new(mib << 20), Len::mib(80)).unwrap();
    std::fs::File::create(&disk).unwrap().set_len(131 << 20).unwrap();
    partition(&disk, "label: gpt\nstart=2048, size=98304\nstart=100352, size=163840");
    make(flavor("ext4-1k"), Len::mib(48), Fill::Tree, &fs);
    place(&fs, &disk, Offset::new(1 << 20));
    {
        let devices = [Loop::span(&disk, pv(49).start(), pv(49).len())];
        let lvm = Lvm::on(&devices);
        lvm.create("vg", &[], &["-s", "1m"]);
        lvm.lvcreate(&["-l", "64", "-n", "data", "vg"]);
    }
    make(flavor("ext4-1k"), Len::mib(64), Fill::Lived, &fs);
    let runs = |mib| extents(&disk, pv(mib)).into_iter().map(|one| one.span).collect::<Vec<_>>();
    put(&fs, &disk, &runs(49));
    take(&disk, &runs(49), &before);
    refused(3, &disk, "grow @ +40M -p 1");
    ends(0, &disk, "grow @ +40M -p 1 --move");
    ends(0, &disk, "check @");
    assert_sgdisk_verify(&disk);
    assert_clean(&disk, Offset::new(1 << 20));
    // The last MiB boundary from which it fits.
    take(&disk, &runs(90), &after);
    assert_eq!(seen(&after).digest, seen(&before).digest);
    let devices = [Loop::span(&disk, pv(90).start(), pv(90).len())];
    Lvm::on(&devices).assert_clean("vg");
}
