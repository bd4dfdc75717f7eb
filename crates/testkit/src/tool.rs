//! Programs of others, found or missed by name.

use std::ffi::OsStr;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::fs::{SeekFrom, seek};

/// Every program and file that tests need, with its Debian package: one `name package` a line.
const ORACLES: &str = include_str!("../oracles.txt");

/// The package of what is not listed.
const UNKNOWN: &str = "unknown";

/// Programs of packages that every Debian has, and those of Rust.
const EVERYWHERE: &[&str] = &[
    "chmod", "chown", "cmp", "cp", "date", "df", "env", "find", "gzip", "ldd", "mkfifo", "mknod", "sh",
    "sync", "tar", "timeout", "touch", "truncate",
];

/// A command that runs the program `name`.
///
/// # Panics
/// Where it is not installed: a missing oracle fails the test and names the package.
#[must_use]
pub fn tool(name: &str) -> Command {
    let mut command = Command::new(find(name));
    command.env("LC_ALL", "C");
    command
}

/// As [`tool`], for a program that an interrupt shall reach: whoever is started in the background ignores it, and hands
/// that on.
///
/// # Panics
/// As [`tool`].
#[must_use]
pub fn interruptible(name: impl AsRef<OsStr>) -> Command {
    let mut command = tool("env");
    command.arg("--default-signal=INT").arg(name);
    command
}

/// Where the program or file `name` is.
///
/// # Panics
/// Where it is not installed, or is a program that nobody would install on a fresh machine.
#[must_use]
pub fn find(name: &str) -> PathBuf {
    let listed = EVERYWHERE.contains(&name) || package(name) != UNKNOWN || name.contains('/');
    assert!(listed, "{name} stands neither in oracles.txt nor among what every Debian has");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = places.map(|place| place.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed (Debian package {})", package(name)))
}

fn package(name: &str) -> &'static str {
    let pairs = ORACLES.lines().filter_map(|line| line.split_once(' '));
    pairs
        .map(|(oracle, package)| (oracle, package.trim()))
        .find(|pair| pair.0 == name)
        .map_or(UNKNOWN, |p| p.1)
}

/// Runs `name` and returns what it said, whatever its exit code.
///
/// # Panics
/// Where it is not installed.
pub fn output<S: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = S>) -> Output {
    tool(name).args(args).output().unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Runs `name`, expects success and returns its stdout.
///
/// # Panics
/// Where it fails: with all that it said.
pub fn run<S: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = S>) -> String {
    let args: Vec<S> = args.into_iter().collect();
    done(tool(name).args(&args))
}

/// Runs a prepared command, expects success and returns its stdout.
///
/// # Panics
/// Where it fails: with all that it said.
pub fn done(command: &mut Command) -> String {
    let out = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(out.status.success(), "{command:?}: {}\n{}", out.status, said(&out));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// What a program said on stdout and stderr.
#[must_use]
pub fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// Copies an image with its holes.
///
/// # Panics
/// Where that fails.
pub fn copy_sparse(from: &Path, to: &Path) {
    let args = ["--sparse=always".as_ref(), "--reflink=auto".as_ref(), from.as_os_str(), to.as_os_str()];
    run("cp", args);
}

/// Copies the data, not the holes, of a span of one file to the place `at` of another.
///
/// # Panics
/// Where that fails.
pub fn copy_data(from: &File, span: Range<u64>, to: &File, at: u64) {
    let mut buf = vec![0; 1 << 20];
    let mut pos = span.start;
    while let Ok(data) = seek(from, SeekFrom::Data(pos))
        && data < span.end
    {
        pos = seek(from, SeekFrom::Hole(data)).expect("data is followed by a hole").min(span.end);
        for piece in (data..pos).step_by(buf.len()) {
            let n = usize::try_from(pos - piece).map_or(buf.len(), |left| left.min(buf.len()));
            from.read_exact_at(&mut buf[..n], piece).expect("a file reads");
            to.write_all_at(&buf[..n], at + piece - span.start).expect("a file takes data");
        }
    }
}
