//! Patches without the disks: composed, signed, made of a signature.

use std::fs::{File, read, write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use testkit::images::noise;
use testkit::tool::{copy_sparse, done, said, tool};

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

/// Makes a pair of keys.
fn keys(folder: &Folder, name: &str) {
    let public = format!("{name}.pub");
    done(tool("minisign").current_dir(folder.dir.path()).args(["-G", "-W", "-p", &public, "-s", name]));
}

/// Where the end of a signed patch is, and where the text of its signature.
fn parts(patch: &[u8]) -> (Range<usize>, Range<usize>) {
    let seal = patch.len() - 48;
    let text = seal - u64::from_le_bytes(patch[seal..seal + 8].try_into().unwrap()) as usize;
    (text - 48..text, text..seal)
}

#[test]
fn signed_patches() {
    let folder = Folder::new();
    keys(&folder, "mine");
    keys(&folder, "other");
    folder.delta(0, "create --base a b -o plain");
    folder.delta(0, "create --base a b --sign mine -o signed");
    let patch = read(folder.path("signed")).unwrap();
    let streamed = folder.run("create --base a b --sign mine -o -").stdout;
    assert!(streamed.len() == patch.len() && streamed.starts_with(&read(folder.path("plain")).unwrap()));
    let foreseen = folder.delta(0, "create --base a b --sign mine -o none -n");
    assert!(foreseen.contains(&format!("({} bytes)", patch.len())), "{foreseen}");
    let trust = "--require-signature --pubkey mine.pub";
    folder.delta(0, &format!("apply --base a signed -o out {trust}"));
    folder.same("out", "b");
    folder.delta(0, "apply --base a signed -o out");
    folder.delta(0, &format!("verify --base a signed {trust}"));
    let public = std::fs::read_to_string(folder.path("mine.pub")).unwrap();
    let second = public.lines().nth(1).unwrap();
    let told = folder.delta(0, &format!("info signed --require-signature --pubkey {second}"));
    // minisign leaves out zeros in front.
    let number = format!("{:0>16}", public.lines().next().unwrap().rsplit(' ').next().unwrap());
    assert!(told.contains(&format!("signed by key {number}: timestamp:")), "{told}");
    assert!(folder.delta(0, "info signed").contains("says that it is signed"));
    assert_eq!(folder.info("signed")["signed"], true);
    assert_eq!(folder.info("signed")["key"], number);
    // minisign says the same of what is signed.
    let (end, text) = parts(&patch);
    write(folder.path("end"), &patch[end]).unwrap();
    write(folder.path("end.minisig"), &patch[text.clone()]).unwrap();
    let minisign = |key: &str| {
        let mut command = tool("minisign");
        command.current_dir(folder.dir.path()).args(["-V", "-m", "end", "-p", key]).output().unwrap()
    };
    assert!(minisign("mine.pub").status.success() && !minisign("other.pub").status.success());
    // Unsigned, by somebody else, altered anywhere: nothing is made.
    for bad in ["apply --base a plain -o none", "verify --base a plain", "info plain"] {
        assert!(folder.delta(4, &format!("{bad} {trust}")).contains("not signed by this key"));
    }
    folder.delta(4, "apply --base a signed -o none --require-signature --pubkey other.pub");
    for at in (0..patch.len()).step_by(patch.len() / 15).chain(text.step_by(23)) {
        let mut bytes = patch.clone();
        bytes[at] ^= 1;
        write(folder.path("bad"), &bytes).unwrap();
        let out = folder.run(&format!("apply --base a bad -o none {trust}"));
        assert_eq!(out.status.code(), Some(4), "byte {at}: {}", said(&out));
    }
    // A sound patch under the signature of another one.
    folder.delta(0, "create --base b a -o else");
    write(
        folder.path("bad"),
        [&read(folder.path("else")).unwrap()[..], &patch[parts(&patch).0.end..]].concat(),
    )
    .unwrap();
    folder.delta(4, &format!("apply --base b bad -o none {trust}"));
    assert!(!folder.path("none").exists());
    folder.delta(2, "info signed --require-signature");
    folder.delta(2, "info signed --require-signature --pubkey nonsense");
    folder.delta(0, "create --base b c -o bc");
    assert!(folder.delta(0, "compose signed bc -o ac").contains("the result is not"));
    folder.delta(4, &format!("info ac {trust}"));
}

#[test]
fn without_the_base() {
    let folder = Folder::new();
    folder.delta(0, "signature a -o sig");
    assert_eq!(folder.run("signature a -o -").stdout, read(folder.path("sig")).unwrap());
    // A few bytes for each of the 2304 blocks that are not zero.
    assert!((36_000..38_000).contains(&folder.size("sig")), "{}", folder.size("sig"));
    std::fs::rename(folder.path("a"), folder.path("away")).unwrap();
    folder.delta(0, "create --signature sig c -o p");
    std::fs::rename(folder.path("away"), folder.path("a")).unwrap();
    folder.delta(0, "apply --base a p -o out");
    folder.same("out", "c");
    folder.delta(0, "verify --base a p");
    let with = folder.delta(0, "create --base a c -o with");
    assert!(folder.size("p") < folder.size("with") + 20_000, "{with}");
    folder.delta(0, "signature b -o other");
    folder.delta(0, "create --signature other --signature sig c -o two");
    folder.delta(0, "apply --base a --base b two -o out");
    folder.same("out", "c");
    folder.delta(2, "create --signature sig --base b c -o none");
    folder.delta(3, "create --signature sig c -o sig");
    let mut bytes = read(folder.path("sig")).unwrap();
    bytes[9000] ^= 1;
    write(folder.path("bad"), bytes).unwrap();
    folder.delta(4, "create --signature bad c -o none");
    assert!(!folder.path("none").exists());
}
