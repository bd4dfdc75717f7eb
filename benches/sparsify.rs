//! A guest that has deleted 1 GiB: `imgtool sparsify` in place beside `zerofree` and `qemu-img convert`, on equal images
//! in one run, flushes to disk included. Prints the figures, and fails where a goal is missed.
//!
//! `cargo xtask bench sparsify qcow2` measures only that container.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]

use std::fs::{File, create_dir, remove_dir_all};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use ondisk::SectorSize;
use testkit::images::noise;
use testkit::oracle::{Loop, Mount, assert_clean, dumpe2fs, partitions, qemu_convert};
use testkit::tool::{copy_sparse, done, run};

/// The container: its ending, qemu's name of it, the options.
const CASES: [(&str, &str, &[&str]); 3] =
    [("raw", "raw", &[]), ("qcow2", "qcow2", &[]), ("vhd", "vpc", &["force_size=on"])];
/// What each side is measured: the best of so many rounds.
const ROUNDS: usize = 2;
/// At most so many hundredths of what the filesystem uses may stay allocated.
const ALLOCATED: u64 = 105;

fn main() -> ExitCode {
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder on a real disk");
    let base = dir.path().join("base.raw");
    let used = build(&base);
    let mut missed = Vec::new();
    for case in CASES.iter().filter(|case| case.0.contains(&only)) {
        missed.extend(measure(case, &base, used, dir.path()));
    }
    missed.iter().for_each(|goal| println!("missed: {goal}"));
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A disk of 8 GiB with 2 GiB of files, of which every second one was deleted; how much is used.
fn build(disk: &Path) -> u64 {
    run("truncate", ["-s".as_ref(), "8G".as_ref(), disk.as_os_str()]);
    run("sgdisk", ["-n".as_ref(), "1:2048:0".as_ref(), disk.as_os_str()]);
    let [partition] = partitions(disk, SectorSize::B512).try_into().expect("one partition");
    let device = Loop::span(disk, partition.start, partition.len);
    run("mkfs.ext4", ["-q".as_ref(), device.path().as_os_str()]);
    let mount = Mount::new(device.path(), "rw");
    for (folder, files) in [("kept", 512_u64), ("gone", 512)] {
        create_dir(mount.path().join(folder)).expect("a folder");
        for file in 0..files {
            let mut file = File::create(mount.path().join(format!("{folder}/{file}"))).expect("a file");
            file.write_all(&noise(file.metadata().expect("a file").ino(), 2 << 20)).expect("space");
        }
    }
    run("sync", ["-f".as_ref(), mount.path().as_os_str()]);
    remove_dir_all(mount.path().join("gone")).expect("files to delete");
    drop(mount);
    drop(device);
    run("sync", [disk]);
    let facts = dumpe2fs(disk, partition.start);
    let [count, free] =
        ["Block count", "Free blocks"].map(|name| facts[name].parse::<u64>().expect("a number"));
    (count - free) * 4096
}

fn measure(case: &(&str, &str, &[&str]), base: &Path, used: u64, dir: &Path) -> Vec<String> {
    let (ending, format, options) = *case;
    let image = dir.join(format!("image.{ending}"));
    let start = dir.join(format!("start.{ending}"));
    qemu_convert(base, "raw", &start, format, options);
    let ours = best(|| {
        copy_sparse(&start, &image);
        run("sync", [&image]);
        timed(|| drop(done(Command::new(env!("CARGO_BIN_EXE_imgtool")).args(["sparsify", "-q"]).arg(&image))))
    });
    let kept = image.metadata().expect("an image").blocks() * 512;
    verify(&image, format, dir);
    let (copy, small) = (dir.join("copy.raw"), dir.join(format!("small.{ending}")));
    let theirs = best(|| {
        copy_sparse(base, &copy);
        run("sync", [&copy]);
        timed(|| usual(&copy, &small, format, options))
    });
    let usual = small.metadata().expect("an image").blocks() * 512;
    for path in [&image, &start, &copy, &small] {
        std::fs::remove_file(path).expect("an image");
    }
    println!("\n{ending}, {} used", mib(used));
    let row = |what: &str, a: String, b: String| println!("  {what:<12} {a:>14} {b:>14}");
    row("", "imgtool".into(), "zerofree …".into());
    row("time", format!("{:.3} s", ours.as_secs_f64()), format!("{:.3} s", theirs.as_secs_f64()));
    row("allocated", mib(kept), mib(usual));
    let goals = [
        (ours < theirs, format!("{ending}: takes longer than zerofree and qemu-img convert")),
        (kept * 100 <= used * ALLOCATED, format!("{ending}: {} stay allocated", mib(kept))),
    ];
    goals.into_iter().filter(|(met, _)| !met).map(|(_, goal)| goal).collect()
}

/// What people do today, with a second copy of the image.
fn usual(raw: &Path, to: &Path, format: &str, options: &[&str]) {
    let [partition] = partitions(raw, SectorSize::B512).try_into().expect("one partition");
    let device = Loop::span(raw, partition.start, partition.len);
    run("zerofree", [device.path()]);
    drop(device);
    qemu_convert(raw, "raw", to, format, options);
    run("sync", [to]);
}

fn verify(image: &Path, format: &str, dir: &Path) {
    let raw = dir.join("verify.raw");
    qemu_convert(image, format, &raw, "raw", &[]);
    let [partition] = partitions(&raw, SectorSize::B512).try_into().expect("one partition");
    assert_clean(&raw, partition.start);
    std::fs::remove_file(raw).expect("a raw image");
}

fn best(work: impl Fn() -> Duration) -> Duration {
    (0..ROUNDS).map(|_| work()).min().expect("at least one round")
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn mib(bytes: u64) -> String {
    format!("{:.2} MiB", u32::try_from(bytes >> 10).map_or(f64::INFINITY, f64::from) / 1024.0)
}
