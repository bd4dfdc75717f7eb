//! The program as its users call it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests, and each test uses some"
)]

use std::ffi::OsStr;
use std::process::{Command, Output};

/// Runs the program.
pub fn run<S: AsRef<OsStr>>(args: &[S]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_imgtool")).args(args).output().unwrap()
}

/// Runs the program and expects an exit code; what it said on standard output.
pub fn code<S: AsRef<OsStr>>(want: i32, args: &[S]) -> Vec<u8> {
    let out = run(args);
    let line: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy().into_owned()).collect();
    assert_eq!(out.status.code(), Some(want), "{}: {}", line.join(" "), testkit::tool::said(&out));
    out.stdout
}

/// Runs the program, expects success and a document.
pub fn json<S: AsRef<OsStr>>(args: &[S]) -> serde_json::Value {
    serde_json::from_slice(&code(0, args)).unwrap()
}
