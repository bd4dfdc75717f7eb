//! Patches without the disks: composed, signed, made of a signature.

use std::fs::{File, read, write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use testkit::images::noise;
use testkit::tool::{copy_sparse, said};

use crate::kit::{IMGTOOL, json};

/// A folder with a disk `a`, and what became of it: `b`, then `c`.
struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        let folder = Self { dir: tempfile::tempdir().unwrap() };
        let file = File::create(folder.path("a")).unwrap();
        file.set_len(40 << 20).unwrap();
        file.write_all_at(&noise(1, 9 << 20), 1 << 20).unwrap();
        copy_sparse(&folder.path("a"), &folder.path("b"));
        let file = File::options().write(true).open(folder.path("b")).unwrap();
        file.write_all_at(&noise(2, 300_000), 5 << 20).unwrap();
        file.write_all_at(&noise(1, 2 << 20), (30 << 20) + 77).unwrap();
        copy_sparse(&folder.path("b"), &folder.path("c"));
        let file = File::options().write(true).open(folder.path("c")).unwrap();
        file.set_len(44 << 20).unwrap();
        file.write_all_at(&noise(3, 200_000), (5 << 20) + 9000).unwrap();
        file.write_all_at(&noise(2, 300_000), 20 << 20).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn size(&self, name: &str) -> u64 {
        self.path(name).metadata().unwrap().len()
    }

    /// Runs `imgtool delta` in the folder.
    fn run(&self, line: &str) -> Output {
        let mut command = Command::new(IMGTOOL);
        command.current_dir(self.dir.path()).arg("delta").args(line.split(' ')).output().unwrap()
    }

    fn delta(&self, want: i32, line: &str) -> String {
        let out = self.run(line);
        assert_eq!(out.status.code(), Some(want), "delta {line}: {}", said(&out));
        said(&out)
    }

    fn same(&self, made: &str, wanted: &str) {
        assert!(read(self.path(made)).unwrap() == read(self.path(wanted)).unwrap(), "{made} is not {wanted}");
    }

    fn info(&self, patch: &str) -> serde_json::Value {
        json(&["delta", "info", self.path(patch).to_str().unwrap(), "--json"])
    }
}

#[test]
fn two_patches_become_one() {
    let folder = Folder::new();
    folder.delta(0, "create --base a b -o ab");
    folder.delta(0, "create --base b c -o bc");
    assert!(folder.delta(0, "compose ab bc -o ac -n").contains("would be"));
    assert!(!folder.path("ac").exists());
    // No image is at hand.
    for name in ["a", "b", "c"] {
        std::fs::rename(folder.path(name), folder.path(&format!("{name}.away"))).unwrap();
    }
    folder.delta(0, "compose ab bc -o ac");
    assert_eq!(folder.run("compose ab bc -o -").stdout, read(folder.path("ac")).unwrap());
    std::fs::rename(folder.path("a.away"), folder.path("a")).unwrap();
    folder.delta(0, "verify --base a ac");
    folder.delta(0, "apply --base a ac -o out");
    folder.same("out", "c.away");
    folder.delta(0, "apply --base a ac --range 20M:1M -o part");
    assert!(read(folder.path("part")).unwrap() == read(folder.path("c.away")).unwrap()[20 << 20..21 << 20]);
    assert!(folder.size("ac") < folder.size("ab") + folder.size("bc") + 1000);
    assert_eq!(folder.info("ac")["bases"], folder.info("ab")["bases"]);
    assert_eq!(folder.info("ac")["target"], folder.info("bc")["target"]);
    // In the wrong order, over one of them, or of something else.
    assert!(folder.delta(4, "compose bc ab -o none").contains("order"));
    folder.delta(3, "compose ab bc -o ab");
    write(folder.path("text"), "no patch").unwrap();
    folder.delta(4, "compose ab text -o none");
    assert!(!folder.path("none").exists());
}
