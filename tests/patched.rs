//! A patch and its bases as an image, in every command that only reads.

use std::fs::{File, read, write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use testkit::images::noise;
use testkit::oracle::{assert_clean, debugfs, qemu_same};
use testkit::tool::{copy_sparse, run};

use ondisk::Offset;

use crate::delta::Pair;
use crate::kit::{assert_told, beside, document, ends, on, seen};

/// A pair, its patch, and a VCDIFF of the same.
struct Made {
    pair: Pair,
}

impl Made {
    fn new() -> Self {
        let made = Self { pair: Pair::new() };
        made.pair.patch();
        made.pair.delta(0, "create --base base.raw target.raw -o v --format vcdiff");
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.pair.path(name)
    }

    /// In `line`, names with a `%` before them lie in the folder.
    fn line(&self, line: &str) -> String {
        line.replace('%', &format!("{}/", self.pair.dir.path().display()))
    }

    fn ends(&self, code: i32, image: &str, line: &str) -> String {
        ends(code, &self.path(image), &self.line(line))
    }

    fn on(&self, image: &str, line: &str) -> Output {
        on(&self.path(image), &self.line(line))
    }
}

/// Spans that hold data, by `map`.
fn data(map: &serde_json::Value) -> Vec<(u64, u64)> {
    let number = |run: &serde_json::Value, key: &str| run[key].as_u64().unwrap();
    let runs = map.as_array().unwrap().iter().filter(|run| run["data"] == true);
    runs.map(|run| (number(run, "start"), number(run, "start") + number(run, "length"))).collect()
}

#[test]
fn a_patch_reads_as_the_disk_that_it_makes() {
    let made = Made::new();
    let target = made.path("target.raw");
    // A chain as the base.
    made.ends(0, "base.raw", "convert @ %low.qcow2");
    made.ends(0, "over.qcow2", "create @ --backing %low.qcow2");
    let digest = document(&target, "digest @")["digest"].clone();
    for (image, base) in [("p", "%base.raw"), ("p", "%over.qcow2"), ("v", "%over.qcow2")] {
        let with = made.line(&format!("--base {base}"));
        let path = made.path(image);
        let files = beside(&target);
        assert!(made.ends(0, image, &format!("compare @ %target.raw {with}")).contains("identical"));
        assert_eq!(document(&path, &format!("digest @ {with}"))["digest"], digest);
        let info = document(&path, &format!("info @ {with}"));
        assert_eq!((&info["format"], info["virtual-size"].as_u64()), (&"patch".into(), Some(80 << 20)));
        assert_eq!(info["bases"], serde_json::json!([made.line(base)]));
        assert!(made.ends(0, image, &format!("check @ {with}")).contains("nothing recognised"));
        let map = document(&path, &format!("map @ {with}"));
        // What is not data is zero, and nothing lies at a place in the file.
        let (bytes, mut at) = (read(&target).unwrap(), 0);
        for (start, end) in data(&map).into_iter().chain([(80 << 20, 80 << 20)]) {
            assert!(bytes[at..usize::try_from(start).unwrap()].iter().all(|byte| *byte == 0), "{start}");
            at = usize::try_from(end).unwrap();
        }
        assert!(map.as_array().unwrap().iter().all(|run| run.get("offset").is_none()));
        let piped = on(&path, &format!("convert @ - {with}"));
        assert!(piped.status.success() && piped.stdout == bytes);
        // Whoever only looks leaves nothing behind.
        assert_eq!(beside(&target), files);
        made.ends(0, image, &format!("measure @ -O qcow2 {with}"));
        let out = format!("{image}{}.qcow2", base.len());
        made.ends(0, image, &format!("convert @ %{out} {with}"));
        assert!(qemu_same(&made.path(&out), "qcow2", &target, "raw"));
        made.ends(0, &out, &format!("compare @ %{image} {with}"));
    }
}

#[test]
fn a_patch_is_a_side_of_other_patches() {
    let made = Made::new();
    let pair = &made.pair;
    pair.delta(0, "create --base base.raw p --patch-base base.raw -o again");
    assert!(read(made.path("again")).unwrap() == read(made.path("p")).unwrap());
    copy_sparse(&made.path("target.raw"), &made.path("third.raw"));
    let third = File::options().write(true).open(made.path("third.raw")).unwrap();
    third.write_all_at(&noise(8, 5000), 33 << 20).unwrap();
    for first in ["p", "v"] {
        pair.delta(0, &format!("create --base {first} --patch-base base.raw third.raw -o q"));
        assert!(made.path("q").metadata().unwrap().len() < 10_000);
        pair.delta(0, &format!("verify --base {first} --patch-base base.raw q"));
        pair.delta(0, &format!("apply --base {first} --patch-base base.raw q -o out.raw"));
        assert!(read(made.path("out.raw")).unwrap() == read(made.path("third.raw")).unwrap());
    }
    pair.delta(0, "signature p --base base.raw -o made.sig");
    pair.delta(0, "signature target.raw -o target.sig");
    assert!(read(made.path("made.sig")).unwrap() == read(made.path("target.sig")).unwrap());
    // What is read stays, and a child stands on no patch.
    let base = seen(&made.path("base.raw"));
    pair.delta(3, "create --base base.raw p --patch-base base.raw -o base.raw");
    pair.delta(3, "signature p --base base.raw -o base.raw");
    pair.delta(3, "apply --base p --patch-base base.raw q --as-child -O qcow2 -o child.qcow2");
    assert!(!made.path("child.qcow2").exists());
    assert_eq!(seen(&made.path("base.raw")), base);
}

#[test]
fn files_in_a_patch() {
    let made = Made { pair: Pair::new() };
    let (old, new) = (made.path("old.raw"), made.path("new.raw"));
    let files = made.path("files");
    std::fs::create_dir(&files).unwrap();
    write(files.join("kept"), noise(3, 2 << 20)).unwrap();
    write(files.join("gone"), noise(4, 1 << 20)).unwrap();
    write(files.join("later"), "after\n").unwrap();
    File::create(&old).unwrap().set_len(32 << 20).unwrap();
    run("mke2fs", ["-q", "-t", "ext4", "-d", files.to_str().unwrap(), old.to_str().unwrap()]);
    copy_sparse(&old, &new);
    let _ = debugfs(&new, Offset::ZERO, true, &made.line("rm gone\nwrite %files/later made\n"));
    made.pair.delta(0, "create --base old.raw new.raw -o p");
    let with = "--base %old.raw";
    assert_eq!(made.ends(0, "p", &format!("fs cat @ /made {with}")), "after\n");
    let list = made.ends(0, "p", &format!("fs ls @ / {with}"));
    assert!(list.contains("made") && !list.contains("gone"), "{list}");
    assert!(made.ends(0, "p", &format!("fs stat @ /made {with}")).contains("made"));
    assert!(made.ends(0, "p", &format!("fs find @ / --name ma* {with}")).contains("/made"));
    made.ends(0, "p", &format!("fs copy-out @ /kept %kept {with}"));
    assert!(read(made.path("kept")).unwrap() == noise(3, 2 << 20));
    made.ends(0, "p", &format!("fs tar-out @ / -o %all.tar {with}"));
    let listed = run("tar", ["-tf", made.path("all.tar").to_str().unwrap()]);
    assert!(listed.contains("made") && !listed.contains("gone"), "{listed}");
    assert!(made.ends(0, "p", &format!("check @ {with}")).contains("clean"));
    made.ends(0, "p", &format!("sparsify @ %thin.raw {with}"));
    assert_clean(&made.path("thin.raw"), Offset::ZERO);
    let thin = made.ends(0, "thin.raw", "fs cat @ /made");
    assert_eq!(thin, "after\n");
}

#[test]
fn a_patch_is_refused_by_name() {
    let made = Made::new();
    let before = ["p", "v", "base.raw"].map(|name| seen(&made.path(name)));
    for image in ["p", "v"] {
        for line in [
            "info @",
            "digest @",
            "convert @ %out.qcow2",
            "fs ls @ /",
            "grow @ +1G",
            "sparsify @",
            "check @ --repair",
            "convert @ --in-place -O qcow2",
            "create %out.qcow2 --backing @",
            "chain list @",
            "chain snapshot @ %out.qcow2",
            "fs replay @",
        ] {
            let out = made.on(image, line);
            assert_told(&out, 3, &made.path(image), line);
            let said = testkit::tool::said(&out);
            assert!(said.contains("is a patch") && said.contains("delta apply"), "{line}: {said}");
            assert!(!made.path("out.qcow2").exists(), "{line}");
        }
        for line in
            ["grow @ +1G --base %base.raw", "chain list @ --base %base.raw", "sparsify @ --base %base.raw"]
        {
            assert_told(&made.on(image, line), 2, &made.path(image), line);
        }
    }
    // Of no use, another disk, a patch as a base, damaged.
    assert_told(&made.on("target.raw", "info @ --base %base.raw"), 2, &made.path("target.raw"), "no patch");
    let wrong = made.on("p", "info @ --base %target.raw");
    assert_told(&wrong, 4, &made.path("p"), "another base");
    assert_told(&made.on("v", "info @ --base %base.raw --base %base.raw"), 3, &made.path("v"), "two bases");
    assert_told(&made.on("p", "info @ --base %p"), 3, &made.path("p"), "itself");
    let mut bytes = read(made.path("p")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    write(made.path("damaged"), bytes).unwrap();
    let damaged = made.on("damaged", "convert @ %out.qcow2 --base %base.raw");
    assert_told(&damaged, 4, &made.path("damaged"), "damaged");
    assert!(!made.path("out.qcow2").exists());
    assert_eq!(["p", "v", "base.raw"].map(|name| seen(&made.path(name))), before);
}

/// A guest writes a patch to the beginning of its disk, which stands on a base of its host.
#[test]
fn a_guest_makes_no_patch() {
    let made = Made::new();
    for image in ["p", "v"] {
        let patch = read(made.path(image)).unwrap();
        let raw = made.path(&format!("{image}.raw"));
        write(&raw, &patch).unwrap();
        // The name says that it is a disk; so does the operator.
        for (path, line) in [(raw.as_path(), "convert @ -"), (&made.path(image), "convert @ - -f raw")] {
            let out = on(path, line);
            assert!(out.status.success() && out.stdout.starts_with(&patch), "{line}");
        }
        for (path, line) in [(raw.as_path(), "info @"), (&made.path(image), "info @ -f raw")] {
            let with = made.line(&format!("{line} --base %base.raw"));
            assert_told(&on(path, &with), 2, path, "a disk, and no patch");
        }
        // As a base of a patch it is a disk, or refused.
        let wrong = made.on(image, &format!("info @ --base %{image}.raw"));
        assert_told(&wrong, 4, Path::new(image), "another disk");
    }
}
