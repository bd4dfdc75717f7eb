//! Growing a disk with its filesystem: `imgtool grow` beside `truncate`, `sgdisk -e`, `growpart`, `e2fsck -f` and
//! `resize2fs`, on equal images in one run, flushes to disk included. Prints the ratios, and fails where a goal is missed.
//!
//! `cargo xtask bench grow ext3` measures only the cases whose name has `ext3` in it.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use ondisk::{Len, Offset, SectorSize};
use testkit::images::plant;
use testkit::oracle::{Loop, assert_clean, partitions};
use testkit::tool::{copy_sparse, done, find, run, tool};

struct Case {
    name: &'static str,
    /// What mke2fs is told besides Debian's defaults.
    options: &'static [&'static str],
    from_gib: u32,
    to_gib: u32,
    rounds: usize,
    /// The most that our change may allocate.
    allocated: Option<Len>,
}

const CASES: &[Case] = &[
    Case {
        name: "ext4 10 -> 20 GiB",
        options: &["-t", "ext4"],
        from_gib: 10,
        to_gib: 20,
        rounds: 3,
        allocated: None,
    },
    Case {
        name: "ext3 10 -> 20 GiB",
        options: &["-t", "ext3", "-I", "128"],
        from_gib: 10,
        to_gib: 20,
        rounds: 3,
        allocated: Some(Len::mib(6)),
    },
    Case {
        name: "ext4 1 -> 2 TiB",
        options: &["-t", "ext4"],
        from_gib: 1024,
        to_gib: 2048,
        rounds: 1,
        allocated: None,
    },
];

const SPEED: f64 = 20.0;
const FLUSHES: usize = 5;
const MEMORY: Len = Len::mib(128);

fn main() -> ExitCode {
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let mut missed = Vec::new();
    for case in CASES.iter().filter(|case| case.name.contains(&only)) {
        missed.extend(case.measure().into_iter().map(|goal| format!("{}: {goal}", case.name)));
    }
    missed.iter().for_each(|goal| println!("missed: {goal}"));
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Case {
    /// Measures both sides, prints a table and returns the goals that are missed.
    fn measure(&self) -> Vec<String> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder on a real disk");
        let [base, image] = ["base.raw", "image.raw"].map(|name| dir.path().join(name));
        self.build(&base);
        let size = u64::from(self.to_gib) << 30;
        let ours = self.best(&base, &image, |image| grow(image, size));
        self.verify(&image);
        let theirs = self.best(&base, &image, |image| usual(image, size));
        self.verify(&image);
        let traced = Trace::of(&fresh(&base, &image), size, dir.path());
        let memory = memory(&fresh(&base, &image), size);
        let ratio = theirs.time.as_secs_f64() / ours.time.as_secs_f64();
        println!("\n{}", self.name);
        let row = |what: &str, a: String, b: String| println!("  {what:<12} {a:>14} {b:>14}");
        row("", "imgtool".into(), "usual tools".into());
        row(
            "time",
            format!("{:.3} s", ours.time.as_secs_f64()),
            format!("{:.3} s", theirs.time.as_secs_f64()),
        );
        row("faster by", format!("{ratio:.1}"), String::new());
        row("allocated", mib(ours.allocated), mib(theirs.allocated));
        row("flushes", traced.flushes.to_string(), String::new());
        row("journal", mib(traced.journal), String::new());
        row("peak memory", mib(memory), String::new());
        let journal = Len::new((4 << 20) + 1024 * u64::from(self.to_gib - self.from_gib));
        let goals = [
            (ratio >= SPEED, format!("{ratio:.1} times faster, not {SPEED}")),
            (
                self.allocated.is_none_or(|most| ours.allocated <= most),
                format!("allocates {}", mib(ours.allocated)),
            ),
            (traced.flushes <= FLUSHES, format!("{} flushes", traced.flushes)),
            (
                traced.journal <= journal && !traced.journal.is_zero(),
                format!("a journal of {}", mib(traced.journal)),
            ),
            (memory < MEMORY, format!("{} of memory", mib(memory))),
        ];
        goals.into_iter().filter(|(met, _)| !met).map(|(_, goal)| goal).collect()
    }

    /// A GPT disk with one partition, and a few files in its filesystem.
    fn build(&self, disk: &Path) {
        run("truncate", ["-s".as_ref(), format!("{}G", self.from_gib).as_ref(), disk.as_os_str()]);
        run("sgdisk", ["-n".as_ref(), "1:2048:0".as_ref(), disk.as_os_str()]);
        let tree = tempfile::tempdir().expect("a temporary folder");
        plant(tree.path());
        let partition = attach(disk);
        let mut mke2fs = tool("mke2fs");
        mke2fs.args(["-q", "-F"]).args(self.options).arg("-d").arg(tree.path()).arg(partition.path());
        done(&mut mke2fs);
    }

    fn best(&self, base: &Path, image: &Path, work: impl Fn(&Path)) -> Cost {
        let costs = (0..self.rounds).map(|_| {
            let before = allocated(&fresh(base, image));
            let start = Instant::now();
            work(image);
            Cost { time: start.elapsed(), allocated: Len::new(allocated(image).saturating_sub(before)) }
        });
        costs.min_by_key(|cost| cost.time).expect("at least one round")
    }

    /// Both sides must have done the same thing.
    fn verify(&self, image: &Path) {
        let [partition] = partitions(image, SectorSize::B512).try_into().expect("one partition");
        let least = (u64::from(self.to_gib) << 30) - (2 << 20);
        assert!(partition.len.get() >= least, "the partition has not grown: {partition:?}");
        assert_clean(image, partition.start);
        let blocks = &testkit::oracle::dumpe2fs(image, partition.start)["Block count"];
        let blocks: u64 = blocks.parse().expect("a number");
        assert!(blocks * 4096 + 4096 > partition.len.get(), "the filesystem does not fill its partition");
    }
}

struct Cost {
    time: Duration,
    allocated: Len,
}

/// A copy of the image, on disk and not only in memory.
fn fresh(base: &Path, image: &Path) -> PathBuf {
    copy_sparse(base, image);
    run("sync", [image]);
    image.to_path_buf()
}

fn allocated(image: &Path) -> u64 {
    image.metadata().expect("an image").blocks() * 512
}

fn mib(len: Len) -> String {
    format!("{:.2} MiB", u32::try_from(len.get() >> 10).map_or(f64::INFINITY, f64::from) / 1024.0)
}

fn imgtool(image: &Path, size: u64) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgtool"));
    command.args(["grow", "-q", "-y", "-f", "raw"]).arg(image).arg(size.to_string());
    command
}

fn grow(image: &Path, size: u64) {
    done(&mut imgtool(image, size));
}

fn attach(disk: &Path) -> Loop {
    let [partition] = partitions(disk, SectorSize::B512).try_into().expect("one partition");
    assert!(partition.start > Offset::ZERO);
    Loop::span(disk, partition.start, partition.len)
}

/// What people do today.
fn usual(image: &Path, size: u64) {
    run("truncate", ["-s".as_ref(), size.to_string().as_ref(), image.as_os_str()]);
    run("sgdisk", ["-e".as_ref(), image.as_os_str()]);
    run("growpart", [image.as_os_str(), "1".as_ref()]);
    let partition = attach(image);
    run("e2fsck", ["-f".as_ref(), "-y".as_ref(), partition.path().as_os_str()]);
    run("resize2fs", [partition.path()]);
    drop(partition);
    run("sync", [image]);
}

/// The calls of one run that tell of durability.
struct Trace {
    flushes: usize,
    journal: Len,
}

impl Trace {
    fn of(image: &Path, size: u64, dir: &Path) -> Self {
        let log = dir.join("trace");
        let calls = "trace=fsync,fdatasync,syncfs,sync,sync_file_range,pwrite64,write,fallocate,ftruncate";
        let ours = imgtool(image, size);
        let mut strace = tool("strace");
        strace
            .args(["-f", "-y", "-s", "0", "-e", calls, "-o"])
            .arg(&log)
            .arg(ours.get_program())
            .args(ours.get_args());
        done(&mut strace);
        let log = std::fs::read_to_string(log).expect("a trace");
        let journal = log.lines().filter(|line| line.contains("imgtool-journal>")).filter_map(reach).max();
        Self {
            flushes: log.lines().filter(|line| is_flush(line)).count(),
            journal: Len::new(journal.unwrap_or(0)),
        }
    }
}

/// Flushes of data; those of a folder after creating and removing the journal count as well.
fn is_flush(line: &str) -> bool {
    ["fsync(", "fdatasync(", "syncfs(", "sync("]
        .iter()
        .any(|call| line.split(' ').any(|word| word.starts_with(call)))
}

/// The end of the bytes that a call writes: `pwrite64(5<file>, ""..., LENGTH, OFFSET) = LENGTH`.
fn reach(line: &str) -> Option<u64> {
    let (call, _) = line.rsplit_once(") = ")?;
    let mut numbers = call.rsplit(", ").map_while(|word| word.parse::<u64>().ok());
    let [offset, len] = [numbers.next()?, numbers.next().unwrap_or(0)];
    Some(offset + len)
}

/// The most memory that one run holds at a time.
fn memory(image: &Path, size: u64) -> Len {
    let ours = imgtool(image, size);
    let out = Command::new(find("/usr/bin/time"))
        .args(["-f", "%M"])
        .arg(ours.get_program())
        .args(ours.get_args())
        .output();
    let out = out.expect("time starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8_lossy(&out.stderr);
    Len::new(text.trim().lines().last().and_then(|line| line.parse::<u64>().ok()).expect("kilobytes") * 1024)
}
