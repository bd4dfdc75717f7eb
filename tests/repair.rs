//! `check --repair`: what is mended is clean for the tools that others use, holds the same, and is found clean again;
//! what cannot be mended is left and told.

use std::path::{Path, PathBuf};

use ondisk::{Len, Offset};
use testkit::images::{Fill, flavor};
use testkit::oracle::{assert_clean, assert_qemu_check, assert_sgdisk_verify, debugfs, e2fsck, qemu_raw};
use testkit::tool::{copy_sparse, run, said};

use crate::disks::{Scheme, contain, content};
use crate::groups;
use crate::kit::{beside, document, ends, on, seen};
use crate::refused::patch;

/// The digest of the virtual content.
fn digest(image: &Path) -> String {
    ends(0, image, "digest @ -q").split_whitespace().next().unwrap().to_owned()
}

fn disk(dir: &Path, kind: (&str, &str, &[&str])) -> PathBuf {
    let raw = dir.join("disk.raw");
    Scheme::Gpt.disk(flavor("ext4-1k"), Fill::Tree, Len::mib(24), &raw);
    contain(&raw, kind, dir)
}

/// Mends, with all the options of a change, and expects that nothing is left.
fn mends(image: &Path, steps: usize) {
    let before = seen(image);
    let dry = document(image, "check @ --repair -n");
    assert_eq!((seen(image), &dry["changed"]), (before.clone(), &false.into()));
    assert_eq!(dry["steps"].as_array().unwrap().len(), steps, "{dry}");
    let undo = image.with_extension("undo");
    let done = document(image, &format!("check @ --repair --check --undo {}", undo.display()));
    assert_eq!((&done["changed"], &done["clean"]), (&true.into(), &true.into()), "{done}");
    assert_eq!(done["steps"], dry["steps"]);
    ends(0, image, &format!("recover @ --undo {}", undo.display()));
    assert_eq!(seen(image).digest, before.digest, "taken back");
    let _ = std::fs::remove_file(undo);
    let said = ends(0, image, "check @ --repair");
    assert_eq!(said.matches("mended: ").count(), steps, "{said}");
    let after = seen(image);
    ends(0, image, "check @");
    let again = document(image, "check @ --repair");
    assert_eq!((seen(image), &again["changed"]), (after, &false.into()));
    assert!(!beside(image).iter().any(|path| path.to_string_lossy().contains("imgtool-")));
}

#[test]
fn a_vhd_and_the_gpt_in_it() {
    for options in [&["subformat=dynamic"][..], &["subformat=dynamic", "force_size=on"]] {
        let dir = tempfile::tempdir().unwrap();
        let image = disk(dir.path(), ("vhd", "vpc", options));
        let want = digest(&image);
        let len = image.metadata().unwrap().len();
        // The end footer is cut off; the copy at byte 0 and the header are hit.
        std::fs::OpenOptions::new().write(true).open(&image).unwrap().set_len(len - 300).unwrap();
        patch(&image, 512, b"x");
        assert_eq!(on(&image, "check @").status.code(), Some(4));
        mends(&image, 2);
        assert_eq!(digest(&image), want);
        patch(&image, 3, b"y");
        assert_eq!(on(&image, "check @").status.code(), Some(1));
        mends(&image, 1);
        assert_eq!(digest(&image), want);
        run("vhdiinfo", [&image]);
        // qemu reads by the copy alone.
        let raw = dir.path().join("out.raw");
        qemu_raw(&image, "vpc", &raw);
        if options.len() > 1 {
            // Else qemu-img has made the disk longer than its GPT.
            assert_sgdisk_verify(&raw);
        }
        assert_clean(&raw, Offset::new(1 << 20));
    }
}

#[test]
fn a_fixed_vhd_that_somebody_took_for_raw() {
    let dir = tempfile::tempdir().unwrap();
    let image = disk(dir.path(), ("vhd", "vpc", &["subformat=fixed", "force_size=on"]));
    let want = digest(&image);
    run(
        "qemu-img",
        ["resize".as_ref(), "-q".as_ref(), "-f".as_ref(), "raw".as_ref(), image.as_os_str(), "+5M".as_ref()],
    );
    assert_eq!(on(&image, "check @").status.code(), Some(4));
    mends(&image, 1);
    assert_eq!(digest(&image), want);
    run("vhdiinfo", [&image]);
}

#[test]
fn qcow2_refcounts_and_both_copies_of_the_gpt() {
    for options in [&["compat=1.1"][..], &["compat=0.10"], &["cluster_size=4096", "refcount_bits=1"]] {
        let dir = tempfile::tempdir().unwrap();
        let image = disk(dir.path(), ("qcow2", "qcow2", options));
        let want = digest(&image);
        patch(&image, 48, &[0; 12]);
        assert_eq!(on(&image, "check @").status.code(), Some(4));
        mends(&image, 1);
        assert_qemu_check(&image, "qcow2");
        assert_eq!(digest(&image), want);
        for (place, len) in [("512", "512"), ("1024", "16k")] {
            run(
                "qemu-io",
                ["-f", "qcow2", "-c", &format!("write -P 0xa5 {place} {len}"), image.to_str().unwrap()],
            );
            assert_eq!(on(&image, "check @").status.code(), Some(1));
            mends(&image, 1);
            assert_eq!(digest(&image), want);
            assert_qemu_check(&image, "qcow2");
        }
    }
}

#[test]
fn a_metadata_area_of_a_volume_group() {
    let dir = tempfile::tempdir().unwrap();
    let made = groups::disk_with(dir.path(), &["--metadatacopies", "2"]);
    let image = dir.path().join("image.raw");
    let bytes = std::fs::read(&made).unwrap();
    let magic = |at: &usize| bytes[*at..].starts_with(b" LVM2 x[5A%r0N*>");
    let areas: Vec<u64> = (4..bytes.len() - 16).step_by(512).filter(magic).map(|at| at as u64 - 4).collect();
    let [first, second] = areas[..] else { panic!("{areas:?}") };
    for (at, bytes) in [
        (first + 30, vec![1; 2]),
        (first + 512, vec![0; 1 << 16]),
        (first, vec![0; 8192]),
        (second, vec![9; 600]),
    ] {
        copy_sparse(&made, &image);
        patch(&image, at, &bytes);
        assert_eq!(on(&image, "check @").status.code(), Some(1), "{at}");
        mends(&image, 1);
        groups::on_group(&image, |lvm| lvm.assert_clean("vg-0"));
    }
}

#[test]
fn wrong_counts_of_a_filesystem() {
    let dir = tempfile::tempdir().unwrap();
    let image = disk(dir.path(), ("raw", "raw", &[]));
    let at = Offset::new(1 << 20);
    let want = content_of(&image, at);
    let set = |group: u32, field: &str, value: u32| {
        format!("set_bg {group} {field} {value}\nset_bg {group} checksum calc\n")
    };
    let first = set(0, "free_blocks_count", 17);
    let all = first.clone() + &set(1, "used_dirs_count", 77);
    let _ = debugfs(&image, at, true, &all);
    assert!(!e2fsck(&image, at).is_clean());
    assert_eq!(on(&image, "check @").status.code(), Some(1));
    mends(&image, 2);
    assert_clean(&image, at);
    assert_eq!(content_of(&image, at), want);
    // With anything else wrong the counts stay as well: whose they are is not known.
    let _ = debugfs(&image, at, true, &(first + "freei <13>\n"));
    let before = seen(&image);
    let said = ends(1, &image, "check @ --repair");
    assert!(said.contains("damage: ") && !said.contains("mended"), "{said}");
    assert_eq!(seen(&image), before);
}

/// The names, sizes and times of what is in the root folder.
fn content_of(image: &Path, at: Offset) -> String {
    debugfs(image, at, false, "ls -l /\n")
}

#[test]
fn what_cannot_be_mended_is_left_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let image = disk(dir.path(), ("vhd", "vpc", &["subformat=dynamic"]));
    // An entry of the table out of the file, and a copy that could be mended.
    patch(&image, 1536 + 4, &[0x70, 0, 0, 0]);
    patch(&image, 100, b"copy");
    let before = seen(&image);
    let out = on(&image, "check @ --repair");
    assert_eq!(out.status.code(), Some(4));
    assert!(said(&out).contains("block 1 at"), "{}", said(&out));
    assert_eq!(seen(&image), before);
    // Nothing survives of the second header.
    patch(&image, 512, &[0; 1024]);
    assert_eq!(on(&image, "check @ --repair").status.code(), Some(4));
    for line in ["check @ --undo x", "check @ --force", "check @ --journal y"] {
        assert_eq!(on(&image, line).status.code(), Some(2), "{line}");
    }
    // Raw bytes: nothing to mend, and nothing written.
    let raw = dir.path().join("zeros.raw");
    std::fs::write(&raw, vec![0; 1 << 20]).unwrap();
    assert!(ends(0, &raw, "check @ --repair").contains("nothing recognised"));
    content(&raw, "raw", &dir.path().join("copy.raw"));
}

/// Who stands on an image reads what lies on its disk, and nothing of its container.
#[test]
fn what_others_read_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let base = disk(dir.path(), ("qcow2", "qcow2", &[]));
    let child = dir.path().join("child.qcow2");
    let line = format!("create {} --backing @ -q", child.display());
    ends(0, &base, &line);
    run("qemu-io", ["-f", "qcow2", "-c", "write -P 0xa5 512 512", base.to_str().unwrap()]);
    let read = digest(&child);

    let before = seen(&base);
    for line in ["check @ --repair", "check @ --repair -n"] {
        let out = on(&base, line);
        assert!(
            out.status.code() == Some(3) && said(&out).contains("child.qcow2 stands on it"),
            "{}",
            said(&out)
        );
    }
    assert_eq!(seen(&base), before);

    patch(&base, 48, &[0; 12]);
    let said = ends(1, &base, "check @ --repair");
    assert!(said.contains("mended: container") && !said.contains("mended: gpt"), "{said}");
    assert_qemu_check(&base, "qcow2");
    assert_eq!(digest(&child), read);

    ends(0, &base, "check @ --repair --force");
    assert_ne!(digest(&child), read);
}
