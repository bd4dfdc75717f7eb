//! The virtual disk: its map, its digest, comparing and creating, as qemu-img has them.

use crate::kit::{code, imgtool, json, noisy, text};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use testkit::oracle::{assert_qemu_check, qemu_convert};
use testkit::tool;

const LEN: u64 = 96 << 20;

/// A raw disk with data, holes and written zeros.
fn raw(dir: &Path) -> PathBuf {
    let places = [(0, 5000), (3 << 20, 1 << 20), ((40 << 20) + 512, 70_000), (LEN - 4096, 4096)];
    let path = noisy(dir, LEN, &places);
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&vec![0; 1 << 20], 60 << 20).unwrap();
    path
}

/// The same content in every format: path, our name of the format, qemu's.
fn formats(dir: &Path) -> Vec<(PathBuf, &'static str, &'static str)> {
    let raw = raw(dir);
    let make = |name: &str, format: &str, options: &[&str]| {
        let path = dir.join(name);
        qemu_convert(&raw, "raw", &path, format, options);
        path
    };
    vec![
        (make("a.qcow2", "qcow2", &[]), "qcow2", "qcow2"),
        (make("small.qcow2", "qcow2", &["compat=0.10", "cluster_size=4096"]), "qcow2", "qcow2"),
        (make("extended.qcow2", "qcow2", &["extended_l2=on"]), "qcow2", "qcow2"),
        (make("dynamic.vhd", "vpc", &["force_size=on"]), "vhd", "vpc"),
        (make("fixed.vhd", "vpc", &["force_size=on", "subformat=fixed"]), "vhd", "vpc"),
        (raw, "raw", "raw"),
    ]
}

/// Runs as they are, neighbours joined that differ in nothing: qemu splits where it likes. For a subcluster that is not
/// there, it tells the place where it would be.
fn joined(list: &Value) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    for run in list.as_array().unwrap() {
        let mut run = run.clone();
        if run["present"] == false {
            run.as_object_mut().unwrap().remove("offset");
        }
        let same = |last: &Value| {
            let goes_on = match (last["offset"].as_u64(), run["offset"].as_u64()) {
                (Some(a), Some(b)) => a + last["length"].as_u64().unwrap() == b,
                (None, None) => true,
                _ => false,
            };
            goes_on
                && ["depth", "present", "zero", "data", "compressed"].iter().all(|key| last[key] == run[key])
        };
        match all.last_mut() {
            Some(last) if same(last) => {
                last["length"] = (last["length"].as_u64().unwrap() + run["length"].as_u64().unwrap()).into();
            }
            _ => all.push(run),
        }
    }
    all
}

#[test]
fn the_map_is_that_of_qemu() {
    let dir = tempfile::tempdir().unwrap();
    for (image, format, qemu) in formats(dir.path()) {
        let theirs = tool::run("qemu-img", ["map", "--output=json", "-f", qemu, text(&image)]);
        let theirs: Value = serde_json::from_str(&theirs).unwrap();
        let ours = json(&["map", "--json", "-f", format, text(&image)]);
        if format == "qcow2" || format == "raw" {
            let mut ours = ours.clone();
            if theirs[0].get("compressed").is_none() {
                // QEMU tells this since version 8.2.
                for run in ours.as_array_mut().unwrap() {
                    assert_eq!(run.as_object_mut().unwrap().remove("compressed"), Some(false.into()));
                }
            }
            assert_eq!(joined(&ours), joined(&theirs), "{}", image.display());
        }
        let runs = ours.as_array().unwrap();
        let end = runs.iter().fold(0, |at, run| {
            assert_eq!(run["start"], at);
            at + run["length"].as_u64().unwrap()
        });
        assert_eq!(end, LEN);
        // What the map says is stored is found where it says.
        let (disk, file) = (File::open(dir.path().join("disk.raw")).unwrap(), File::open(&image).unwrap());
        for run in runs {
            let len = usize::try_from(run["length"].as_u64().unwrap()).unwrap();
            let [mut want, mut got] = [vec![0; len], vec![0; len]];
            disk.read_exact_at(&mut want, run["start"].as_u64().unwrap()).unwrap();
            if let Some(offset) = run["offset"].as_u64().filter(|_| run["data"] == true) {
                file.read_exact_at(&mut got, offset).unwrap();
            }
            assert!(want == got, "{}: {run}", image.display());
        }
    }
}

#[test]
fn the_digest_is_that_of_the_content_in_any_format() {
    let dir = tempfile::tempdir().unwrap();
    let images = formats(dir.path());
    let want = blake3::hash(&fs::read(dir.path().join("disk.raw")).unwrap()).to_hex().to_string();
    for (image, format, _) in &images {
        for threads in ["1", "3"] {
            let said = code(0, &["digest", "-f", format, "-j", threads, text(image)]);
            assert_eq!(String::from_utf8(said).unwrap(), format!("{want}  {}\n", image.display()));
        }
        let document = json(&["digest", "--json", "-f", format, text(image)]);
        assert_eq!((&document["digest"], &document["virtual-size"]), (&want.clone().into(), &LEN.into()));
    }
}

#[test]
fn compare_judges_as_qemu_does() {
    let dir = tempfile::tempdir().unwrap();
    let images = formats(dir.path());
    let (raw, _, _) = images.last().unwrap();
    for (image, format, _) in &images {
        let document = json(&["compare", "--json", "-F", format, text(raw), text(image)]);
        assert_eq!((&document["identical"], &document["first-difference"]), (&true.into(), &Value::Null));
    }
    let other = dir.path().join("other.raw");
    for at in [0, (40 << 20) + 513, 50 << 20, LEN - 1] {
        tool::copy_sparse(raw, &other);
        let file = File::options().write(true).open(&other).unwrap();
        file.write_all_at(b"\xa5", at).unwrap();
        file.write_all_at(b"\xa5", LEN - 1).unwrap();
        for (image, format, qemu) in &images {
            let out = imgtool(["compare", "--json", "-f", format, text(image), text(&other)]);
            assert_eq!(out.status.code(), Some(1), "{}", image.display());
            let document: Value = serde_json::from_slice(&out.stdout).unwrap();
            assert_eq!(document["first-difference"], at);
            assert!(!testkit::oracle::qemu_same(image, qemu, &other, "raw"));
        }
    }
    tool::copy_sparse(raw, &other);
    let file = File::options().write(true).open(&other).unwrap();
    file.set_len(LEN + (8 << 20)).unwrap();
    for (image, format, _) in &images {
        let out = imgtool(["compare", "-f", format, text(image), text(&other)]);
        assert_eq!(out.status.code(), Some(0), "{}", tool::said(&out));
        assert!(tool::said(&out).contains("the sizes differ"));
    }
    file.write_all_at(b"x", LEN + 4096).unwrap();
    let said = code(1, &["compare", text(raw), text(&other)]);
    assert!(String::from_utf8(said).unwrap().contains(&(LEN + 4096).to_string()));
}

fn info(image: &Path, format: &str) -> Value {
    let said = tool::run("qemu-img", ["info", "--output=json", "-f", format, text(image)]);
    serde_json::from_str(&said).unwrap()
}

#[test]
fn new_images_are_what_qemu_takes_them_for() {
    let dir = tempfile::tempdir().unwrap();
    for (name, option, qemu) in [
        ("a.raw", "raw", "raw"),
        ("a.qcow2", "qcow2", "qcow2"),
        ("a.vhd", "vhd", "vpc"),
        ("f.vhd", "vhd-fixed", "vpc"),
    ] {
        let image = dir.path().join(name);
        code(0, &["create", "-n", text(&image), "300M", "-O", option]);
        assert!(!image.exists());
        let document = json(&["create", "--json", text(&image), "300M", "-O", option]);
        assert_eq!(
            (&document["changed"], &document["virtual-size"]),
            (&true.into(), &(300_u64 << 20).into())
        );
        assert_eq!(info(&image, qemu)["virtual-size"], 300_u64 << 20, "{name}");
        if qemu == "qcow2" {
            assert_qemu_check(&image, qemu);
        }
        let before = fs::read(&image).unwrap();
        code(3, &["create", text(&image), "1G"]);
        assert!(fs::read(&image).unwrap() == before);
        assert_eq!(document["file-size"], before.len());
    }
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 4, "no draft is left behind: {names:?}");
    let odd = dir.path().join("odd.vhd");
    let out = imgtool(["create", text(&odd), "5000001"]);
    assert!(out.status.success() && tool::said(&out).contains("5000192"), "{}", tool::said(&out));
    code(3, &["create", text(&dir.path().join("huge.vhd")), "3T"]);
}

#[test]
fn a_child_reads_as_its_parent() {
    let dir = tempfile::tempdir().unwrap();
    let images = formats(dir.path());
    let sub = dir.path().join("sub");
    fs::create_dir(&sub).unwrap();
    for (base, format, qemu) in &images {
        let child =
            dir.path().join(format!("child-of-{}.qcow2", base.file_name().unwrap().to_str().unwrap()));
        code(0, &["create", text(&child), "--backing", text(base), "-f", format]);
        let told = info(&child, "qcow2");
        assert_eq!(told["backing-filename"], base.file_name().unwrap().to_str().unwrap());
        assert_eq!((&told["backing-filename-format"], &told["virtual-size"]), (&(*qemu).into(), &LEN.into()));
        assert!(testkit::oracle::qemu_same(&child, "qcow2", base, qemu));
        code(0, &["compare", "-f", "qcow2", "-F", format, text(&child), text(base)]);
    }
    let (vhd, ..) = images.iter().find(|(path, ..)| path.ends_with("dynamic.vhd")).unwrap();
    let child = dir.path().join("child.vhd");
    code(0, &["create", text(&child), "--backing", text(vhd)]);
    code(0, &["compare", text(&child), text(vhd)]);
    let grandchild = sub.join("grandchild.qcow2");
    code(0, &["create", text(&grandchild), "200M", "--backing", text(&child)]);
    assert_eq!(info(&grandchild, "qcow2")["backing-filename"], "../child.vhd");
    code(0, &["compare", "--parent", text(&child), text(&grandchild), text(vhd)]);

    let raw = dir.path().join("disk.raw");
    code(3, &["create", text(&dir.path().join("x.vhd")), "--backing", text(&raw)]);
    code(2, &["create", text(&dir.path().join("x.raw")), "--backing", text(&raw)]);
    code(3, &["create", text(&dir.path().join("x.qcow2")), "8M", "--backing", text(&raw)]);
    // A guest has written a qcow2 header into its raw disk.
    let evil = dir.path().join("evil.img");
    fs::copy(&images[0].0, &evil).unwrap();
    code(3, &["create", text(&dir.path().join("y.qcow2")), "--backing", text(&evil)]);
}
