//! Converting a disk: `imgtool convert` beside `qemu-img convert` at its best flags, on equal images in one run, flushes
//! to disk included. Prints times, processor time, sizes and memory, and fails where a goal is missed.
//!
//! `cargo xtask bench convert zstd` measures only the cases whose name has `zstd` in it.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use ondisk::Len;
use testkit::oracle::{qemu_convert, qemu_same};
use testkit::tool::{find, run, said};

/// So much of this machine's files is on the disk.
const DATA: u64 = 2 << 30;
/// The disk is larger by a hole.
const DISK: u64 = 3 << 30;
const ROUNDS: usize = 3;
const COMPRESSED: f64 = 1.5;
const MEMORY: Len = Len::mib(256);

struct Case {
    name: &'static str,
    /// Format of the source, as qemu calls it.
    from: &'static str,
    ours: &'static [&'static str],
    theirs: &'static [&'static str],
    packed: bool,
}

const CASES: &[Case] = &[
    Case {
        name: "raw -> qcow2",
        from: "raw",
        ours: &["-f", "raw", "-O", "qcow2"],
        theirs: &["-f", "raw", "-O", "qcow2"],
        packed: false,
    },
    Case {
        name: "raw -> vhd",
        from: "raw",
        ours: &["-f", "raw", "-O", "vhd"],
        theirs: &["-f", "raw", "-O", "vpc", "-o", "force_size=on"],
        packed: false,
    },
    Case {
        name: "qcow2 -> raw",
        from: "qcow2",
        ours: &["-f", "qcow2", "-O", "raw"],
        theirs: &["-f", "qcow2", "-O", "raw"],
        packed: false,
    },
    Case {
        name: "raw -> qcow2 zstd",
        from: "raw",
        ours: &["-f", "raw", "-O", "qcow2", "--compress", "zstd"],
        theirs: &["-c", "-f", "raw", "-O", "qcow2", "-o", "compression_type=zstd"],
        packed: true,
    },
    Case {
        name: "raw -> qcow2 deflate",
        from: "raw",
        ours: &["-f", "raw", "-O", "qcow2", "--compress", "deflate"],
        theirs: &["-c", "-f", "raw", "-O", "qcow2", "-o", "compression_type=zlib"],
        packed: true,
    },
];

/// What of qemu-img's flags bears on speed.
const FLAGS: &[&[&str]] = &[
    &["-m", "8", "-W", "-t", "writeback"],
    &["-m", "8", "-t", "writeback"],
    &["-m", "8", "-W", "-t", "none"],
];

fn main() -> ExitCode {
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder on a real disk");
    let raw = dir.path().join("disk.raw");
    fill(&raw);
    let mut missed = Vec::new();
    for case in CASES.iter().filter(|case| case.name.contains(&only)) {
        missed
            .extend(case.measure(&raw, dir.path()).into_iter().map(|goal| format!("{}: {goal}", case.name)));
    }
    missed.iter().for_each(|goal| println!("missed: {goal}"));
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A disk with the files of this machine, one behind the other as a filesystem stores them.
fn fill(raw: &Path) {
    let file = File::create(raw).expect("a disk");
    file.set_len(DISK).expect("a disk");
    let mut at = 0;
    let mut folders = vec![PathBuf::from("/usr")];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map(|entries| entries.flatten().collect::<Vec<_>>());
        let mut entries = entries.unwrap_or_default();
        entries.sort_by_key(std::fs::DirEntry::path);
        for entry in entries {
            let kind = entry.file_type().expect("a file has a type");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && at < DATA {
                let bytes = std::fs::read(entry.path()).unwrap_or_default();
                let bytes = &bytes[..bytes.len().min(usize::try_from(DATA - at).expect("64 bits"))];
                file.write_all_at(bytes, at).expect("room on the disk");
                at = (at + u64::try_from(bytes.len()).expect("64 bits")).next_multiple_of(4096);
            }
        }
    }
    file.sync_all().expect("a flush");
}

/// What one run took.
#[derive(Clone, Copy)]
struct Cost {
    time: Duration,
    processor: f64,
    memory: Len,
    allocated: Len,
    len: Len,
}

impl Case {
    /// Measures both sides, prints a table and returns the goals that are missed.
    fn measure(&self, raw: &Path, dir: &Path) -> Vec<String> {
        let source = dir.join(format!("source.{}", self.from));
        if self.from == "raw" {
            std::fs::hard_link(raw, &source).expect("a second name");
        } else {
            qemu_convert(raw, "raw", &source, self.from, &[]);
        }
        let (ours, theirs) = self.race(&source, raw, &dir.join("new"));
        std::fs::remove_file(&source).expect("the source was there");
        let ratio = theirs.time.as_secs_f64() / ours.time.as_secs_f64();
        println!("\n{}", self.name);
        let row = |what: &str, a: String, b: String| println!("  {what:<12} {a:>14} {b:>14}");
        let seconds = |cost: Cost| format!("{:.2} s", cost.time.as_secs_f64());
        row("", "imgtool".into(), "qemu-img".into());
        row("time", seconds(ours), seconds(theirs));
        row("faster by", format!("{ratio:.2}"), String::new());
        row("processor", format!("{:.2} s", ours.processor), format!("{:.2} s", theirs.processor));
        row("file", mib(ours.len), mib(theirs.len));
        row("allocated", mib(ours.allocated), mib(theirs.allocated));
        row("peak memory", mib(ours.memory), mib(theirs.memory));
        let least = if self.packed { COMPRESSED } else { 1.0 };
        let size =
            if self.packed { ours.len <= theirs.len } else { ours.len.get() * 100 <= theirs.len.get() * 102 };
        let goals = [
            (ratio >= least, format!("{ratio:.2} times as fast, not {least}")),
            (ours.processor <= theirs.processor, format!("{:.2} s of processor time", ours.processor)),
            (size, format!("a file of {}", mib(ours.len))),
            (
                ours.allocated.get() * 100 <= theirs.allocated.get() * 102,
                format!("allocates {}", mib(ours.allocated)),
            ),
            (ours.memory < MEMORY, format!("{} of memory", mib(ours.memory))),
        ];
        goals.into_iter().filter(|(met, _)| !met).map(|(_, goal)| goal).collect()
    }

    /// The best of each side, in turns: whatever else the machine does meets both.
    fn race(&self, source: &Path, raw: &Path, new: &Path) -> (Cost, Cost) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let mut imgtool = vec!["convert", "-q"];
            imgtool.extend(self.ours);
            ours.push(cost(env!("CARGO_BIN_EXE_imgtool"), &imgtool, source, new));
            if round == 0 {
                let format = if self.ours.contains(&"vhd") { "vpc" } else { self.theirs[self.at("-O") + 1] };
                assert!(qemu_same(raw, "raw", new, format), "{}: another content", self.name);
            }
            for flags in FLAGS {
                let mut qemu = vec!["convert"];
                qemu.extend(self.theirs.iter().chain(*flags));
                theirs.push(cost(find("qemu-img").to_str().expect("a name"), &qemu, source, new));
            }
        }
        let best =
            |costs: Vec<Cost>| costs.into_iter().min_by_key(|cost| cost.time).expect("at least one round");
        let processor = theirs.iter().map(|cost| cost.processor).fold(f64::INFINITY, f64::min);
        let ours_processor = ours.iter().map(|cost| cost.processor).fold(f64::INFINITY, f64::min);
        (Cost { processor: ours_processor, ..best(ours) }, Cost { processor, ..best(theirs) })
    }

    fn at(&self, option: &str) -> usize {
        self.theirs.iter().position(|arg| *arg == option).expect("the option is there")
    }
}

/// Runs a conversion, until its result is on the disk.
fn cost(program: &str, args: &[&str], source: &Path, new: &Path) -> Cost {
    let _ = std::fs::remove_file(new);
    run("sync", [source.parent().expect("a folder")]);
    let start = Instant::now();
    let out = Command::new(find("/usr/bin/time"))
        .args(["-f", "%U %S %M", program])
        .args(args)
        .args([source, new])
        .output()
        .expect("time starts");
    assert!(out.status.success(), "{program} {args:?}: {}", said(&out));
    File::open(new).and_then(|file| file.sync_all()).expect("a flush");
    let time = start.elapsed();
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    let numbers: Vec<f64> =
        text.lines().last().unwrap_or_default().split(' ').map(|n| n.parse().expect("a number")).collect();
    let meta = new.metadata().expect("an image");
    Cost {
        time,
        processor: numbers[0] + numbers[1],
        memory: Len::new(
            text.trim().rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()).expect("kilobytes") << 10,
        ),
        allocated: Len::new(meta.blocks() * 512),
        len: Len::new(meta.len()),
    }
}

fn mib(len: Len) -> String {
    format!("{:.1} MiB", u32::try_from(len.get() >> 10).map_or(f64::INFINITY, f64::from) / 1024.0)
}
