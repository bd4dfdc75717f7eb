//! Patches in the format of xdelta3, through the program.

use std::fs::{File, read, write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use testkit::images::noise;
use testkit::oracle::{assert_qemu_check, qemu_convert, qemu_same};
use testkit::tool::{done, said, tool};

use crate::kit::{IMGTOOL, json, text};

/// A base and a target that has some of it elsewhere.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let base = noise(1, 3 << 20);
        let target = [&base[1_234_567..], &noise(2, 50_000), &base[..1_000_000], &[0; 1 << 20]].concat();
        write(folder.path("base.raw"), &base).unwrap();
        write(folder.path("target.raw"), &target[..target.len() & !511]).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn program(&self, line: &str) -> Command {
        let mut command = Command::new(IMGTOOL);
        command.current_dir(self.0.path()).arg("delta").args(line.split(' '));
        command
    }

    /// Runs `imgtool delta` in the folder.
    fn delta(&self, want: i32, line: &str) -> String {
        let out = self.program(line).output().unwrap();
        assert_eq!(out.status.code(), Some(want), "delta {line}: {}", said(&out));
        said(&out)
    }

    fn xdelta(&self, line: &str) {
        done(tool("xdelta3").current_dir(self.0.path()).args(line.split(' ')));
    }

    fn target(&self) -> Vec<u8> {
        read(self.path("target.raw")).unwrap()
    }

    fn same(&self, name: &str) -> bool {
        read(self.path(name)).unwrap() == self.target()
    }
}

#[test]
fn there_and_back_with_xdelta3() {
    let folder = Folder::new();
    qemu_convert(&folder.path("base.raw"), "raw", &folder.path("base.qcow2"), "qcow2", &[]);
    folder.delta(0, "create --format vcdiff --base base.qcow2 target.raw -o p --stats");
    let size = folder.path("p").metadata().unwrap().len();
    assert!((50_000..60_000).contains(&size), "{size}");
    folder.xdelta("-d -s base.raw p out");
    assert!(folder.same("out"));
    for options in ["-S none", "-S djw", "-S lzma", "-9", "-n"] {
        folder.xdelta(&format!("-e -f {options} -s base.raw target.raw x"));
        let said = folder.delta(0, "apply --base base.qcow2 x -o out.raw");
        assert!(folder.same("out.raw"), "{options}");
        assert_eq!(said.contains("nothing can be verified"), options == "-n", "{said}");
        folder.delta(0, "apply --base base.raw x -o out.qcow2");
        assert!(
            qemu_same(&folder.path("out.qcow2"), "qcow2", &folder.path("target.raw"), "raw"),
            "{options}"
        );
        folder.delta(0, "verify --base base.raw x");
    }
    assert_qemu_check(&folder.path("out.qcow2"), "qcow2");
}

#[test]
fn what_a_vcdiff_says_about_itself() {
    let folder = Folder::new();
    folder.xdelta("-e -S djw -A=from\u{1b}[31mme -s base.raw target.raw x");
    let info = json(&["delta", "info", text(&folder.path("x")), "--json"]);
    assert_eq!((&info["format"], &info["codec"]), (&"vcdiff".into(), &"djw".into()));
    assert_eq!(
        (&info["target"]["size"], &info["target"]["digest"]),
        (&folder.target().len().into(), &Value::Null)
    );
    assert_eq!(info["bases"][0]["digest"], Value::Null);
    assert!(info["text"].as_str().unwrap().contains("31mme"));
    let told = folder.delta(0, "info x");
    assert!(told.contains("VCDIFF") && !told.contains('\u{1b}'), "{told}");
    folder.delta(0, "create --format vcdiff target.raw -o p");
    let info = json(&["delta", "info", text(&folder.path("p")), "--json"]);
    assert_eq!((&info["bases"], &info["codec"]), (&serde_json::json!([]), &"lzma".into()));
    let foreseen = folder.program("create --format vcdiff target.raw -o none -n --json").output().unwrap();
    let foreseen: Value = serde_json::from_slice(&foreseen.stdout).unwrap();
    assert_eq!(foreseen["size"], folder.path("p").metadata().unwrap().len());
}

#[test]
fn streams_and_parts() {
    let folder = Folder::new();
    let run = |line: &str, input: Option<&str>| -> Output {
        let input = input.map(|name| Stdio::from(File::open(folder.path(name)).unwrap()));
        let out = folder.program(line).stdin(input.unwrap_or_else(Stdio::null)).output().unwrap();
        assert!(out.status.success(), "{line}: {}", said(&out));
        out
    };
    let made = run("create --format vcdiff --base base.raw target.raw -o -", None);
    write(folder.path("p"), made.stdout).unwrap();
    assert!(run("apply --base base.raw p -o -", None).stdout == folder.target());
    run("apply --base base.raw - -o out", Some("p"));
    assert!(folder.same("out"));
    run("apply --base base.raw p -o part --range 1234567:1000001", None);
    assert!(read(folder.path("part")).unwrap() == folder.target()[1_234_567..2_234_568]);
    assert_eq!(folder.0.path().read_dir().unwrap().count(), 5);
}

#[test]
fn what_does_not_fit_leaves_nothing_behind() {
    let folder = Folder::new();
    folder.delta(0, "create --format vcdiff --base base.raw target.raw -o p");
    write(folder.path("out"), "kept").unwrap();
    let said = folder.delta(4, "apply --base target.raw p -o out");
    assert!(said.contains("another base") && said.contains("--base"), "{said}");
    folder.delta(1, "verify --base target.raw p");
    folder.delta(4, "apply p -o out");
    folder.delta(1, "verify p");
    let sound = read(folder.path("p")).unwrap();
    write(folder.path("cut"), &sound[..sound.len() - 1]).unwrap();
    folder.delta(4, "apply --base base.raw cut -o out");
    folder.delta(4, "verify --base base.raw cut");
    assert_eq!(read(folder.path("out")).unwrap(), b"kept");
    folder.delta(3, "apply --base base.raw --base target.raw p -o out");
    folder.delta(3, "apply --base base.raw p -o out.qcow2 --as-child");
    folder.delta(2, "create --format vcdiff --base base.raw --base target.raw target.raw -o q");
    folder.delta(2, "create --format other --base base.raw target.raw -o q");
    assert_eq!(folder.0.path().read_dir().unwrap().count(), 5);
}
