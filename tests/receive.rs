//! Where patches arrive: a child of the base instead of a copy, or the base itself becomes the target.

use std::fs::{File, read};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::images::noise;
use testkit::oracle::{assert_qemu_check, qemu_convert, qemu_same};
use testkit::tool::{copy_sparse, run, said};

use crate::crash::{CALLS, count, injected, some};
use crate::delta::{Pair, digest};
use crate::kit::{IMGTOOL, beside, code, document, each, ends, json, noisy, on, seen, text, words};

fn convert(from: &Path, to: &Path) {
    code(0, &[Path::new("convert"), from, to]);
}

#[test]
fn a_child_over_bases_of_every_format() {
    let pair = Pair::new();
    pair.patch();
    let (base, target) = (pair.path("base.raw"), pair.path("target.raw"));
    convert(&base, &pair.path("base.qcow2"));
    convert(&base, &pair.path("base.vhd"));
    for (on, child) in
        [("base.raw", "a.qcow2"), ("base.qcow2", "b.qcow2"), ("base.vhd", "c.qcow2"), ("base.vhd", "d.vhd")]
    {
        let before = seen(&pair.path(on));
        pair.delta(0, &format!("apply --base {on} p -o {child} --as-child -n"));
        assert!(!pair.path(child).exists());
        let said = pair.delta(0, &format!("apply --base {on} p -o {child} --as-child"));
        assert!(said.contains(&format!("{child} stands on {on}")), "{said}");
        let child = pair.path(child);
        assert_eq!(digest(&child), digest(&target), "{on}");
        // What the base has at the same place is not there: 5 MiB were moved, and some 600 KiB are new.
        let stored = child.metadata().unwrap().blocks() * 512;
        assert!(stored < 9 << 20, "{on}: {stored}");
        assert_eq!(seen(&pair.path(on)), before);
        if child.extension().unwrap() == "qcow2" {
            assert_qemu_check(&child, "qcow2");
            assert!(qemu_same(&child, "qcow2", &target, "raw"), "{on}");
        } else {
            let list = document(&child, "chain list @").to_string();
            assert!(["MacX", "W2ku", "W2ru"].iter().all(|locator| list.contains(locator)), "{list}");
        }
    }
    // Smaller than its base: a qcow2 image may be that.
    pair.delta(0, "create --base target.raw base.raw -o back");
    convert(&target, &pair.path("target.vhd"));
    pair.delta(0, "apply --base target.raw back -o e.qcow2 --as-child");
    assert!(qemu_same(&pair.path("e.qcow2"), "qcow2", &base, "raw"));
    assert!(pair.delta(3, "apply --base target.vhd back -o no.vhd --as-child").contains("less than"));
    pair.delta(3, "apply --base base.raw p -o no.vhd --as-child");
    pair.delta(2, "apply --base base.raw p -o no.raw --as-child");
    pair.delta(4, "apply --base target.raw p -o no.qcow2 --as-child");
    pair.delta(0, "create target.raw -o alone");
    pair.delta(3, "apply alone -o no.qcow2 --as-child");
    assert!(beside(&base).iter().all(|path| !path.to_str().unwrap().contains("/no.")));
}

#[test]
fn a_base_becomes_the_target() {
    let pair = Pair::new();
    pair.patch();
    let target = pair.path("target.raw");
    for name in ["x.raw", "x.qcow2", "x.vhd"] {
        let image = pair.path(name);
        convert(&pair.path("base.raw"), &image);
        let line = format!("delta apply --base @ {} --in-place", pair.path("p").display());
        let before = seen(&image);
        assert_eq!(document(&image, &format!("{line} -n"))["changed"], false);
        assert_eq!(seen(&image), before);
        let undo = pair.path("undo");
        let told = document(&image, &format!("{line} --check --undo {}", undo.display()));
        assert_eq!(told["changed"], true);
        assert_eq!(told["digest"], digest(&target));
        assert_eq!(digest(&image), digest(&target), "{name}");
        match name {
            "x.raw" => assert!(read(&image).unwrap() == read(&target).unwrap()),
            "x.qcow2" => {
                assert_qemu_check(&image, "qcow2");
                assert!(qemu_same(&image, "qcow2", &target, "raw"));
            }
            _ => drop(run("vhdiinfo", [&image])),
        }
        assert_eq!(document(&image, &line)["changed"], false, "{name}: again");
        ends(0, &image, &format!("recover @ --undo {}", undo.display()));
        assert_eq!((seen(&image).digest, seen(&image).len), (before.digest, before.len));
        std::fs::remove_file(undo).unwrap();
    }
    // Back to fewer bytes.
    pair.delta(0, "create --base target.raw base.raw -o back");
    copy_sparse(&target, &pair.path("y.raw"));
    pair.delta(0, "apply --base y.raw back --in-place");
    assert!(read(pair.path("y.raw")).unwrap() == read(pair.path("base.raw")).unwrap());
    convert(&target, &pair.path("y.qcow2"));
    assert!(pair.delta(3, "apply --base y.qcow2 back --in-place").contains("shrink"));
}

#[test]
fn what_is_not_done_in_place() {
    let pair = Pair::new();
    pair.patch();
    let before = seen(&pair.path("base.raw"));
    pair.delta(2, "apply p --in-place");
    pair.delta(2, "apply --base base.raw p --in-place -o out");
    pair.delta(2, "apply --base base.raw p -o out --undo u");
    pair.delta(3, "apply --base p p --in-place");
    pair.delta(0, "create target.raw -o alone");
    assert!(pair.delta(3, "apply --base base.raw alone --in-place").contains("from no base"));
    std::fs::write(pair.path("other"), noise(2, 300_000)).unwrap();
    pair.delta(0, "create --base base.raw --base other target.raw -o two");
    assert!(pair.delta(3, "apply --base other --base base.raw two --in-place").contains("first"));
    // A child would read otherwise.
    pair.delta(0, "apply --base base.raw p -o child.qcow2 --as-child");
    assert!(pair.delta(3, "apply --base base.raw p --in-place").contains("child.qcow2"));
    std::fs::remove_file(pair.path("child.qcow2")).unwrap();
    assert_eq!(seen(&pair.path("base.raw")), before);
    pair.delta(0, "apply --base base.raw --base other two --in-place");
    assert!(read(pair.path("base.raw")).unwrap() == read(pair.path("target.raw")).unwrap());
}

/// A small disk, and one of which parts have changed places, and the patch.
fn small(dir: &Path) -> (PathBuf, PathBuf) {
    let (base, target, patch) = (dir.join("base"), dir.join("target"), dir.join("p"));
    let old = noise(7, 3 << 20);
    std::fs::write(&base, &old).unwrap();
    let mut new = old;
    new.rotate_left((1 << 20) + 512);
    new[100_000..130_000].copy_from_slice(&noise(8, 30_000));
    std::fs::write(&target, &new).unwrap();
    let file = File::options().write(true).open(&target).unwrap();
    file.set_len(5 << 20).unwrap();
    file.write_all_at(&noise(9, 70_000), 4 << 20).unwrap();
    code(
        0,
        &["delta", "create", "--base"]
            .map(Path::new)
            .into_iter()
            .chain([&*base, &*target, Path::new("-o"), &*patch])
            .collect::<Vec<_>>(),
    );
    (base, patch)
}

/// Killed at every call that writes, and at any time: the same command goes on, and another one says what lies there.
fn killed(format: &str, most: usize) {
    let dir = tempfile::tempdir().unwrap();
    let (raw, patch) = small(dir.path());
    let base = dir.path().join("image");
    qemu_convert(&raw, "raw", &base, format, &[]);
    let content = |image: &Path| {
        let told = json(&["digest", text(image), "-f", format, "--json"]);
        told["digest"].clone()
    };
    let (old, want) = (content(&base), digest(&dir.path().join("target")));
    let line = format!("delta apply --base @ {} --in-place -f {format}", patch.display());
    let copy = || {
        let dir = tempfile::tempdir_in(dir.path()).unwrap();
        let image = dir.path().join("disk");
        copy_sparse(&base, &image);
        (dir, image)
    };
    let goes_on = |image: &Path, how: &str| {
        if beside(image).len() > 1 {
            assert_eq!(on(image, &format!("grow @ +1M -f {format}")).status.code(), Some(6), "{how}");
        } else {
            let now = content(image);
            assert!(now == old || now == want, "{how}: neither before nor after");
        }
        ends(0, image, &line);
        assert_eq!(content(image), want, "{how}");
        assert_eq!(beside(image).len(), 1, "{how}");
        if format != "raw" {
            assert_qemu_check(image, format);
        }
    };
    each(CALLS.len(), |i| {
        let calls = CALLS[i];
        for n in some(count(&copy().1, &line, calls), most) {
            let (_dir, image) = copy();
            let inject = format!("{calls}, {n}");
            let out = injected(&image, &line, calls, &format!("signal=KILL:when={n}"));
            assert!(!out.status.success(), "{inject}: {}", said(&out));
            goes_on(&image, &inject);
        }
    });
    for wait in [3, 8, 15, 25] {
        let (_dir, image) = copy();
        let mut child =
            Command::new(IMGTOOL).args(words(&image, &line)).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
        goes_on(&image, &format!("after {wait} ms"));
    }
}

#[test]
fn killed_in_place() {
    killed("raw", 4);
    killed("qcow2", 2);
}

/// What was read of a base is not read again, unless anything about it may have changed.
#[test]
fn a_base_is_known_again() {
    let dir = tempfile::tempdir().unwrap();
    // Each of the windows has something that must be read.
    let places: Vec<(u64, usize)> = (0..40).map(|n| (n << 22, 4096)).collect();
    let base = noisy(dir.path(), 160 << 20, &places);
    let [target, patch, kept] = ["target", "p", "disk.raw.imgtool-digest"].map(|name| dir.path().join(name));
    let write = |path: &Path, byte: u8| {
        File::options().write(true).open(path).unwrap().write_all_at(&[byte], 60 << 20).unwrap();
    };
    copy_sparse(&base, &target);
    write(&target, 9);
    ends(0, &base, &format!("delta create --base @ {} -o {}", target.display(), patch.display()));
    let line = format!("delta verify --base @ {}", patch.display());
    let reads = |more: &str| count(&base, &format!("{line} -j 1 {more}"), "pread64");
    let all = reads("--no-cache");
    let knows = |more: &str| reads(more) + 20 < all;
    // Too young.
    std::fs::set_permissions(&base, PermissionsExt::from_mode(0o600)).unwrap();
    ends(0, &base, &line);
    assert!(!kept.exists());
    std::thread::sleep(Duration::from_millis(4100));
    ends(0, &base, &format!("{line} --no-cache"));
    assert!(!kept.exists());
    ends(0, &base, &line);
    assert_eq!(kept.metadata().unwrap().mode() & 0o777, 0o600);
    assert!(knows("") && !knows("--no-cache"));
    let out = dir.path().join("out");
    ends(0, &base, &format!("delta apply --base @ {} -o {}", patch.display(), out.display()));
    assert_eq!(seen(&out).digest, seen(&target).digest);
    // Somebody may write, or may have written the file.
    let writer = File::options().write(true).open(&base).unwrap();
    assert!(!knows(""));
    let modified = base.metadata().unwrap().modified().unwrap();
    drop(writer);
    let sound = read(&kept).unwrap();
    for (spoiled, mode) in [(sound[..100].to_vec(), 0o600), (vec![], 0o600), (sound.clone(), 0o606)] {
        std::fs::remove_file(&kept).unwrap();
        std::fs::write(&kept, spoiled).unwrap();
        std::fs::set_permissions(&kept, PermissionsExt::from_mode(mode)).unwrap();
        assert!(!knows("-n"), "{mode:o}");
    }
    std::fs::write(&kept, &sound).unwrap();
    std::fs::set_permissions(&kept, PermissionsExt::from_mode(0o600)).unwrap();
    assert!(knows(""));
    // Another byte, and the old time of it.
    write(&base, 1);
    File::options().write(true).open(&base).unwrap().set_modified(modified).unwrap();
    ends(1, &base, &line);
    std::thread::sleep(Duration::from_millis(4100));
    ends(1, &base, &line);
    ends(1, &base, &line);
}
