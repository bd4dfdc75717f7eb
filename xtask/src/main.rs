//! Automation of the project: `cargo xtask TASK`.

mod bench;
mod demo;
mod dist;
mod fixtures;
mod fuzz;
mod oracles;
#[cfg(feature = "pages")]
mod pages;
mod run;
mod samples;
mod test;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "cargo xtask TASK

  test      installs the oracles and runs every check: format, lints, tidy, tests, crash sweep,
            fuzz targets, docs
  demo      grows a real guest by 10 GiB and shows it before and after
  tidy      looks for broken house rules
  bench     measures beside the usual tools and prints the ratios [grow|sparsify|…] [CASE]
  fuzz      runs the fuzz targets, 30 seconds each [--seconds N] [TARGET ...]
  samples   reads images that the products themselves have made; downloads QEMU's source package for them, once
  fixtures  rebuilds the fixtures from their recipes [NAME ...]
  dist      builds the static program, man pages and completions into target/dist";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["test"] => test::test(),
        ["demo"] => demo::demo(),
        ["tidy"] => tidy::tidy(),
        ["bench", rest @ ..] => bench::bench(rest),
        ["fuzz", rest @ ..] => fuzz::fuzz(rest),
        ["samples"] => samples::samples(),
        ["fixtures", names @ ..] => fixtures::fixtures(names),
        ["dist"] => dist::dist(),
        #[cfg(feature = "pages")]
        ["pages", to] => pages::pages(to.as_ref()),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
