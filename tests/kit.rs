//! Running the program, and seeing whether it has touched a file.

use std::ffi::OsStr;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use testkit::images::noise;
use testkit::tool::said;

pub const IMGTOOL: &str = env!("CARGO_BIN_EXE_imgtool");

pub fn imgtool<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    Command::new(IMGTOOL).args(args).output().unwrap()
}

/// Runs the program and expects an exit code; what it said on standard output.
pub fn code<S: AsRef<OsStr>>(want: i32, args: &[S]) -> Vec<u8> {
    let out = imgtool(args);
    let line: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy().into_owned()).collect();
    assert_eq!(out.status.code(), Some(want), "{}: {}", line.join(" "), said(&out));
    out.stdout
}

/// Runs the program, expects success and a document.
pub fn json<S: AsRef<OsStr>>(args: &[S]) -> Value {
    serde_json::from_slice(&code(0, args)).unwrap()
}

/// Runs the program on an image: `line` is split at blanks, and `@` stands for the image.
pub fn on(image: &Path, line: &str) -> Output {
    imgtool(words(image, line))
}

pub fn words(image: &Path, line: &str) -> Vec<String> {
    let image = image.to_str().unwrap();
    line.split_whitespace().map(|word| if word == "@" { image.to_owned() } else { word.to_owned() }).collect()
}

/// As `on`, expecting an exit code; what was said on stdout.
pub fn ends(code: i32, image: &Path, line: &str) -> String {
    let out = on(image, line);
    assert_eq!(out.status.code(), Some(code), "imgtool {line}, {}:\n{}", image.display(), said(&out));
    assert_printable(&out);
    String::from_utf8(out.stdout).unwrap()
}

/// As `on`, expecting success and a document.
pub fn document(image: &Path, line: &str) -> Value {
    let document: Value = serde_json::from_str(&ends(0, image, &format!("{line} --json"))).unwrap();
    assert!(document.is_array() || document["schema"] == 1, "{line}: {document}");
    document
}

/// No control character, no change of direction reaches the terminal.
pub fn assert_printable(out: &Output) {
    let text = said(out);
    let bad = |c: char| c != '\n' && (c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c));
    assert!(!text.chars().any(bad), "{}", text.escape_debug());
}

/// A refusal: that code, one line that names the image, at most help behind it.
pub fn assert_told(out: &Output, code: i32, image: &Path, what: &str) {
    assert_eq!(out.status.code(), Some(code), "{what}: {}", said(out));
    assert_printable(out);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    let mut lines = text.lines().filter(|line| !line.starts_with("imgtool: warning: "));
    let first = lines.next().unwrap_or_default();
    let name = image.file_name().unwrap().to_str().unwrap();
    assert!(first.starts_with("imgtool: error: "), "{what}: {text}");
    assert!(code == 2 || first.contains(name), "{what}: {text}");
    assert!(lines.all(|line| line.starts_with("  help: ")), "{what}: {text}");
}

/// Waits until the program catches interrupts.
pub fn until_listening(child: &Child) {
    const INTERRUPT: u64 = 1 << 1;
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("it has ended");
        if u64::from_str_radix(caught.trim(), 16).unwrap() & INTERRUPT != 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What a file is like from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub digest: blake3::Hash,
    pub len: u64,
    modified: (i64, i64),
}

pub fn seen(path: &Path) -> Seen {
    let meta = path.metadata().unwrap();
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut std::fs::File::open(path).unwrap(), &mut hasher).unwrap();
    Seen { digest: hasher.finalize(), len: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()) }
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A raw disk of `len` bytes with noise in some places, (position, length) each.
pub fn noisy(dir: &Path, len: u64, places: &[(u64, usize)]) -> PathBuf {
    let path = dir.join("disk.raw");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(len).unwrap();
    for &(at, len) in places {
        file.write_all_at(&noise(at, len), at).unwrap();
    }
    path
}

/// Names of the files beside an image, itself included.
pub fn beside(image: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> =
        image.parent().unwrap().read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names
}

/// Does `work` for every number below `count`, on two threads.
pub fn each(count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= count {
                        return;
                    }
                    work(i);
                }
            });
        }
    });
}
