//! Patches: `imgtool delta` beside what else makes the difference of two images, on a guest of 4 GiB, in one run. Prints
//! sizes, processor time and memory, and fails where a goal is missed.
//!
//! `cargo xtask bench delta a` measures only the cases whose name has `a` in it. The images are made once, of Debian's
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

/// Ours may be so many times theirs.
struct Goal {
    case: &'static str,
    ours: &'static str,
    /// The best of them counts.
    theirs: &'static [&'static str],
    size: f64,
    processor: Option<f64>,
}

const EXACT: &[&str] = &["rdiff, zstd -3", "casync", "bita"];
const GOALS: [Goal; 7] = [
    Goal { case: "a", ours: "level 3", theirs: &["xdelta3"], size: 0.80, processor: Some(0.12) },
    Goal { case: "b", ours: "level 3", theirs: &["xdelta3"], size: 0.45, processor: Some(0.12) },
    Goal { case: "a", ours: "level 3", theirs: EXACT, size: 0.93, processor: Some(0.7) },
    Goal { case: "b", ours: "level 3", theirs: EXACT, size: 0.84, processor: Some(0.7) },
    Goal { case: "a", ours: "default", theirs: &["hdiffz"], size: 0.97, processor: Some(0.04) },
    Goal { case: "a", ours: "xz", theirs: &["hdiffz"], size: 0.90, processor: Some(0.5) },
    Goal { case: "a", ours: "drop-free", theirs: &["hdiffz"], size: 0.55, processor: None },
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

type Row = (&'static str, Option<Cost>);

/// Measures both sides, prints a table and returns the goals that are missed.
fn measure(name: &str, base: &Path, target: &Path, dir: &Path) -> Vec<String> {
    println!("\n{name}");
    println!("  {:<22} {:>12} {:>12} {:>12}", "", "bytes", "processor", "memory");
    let mut rows: Vec<Row> = Vec::new();
    for (what, options) in OURS {
        rows.push((what, Some(ours(options, base, target, dir))));
        show(rows.last());
    }
    // They read files, not disks.
    if base.extension().is_some_and(|ending| ending == "raw") {
        for peer in peers::PEERS {
            rows.push((peer.name, peer.measure(base, target, dir)));
            show(rows.last());
        }
    }
    let goals = GOALS.iter().filter(|goal| goal.case == name);
    let mut missed: Vec<String> = goals.flat_map(|goal| goal.missed(&rows)).collect();
    let small = rows[1].1.expect("ours is there").size;
    if name == "small" && small > 64 << 10 {
        missed.push(format!("small: {small} bytes for one changed file"));
    }
    missed
}

fn show(row: Option<&Row>) {
    match row {
        Some((what, Some(cost))) => println!("  {what:<22} {cost}"),
        Some((what, None)) => println!("  {what:<22} missing"),
        None => {}
    }
}

impl Goal {
    fn missed(&self, rows: &[Row]) -> Vec<String> {
        let of = |name: &str| rows.iter().find(|row| row.0 == name).and_then(|row| row.1);
        let ours = of(self.ours).expect("ours is there");
        let theirs: Vec<Cost> = self.theirs.iter().filter_map(|name| of(name)).collect();
        let what = format!("{}, {} beside {}", self.case, self.ours, self.theirs.join(" and "));
        if theirs.is_empty() {
            return vec![format!("{what}: nothing to compare with")];
        }
        let least = |one: fn(&Cost) -> f64| theirs.iter().map(one).fold(f64::INFINITY, f64::min);
        let size = ours.bytes() / least(Cost::bytes);
        let processor = ours.processor / least(|cost| cost.processor);
        println!("  {what}: {size:.3} of the size, {processor:.3} of the processor time");
        let mut missed = Vec::new();
        if size > self.size {
            missed.push(format!("{what}: {size:.3} of the size, not {}", self.size));
        }
        if let Some(most) = self.processor.filter(|most| processor > *most) {
            missed.push(format!("{what}: {processor:.3} of the processor time, not {most}"));
        }
        missed
    }
}

/// Makes a patch and applies it; the result is compared by others' means.
fn ours(options: &[&str], base: &Path, target: &Path, dir: &Path) -> Cost {
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
            .args(["delta", "apply", "-q", "--base"])
            .args([base, &patch])
            .args(["-O", "raw", "-o"])
            .arg(&made),
        &made,
    );
    if target.extension().is_some_and(|ending| ending == "raw") && !options.contains(&"--drop-free") {
        done(Command::new(find("cmp")).args([target, &made]));
    }
    println!("    apply: {:.1} s of processor time, {} MiB", apply.processor, apply.memory >> 20);
    for path in [&patch, &made] {
        std::fs::remove_file(path).expect("a file of ours");
    }
    create
}
