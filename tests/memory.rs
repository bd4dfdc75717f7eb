//! Memory stays below `--memory` and a constant, whatever is looked at or changed.

use std::fs::File;
use std::path::Path;

use ondisk::{Len, Offset};
use testkit::images::{flavor, format, noise};
use testkit::oracle::qemu_convert;
use testkit::tool::{find, output, run, said};

use crate::kit::{IMGTOOL, words};

/// The program itself, its stacks, and the buffers of the readers and of standard output.
const CONSTANT: u64 = 48 << 20;

/// The largest resident set of a run, in bytes; it must end with one of `codes`.
pub fn peak(image: &Path, line: &str, codes: &[i32]) -> u64 {
    let told = tempfile::NamedTempFile::new().unwrap();
    let time = find("/usr/bin/time");
    let mut all = ["-f", "%M", "-o", told.path().to_str().unwrap(), IMGTOOL].map(str::to_owned).to_vec();
    all.extend(words(image, line));
    let out = output(time.to_str().unwrap(), all);
    let code = out.status.code().unwrap();
    assert!(codes.contains(&code), "{line} {}: {}", image.display(), said(&out));
    let text = std::fs::read_to_string(told.path()).unwrap();
    text.lines().last().unwrap().trim().parse::<u64>().unwrap() << 10
}

fn assert_bounded(image: &Path, line: &str, memory_mib: u64, codes: &[i32]) {
    let most = (memory_mib << 20) + CONSTANT;
    let peak = peak(image, &format!("{line} --memory {memory_mib}M"), codes);
    assert!(peak < most, "{} {line}: {peak} bytes, at most {most} were allowed", image.display());
}

/// What growing and looking need of memory does not follow the size of the disk.
#[test]
fn of_disks_of_terabytes() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    format(flavor("ext4-4k"), Len::gib(1024), None, &raw);
    for (ending, kind, options) in [
        ("qcow2", "qcow2", &[][..]),
        ("vhd", "vpc", &["subformat=dynamic", "force_size=on"]),
        ("raw", "raw", &[]),
    ] {
        let image = dir.path().join(format!("disk.{ending}"));
        if kind != "raw" {
            qemu_convert(&raw, "raw", &image, kind, options);
        }
        for line in ["info @", "map @ --json", "fs ls @ /"] {
            assert_bounded(&image, line, 64, &[0]);
        }
        assert_bounded(&image, "sparsify @", 120, &[0]);
        // A VHD has at most 2040 GiB.
        let line = if kind == "vpc" { "grow @ 2000G" } else { "grow @ 2T" };
        let peak = peak(&image, &format!("{line} --memory 120M"), &[0]);
        assert!(peak < 128 << 20, "{kind}: {peak} bytes for 2 TiB");
        assert_bounded(&image, "info @", 64, &[0]);
        if kind != "raw" {
            std::fs::remove_file(&image).unwrap();
        }
    }
}

/// Work on all the bytes, and on all the metadata.
#[test]
fn of_long_looks() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    format(flavor("ext4-4k"), Len::gib(100), None, &raw);
    let file = File::options().write(true).open(&raw).unwrap();
    for at in 0..64_u64 {
        let place = Offset::new((at << 30) + (300 << 20));
        std::os::unix::fs::FileExt::write_all_at(&file, &noise(at, 4 << 20), place.get()).unwrap();
    }
    let qcow2 = dir.path().join("disk.qcow2");
    qemu_convert(&raw, "raw", &qcow2, "qcow2", &[]);
    for image in [&raw, &qcow2] {
        for line in ["check @", "digest @", "compare @ @", "map @", "info @"] {
            assert_bounded(image, line, 64, &[0, 1]);
        }
    }
}

/// Maps with a run for every sector, tables as large as the format allows.
#[test]
fn of_hostile_images() {
    let dir = tempfile::tempdir().unwrap();
    let qcow2 = dir.path().join("small.qcow2");
    let name = qcow2.to_str().unwrap();
    run("qemu-img", ["create", "-q", "-f", "qcow2", "-o", "cluster_size=512", name, "100G"]);
    let scattered = dir.path().join("scattered.qcow2");
    let name = scattered.to_str().unwrap();
    run("qemu-img", ["create", "-q", "-f", "qcow2", "-o", "cluster_size=512", name, "64M"]);
    let writes = (0..4000).flat_map(|at| ["-c".to_owned(), format!("write -q {} 512", at * 2 * 512)]);
    run("qemu-io", writes.chain(["-f".to_owned(), "qcow2".to_owned(), name.to_owned()]));
    let superblock = dir.path().join("groups.raw");
    format(flavor("ext4-1k"), Len::mib(64), None, &superblock);
    // As many blocks and groups as can be said in 32 bits.
    let file = File::options().write(true).open(&superblock).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 4], 1024 + 4).unwrap();
    file.set_len(4 << 40).unwrap();
    for image in [&qcow2, &scattered, &superblock] {
        for line in ["info @", "map @", "check @"] {
            assert_bounded(image, line, 32, &[0, 1, 3, 4, 5]);
        }
        assert_bounded(image, "grow @ +1G", 32, &[0, 3, 4, 5]);
    }
    // Terabytes of zeros take time, not memory.
    for line in ["digest @ -j 2", "compare @ @"] {
        assert_bounded(&scattered, line, 32, &[0]);
    }
}

/// An index of everything would take more than there is: the bases are looked at less densely. What is new cannot be
/// compressed here; what can takes more (docs/delta.md).
#[test]
fn of_differences() {
    let dir = tempfile::tempdir().unwrap();
    let [base, target, patch] = ["base.raw", "target.raw", "p"].map(|name| dir.path().join(name));
    for (path, shift, seed) in [(&base, 0, 0), (&target, 4099, 500)] {
        let file = File::create(path).unwrap();
        file.set_len(8 << 30).unwrap();
        for at in 0..96_u64 {
            // Every tenth piece is another one, the others have moved.
            let seed = if at % 10 == 3 { at + seed } else { at };
            let place = ((at * 80) << 20) + shift;
            std::os::unix::fs::FileExt::write_all_at(&file, &noise(seed, 4 << 20), place).unwrap();
        }
    }
    let line = format!("delta create --base {} @ -o {}", base.display(), patch.display());
    for memory in [64, 128] {
        assert_bounded(&target, &format!("{line} --drop-free --stats"), memory, &[0]);
    }
    let size = patch.metadata().unwrap().len();
    assert!(size < 50 << 20, "{size} bytes for 40 MiB of new ones");
    assert_bounded(
        &patch,
        &format!("delta apply --no-cache --base {} @ -o {}", base.display(), dir.path().join("o").display()),
        64,
        &[0],
    );
    assert_bounded(&patch, &format!("delta verify --no-cache --base {} @", base.display()), 64, &[0]);
}
