//! `sr convert`: all disks of a repository in files, read by others than us.

use std::fs::{metadata, read, remove_file, write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use testkit::oracle::{assert_qemu_check, qemu_same};
use testkit::tool::{find, said};
use testkit::vhd::{Block, Image, content};

use crate::kit::{assert_told, document, ends, on, seen};
use crate::sr::{
    ALL, BASE, DISK, EXTENT, Images, LEAF, RAW, SNAPSHOT, SR, WHOLE, fill, hidden, inflated, node, vdi,
    whole, with_lvm,
};

/// What a guest sees of a VHD in a folder, by a reader that is not ours.
fn read_by_others(folder: &Path, vdi: &str, below: Option<&[u8]>) -> Vec<u8> {
    content(&read(folder.join(format!("{vdi}.vhd"))).unwrap(), below)
}

fn assert_same(folder: &Path, images: &Images) {
    let base = read_by_others(folder, BASE, None);
    assert!(base == images.disk(BASE));
    for vdi in [LEAF, SNAPSHOT] {
        assert!(read_by_others(folder, vdi, Some(&base)) == images.disk(vdi), "{vdi}");
    }
    assert!(read(folder.join(format!("{RAW}.raw"))).unwrap() == images.disk(RAW));
}

fn names(folder: &Path) -> Vec<String> {
    let names = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn volumes_become_files() {
    let (dir, disk, images) = whole();
    let folder = dir.path().join("files");
    let line = format!("sr convert @ {} --to file", folder.display());
    let before = seen(&disk);
    ends(0, &disk, &format!("{line} -n"));
    assert!(!folder.exists());
    let told = document(&disk, &line);
    assert_eq!(told["vdis"].as_array().unwrap().len(), 4, "{told}");
    assert_eq!(seen(&disk), before);
    assert_same(&folder, &images);
    let scan = document(&folder, "sr scan @");
    for uuid in ALL {
        let (from, to) = (document(&disk, "sr scan @"), vdi(&scan, uuid));
        for key in ["parent", "hidden", "format", "virtual_size"] {
            assert_eq!(vdi(&from, uuid)[key], to[key], "{uuid}: {key}");
        }
    }
    ends(0, &folder, "sr check @");
    // Identity and mark are where the host looks for them, and the tail of no volume was copied.
    let leaf = read(folder.join(format!("{LEAF}.vhd"))).unwrap();
    assert_eq!(&leaf[68..84], b"leaf on the base");
    assert_eq!(read(folder.join(format!("{BASE}.vhd"))).unwrap()[85], 1);
    assert!(leaf.len() < 3 * usize::try_from(EXTENT).unwrap());

    // Again: nothing is made anew. Without one of them: only that.
    let inode = |vdi: &str| metadata(folder.join(format!("{vdi}.vhd"))).unwrap().ino();
    let before = ALL.map(|vdi| (vdi != RAW).then(|| inode(vdi)));
    assert_eq!(document(&disk, &line)["changed"], false);
    remove_file(folder.join(format!("{LEAF}.vhd"))).unwrap();
    let told = document(&disk, &line);
    let made: Vec<&str> = told["vdis"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|vdi| if vdi["kept"] == false { vdi["uuid"].as_str() } else { None })
        .collect();
    assert_eq!(made, [LEAF]);
    assert_eq!((before[0], before[2]), (Some(inode(BASE)), Some(inode(SNAPSHOT))));
    assert_same(&folder, &images);

    // One that the source differs from since is neither taken for done nor touched.
    let raw = folder.join(format!("{RAW}.raw"));
    let mut bytes = read(&raw).unwrap();
    bytes[5000] ^= 1;
    write(&raw, &bytes).unwrap();
    assert_told(&on(&disk, &line), 3, &raw, "an older state");
    assert!(read(&raw).unwrap() == bytes);
    remove_file(&raw).unwrap();
    ends(0, &disk, &line);
    assert_same(&folder, &images);

    // And from files to files.
    let again = dir.path().join("again");
    ends(0, &folder, &format!("sr convert @ {} --to file", again.display()));
    assert_same(&again, &images);
    assert_told(
        &on(&folder, &format!("sr convert @ {} --to file", folder.join("in").display())),
        3,
        &folder,
        "within",
    );
}

/// Where others stand on a raw volume, its copy is one that can be hidden.
#[test]
fn a_raw_parent_becomes_a_vhd() {
    let (dir, disk, images) = whole();
    let child = "0a1b2c3d-0005-4000-8000-00000000000e";
    let name = node(RAW).replace("VHD", "LV").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let image = Image {
        uuid: *b"upon a raw disk.",
        kind: 4,
        parent: Some(([0; 16], vec![(*b"W2ru", name)])),
        blocks: vec![Block { index: 1, sectors: vec![3..5, 9..10] }],
        ..Image::tap(2 * EXTENT)
    };
    let image = image.build();
    let vg = format!("VG_XenStorage-{SR}");
    with_lvm(&disk, WHOLE, |lvm| {
        lvm.lvcreate(&["-l", "2", "-n", &format!("VHD-{child}"), &vg]);
        let raw = format!("{vg}/LV-{RAW}");
        lvm.run(&["lvchange", "-q", "--driverloaded", "n", "--addtag", "hidden", &raw]);
    });
    fill(&disk, WHOLE, &format!("VHD-{child}"), &inflated(&image, 2 * usize::try_from(EXTENT).unwrap()));
    let folder = dir.path().join("files");
    ends(0, &disk, &format!("sr convert @ {} --to file", folder.display()));
    let raw = read_by_others(&folder, RAW, None);
    assert!(raw == images.disk(RAW));
    assert!(read_by_others(&folder, child, Some(&raw)) == content(&image, Some(&images.disk(RAW))));
    assert_eq!(read(folder.join(format!("{RAW}.vhd"))).unwrap()[85], 1);
    ends(0, &folder, "sr check @");
    let scan = document(&folder, "sr scan @");
    assert_eq!((&vdi(&scan, child)["parent"], &vdi(&scan, RAW)["hidden"]), (&RAW.into(), &true.into()));
}

#[test]
fn what_cannot_be_copied_is_refused_before_anything_is_made() {
    let (dir, disk, images) = whole();
    let folder = dir.path().join("files");
    let line = format!("sr convert @ {} --to file", folder.display());
    let vg = format!("VG_XenStorage-{SR}");
    // Something of another one has a name that is needed.
    std::fs::create_dir(&folder).unwrap();
    let taken = folder.join(format!("{BASE}.vhd"));
    write(&taken, hidden(Image { uuid: *b"of somebody else", ..Image::tap(DISK) }.build())).unwrap();
    let before = seen(&taken);
    assert_told(&on(&disk, &line), 3, &taken, "a name that is taken");
    assert_eq!((seen(&taken), names(&folder).len()), (before, 1));
    remove_file(&taken).unwrap();
    // A block of the leaf in the middle of its table.
    let volume = format!("VHD-{LEAF}");
    let mut bad = images.of(LEAF).to_vec();
    bad[1536..1540].copy_from_slice(&3_u32.to_be_bytes());
    fill(&disk, WHOLE, &volume, &inflated(&bad, 3 * usize::try_from(EXTENT).unwrap()));
    assert_told(&on(&disk, &line), 4, &disk, "a damaged image");
    fill(&disk, WHOLE, &volume, &inflated(images.of(LEAF), 3 * usize::try_from(EXTENT).unwrap()));
    // The host is at it.
    with_lvm(&disk, WHOLE, |lvm| {
        lvm.lvcreate(&["-l", "1", "-n", &format!("leaf_{LEAF}_1"), "--addtag", "journaler", &vg]);
    });
    assert_told(&on(&disk, &line), 3, &disk, "a journal");
    with_lvm(&disk, WHOLE, |lvm| {
        lvm.run(&["lvremove", "-q", "--driverloaded", "n", "-y", &format!("{vg}/leaf_{LEAF}_1")]);
    });
    assert_eq!(names(&folder).len(), 0, "{:?}", names(&folder));
    ends(0, &disk, &line);
    assert_eq!(names(&folder).len(), 4, "{:?}", names(&folder));
}

#[test]
fn qcow2_chains_stay_chains() {
    let dir = tempfile::tempdir().unwrap();
    let (sr, folder) = (dir.path().join(SR), dir.path().join("files"));
    std::fs::create_dir(&sr).unwrap();
    let [base, leaf] = [BASE, LEAF].map(|vdi| format!("{vdi}.qcow2"));
    let qemu = |program: &str, args: &[&str]| {
        let out = std::process::Command::new(find(program)).current_dir(&sr).args(args).output().unwrap();
        assert!(out.status.success(), "{}", said(&out));
    };
    qemu("qemu-img", &["create", "-q", "-f", "qcow2", &base, "64M"]);
    qemu("qemu-io", &["-f", "qcow2", "-c", "write -q -P 7 1M 3M", &base]);
    qemu("qemu-img", &["create", "-q", "-f", "qcow2", "-b", &base, "-F", "qcow2", &leaf]);
    qemu("qemu-io", &["-f", "qcow2", "-c", "write -q -P 9 2M 64k", "-c", "write -q -z 3M 1M", &leaf]);
    ends(0, &sr, &format!("sr convert @ {} --to file", folder.display()));
    for name in [&base, &leaf] {
        assert_qemu_check(&folder.join(name), "qcow2");
        assert!(qemu_same(&folder.join(name), "qcow2", &sr.join(name), "qcow2"), "{name}");
    }
    let scan = document(&folder, "sr scan @");
    assert_eq!((&vdi(&scan, LEAF)["parent"], &vdi(&scan, LEAF)["format"]), (&BASE.into(), &"qcow2".into()));
    assert!(metadata(folder.join(&leaf)).unwrap().len() < 1 << 20, "only its own");
}
