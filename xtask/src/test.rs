//! Every check there is, in the order in which they fail fastest.

use std::collections::VecDeque;
use std::fs::read_dir;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::run::{Result, cargo, exists, output, root, run, target};
use crate::{oracles, tidy};

/// Tests that sweep over crash states: package and test.
const SWEEPS: &[(&str, &str)] = &[("disk", "crash")];

/// How many times as many random states as in a usual test run.
const SWEEP_TIMES: &str = "20";

/// Seconds for each fuzz target.
const FUZZ_SECONDS: u64 = 60;

/// A check by its name.
type Check = (&'static str, fn() -> Result);

const CHECKS: &[Check] = &[
    ("oracles", oracles::install),
    ("format", || run(cargo().args(["fmt", "--all", "--check"]))),
    ("tidy", tidy::tidy),
    ("lints", || run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))),
    ("tests", tests),
    ("crash sweep", crash_sweep),
    ("fuzz targets", fuzz),
    ("docs", || run(cargo().env("RUSTDOCFLAGS", "-D warnings").args(["doc", "--workspace", "--no-deps"]))),
];

/// Runs all checks, whatever fails, and lists the results; without the oracles nothing is worth running.
pub fn test() -> Result {
    let mut results: Vec<(&str, Duration, Result)> = Vec::new();
    for (name, check) in CHECKS {
        println!("\n== {name}");
        let start = Instant::now();
        let result = check();
        if let Err(message) = &result {
            eprintln!("{name}: {message}");
        }
        let stop = result.is_err() && results.is_empty();
        results.push((name, start.elapsed(), result));
        if stop {
            break;
        }
    }
    println!("\n== results");
    for (name, time, result) in &results {
        println!("{:<14} {:>5} s  {}", name, time.as_secs(), if result.is_ok() { "ok" } else { "FAILED" });
    }
    let failed = results.iter().filter(|(.., result)| result.is_err()).map(|(name, ..)| *name);
    let failed: Vec<&str> = failed.collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}

fn tests() -> Result {
    if exists("cargo-nextest") {
        run(cargo().args(["nextest", "run", "--workspace", "--no-fail-fast", "--status-level", "fail"]))?;
        return run(cargo().args(["test", "--workspace", "--doc"]));
    }
    run(cargo().args(["test", "--workspace", "--no-fail-fast"]))
}

fn crash_sweep() -> Result {
    SWEEPS.iter().try_for_each(|(package, test)| {
        let args = ["test", "--release", "--package", package, "--test", test, "--", "--nocapture"];
        run(cargo().env("SWEEP", SWEEP_TIMES).args(args))
    })
}

/// Builds all fuzz targets, then runs each for a minute, as many at a time as there are processors.
fn fuzz() -> Result {
    let Ok(dir) = read_dir(root().join("fuzz/fuzz_targets")) else { return Ok(()) };
    let names =
        dir.map(|entry| entry.map(|entry| entry.path()).map_err(|error| format!("fuzz_targets: {error}")));
    let paths = names.collect::<Result<Vec<_>>>()?;
    let stems = paths.iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
    let waiting: Mutex<VecDeque<String>> =
        Mutex::new(stems.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect());
    let build = ["build", "--release", "--manifest-path", "fuzz/Cargo.toml", "--bins", "--target-dir"];
    run(cargo().args(build).arg(fuzz_dir()))?;
    let failures = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(name) = waiting.lock().expect("no worker panics").pop_front() {
                    if let Err(message) = fuzz_one(&name) {
                        failures.lock().expect("no worker panics").push(message);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no worker panics");
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

fn fuzz_dir() -> std::path::PathBuf {
    target().join("fuzz")
}

fn fuzz_one(name: &str) -> Result {
    let mut command = crate::run::program(fuzz_dir().join("release").join(name));
    command.args([format!("-max_total_time={FUZZ_SECONDS}"), "-timeout=10".into(), "-verbosity=0".into()]);
    command.arg(format!("-artifact_prefix={}/", fuzz_dir().display()));
    let corpus = root().join("fuzz/corpus").join(name);
    command.args(corpus.is_dir().then_some(corpus));
    let out = output(command.stdin(Stdio::null()))?;
    println!("fuzz {name}: {}", out.status);
    if out.status.success() {
        Ok(())
    } else {
        Err(format!("{name}:\n{}", String::from_utf8_lossy(&out.stderr)))
    }
}
