//! Storage repositories: built by LVM2's own tools and with images of XenServer's kind, read from a device's image, a
//! partition of it, and a folder.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ondisk::{Len, Offset, Span};
use serde_json::Value;
use testkit::guest::{extents, partition};
use testkit::lvm::Lvm;
use testkit::oracle::{Loop, qemu_same};
use testkit::tool::run;
use testkit::vhd::{Block, Image, content, seal};

use crate::kit::{assert_told, document, ends, on, seen};

pub const SR: &str = "b1a3f8a5-5d2e-4f7c-9a10-5d0f7ce2b001";
pub const BASE: &str = "0a1b2c3d-0001-4000-8000-00000000000a";
pub const LEAF: &str = "0a1b2c3d-0002-4000-8000-00000000000b";
pub const SNAPSHOT: &str = "0a1b2c3d-0003-4000-8000-00000000000c";
pub const RAW: &str = "0a1b2c3d-0004-4000-8000-00000000000d";
pub const ALL: [&str; 4] = [BASE, LEAF, SNAPSHOT, RAW];
pub const EXTENT: u64 = 4 << 20;
pub const DISK: u64 = 6 << 20;

/// The images of a repository: a base copy, a leaf and a snapshot over it, and a raw disk.
pub struct Images {
    pub base: Vec<u8>,
    leaf: Vec<u8>,
    snapshot: Vec<u8>,
    raw: Vec<u8>,
}

impl Images {
    /// `name_of` says how a child names the image of a parent.
    pub fn new(name_of: impl Fn(&str) -> String) -> Self {
        let base = Image {
            uuid: *b"base copy's uuid",
            blocks: vec![Block::whole(0), Block::whole(2)],
            ..Image::tap(DISK)
        };
        let child = |uuid: &[u8; 16], blocks: Vec<Block>| {
            let name: Vec<u8> = name_of(BASE).encode_utf16().flat_map(u16::to_le_bytes).collect();
            let parent = Some((*b"base copy's uuid", vec![(*b"W2ru", name)]));
            Image { uuid: *uuid, kind: 4, parent, blocks, ..Image::tap(DISK) }
        };
        let part = Block { index: 1, sectors: vec![7..19, 100..4096] };
        Self {
            base: hidden(base.build()),
            leaf: child(b"leaf on the base", vec![part, Block { index: 2, sectors: vec![0..9, 20..21] }])
                .build(),
            snapshot: child(b"of the same base", Vec::new()).build(),
            raw: (0..2 * EXTENT).map(|at| u8::try_from(at / 4096 % 251).unwrap()).collect(),
        }
    }

    pub fn of(&self, vdi: &str) -> &[u8] {
        [&self.base, &self.leaf, &self.snapshot, &self.raw][ALL.iter().position(|one| *one == vdi).unwrap()]
    }

    /// What a guest sees.
    pub fn disk(&self, vdi: &str) -> Vec<u8> {
        match vdi {
            RAW => self.raw.clone(),
            BASE => content(&self.base, None),
            child => content(self.of(child), Some(&self.disk(BASE))),
        }
    }
}

/// Marks an image as the parent of others.
pub fn hidden(mut image: Vec<u8>) -> Vec<u8> {
    let end = image.len() - 512;
    for at in [0, end] {
        image[at + 85] = 1;
        seal(&mut image[at..at + 512], 64);
    }
    image
}

/// As an image lies in a volume: at its start, with the footer in the last sector.
pub fn inflated(image: &[u8], len: usize) -> Vec<u8> {
    let (body, footer) = image.split_at(image.len() - 512);
    let mut bytes = body.to_vec();
    bytes.resize(len - 512, 0xdd);
    bytes.extend(footer);
    bytes
}

/// The name of a volume's device node.
pub fn node(vdi: &str) -> String {
    format!("./VG_XenStorage--{}-VHD--{}", SR.replace('-', "--"), vdi.replace('-', "--"))
}

fn mgt() -> Vec<u8> {
    let mut sectors = vec![
        format!("XSSM:{:<10}:1:2", 512 * (4 + 2 * 4)),
        format!("<?xml version=\"1.0\" ?><uuid>{SR}</uuid><allocation>thick</allocation>"),
        "<name_label>Local storage</name_label>".to_owned(),
        "<name_description></name_description>".to_owned(),
    ];
    for (vdi, label, more) in [
        (BASE, "base copy", "<managed>0</managed>".to_owned()),
        (LEAF, "web &amp; mail", "<managed>1</managed>".to_owned()),
        (
            SNAPSHOT,
            "before\u{1b}[31m",
            format!("<is_a_snapshot>1</is_a_snapshot><snapshot_of>{LEAF}</snapshot_of>"),
        ),
        (RAW, "raw", "<vdi_type>aio</vdi_type>".to_owned()),
    ] {
        sectors.push(format!("<vdi><name_label>{label}</name_label><name_description></name_description>"));
        sectors.push(format!("<uuid>{vdi}</uuid>{more}</vdi>"));
    }
    let mut bytes: Vec<u8> = sectors.iter().flat_map(|text| format!("{text:<512}").into_bytes()).collect();
    bytes.resize(usize::try_from(EXTENT).unwrap(), 0);
    bytes
}

/// Where the physical volume lies in a file.
#[derive(Clone, Copy)]
pub struct At(u64, u64);

pub const WHOLE: At = At(0, 160 << 20);

/// Makes a volume group with volumes of so many extents; one of them has two segments.
pub fn group(disk: &Path, at: At, vg: &str, volumes: &[(&str, u32)]) {
    with_lvm(disk, at, |lvm| {
        lvm.create(vg, &["--metadatasize", "10M"], &[]);
        for (name, count) in volumes {
            lvm.lvcreate(&["-l", "1", "-n", name, vg]);
            assert!(*count > 0, "{name}");
        }
        for (name, count) in volumes.iter().filter(|(_, count)| *count > 1) {
            let volume = format!("{vg}/{name}");
            lvm.run(&["lvextend", "-q", "--driverloaded", "n", "-l", &count.to_string(), &volume]);
        }
    });
}

pub fn with_lvm<T>(disk: &Path, at: At, work: impl FnOnce(&Lvm<'_>) -> T) -> T {
    let devices = [Loop::span(disk, Offset::new(at.0), Len::new(at.1))];
    work(&Lvm::on(&devices))
}

/// Writes a volume, from its start.
pub fn fill(disk: &Path, at: At, volume: &str, bytes: &[u8]) {
    let all = extents(disk, Span::new(Offset::new(at.0), Len::new(at.1)).unwrap());
    let file = File::options().write(true).open(disk).unwrap();
    let mut rest = bytes;
    for run in all.into_iter().filter(|one| one.volume == volume).map(|one| one.span) {
        let (part, behind) = rest.split_at(run.len().to_usize().min(rest.len()));
        file.write_all_at(part, run.start().get()).unwrap();
        rest = behind;
    }
    assert!(rest.is_empty(), "{volume} is too short");
}

/// A repository as XenServer's installer makes it, in a file.
fn lvhd(disk: &Path, at: At, images: &Images) {
    let vg = format!("VG_XenStorage-{SR}");
    let (base, leaf, snapshot, raw) =
        (format!("VHD-{BASE}"), format!("VHD-{LEAF}"), format!("VHD-{SNAPSHOT}"), format!("LV-{RAW}"));
    group(disk, at, &vg, &[("MGT", 1), (&base, 2), (&leaf, 3), (&snapshot, 1), (&raw, 2)]);
    fill(disk, at, "MGT", &mgt());
    for (volume, image, extents) in
        [(&base, &images.base, 2), (&leaf, &images.leaf, 3), (&snapshot, &images.snapshot, 1)]
    {
        fill(disk, at, volume, &inflated(image, extents * usize::try_from(EXTENT).unwrap()));
    }
    fill(disk, at, &raw, &images.raw);
    with_lvm(disk, at, |lvm| lvm.assert_clean(&vg));
}

fn sparse(dir: &Path, len: u64) -> PathBuf {
    let disk = dir.join("sr.img");
    File::create(&disk).unwrap().set_len(len).unwrap();
    disk
}

pub fn whole() -> (tempfile::TempDir, PathBuf, Images) {
    let (dir, images) = (tempfile::tempdir().unwrap(), Images::new(node));
    let disk = sparse(dir.path(), WHOLE.1);
    lvhd(&disk, WHOLE, &images);
    (dir, disk, images)
}

fn assert_content(sr: &Path, images: &Images) {
    for vdi in ALL {
        let told = ends(0, sr, &format!("digest @ --vdi {vdi} -q"));
        let wanted = blake3::hash(&images.disk(vdi)).to_hex();
        assert_eq!(told.split_whitespace().next(), Some(wanted.as_str()), "{vdi}");
    }
}

pub fn vdi<'d>(document: &'d Value, uuid: &str) -> &'d Value {
    let vdis = document["vdis"].as_array().unwrap();
    vdis.iter().find(|vdi| vdi["uuid"] == uuid).unwrap_or_else(|| panic!("{document}"))
}

#[test]
fn a_repository_of_volumes_is_read() {
    let (dir, disk, images) = whole();
    let before = seen(&disk);
    let scan = document(&disk, "sr scan @");
    assert_eq!((&scan["type"], &scan["uuid"]), (&"lvm".into(), &SR.into()));
    assert_eq!(scan["findings"].as_array().unwrap().len(), 0, "{scan}");
    let leaf = vdi(&scan, LEAF);
    assert_eq!(leaf["name_label"], "web & mail");
    assert_eq!(
        (&leaf["parent"], &leaf["hidden"], &leaf["format"]),
        (&BASE.into(), &false.into(), &"vhd".into())
    );
    assert_eq!((&leaf["virtual_size"], &leaf["physical_size"]), (&DISK.into(), &(3 * EXTENT).into()));
    assert_eq!(vdi(&scan, BASE)["hidden"], true);
    assert_eq!(vdi(&scan, SNAPSHOT)["snapshot_of"], LEAF);
    assert_eq!(
        (&vdi(&scan, RAW)["format"], &vdi(&scan, RAW)["virtual_size"]),
        (&"raw".into(), &(2 * EXTENT).into())
    );
    let shown = ends(0, &disk, "sr scan @");
    assert!(shown.contains("web & mail") && shown.contains("└─ "), "{shown}");
    ends(0, &disk, "sr check @");
    assert_content(&disk, &images);

    let (out, raw) = (dir.path().join("out.qcow2"), dir.path().join("out.raw"));
    ends(0, &disk, &format!("sr export @ --vdi {LEAF} {}", out.display()));
    std::fs::write(&raw, images.disk(LEAF)).unwrap();
    assert!(qemu_same(&out, "qcow2", &raw, "raw"));
    let info = document(&disk, &format!("info @ --vdi {LEAF}"));
    assert_eq!((&info["format"], &info["virtual-size"]), (&"vhd".into(), &DISK.into()));
    assert_eq!(seen(&disk), before);
}

#[test]
fn a_repository_in_a_partition_is_found_by_itself() {
    let (dir, images) = (tempfile::tempdir().unwrap(), Images::new(node));
    let disk = sparse(dir.path(), 200 << 20);
    partition(&disk, "label: gpt\nstart=2048, size=2048\nstart=4096, size=2048\nstart=8192, size=327680");
    lvhd(&disk, At(4 << 20, 160 << 20), &images);
    assert_content(&disk, &images);
    assert_eq!(document(&disk, "sr scan @ -p 3")["uuid"], SR);
    assert_told(&on(&disk, "sr scan @ -p 1"), 4, &disk, "nothing there");
}

#[test]
fn a_folder_of_files_is_a_repository() {
    let dir = tempfile::tempdir().unwrap();
    let (sr, images) = (dir.path().join(SR), Images::new(|vdi| format!("./{vdi}.vhd")));
    std::fs::create_dir(&sr).unwrap();
    files(&sr, &images);
    std::fs::write(sr.join("filelog.txt"), "x").unwrap();
    let scan = document(&sr, "sr scan @");
    assert_eq!((&scan["type"], &scan["uuid"]), (&"file".into(), &SR.into()));
    assert_eq!(vdi(&scan, SNAPSHOT)["parent"], BASE);
    ends(0, &sr, "sr check @");
    assert_content(&sr, &images);
    std::fs::write(sr.join(format!("coalesce_{LEAF}")), BASE).unwrap();
    assert!(ends(1, &sr, "sr check @").contains("not finished"));
}

pub fn files(folder: &Path, images: &Images) {
    for vdi in ALL {
        let name = format!("{vdi}.{}", if vdi == RAW { "raw" } else { "vhd" });
        std::fs::write(folder.join(name), images.of(vdi)).unwrap();
    }
}

#[test]
fn the_filesystem_of_a_repository_is_read_from_its_device() {
    let (dir, images) = (tempfile::tempdir().unwrap(), Images::new(|vdi| format!("./{vdi}.vhd")));
    let disk = sparse(dir.path(), WHOLE.1);
    group(&disk, WHOLE, &format!("XSLocalEXT-{SR}"), &[(SR, 30)]);
    for kind in ["ext3", "ext4"] {
        let (tree, fs) = (dir.path().join(kind), dir.path().join("fs"));
        std::fs::create_dir(&tree).unwrap();
        files(&tree, &images);
        let _ = std::fs::remove_file(&fs);
        run("mke2fs", ["-q", "-t", kind, "-d", tree.to_str().unwrap(), fs.to_str().unwrap(), "120M"]);
        fill(&disk, WHOLE, SR, &std::fs::read(&fs).unwrap());
        let scan = document(&disk, "sr scan @");
        assert_eq!((&scan["type"], &scan["uuid"]), (&"ext".into(), &SR.into()));
        assert_eq!((&vdi(&scan, LEAF)["parent"], &vdi(&scan, BASE)["hidden"]), (&BASE.into(), &true.into()));
        ends(0, &disk, "sr check @");
        assert_content(&disk, &images);
    }
}

#[test]
fn what_is_damaged_is_told_and_the_rest_is_read() {
    let (_dir, disk, images) = whole();
    let vg = format!("VG_XenStorage-{SR}");
    let volume = format!("{vg}/VHD-{BASE}");
    fill(&disk, WHOLE, &format!("VHD-{SNAPSHOT}"), &vec![0; usize::try_from(EXTENT).unwrap()]);
    with_lvm(&disk, WHOLE, |lvm| {
        lvm.run(&["lvrename", "-q", "--driverloaded", "n", &volume, &format!("{vg}/VHD-OLD_{BASE}")]);
        lvm.lvcreate(&["-l", "1", "-n", &format!("leaf_{LEAF}_1"), "--addtag", "journaler", &vg]);
    });
    let before = seen(&disk);
    let scan = document(&disk, "sr scan @");
    assert_eq!(vdi(&scan, SNAPSHOT)["readable"], false);
    assert_eq!(scan["pending"].as_array().unwrap().len(), 1);
    let text = scan["findings"].to_string();
    for what in ["its parent", "left behind", "not finished", SNAPSHOT] {
        assert!(text.contains(what), "{what}: {text}");
    }
    ends(1, &disk, "sr check @");
    assert_told(&on(&disk, &format!("digest @ --vdi {LEAF}")), 4, &disk, "without its parent");
    let raw = ends(0, &disk, &format!("digest @ --vdi {RAW} -q"));
    assert!(raw.starts_with(blake3::hash(&images.raw).to_hex().as_str()));
    let other = "0a1b2c3d-0009-4000-8000-00000000000d";
    assert_told(&on(&disk, &format!("digest @ --vdi {other}")), 3, &disk, "no such disk");
    assert_told(&on(&disk, &format!("grow @ +1G --vdi {RAW}")), 2, &disk, "a change");
    assert_eq!(seen(&disk), before);
}

/// Commands on two images: `--vdi` is for the one that is a repository. What was read for one disk of a repository is never
/// taken for another one's.
#[test]
fn a_disk_of_a_repository_beside_an_image() {
    let (dir, disk, images) = whole();
    let folder = dir.path().join(SR);
    let in_folder = Images::new(|vdi| format!("./{vdi}.vhd"));
    std::fs::create_dir(&folder).unwrap();
    files(&folder, &in_folder);
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (target, patch, out) = (path("target.raw"), path("patch"), path("out.raw"));
    let mut bytes = images.disk(BASE);
    bytes[(1 << 20)..(1 << 20) + 512].fill(7);
    std::fs::write(&target, &bytes).unwrap();
    // What is kept of an image is kept of one that has rested.
    std::thread::sleep(std::time::Duration::from_millis(4100));
    for sr in [&disk, &folder] {
        ends(1, sr, &format!("compare @ {target} --vdi {BASE}"));
        ends(0, sr, &format!("delta create --base @ {target} --vdi {BASE} -o {patch}"));
        assert!(std::fs::metadata(&patch).unwrap().len() < 16 << 10);
        ends(0, sr, &format!("delta verify --base @ {patch} --vdi {BASE}"));
        for _ in 0..2 {
            ends(1, sr, &format!("delta verify --base @ {patch} --vdi {LEAF}"));
            let other = format!("delta apply --base @ {patch} --vdi {LEAF} -o {out}");
            assert_told(&on(sr, &other), 4, Path::new(&patch), "another disk");
        }
        ends(0, sr, &format!("delta apply --base @ {patch} --vdi {BASE} -o {out}"));
        assert_eq!(std::fs::read(&out).unwrap(), bytes);
        // The disk of a repository as the target, upon an image.
        ends(0, sr, &format!("delta create --base {target} @ --vdi {BASE} -o {patch}"));
        ends(0, sr, &format!("delta apply --base {target} {patch} -o {out}"));
        assert_eq!(std::fs::read(&out).unwrap(), images.disk(BASE));
        let none = format!("compare {target} {target} --vdi {BASE}");
        assert_told(&on(sr, &none), 2, sr, "no repository");
    }
    assert!(ends(0, &disk, &format!("compare @ {} --vdi {LEAF}", folder.display())).contains("identical"));
}

#[test]
fn no_file_stands_on_a_disk_of_a_repository() {
    let (dir, disk, images) = whole();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (target, patch, out) = (path("target.raw"), path("patch"), path("out.qcow2"));
    std::fs::write(&target, images.disk(LEAF)).unwrap();
    ends(0, &disk, &format!("delta create --base @ {target} --vdi {BASE} -o {patch}"));
    let before = seen(&disk);
    for (code, line) in [
        (3, format!("delta apply --base @ {patch} --vdi {BASE} --as-child -O qcow2 -o {out}")),
        (2, format!("delta apply --base @ {patch} --vdi {BASE} --in-place")),
        (2, format!("create {out} --backing @ --vdi {BASE}")),
        (2, format!("convert @ {out} --keep-chain --vdi {LEAF}")),
        (2, format!("convert @ --in-place -O qcow2 --vdi {LEAF}")),
        (2, format!("sparsify @ --vdi {LEAF}")),
        (2, format!("check @ --repair --vdi {LEAF}")),
        (2, format!("chain list @ --vdi {LEAF}")),
        (2, format!("fs replay @ --vdi {LEAF}")),
        (2, format!("recover @ --vdi {LEAF}")),
        (2, format!("sr scan @ --vdi {LEAF}")),
    ] {
        assert_told(&on(&disk, &line), code, &disk, &line);
        assert!(!Path::new(&out).exists(), "{line}");
    }
    assert_eq!(seen(&disk), before);
}

#[test]
fn an_image_that_stands_on_itself_is_refused() {
    let (_dir, disk, _) = whole();
    let own = Images::new(|_| node(LEAF));
    fill(&disk, WHOLE, &format!("VHD-{LEAF}"), &inflated(&own.leaf, 3 * usize::try_from(EXTENT).unwrap()));
    assert!(ends(1, &disk, "sr check @").contains("come back to themselves"));
    assert!(ends(0, &disk, "sr scan @").contains(LEAF));
    assert_told(&on(&disk, &format!("info @ --vdi {LEAF}")), 4, &disk, "a circle");
}

#[test]
fn what_is_no_repository_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let disk = sparse(dir.path(), WHOLE.1);
    assert_told(&on(&disk, "sr scan @"), 4, &disk, "an empty disk");
    group(&disk, WHOLE, "vg-of-a-guest", &[("root", 1)]);
    assert_told(&on(&disk, "sr check @"), 4, &disk, "a guest's volumes");
    // Both copies of the text, and the label before them.
    let (_dir, disk, _) = whole();
    File::options().write(true).open(&disk).unwrap().write_all_at(&[0; 8 << 10], 512).unwrap();
    assert_told(&on(&disk, "sr scan @"), 4, &disk, "without its metadata");
}
