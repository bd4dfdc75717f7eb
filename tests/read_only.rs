//! Commands that only look: they change nothing, agree with other programs, and say the same each time.

use std::io::Write;
use std::path::Path;

use ondisk::{Len, Offset};
use serde_json::Value;
use testkit::files::Manifest;
use testkit::images::{Fill, flavor, make};
use testkit::oracle::{Mount, qemu_convert};
use testkit::tool::run;

use crate::disks::{KINDS, Scheme, contain};
use crate::kit::{beside, document, each, ends, seen};

#[test]
fn looking_changes_nothing_and_is_the_same_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    Scheme::Gpt.disk(flavor("ext4-1k"), Fill::Lived, Len::mib(64), &raw);
    let digest = seen(&raw).digest.to_hex();
    each(KINDS.len(), |i| {
        let dir = tempfile::tempdir().unwrap();
        let image = contain(&raw, KINDS[i], dir.path());
        let (before, files) = (seen(&image), beside(&image));
        for line in [
            "info @ --json",
            "map @ --json",
            "check @ --json",
            "digest @ --json",
            "compare @ @ --json",
            "fs ls @ / --json",
            "fs stat @ /big --json",
            "fs find @ / --json",
        ] {
            let first = ends(0, &image, line);
            assert_eq!(first, ends(0, &image, line), "{line}");
            let told: Value = serde_json::from_str(&first).unwrap();
            assert!(told.is_array() || told["schema"] == 1, "{line}: {told}");
        }
        ends(0, &image, &format!("compare @ {}", raw.display()));
        if KINDS[i].1 != "vpc" {
            // A VHD may be longer than the disk that it was made from.
            assert!(ends(0, &image, "digest @").starts_with(digest.as_str()));
        }
        let info = document(&image, "info @");
        let theirs = run("qemu-img", ["info", "--output=json", "-f", KINDS[i].1, image.to_str().unwrap()]);
        let theirs: Value = serde_json::from_str(&theirs).unwrap();
        assert_eq!(info["virtual-size"], theirs["virtual-size"]);
        assert_eq!(info["actual-size"], theirs["actual-size"]);
        assert_eq!((seen(&image), beside(&image)), (before, files));
    });
}

#[test]
fn map_is_that_of_qemu() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    Scheme::Mbr.disk(flavor("ext4-4k"), Fill::Tree, Len::mib(64), &raw);
    let qcow2 = dir.path().join("disk.qcow2");
    qemu_convert(&raw, "raw", &qcow2, "qcow2", &[]);
    for (image, format) in [(&raw, "raw"), (&qcow2, "qcow2")] {
        let ours: Value = serde_json::from_str(&ends(0, image, "map @ --json")).unwrap();
        let theirs = run("qemu-img", ["map", "--output=json", "-f", format, image.to_str().unwrap()]);
        let theirs: Value = serde_json::from_str(&theirs).unwrap();
        assert_eq!(facts(&ours), facts(&theirs), "{format}");
    }
}

/// Chains of three, with data, zeros and nothing in each, and disks that become longer down to the leaf.
#[test]
fn map_of_a_chain_is_that_of_qemu() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    for (base, format) in [("base.qcow2", "qcow2"), ("base.raw", "raw"), ("base.vhd", "vpc")] {
        let make = |name: &str, size: &str, parent: Option<(&str, &str)>, writes: &[&str], format: &str| {
            let parent = parent.map_or(vec![], |(parent, format)| vec!["-b", parent, "-F", format]);
            let name = path(name);
            let all = [vec!["create", "-q", "-f", format], parent, vec![name.as_str(), size]];
            run("qemu-img", all.concat());
            let writes = writes.iter().flat_map(|write| ["-c", *write]);
            run("qemu-io", ["-f", format].into_iter().chain(writes).chain([name.as_str()]));
        };
        make(base, "10M", None, &["write 0 1M", "write 3M 64k"], format);
        let writes = ["write 2M 1M", "write -z 4M 64k", "write -c 5M 64k", "write 500k 4k"];
        make("middle.qcow2", "12M", Some((base, format)), &writes, "qcow2");
        let writes = ["write 7M 128k", "write -z 0 64k", "write 19M 64k"];
        make("leaf.qcow2", "20M", Some(("middle.qcow2", "qcow2")), &writes, "qcow2");
        let leaf = dir.path().join("leaf.qcow2");
        let mut ours: Value = serde_json::from_str(&ends(0, &leaf, "map @ --json")).unwrap();
        let theirs = run("qemu-img", ["map", "--output=json", leaf.to_str().unwrap()]);
        let theirs: Value = serde_json::from_str(&theirs).unwrap();
        if theirs[0].get("compressed").is_none() {
            // Versions before 8.2 do not tell.
            for run in ours.as_array_mut().unwrap() {
                run.as_object_mut().unwrap().remove("compressed");
            }
        }
        assert_eq!(ours, theirs, "{base}");
        assert!(ends(0, &leaf, "map @").contains("data, 2 images down"), "{base}");
    }
}

fn facts(map: &Value) -> Vec<(u64, u64, bool, bool)> {
    let number = |one: &Value, name: &str| one[name].as_u64().unwrap();
    let flag = |one: &Value, name: &str| one[name].as_bool().unwrap();
    let all = map.as_array().unwrap().iter();
    all.map(|one| (number(one, "start"), number(one, "length"), flag(one, "zero"), flag(one, "data")))
        .collect()
}

#[test]
fn differences_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = ["a.raw", "b.raw"].map(|name| dir.path().join(name));
    for image in [&a, &b] {
        make(flavor("ext4-1k"), Len::mib(32), Fill::Tree, image);
    }
    let compare = format!("compare @ {}", b.display());
    ends(0, &a, &compare);
    let file = std::fs::File::options().write(true).open(&b).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"x", 20_000_000).unwrap();
    let told = ends(1, &a, &compare);
    assert!(told.contains("19999744") || told.contains("20000000"), "{told}");
}

/// A journal that waits: shown as it will be, kept as it is.
#[test]
fn files_of_a_running_guest() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("guest.raw");
    make(flavor("ext4-4k"), Len::mib(64), Fill::Tree, &image);
    testkit::kernel::stop_while_mounted(&image, testkit::kernel::Stop::Committed, |root| {
        let mut file = std::fs::File::create(root.join("written")).unwrap();
        file.write_all(b"by the guest").unwrap();
        file.sync_all().unwrap();
    });
    let before = seen(&image);
    assert_eq!(ends(0, &image, "fs cat @ /written"), "by the guest");
    assert!(ends(0, &image, "info @").contains("needs recovery") && seen(&image) == before);
    let tar = dir.path().join("all.tar");
    ends(0, &image, &format!("fs tar-out @ / -o {}", tar.display()));
    assert_eq!(seen(&image), before);
    let there = dir.path().join("there");
    std::fs::create_dir(&there).unwrap();
    let options = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"];
    run("tar", options.iter().chain(&[tar.to_str().unwrap(), "-C", there.to_str().unwrap()]));
    ends(0, &image, "fs replay @");
    ends(0, &image, "fs replay @");
    testkit::oracle::assert_clean(&image, Offset::ZERO);
    files(Mount::read_only(&image).path()).assert_same(&files(&there));
}

/// All but what tar does not carry: the times of folders that were filled after they were made.
fn files(root: &Path) -> Manifest {
    let mut files = Manifest::of(root).portable();
    files.0.remove(b"".as_slice());
    files
}
