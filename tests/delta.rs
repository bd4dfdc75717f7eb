//! Differences: whatever the formats, a patch makes the target of its bases, or nothing.

use std::fs::{File, read, write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ondisk::Offset;
use serde_json::Value;
use testkit::images::noise;
use testkit::oracle::{assert_clean, assert_qemu_check, qemu_convert, qemu_same};
use testkit::tool::{copy_sparse, run, said};

use crate::kit::{IMGTOOL, code, imgtool, json};

/// A guest's disk, and the same disk a while later.
pub struct Pair {
    pub dir: tempfile::TempDir,
}

impl Pair {
    pub fn new() -> Self {
        let pair = Self { dir: tempfile::tempdir().unwrap() };
        let base = pair.path("base.raw");
        let file = File::create(&base).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(&noise(1, 9 << 20), 1 << 20).unwrap();
        file.write_all_at(&vec![7; 3 << 20], 20 << 20).unwrap();
        copy_sparse(&base, &pair.path("target.raw"));
        let file = File::options().write(true).open(pair.path("target.raw")).unwrap();
        file.set_len(80 << 20).unwrap();
        file.write_all_at(b"changed", 5 << 20).unwrap();
        // Moved by an odd distance, new, twice, and gone.
        file.write_all_at(&noise(1, 5 << 20), (30 << 20) + 77).unwrap();
        file.write_all_at(&noise(2, 300_000), 50 << 20).unwrap();
        file.write_all_at(&noise(2, 300_000), 70 << 20).unwrap();
        file.write_all_at(&[0; 1 << 20], 21 << 20).unwrap();
        let text: String = (0..1000).map(|line| format!("line {line}\n")).collect();
        file.write_all_at(text.as_bytes(), 60 << 20).unwrap();
        pair
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `imgtool delta` in the folder.
    pub fn delta(&self, want: i32, line: &str) -> String {
        let mut command = Command::new(IMGTOOL);
        let out = command.current_dir(self.dir.path()).arg("delta").args(line.split(' ')).output().unwrap();
        assert_eq!(out.status.code(), Some(want), "delta {line}: {}", said(&out));
        said(&out)
    }

    pub fn patch(&self) -> PathBuf {
        self.delta(0, "create --base base.raw target.raw -o p");
        self.path("p")
    }
}

pub fn digest(image: &Path) -> Value {
    json(&["digest", image.to_str().unwrap(), "--json"])["digest"].clone()
}

#[test]
fn every_format_against_every_other() {
    let pair = Pair::new();
    let target = pair.path("target.raw");
    for (base, other) in [("raw", "qcow2"), ("qcow2", "vpc"), ("vpc", "raw")] {
        let [from, to] = [("base", base), ("target", other)].map(|(name, format)| {
            let made = pair.path(&format!("{name}.{}", if format == "vpc" { "vhd" } else { format }));
            if format != "raw" {
                let raw = pair.path(&format!("{name}.raw"));
                code(0, &[Path::new("convert"), &raw, &made]);
            }
            made.file_name().unwrap().to_str().unwrap().to_owned()
        });
        pair.delta(0, &format!("create --base {from} {to} -o p --stats"));
        let size = pair.path("p").metadata().unwrap().len();
        assert!((300_000..330_000).contains(&size), "{from} and {to}: {size}");
        for out in ["out.raw", "out.qcow2", "out.vhd"] {
            pair.delta(0, &format!("apply --base {from} p -o {out}"));
            assert_eq!(digest(&pair.path(out)), digest(&target), "{from} and {to} to {out}");
        }
        assert!(read(pair.path("out.raw")).unwrap() == read(&target).unwrap());
    }
    assert_qemu_check(&pair.path("out.qcow2"), "qcow2");
    assert!(qemu_same(&pair.path("out.qcow2"), "qcow2", &target, "raw"));
}

#[test]
fn what_a_patch_says_about_itself() {
    let pair = Pair::new();
    let patch = pair.patch();
    // It holds bytes of the guest.
    assert_eq!(patch.metadata().unwrap().mode() & 0o777, 0o600);
    let info = json(&["delta", "info", patch.to_str().unwrap(), "--json"]);
    let side =
        |name: &str, size: u64| serde_json::json!({ "size": size, "digest": digest(&pair.path(name)) });
    assert_eq!(info["format"], "native");
    assert_eq!(info["bases"], serde_json::json!([side("base.raw", 64 << 20)]));
    assert_eq!(info["target"], side("target.raw", 80 << 20));
    assert_eq!(
        (&info["codec"], &info["drop-free"], &info["signed"]),
        (&"zstd".into(), &false.into(), &false.into())
    );
    assert!(pair.delta(0, "info p").contains("base"));
    let foreseen = imgtool(["delta", "create", "-n", "--json", "--base"].map(PathBuf::from).iter().chain(&[
        pair.path("base.raw"),
        pair.path("target.raw"),
        PathBuf::from("-o"),
        pair.path("none"),
    ]));
    let foreseen: Value = serde_json::from_slice(&foreseen.stdout).unwrap();
    assert_eq!(foreseen["size"], patch.metadata().unwrap().len());
    assert!(!pair.path("none").exists());
}

#[test]
fn lzma2_is_smaller() {
    let pair = Pair::new();
    let patch = pair.patch();
    pair.delta(0, "create --base base.raw target.raw -o x --codec xz");
    let info = json(&["delta", "info", pair.path("x").to_str().unwrap(), "--json"]);
    assert_eq!(info["codec"], "xz");
    assert!(pair.path("x").metadata().unwrap().len() < patch.metadata().unwrap().len());
    pair.delta(0, "verify --base base.raw x");
    pair.delta(0, "apply --base base.raw x -o out.raw");
    assert_eq!(digest(&pair.path("out.raw")), digest(&pair.path("target.raw")));
}

#[test]
fn an_empty_difference_is_small() {
    let pair = Pair::new();
    pair.delta(0, "create --base target.raw target.raw -o p");
    assert!(pair.path("p").metadata().unwrap().len() < 400);
    pair.delta(0, "apply --base target.raw p -o out");
    assert!(read(pair.path("out")).unwrap() == read(pair.path("target.raw")).unwrap());
}

#[test]
fn without_a_base_and_with_two() {
    let pair = Pair::new();
    pair.delta(0, "create target.raw -o p");
    pair.delta(0, "apply p -o out");
    assert!(read(pair.path("out")).unwrap() == read(pair.path("target.raw")).unwrap());
    write(pair.path("other"), noise(2, 300_000)).unwrap();
    pair.delta(0, "create --base base.raw --base other target.raw -o p");
    assert!(pair.path("p").metadata().unwrap().len() < 8000);
    pair.delta(0, "apply --base other --base base.raw p -o out");
    assert!(read(pair.path("out")).unwrap() == read(pair.path("target.raw")).unwrap());
    pair.delta(4, "apply --base base.raw p -o gone");
    assert!(!pair.path("gone").exists());
}

#[test]
fn a_part_of_the_disk() {
    let pair = Pair::new();
    pair.patch();
    pair.delta(0, "apply --base base.raw p --range 31457357:5000001 -o part");
    let target = read(pair.path("target.raw")).unwrap();
    assert!(read(pair.path("part")).unwrap() == target[31_457_357..36_457_358]);
    assert!(pair.delta(3, "apply --base base.raw p --range 80M:1 -o none").contains("outside"));
    assert!(!pair.path("none").exists());
}

#[test]
fn streams() {
    let pair = Pair::new();
    let patch = pair.patch();
    let made = Command::new(IMGTOOL)
        .current_dir(pair.dir.path())
        .args(["delta", "create", "--stats", "--base", "base.raw", "target.raw", "-o", "-"])
        .output()
        .unwrap();
    assert!(made.status.success() && made.stdout == read(&patch).unwrap());
    let words = String::from_utf8_lossy(&made.stderr);
    assert!(words.contains("-: a patch of") && words.contains("outside filesystems"), "{words}");
    let applied = Command::new(IMGTOOL)
        .current_dir(pair.dir.path())
        .args(["delta", "apply", "--no-cache", "--base", "base.raw", "p", "-o", "-"])
        .output()
        .unwrap();
    assert!(applied.status.success() && applied.stdout == read(pair.path("target.raw")).unwrap());
    let fed = Command::new(IMGTOOL)
        .current_dir(pair.dir.path())
        .args(["delta", "apply", "--no-cache", "--base", "base.raw", "-", "-o", "out"])
        .stdin(Stdio::from(File::open(&patch).unwrap()))
        .output()
        .unwrap();
    assert!(fed.status.success(), "{}", said(&fed));
    assert!(read(pair.path("out")).unwrap() == read(pair.path("target.raw")).unwrap());
    let names: Vec<_> = pair.dir.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
}

#[test]
fn a_wrong_base_or_patch_leaves_nothing_behind() {
    let pair = Pair::new();
    let patch = pair.patch();
    write(pair.path("out"), "kept").unwrap();
    let said = pair.delta(4, "apply --no-cache --base target.raw p -o out");
    assert!(said.contains("--base"), "{said}");
    pair.delta(1, "verify --no-cache --base target.raw p");
    pair.delta(0, "verify --no-cache --base base.raw p");
    let sound = read(&patch).unwrap();
    for at in (0..sound.len()).step_by(sound.len() / 50) {
        let mut bytes = sound.clone();
        bytes[at] ^= 4;
        write(&patch, &bytes).unwrap();
        for line in ["verify --no-cache --base base.raw p", "apply --no-cache --base base.raw p -o out"] {
            let out = Command::new(IMGTOOL)
                .current_dir(pair.dir.path())
                .arg("delta")
                .args(line.split(' '))
                .output();
            // Version and flags of a later imgtool are not damage.
            let code = out.unwrap().status.code().unwrap();
            assert!(code == 4 || (code == 3 && (8..12).contains(&at)), "{line}, byte {at}: {code}");
        }
        write(&patch, &sound[..at]).unwrap();
        pair.delta(4, "apply --no-cache --base base.raw p -o out");
    }
    assert_eq!(read(pair.path("out")).unwrap(), b"kept");
    write(&patch, &sound).unwrap();
    pair.delta(0, "apply --no-cache --base base.raw p -o out");
    assert!(read(pair.path("out")).unwrap() == read(pair.path("target.raw")).unwrap());
    pair.delta(3, "apply --no-cache --base base.raw p -o base.raw");
    pair.delta(3, "create --base base.raw target.raw -o target.raw");
    assert_eq!(pair.dir.path().read_dir().unwrap().count(), 4);
}

#[test]
fn a_chain_is_one_disk() {
    let pair = Pair::new();
    qemu_convert(&pair.path("base.raw"), "raw", &pair.path("base.qcow2"), "qcow2", &[]);
    let child = pair.path("child.qcow2");
    run(
        "qemu-img",
        ["create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", child.to_str().unwrap()],
    );
    run("qemu-io", ["-f", "qcow2", "-c", "write -P 9 6M 200k", child.to_str().unwrap()]);
    pair.delta(0, "create --base base.raw child.qcow2 -o p");
    assert!(pair.path("p").metadata().unwrap().len() < 1000);
    pair.delta(0, "apply --base base.qcow2 p -o out.qcow2");
    assert!(qemu_same(&pair.path("out.qcow2"), "qcow2", &child, "qcow2"));
}

/// What a filesystem has deleted is not shipped, and everything else is.
#[test]
fn free_blocks_are_dropped() {
    let pair = Pair::new();
    let files = pair.path("files");
    std::fs::create_dir(&files).unwrap();
    write(files.join("kept"), noise(3, 2 << 20)).unwrap();
    write(files.join("gone"), noise(4, 5 << 20)).unwrap();
    let image = pair.path("fs.raw");
    File::create(&image).unwrap().set_len(32 << 20).unwrap();
    run("mke2fs", ["-q", "-t", "ext4", "-d", files.to_str().unwrap(), image.to_str().unwrap()]);
    run("debugfs", ["-w", "-R", "rm gone", image.to_str().unwrap()]);
    pair.delta(0, "create fs.raw -o exact");
    let said = pair.delta(0, "create --drop-free fs.raw -o small");
    assert!(said.contains("no filesystem uses"), "{said}");
    let size = |name: &str| pair.path(name).metadata().unwrap().len();
    assert!(size("exact") > 7 << 20 && size("small") < (2 << 20) + 200_000, "{}", size("small"));
    assert!(pair.delta(0, "apply small -o out.raw").contains("--drop-free"));
    assert_eq!(json(&["delta", "info", pair.path("small").to_str().unwrap(), "--json"])["drop-free"], true);
    assert_clean(&pair.path("out.raw"), Offset::ZERO);
    let kept = code(0, &[Path::new("fs"), Path::new("cat"), &pair.path("out.raw"), Path::new("/kept")]);
    assert!(kept == noise(3, 2 << 20));
    pair.delta(0, "apply exact -o out.raw");
    assert!(read(pair.path("out.raw")).unwrap() == read(&image).unwrap());
}
