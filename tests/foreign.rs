//! Formats that are only read, through the program: VMDK, VHDX, VDI, Parallels, QED, XVA.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::images::noise;
use testkit::oracle::qemu_convert;
use testkit::tool::{copy_sparse, output, run, said};
use testkit::xva;

use crate::kit::{IMGTOOL, assert_told, document, ends, noisy, on, seen, text, words};

/// Where the data are, and how much.
const DATA: [(u64, usize); 4] =
    [(0, 5000), (3 << 20, 1 << 20), ((40 << 20) + 512, 70_000), (LEN - 4096, 4096)];
const LEN: u64 = 96 << 20;

fn raw(dir: &Path) -> PathBuf {
    noisy(dir, LEN, &DATA)
}

/// Name, format and options of qemu's.
const MADE: [(&str, &str, &[&str]); 12] = [
    ("a.vmdk", "vmdk", &[]),
    ("stream.vmdk", "vmdk", &["subformat=streamOptimized"]),
    ("flat.vmdk", "vmdk", &["subformat=monolithicFlat"]),
    ("split.vmdk", "vmdk", &["subformat=twoGbMaxExtentSparse"]),
    ("splitflat.vmdk", "vmdk", &["subformat=twoGbMaxExtentFlat"]),
    ("a.vhdx", "vhdx", &[]),
    ("fixed.vhdx", "vhdx", &["subformat=fixed", "block_size=1M"]),
    ("a.vdi", "vdi", &[]),
    ("static.vdi", "vdi", &["static=on"]),
    ("a.hds", "parallels", &[]),
    ("a.qed", "qed", &[]),
    ("small.qed", "qed", &["cluster_size=4096,table_size=2"]),
];

/// What is stored, by the map: runs of data with their place, neighbours joined.
fn stored(map: &Value) -> Vec<(u64, u64, Option<u64>)> {
    let mut all: Vec<(u64, u64, Option<u64>)> = Vec::new();
    let number = |run: &Value, key: &str| run[key].as_u64();
    for run in map.as_array().unwrap().iter().filter(|run| run["data"] == true && run["zero"] == false) {
        let (start, len) = (number(run, "start").unwrap(), number(run, "length").unwrap());
        let at = number(run, "offset");
        match all.last_mut() {
            Some(last) if last.0 + last.1 == start && last.2.map(|at| at + last.1) == at => last.1 += len,
            _ => all.push((start, len, at)),
        }
    }
    all
}

#[test]
fn every_reading_command_knows_them() {
    let dir = tempfile::tempdir().unwrap();
    let raw = raw(dir.path());
    let digest = |image: &Path| document(image, "digest @")["digest"].clone();
    let content = digest(&raw);
    for (name, format, options) in MADE {
        let image = dir.path().join(name);
        qemu_convert(&raw, "raw", &image, format, options);
        let before = seen(&image);
        assert_eq!(digest(&image), content, "{name}");
        ends(0, &image, &format!("compare @ {}", text(&raw)));
        assert!(ends(0, &image, "check @").contains("clean"), "{name}");
        let told = document(&image, "info @");
        let theirs = run("qemu-img", ["info", "--output=json", "-f", format, text(&image)]);
        let theirs: Value = serde_json::from_str(&theirs).unwrap();
        for key in ["format", "virtual-size"] {
            assert_eq!(told[key], theirs[key], "{name}: {told}");
        }
        if !theirs["cluster-size"].is_null() {
            assert_eq!(told["cluster-size"], theirs["cluster-size"], "{name}");
        }
        let specific = &theirs["format-specific"]["data"];
        for key in ["create-type", "cid", "parent-cid"].iter().filter(|key| !specific[**key].is_null()) {
            assert_eq!(told["format-specific"]["data"][*key], specific[*key], "{name}");
        }
        // qemu tells no places in VHDX, and looks for holes in the files of flat extents and static VDIs.
        if format != "vhdx" && !name.contains("flat") && !name.contains("static") {
            let theirs = run("qemu-img", ["map", "--output=json", "-f", format, text(&image)]);
            let theirs: Value = serde_json::from_str(&theirs).unwrap();
            assert_eq!(stored(&document(&image, "map @")), stored(&theirs), "{name}");
        }
        assert_eq!(seen(&image), before, "{name}");
    }
}

#[test]
fn every_changing_command_refuses_them_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let raw = raw(dir.path());
    for (name, format, called) in [
        ("a.vmdk", "vmdk", "VMDK"),
        ("a.vhdx", "vhdx", "VHDX"),
        ("a.vdi", "vdi", "VDI"),
        ("a.hds", "parallels", "Parallels"),
        ("a.qed", "qed", "QED"),
    ] {
        let image = dir.path().join(name);
        qemu_convert(&raw, "raw", &image, format, &[]);
        let unnamed = dir.path().join(format!("{format}.img"));
        copy_sparse(&image, &unnamed);
        for (image, more) in [(&image, ""), (&unnamed, &*format!("-f {format}"))] {
            let before = seen(image);
            for line in ["grow @ +1G", "grow @ +1G -n", "check @ --repair", "sparsify @", "fs replay @"] {
                let out = on(image, &format!("{line} {more}"));
                assert_told(&out, 3, image, line);
                let all = said(&out);
                assert!(all.contains(called) && all.contains("imgtool convert"), "{line}: {all}");
            }
            assert_eq!(seen(image), before);
        }
        // What only looks like one may be a raw disk that a guest has written to.
        let out = on(&unnamed, "grow @ +1G");
        assert_told(&out, 3, &unnamed, "unnamed");
        assert!(said(&out).contains("-f raw"), "{}", said(&out));
    }
    let new = dir.path().join("new.vmdk");
    assert_eq!(on(&new, "create @ 1G").status.code(), Some(2));
    assert!(!new.exists());
}

#[test]
fn each_is_converted_to_what_can_be_changed() {
    let dir = tempfile::tempdir().unwrap();
    let raw = raw(dir.path());
    for (i, (name, format, options)) in MADE.into_iter().enumerate() {
        let image = dir.path().join(name);
        qemu_convert(&raw, "raw", &image, format, options);
        let (ending, theirs) = [("qcow2", "qcow2"), ("vhd", "vpc"), ("raw", "raw")][i % 3];
        let new = dir.path().join(format!("new-{i}.{ending}"));
        ends(0, &image, &format!("convert @ {}", text(&new)));
        if ending != "vhd" {
            run("qemu-img", ["compare", "-f", format, "-F", theirs, text(&image), text(&new)]);
        }
        ends(0, &new, &format!("compare @ {}", text(&raw)));
        ends(0, &new, "grow @ +64M --disk-only");
    }
}

/// Beyond 2 GiB an image is several files; beyond 4 GiB the BAT of a VHDX has entries for bitmaps.
#[test]
fn large_and_sparse() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    let file = File::create(&raw).unwrap();
    file.set_len((6 << 30) + 512).unwrap();
    for gib in 0..6 {
        file.write_all_at(&noise(gib, 70_000), (gib << 30) + 12_345).unwrap();
    }
    file.write_all_at(b"end", (6 << 30) + 100).unwrap();
    let digest = document(&raw, "digest @")["digest"].clone();
    for (name, format, options) in [
        ("split.vmdk", "vmdk", "subformat=twoGbMaxExtentSparse"),
        ("flat.vmdk", "vmdk", "subformat=twoGbMaxExtentFlat"),
        ("a.vhdx", "vhdx", "block_size=1M"),
        ("a.vdi", "vdi", ""),
        ("a.hds", "parallels", ""),
        ("a.qed", "qed", ""),
    ] {
        let image = dir.path().join(name);
        qemu_convert(&raw, "raw", &image, format, &[options]);
        assert_eq!(document(&image, "digest @ -j 2")["digest"], digest, "{name}");
        ends(0, &image, "check @");
        let data: u64 = stored(&document(&image, "map @")).iter().map(|run| run.1).sum();
        assert!(data < 100 << 20 || name.starts_with("flat"), "{name}: {data}");
    }
}

/// The files that a command opens, as strace has them.
fn opened(image: &Path, line: &str) -> String {
    let log = image.with_extension("strace");
    let options = ["-f", "--seccomp-bpf", "-e", "trace=open,openat,openat2,connect", "-o", text(&log)];
    let options = options.map(str::to_owned);
    output("strace", options.into_iter().chain([IMGTOOL.to_owned()]).chain(words(image, line)));
    fs::read_to_string(&log).unwrap()
}

#[test]
fn names_in_an_image_open_plain_neighbours_only() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let canary = outside.path().join("canary");
    fs::write(&canary, b"a secret of the host".repeat(5000)).unwrap();
    symlink(&canary, dir.path().join("link.vmdk")).unwrap();
    fs::write(dir.path().join("neighbour.vmdk"), vec![7; 5120]).unwrap();
    let up = format!("../{}/canary", outside.path().file_name().unwrap().to_str().unwrap());
    let description = |name: &str| {
        format!(
            "<?xml version='1.0'?><Parallels_disk_image Version=\"1.0\"><Disk_Parameters><Disk_size>10</Disk_size>\
             </Disk_Parameters><StorageData><Storage><Image><Type>Plain</Type><File>{name}</File></Image></Storage>\
             </StorageData></Parallels_disk_image>"
        )
    };
    let descriptor = |name: &str| {
        format!(
            "# Disk DescriptorFile\nCID=1\nparentCID=ffffffff\ncreateType=\"custom\"\nRW 10 FLAT \"{name}\" 0\n"
        )
    };
    let image = dir.path().join("a.vmdk");
    let bundle = dir.path().join("DiskDescriptor.xml");
    for name in
        [text(&canary), &up, "link.vmdk", "file:neighbour.vmdk", "/dev/zero", "nbd://x/y", "gone.vmdk"]
    {
        fs::write(&image, descriptor(name)).unwrap();
        fs::write(&bundle, description(name)).unwrap();
        for image in [&image, &bundle] {
            for line in ["info @", "digest @", "map @", "check @", "compare @ @"] {
                let out = on(image, line);
                assert_told(&out, 3, image, line);
            }
            let calls = opened(image, "digest @");
            let bad = calls
                .lines()
                .find(|call| ["canary\"", "/dev/zero", "connect("].iter().any(|word| call.contains(word)));
            assert_eq!(bad, None, "{name}");
        }
    }
    fs::write(&image, descriptor("neighbour.vmdk")).unwrap();
    fs::write(&bundle, description("neighbour.vmdk")).unwrap();
    for image in [&image, &bundle] {
        let expected = blake3::hash(&[7; 5120]).to_hex().to_string();
        assert_eq!(document(image, "digest @")["digest"], expected);
    }
    // The same bytes under a name that says nothing: a guest could have written them.
    let guest = dir.path().join("guest.img");
    fs::write(&guest, descriptor("neighbour.vmdk")).unwrap();
    let out = on(&guest, "info @");
    assert!(out.status.success() && said(&out).contains("were not opened"), "{}", said(&out));
    assert_told(&on(&guest, "digest @"), 3, &guest, "not opened");
    assert!(!opened(&guest, "digest @").contains("neighbour.vmdk\""));
    ends(0, &guest, "digest @ -f vmdk");
    // In another folder, where the operator says which.
    let other = tempfile::tempdir().unwrap();
    let moved = other.path().join("a.vmdk");
    fs::write(&moved, descriptor("neighbour.vmdk")).unwrap();
    assert_told(&on(&moved, "digest @"), 3, &moved, "elsewhere");
    ends(0, &moved, &format!("digest @ --parent-dir {}", text(dir.path())));
}

#[test]
fn a_disk_of_an_export_is_chosen_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut disks = [vec![0; (9 << 20) + 512], vec![0; 6 << 20]];
    disks[0][5 << 20..(5 << 20) + 100_000].copy_from_slice(&noise(1, 100_000));
    disks[1][100..100_100].copy_from_slice(&noise(2, 100_000));
    disks[1][3 << 20..(3 << 20) + 5000].copy_from_slice(&noise(3, 5000));
    let [first, second] = ["one.raw", "two.raw"].map(|name| dir.path().join(name));
    let [one, two] = [("Ref:10", "root", "0", &disks[0]), ("Ref:11", "data", "1", &disks[1])]
        .map(|(folder, name, number, bytes)| xva::Disk { folder, name, number, len: bytes.len() });
    let ova = xva::ova(&[one, two]);
    let mut names = Vec::new();
    for (raw, disk, bytes) in [(&first, one, &disks[0]), (&second, two, &disks[1])] {
        fs::write(raw, bytes).unwrap();
        names.extend(xva::chunks(dir.path(), disk.folder, bytes, xva::Sums::Sha1));
    }
    xva::archive(dir.path(), &ova, &names);
    let (image, ids) = (dir.path().join("vm.xva"), [0, 1].map(xva::uuid));
    let listed = document(&image, "info @");
    let disks = listed["format-specific"]["data"]["disks"].as_array().unwrap();
    assert_eq!(disks.len(), 2);
    assert_eq!((&disks[1]["name"], &disks[1]["virtual-size"]), (&"data".into(), &(6 << 20).into()));
    for line in ["digest @", "map @", "check @", "compare @ @", "fs ls @"] {
        let out = on(&image, line);
        assert_told(&out, 3, &image, line);
        assert!(said(&out).contains(&ids[1]) && said(&out).contains("--disk NAME"), "{}", said(&out));
    }
    for (name, raw) in
        [("root", &first), (&*ids[0], &first), ("xvda", &first), ("0", &first), ("data", &second)]
    {
        ends(0, &image, &format!("compare @ {} --disk {name}", text(raw)));
        ends(0, raw, &format!("compare @ {} --disk {name}", text(&image)));
        let digest = document(raw, "digest @")["digest"].clone();
        assert_eq!(document(&image, &format!("digest @ --disk {name}"))["digest"], digest);
        assert!(ends(0, &image, &format!("check @ --disk {name}")).contains("clean"));
    }
    let told = document(&image, "info @ --disk data");
    assert_eq!((&told["format"], &told["virtual-size"]), (&"xva".into(), &(6 << 20).into()));
    assert_eq!(on(&image, "digest @ --disk swap").status.code(), Some(2));
    assert_eq!(on(&first, "digest @ --disk root").status.code(), Some(2));
    assert_eq!(on(&first, "compare @ @ --disk root").status.code(), Some(2));
    assert_told(&on(&image, "grow @ +1G --disk root"), 3, &image, "grow");
    // A chunk that is not what its checksum says.
    let file = File::options().write(true).open(&image).unwrap();
    // Not where a partition table or a filesystem would be looked for.
    let at = document(&image, "map @ --disk data")[2]["offset"].as_u64().unwrap();
    file.write_all_at(b"damage", at + 777).unwrap();
    let out = on(&image, "digest @ --disk data");
    assert_told(&out, 4, &image, "damaged");
    assert!(said(&out).contains("its checksum is"), "{}", said(&out));
    ends(1, &image, "check @ --disk data");
    ends(0, &image, "check @ --disk root");
}
