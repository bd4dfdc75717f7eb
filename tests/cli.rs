//! The program from outside: what holds for every command.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output, Stdio};

use crate::kit::{IMGTOOL, imgtool};

fn run(args: &[&[u8]]) -> Output {
    imgtool(args.iter().map(|arg| OsStr::from_bytes(arg)))
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn wrong_usage_is_one_line_and_code_2() {
    for line in ["", "frobnicate", "grow a", "grow a 10", "info a --what"] {
        let out = imgtool(line.split_whitespace());
        assert_eq!(out.status.code(), Some(2));
        assert!(out.stdout.is_empty());
        let mut lines = text(&out.stderr).lines();
        assert!(lines.next().unwrap().starts_with("imgtool: error: "));
        assert!(lines.all(|line| line.starts_with("  help: ")), "{}", text(&out.stderr));
    }
}

#[test]
fn errors_are_documents_with_json() {
    let out = run(&[b"gorw", b"a", b"1G", b"--json"]);
    assert_eq!(out.status.code(), Some(2));
    let document: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let error = &document["error"];
    assert_eq!((&error["code"], &error["kind"]), (&2.into(), &"usage".into()));
    let message = error["message"].as_str().unwrap();
    assert!(text(&out.stderr).starts_with(&format!("imgtool: error: {message}\n")));
    assert!(error["help"].as_str().unwrap().contains("'grow'"));
}

#[test]
fn no_argument_steers_the_terminal() {
    let evil = b"\x1b]0;x\x07\x1b[31m\xc2\x9b\xe2\x80\xae\n\xff";
    let lossy = "\u{1b}]0;x\u{7}\u{9b}\u{202e}\n".as_bytes();
    for args in [
        &[b"info".as_slice(), b"a", evil][..],
        &[b"grow", evil, b"1G", lossy],
        &[lossy],
        &[b"grow", b"a", lossy],
        &[b"grow", b"a", b"1G", b"-p", lossy],
        &[b"fs", b"find", b"a", b"--name", evil],
    ] {
        let out = run(&[args, &[b"--json"]].concat());
        assert_eq!(out.status.code(), Some(2));
        for told in [text(&out.stderr), text(&out.stdout)] {
            assert!(
                told.chars().all(|c| c == '\n' || !(c.is_control() || c == '\u{202e}')),
                "{}",
                told.escape_debug()
            );
        }
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    for (arg, part) in
        [("help", "Usage: imgtool"), ("--help", "grow"), ("--version", env!("CARGO_PKG_VERSION"))]
    {
        let out = Command::new(IMGTOOL).arg(arg).output().unwrap();
        assert_eq!(out.status.code(), Some(0));
        assert!(text(&out.stdout).contains(part) && out.stderr.is_empty(), "{arg}");
    }
}

#[test]
fn every_command_has_a_line_of_help_of_its_own() {
    let mut todo: Vec<(Vec<String>, clap::Command)> = vec![(Vec::new(), imgtool::args::command())];
    let mut lines = Vec::new();
    while let Some((path, command)) = todo.pop() {
        lines.push(command.get_about().unwrap().to_string());
        for below in command.get_subcommands() {
            let path = path.iter().cloned().chain([below.get_name().to_owned()]).collect();
            todo.push((path, below.clone()));
        }
        let out = Command::new(IMGTOOL).args(&path).arg("--help").output().unwrap();
        assert!(text(&out.stdout).contains("--json") && text(&out.stdout).contains(lines.last().unwrap()));
    }
    let count = lines.len();
    lines.sort();
    lines.dedup();
    assert!(count > 15 && lines.len() == count, "{lines:?}");
}

#[test]
fn a_closed_pipe_ends_quietly_and_a_full_disk_does_not() {
    let mut child =
        Command::new(IMGTOOL).arg("help").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!((child.wait().unwrap().code(), told.as_str()), (Some(0), ""));

    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let out = Command::new(IMGTOOL).arg("help").stdout(full).output().unwrap();
    assert_eq!(out.status.code(), Some(5));
    assert!(text(&out.stderr).starts_with("imgtool: error: standard output: "));
}
