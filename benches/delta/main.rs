//! Patches: `imgtool delta` beside what else makes the difference of two images, on a guest of 4 GiB, in one run. Prints
//! sizes, processor time and memory, and fails where a goal is missed.
//!
//! `cargo xtask bench delta a` measures only the case `a`. The images are made once, of Debian's
//! packages, in the folder that `DELTA_CORPUS` names, or else below the target folder. `HDIFFZ` and `BITA` name programs
//! that Debian does not have; `WITHOUT=hdiffz,bita` leaves peers out. A peer that is not there is called missing, and so
//! is each goal that needs it.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]

mod cost;
mod peers;

use cost::{Cost, cost};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use testkit::tool::{done, find};

/// How each image is made.
const CORPUS: &str = include_str!("corpus.sh");
/// A name, the base and the target.
const CASES: [(&str, &str, &str); 8] = [
    ("small", "base.raw", "small.raw"),
    ("update", "base.raw", "update.raw"),
    ("kernel", "base.raw", "kernel.raw"),
    ("a", "base.raw", "a.raw"),
    ("b", "base.raw", "b.raw"),
    ("grown", "base.raw", "grown.raw"),
    ("lvm", "lvm-base.raw", "lvm.raw"),
    ("vhd-qcow2", "base.vhd", "a.qcow2"),
];
/// What we are asked for.
const OURS: [(&str, &[&str]); 6] = [
    ("level 3", &["--level", "3"]),
    ("default", &[]),
    ("level 19", &["--level", "19"]),
    ("xz", &["--codec", "xz"]),
    ("drop-free, level 3", &["--drop-free", "--level", "3"]),
    ("drop-free", &["--drop-free"]),
];

/// What is asked of us: ours may be so many times the best of theirs.
struct Goal {
    cases: &'static [&'static str],
    ours: &'static str,
    theirs: &'static [&'static str],
    size: Option<f64>,
    processor: Option<f64>,
    memory: Option<f64>,
    /// Memory whatever others take, in MiB.
    most: Option<u64>,
}

const ANY: Goal = Goal {
    cases: &["a"],
    ours: "default",
    theirs: &["hdiffz"],
    size: None,
    processor: None,
    memory: None,
    most: None,
};
const BLOCKS: &[&str] = &["rdiff, zstd -3", "casync", "bita"];
const EXACT: &[&str] = &["xdelta3", "rdiff, zstd -3", "casync", "bita", "hdiffz"];
const GOALS: [Goal; 12] = [
    Goal {
        ours: "level 3",
        theirs: &["xdelta3"],
        size: Some(0.80),
        processor: Some(0.12),
        most: Some(512),
        ..ANY
    },
    Goal {
        cases: &["b"],
        ours: "level 3",
        theirs: &["xdelta3"],
        size: Some(0.45),
        processor: Some(0.12),
        most: Some(512),
        ..ANY
    },
    Goal { ours: "level 3", theirs: BLOCKS, size: Some(0.93), processor: Some(0.7), ..ANY },
    Goal { cases: &["b"], ours: "level 3", theirs: BLOCKS, size: Some(0.84), processor: Some(0.7), ..ANY },
    Goal { cases: &["a", "b"], size: Some(0.97), processor: Some(0.04), memory: Some(0.4), ..ANY },
    Goal { cases: &["a", "b"], ours: "xz", size: Some(0.90), processor: Some(0.5), most: Some(1024), ..ANY },
    Goal { cases: &["a", "b"], ours: "xz", theirs: EXACT, size: Some(1.0), ..ANY },
    Goal {
        cases: &["a", "b"],
        ours: "drop-free, level 3",
        theirs: &["zstd -3, used blocks"],
        size: Some(0.98),
        processor: Some(0.8),
        memory: Some(0.15),
        ..ANY
    },
    Goal {
        cases: &["a", "b"],
        ours: "drop-free",
        theirs: &["zstd -9, used blocks"],
        size: Some(0.98),
        processor: Some(0.8),
        memory: Some(0.15),
        ..ANY
    },
    Goal { ours: "drop-free", theirs: EXACT, size: Some(0.55), ..ANY },
    Goal {
        cases: &["a", "b"],
        ours: "default, apply",
        theirs: &["xdelta3 -d"],
        processor: Some(0.2),
        most: Some(128),
        ..ANY
    },
    Goal {
        cases: &["a", "b"],
        ours: "drop-free, apply",
        theirs: &["zstd -d, used blocks"],
        processor: Some(1.0),
        ..ANY
    },
];

fn main() -> ExitCode {
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let corpus = std::env::var_os("DELTA_CORPUS")
        .map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("delta-corpus"), PathBuf::from);
    std::fs::create_dir_all(&corpus).expect("a folder for the images");
    let script = corpus.join("corpus.sh");
    std::fs::write(&script, CORPUS).expect("a script");
    done(Command::new(find("sh")).arg(&script).arg(&corpus));
    let dir = tempfile::tempdir_in(&corpus).expect("a folder on a real disk");
    let mut missed = Vec::new();
    for (name, base, target) in CASES.iter().filter(|case| case.0 == only || only.is_empty()) {
        let (base, target) = (corpus.join(base), corpus.join(target));
        missed.extend(measure(name, &base, &target, dir.path()));
    }
    missed.iter().for_each(|goal| println!("missed: {goal}"));
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What was run, and what it took.
type Rows = Vec<(String, Cost)>;

/// Measures both sides, prints a table and returns the goals that are missed.
fn measure(name: &str, base: &Path, target: &Path, dir: &Path) -> Vec<String> {
    println!("\n{name}");
    println!("  {:<26} {:>12} {:>12} {:>12}", "", "bytes", "processor", "memory");
    let mut rows: Rows = Vec::new();
    for (what, options) in OURS {
        rows.extend(ours(what, options, base, target, dir));
    }
    // They read files, not disks.
    if base.extension().is_some_and(|ending| ending == "raw") {
        for peer in peers::PEERS {
            let found = peer.measure(base, target, dir);
            if found.is_empty() {
                println!("  {:<26} missing", peer.name);
            }
            rows.extend(found.into_iter().inspect(show));
        }
    }
    let goals = GOALS.iter().filter(|goal| goal.cases.contains(&name));
    let mut missed: Vec<String> = goals.flat_map(|goal| goal.missed(name, &rows)).collect();
    let small = rows.iter().find(|row| row.0 == "default").expect("ours is there").1.size;
    if name == "small" && small > 64 << 10 {
        missed.push(format!("small: {small} bytes for one changed file"));
    }
    missed
}

fn show((what, cost): &(String, Cost)) {
    println!("  {what:<26} {cost}");
}

impl Goal {
    fn missed(&self, case: &str, rows: &Rows) -> Vec<String> {
        let of = |name: &str| rows.iter().find(|row| row.0 == name).map(|row| row.1);
        let ours = of(self.ours).expect("ours is there");
        let theirs: Vec<Cost> = self.theirs.iter().filter_map(|name| of(name)).collect();
        let what = format!("{case}, {} beside {}", self.ours, self.theirs.join(" and "));
        if theirs.len() < self.theirs.len() {
            return vec![format!("{what}: not all are there to be compared with")];
        }
        let ratio = |one: fn(&Cost) -> f64| one(&ours) / theirs.iter().map(one).fold(f64::INFINITY, f64::min);
        let part = |of: &str, most: Option<f64>, one: fn(&Cost) -> f64| {
            let most = most?;
            let found = ratio(one);
            println!("  {what}: {found:.3} of the {of} ({most})");
            (found > most).then(|| format!("{what}: {found:.3} of the {of}, not {most}"))
        };
        let parts = [
            part("size", self.size, Cost::bytes),
            part("processor time", self.processor, |cost| cost.processor),
            part("memory", self.memory, Cost::memory),
        ];
        let mib = ours.memory >> 20;
        let over = self.most.filter(|most| mib > *most);
        let over = over.map(|most| format!("{}, {case}: {mib} MiB of memory, not {most}", self.ours));
        parts.into_iter().chain([over]).flatten().collect()
    }
}

/// Makes a patch and applies it; the result is compared by others' means.
fn ours(what: &str, options: &[&str], base: &Path, target: &Path, dir: &Path) -> Rows {
    let (patch, made) = (dir.join("patch"), dir.join("made.raw"));
    let imgtool = || Command::new(env!("CARGO_BIN_EXE_imgtool"));
    let create = cost(
        imgtool()
            .args(["delta", "create", "-q"])
            .args(options)
            .arg("--base")
            .args([base, target])
            .arg("-o")
            .arg(&patch),
        &patch,
    );
    let apply = cost(
        imgtool()
            .args(["delta", "apply", "-q", "--no-cache", "--base"])
            .args([base, &patch])
            .args(["-O", "raw", "-o"])
            .arg(&made),
        &made,
    );
    if target.extension().is_some_and(|ending| ending == "raw") && !options.contains(&"--drop-free") {
        done(Command::new(find("cmp")).args([target, &made]));
    }
    for path in [&patch, &made] {
        std::fs::remove_file(path).expect("a file of ours");
    }
    let rows = vec![(what.to_owned(), create), (format!("{what}, apply"), apply)];
    rows.into_iter().inspect(show).collect()
}
