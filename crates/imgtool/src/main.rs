//! Grows, checks and reads disk images, offline and without root.

use std::process::ExitCode;

fn main() -> ExitCode {
    let argv: Vec<_> = std::env::args_os().collect();
    imgtool::run(&argv).into()
}
