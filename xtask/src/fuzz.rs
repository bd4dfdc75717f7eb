//! Fuzz targets: built with coverage, then run for a while each, as many at a time as there are processors.

use std::collections::VecDeque;
use std::fs::{create_dir_all, read_dir};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;

use crate::run::{Result, cargo, output, program, read, root, run, target};

/// Seconds for each target, where nothing else is said.
const SECONDS: u64 = 30;

/// The seed of the short run that belongs to the checks: what they say depends on what was changed, not on luck. All
/// other runs take one by chance.
const SEED: &str = "1";

/// libFuzzer finds its way by the branches that were taken and the numbers that were compared. The stable compiler
/// knows all of this; only sanitizers would need another one.
const COVERAGE: &str = "-C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
    -C llvm-args=-sanitizer-coverage-trace-compares";

/// A target needs no more memory than its limits, its bases and the fuzzer's own.
const RSS_MIB: u64 = 512;

/// The short run of all targets, always the same.
pub fn short() -> Result {
    campaign(SECONDS, &[format!("-seed={SEED}")], &[])
}

/// Runs the targets that are named, or all: `[--seconds N] [TARGET ...]`.
pub fn fuzz(args: &[&str]) -> Result {
    match args {
        ["--seconds", seconds, names @ ..] => {
            campaign(seconds.parse().map_err(|_| "--seconds takes a number")?, &[], names)
        }
        names => campaign(SECONDS, &[], names),
    }
}

fn campaign(seconds: u64, options: &[String], names: &[&str]) -> Result {
    let all = targets()?;
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|known| known == *name)) {
        return Err(format!("there is no target {unknown}; there are {}", all.join(", ")));
    }
    let chosen = all.into_iter().filter(|name| names.is_empty() || names.contains(&name.as_str()));
    let waiting: Mutex<VecDeque<String>> = Mutex::new(chosen.collect());
    let programs = build()?;
    let failures = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let Some(name) = waiting.lock().expect("no worker panics").pop_front() else { break };
                    if let Err(message) = one(&programs, &name, seconds, options) {
                        failures.lock().expect("no worker panics").push(message);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no worker panics");
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

/// The names of all targets.
fn targets() -> Result<Vec<String>> {
    let failed = |error: std::io::Error| format!("fuzz/fuzz_targets: {error}");
    let mut names = Vec::new();
    for entry in read_dir(root().join("fuzz/fuzz_targets")).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Builds all targets; the folder of the programs.
fn build() -> Result<PathBuf> {
    let about = read(program("rustc").arg("-vV"))?;
    let host =
        about.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc does not tell its host")?;
    let dir = target().join("fuzz");
    // With a target named, build scripts are built without coverage: they have nobody to tell it to.
    let args =
        ["build", "--release", "--locked", "--manifest-path", "fuzz/Cargo.toml", "--bins", "--target", host];
    run(cargo().env("RUSTFLAGS", COVERAGE).args(args).arg("--target-dir").arg(&dir))?;
    Ok(dir.join(host).join("release"))
}

/// Runs one target: first what has ever found a defect, then whatever the fuzzer comes to.
fn one(programs: &Path, name: &str, seconds: u64, options: &[String]) -> Result {
    let (corpus, found) = (target().join("fuzz/corpus").join(name), root().join("fuzz/found").join(name));
    create_dir_all(&corpus).map_err(|error| format!("{}: {error}", corpus.display()))?;
    let mut command = program(programs.join(name));
    command.args([format!("-max_total_time={seconds}"), format!("-rss_limit_mb={RSS_MIB}")]);
    command.args(["-timeout=10", "-max_len=600", "-print_final_stats=1"]);
    command.arg(format!("-artifact_prefix={}/{name}-", target().join("fuzz").display()));
    command.args(options).arg(&corpus).args(found.is_dir().then_some(&found));
    let out = output(command.stdin(Stdio::null()))?;
    let said = String::from_utf8_lossy(&out.stderr);
    let last = said.lines().rfind(|line| line.contains(" cov: ")).unwrap_or_default();
    println!("{name:<15} {}  {last}", out.status);
    if out.status.success() { Ok(()) } else { Err(format!("{name}:\n{}", tail(&said))) }
}

/// The last lines: what failed, where, and with which input.
fn tail(said: &str) -> String {
    let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with('#')).collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
