//! Another format around the same bytes, from outside: there and back, taken back, killed, refused.

use std::path::{Path, PathBuf};

use ondisk::{Len, Offset};
use testkit::images::{Fill, flavor};
use testkit::oracle::{assert_clean, assert_qemu_check, qemu_convert, qemu_same};
use testkit::tool::{copy_sparse, output, run, said};

use crate::crash::{CALLS, count, injected, some};
use crate::disks::Scheme;
use crate::kit::{beside, document, each, ends, on, seen};
use crate::refused::{patch, refused};

/// A disk with a filesystem, as a file whose name says nothing.
fn disk(dir: &Path) -> PathBuf {
    let disk = dir.join("disk");
    Scheme::Gpt.disk(flavor("ext4-4k"), Fill::Lived, Len::mib(40), &disk);
    disk
}

#[test]
fn there_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let image = disk(dir.path());
    let raw = dir.path().join("before");
    copy_sparse(&image, &raw);
    let steps = [
        ("-O qcow2", "", "qcow2"),
        ("-O vhd-fixed", "-f qcow2", "vpc"),
        ("-O qcow2 --cluster-size 4K --compat v2", "-f vhd", "qcow2"),
        ("-O raw", "-f qcow2", "raw"),
        ("-O vhd-fixed", "", "vpc"),
        ("-O raw", "-f vhd", "raw"),
        ("-O qcow2 --extended-l2", "", "qcow2"),
        ("-O raw", "-f qcow2", "raw"),
    ];
    for (to, from, format) in steps {
        let before = seen(&image);
        let line = format!("convert @ --in-place {to} {from}");
        let foreseen = document(&image, &format!("{line} -n"));
        assert_eq!(seen(&image), before, "{line} -n");
        let told = document(&image, &format!("{line} --check"));
        assert_eq!((&told["changed"], &foreseen["changed"]), (&true.into(), &false.into()));
        assert_eq!(told["file-size"], foreseen["file-size"], "{line}");
        assert!(qemu_same(&raw, "raw", &image, format), "{line}");
        match format {
            "qcow2" => assert_qemu_check(&image, format),
            "vpc" => drop(run("vhdiinfo", [&image])),
            _ => assert_clean(&image, Offset::new(1 << 20)),
        }
        assert_eq!(beside(&image).len(), 2, "{line}: something is left");
    }
    let out = output("cmp", [&raw, &image]);
    assert!(out.status.success(), "{}", said(&out));
    assert_eq!(document(&image, "convert @ --in-place -O raw -f raw")["changed"], false);
}

#[test]
fn taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let image = disk(dir.path());
    let undo = dir.path().join("undo");
    let before = seen(&image);
    ends(0, &image, &format!("convert @ --in-place -O qcow2 --undo {}", undo.display()));
    assert_qemu_check(&image, "qcow2");
    ends(0, &image, &format!("recover @ --undo {}", undo.display()));
    assert_eq!((seen(&image).digest, seen(&image).len), (before.digest, before.len));
}

#[test]
fn names_that_lead_astray() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("disk.raw");
    copy_sparse(&disk(dir.path()), &image);
    let out = on(&image, "convert @ --in-place -O qcow2");
    assert!(out.status.success() && said(&out).contains("still ends as raw"), "{}", said(&out));
    let right = image.with_extension("qcow2");
    std::fs::rename(&image, &right).unwrap();
    ends(0, &right, "check @");
    let out = on(&right, "convert @ --in-place -O raw");
    assert!(out.status.success() && said(&out).contains("still ends as qcow2"), "{}", said(&out));
}

#[test]
fn refusals() {
    let dir = tempfile::tempdir().unwrap();
    let raw = disk(dir.path());
    for (code, line) in [
        (2, "convert @ --in-place"),
        (2, "convert @ x --in-place -O qcow2"),
        (2, "convert @ --in-place -O qcow2 --compress zstd"),
        (2, "convert @ --in-place -O raw --cluster-size 4K"),
        (2, "convert @ x --undo u"),
        (3, "convert @ --in-place -O vhd"),
    ] {
        refused(code, &raw, line);
    }
    let image = dir.path().join("image.qcow2");
    let name = image.to_str().unwrap();
    qemu_convert(&raw, "raw", &image, "qcow2", &[]);
    refused(2, &image, "convert @ --in-place -O qcow2 --cluster-size 4K");
    run("qemu-img", ["snapshot", "-c", "s", name]);
    refused(3, &image, "convert @ --in-place -O raw");
    // A disk that looks like an image: only a name that says otherwise lays it bare.
    let nested = dir.path().join("nested");
    qemu_convert(&raw, "raw", &nested, "qcow2", &[]);
    std::fs::remove_file(&image).unwrap();
    qemu_convert(&nested, "raw", &image, "qcow2", &[]);
    refused(3, &image, "convert @ --in-place -O raw");
    let told = image.with_extension("raw");
    std::fs::rename(&image, &told).unwrap();
    ends(0, &told, "convert @ --in-place -O raw -f qcow2");
    assert!(output("cmp", [&nested, &told]).status.success());
    // Hidden: others stand on it.
    let fixed = dir.path().join("fixed.vhd");
    qemu_convert(&raw, "raw", &fixed, "vpc", &["subformat=fixed"]);
    let at = fixed.metadata().unwrap().len() - 512;
    let mut footer = vec![0; 512];
    std::os::unix::fs::FileExt::read_exact_at(&std::fs::File::open(&fixed).unwrap(), &mut footer, at)
        .unwrap();
    footer[85] = 1;
    testkit::vhd::seal(&mut footer, 64);
    patch(&fixed, at, &footer);
    refused(3, &fixed, "convert @ --in-place -O qcow2");
}

/// Before or after.
#[test]
fn killed_at_every_call() {
    let dir = tempfile::tempdir().unwrap();
    let base = disk(dir.path());
    let after = dir.path().join("after");
    copy_sparse(&base, &after);
    let line = "convert @ --in-place -O qcow2 -f raw";
    ends(0, &after, line);
    let (before, after) = (seen(&base), seen(&after));
    each(CALLS.len(), |i| {
        let calls = CALLS[i];
        let copy = || {
            let dir = tempfile::tempdir_in(dir.path()).unwrap();
            let image = dir.path().join("disk");
            copy_sparse(&base, &image);
            (dir, image)
        };
        let (_dir, image) = copy();
        for n in some(count(&image, line, calls), 6) {
            let (_dir, image) = copy();
            let inject = format!("{calls}, {n}");
            let out = injected(&image, line, calls, &format!("signal=KILL:when={n}"));
            assert!(!out.status.success(), "{inject}: {}", said(&out));
            ends(0, &image, "recover @");
            let now = seen(&image);
            let one = [&before, &after].map(|want| (want.digest, want.len));
            assert!(one.contains(&(now.digest, now.len)), "{inject}: neither before nor after");
            assert_eq!(beside(&image).len(), 1, "{inject}");
        }
    });
}
