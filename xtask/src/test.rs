//! Every check there is, in the order in which they fail fastest.

use std::time::{Duration, Instant};

use crate::run::{Result, cargo, exists, run};
use crate::{fuzz, oracles, tidy};

/// Tests that sweep over crash states, which have a check of their own: package and test.
const SWEEPS: &[(&str, &str)] = &[("disk", "crash")];

/// How many times as many random states as in a usual test run.
const SWEEP_TIMES: &str = "6";

/// A check by its name.
type Check = (&'static str, fn() -> Result);

const CHECKS: &[Check] = &[
    ("oracles", oracles::install),
    ("format", || run(cargo().args(["fmt", "--all", "--check"]))),
    ("tidy", tidy::tidy),
    ("lints", || run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))),
    ("tests", tests),
    ("crash sweep", crash_sweep),
    ("fuzz targets", fuzz::short),
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
        let others =
            SWEEPS.iter().map(|(package, test)| format!("not (package({package}) & binary({test}))"));
        let others = others.collect::<Vec<_>>().join(" & ");
        let args =
            ["nextest", "run", "--workspace", "--no-fail-fast", "--status-level", "fail", "-E", &others];
        run(cargo().args(args))?;
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
