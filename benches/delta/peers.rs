//! What others make of the same images.

use crate::Rows;
use crate::cost::{Cost, cost};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::tool::done;

/// A way to send a difference.
pub struct Peer {
    pub name: &'static str,
    /// Programs it needs, each with the variable that names it where it is not in the path.
    needs: &'static [(&'static str, &'static str)],
    run: fn(&[PathBuf], &Path, &Path, &Path) -> Rows,
}

pub const PEERS: &[Peer] = &[
    Peer { name: "xdelta3", needs: &[("xdelta3", "XDELTA3")], run: xdelta3 },
    Peer { name: "rdiff, zstd -3", needs: &[("rdiff", "RDIFF"), ("zstd", "ZSTD")], run: rdiff },
    Peer { name: "casync", needs: &[("casync", "CASYNC")], run: casync },
    Peer { name: "bita", needs: &[("bita", "BITA")], run: bita },
    Peer { name: "zstd", needs: &[("zstd", "ZSTD")], run: zstd },
    Peer { name: "hdiffz", needs: &[("hdiffz", "HDIFFZ")], run: hdiffz },
];

impl Peer {
    /// Nothing where a program is missing, or was left out.
    pub fn measure(&self, base: &Path, target: &Path, dir: &Path) -> Rows {
        let without = std::env::var("WITHOUT").unwrap_or_default();
        let programs = self.needs.iter().map(|(name, variable)| {
            let named = std::env::var_os(variable).map(PathBuf::from);
            let paths = std::env::var_os("PATH").unwrap_or_default();
            let found = named.or_else(|| {
                std::env::split_paths(&paths).map(|folder| folder.join(name)).find(|path| path.exists())
            });
            found.filter(|_| !without.split(',').any(|out| out == *name))
        });
        let Some(programs) = programs.collect::<Option<Vec<PathBuf>>>() else { return Vec::new() };
        let own = tempfile::tempdir_in(dir).expect("a folder on a real disk");
        (self.run)(&programs, base, target, own.path())
    }
}

fn one(name: &str, cost: Cost) -> Rows {
    vec![(name.to_owned(), cost)]
}

fn xdelta3(programs: &[PathBuf], base: &Path, target: &Path, dir: &Path) -> Rows {
    let (patch, made) = (dir.join("patch"), dir.join("made"));
    let xdelta3 = |how: &str| {
        let mut command = Command::new(&programs[0]);
        command.args([how, "-f", "-s"]).arg(base);
        command
    };
    let create = cost(xdelta3("-e").args([target, &patch]), &patch);
    let apply = cost(xdelta3("-d").args([&patch, &made]), &made);
    vec![("xdelta3".to_owned(), create), ("xdelta3 -d".to_owned(), apply)]
}

fn rdiff(programs: &[PathBuf], base: &Path, target: &Path, dir: &Path) -> Rows {
    let [signature, delta, packed] = ["signature", "delta", "packed"].map(|name| dir.join(name));
    let sign = cost(
        Command::new(&programs[0]).args(["-b", "2048", "signature"]).args([base, &signature]),
        &signature,
    );
    let differ = cost(Command::new(&programs[0]).arg("delta").args([&signature, target, &delta]), &delta);
    let pack = cost(
        Command::new(&programs[1]).args(["-q", "-3", "--long=27", "-o"]).args([&packed, &delta]),
        &packed,
    );
    one("rdiff, zstd -3", sign.then(differ).then(pack))
}

/// New chunks and the index; the base's chunks are there.
fn casync(programs: &[PathBuf], base: &Path, target: &Path, dir: &Path) -> Rows {
    let (store, index) = (dir.join("store"), dir.join("index.caibx"));
    let make = |source: &Path| {
        let mut command = Command::new(&programs[0]);
        command.args(["make", "--compression=zstd", "--chunk-size=16384:65536:262144", "--store"]);
        cost(command.arg(&store).args([&index, source]), &index)
    };
    make(base);
    let before = size_of(&store);
    let made = make(target);
    one("casync", Cost { size: made.size + size_of(&store) - before, ..made })
}

fn size_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    entries
        .map(|entry| match entry.metadata().expect("a file") {
            meta if meta.is_dir() => size_of(&entry.path()),
            meta => meta.len(),
        })
        .sum()
}

/// Compressed chunks that the base does not have, of chunks of 64 KiB; both sides are read.
fn bita(programs: &[PathBuf], base: &Path, target: &Path, dir: &Path) -> Rows {
    let told = dir.join("told");
    let line = r#""$0" diff "$1" "$2" >"$3""#;
    let mut command = Command::new("sh");
    let taken = cost(command.args(["-c", line]).args([&programs[0], base, target, &told]), &told);
    let text = std::fs::read_to_string(&told).expect("what bita says");
    let new =
        text.lines().rfind(|line| line.contains("Chunks not in other")).expect("the chunks of the target");
    let bytes = new.rsplit('(').next().and_then(|rest| rest.split(' ').next()).expect("their size");
    one("bita", Cost { size: bytes.parse().expect("a number"), ..taken })
}

fn hdiffz(programs: &[PathBuf], base: &Path, target: &Path, dir: &Path) -> Rows {
    let patch = dir.join("patch");
    let mut command = Command::new(&programs[0]);
    command.args(["-s-64", "-SD", "-c-zstd-19-24", "-p-1", "-C-no", "-d", "-f"]);
    one("hdiffz", cost(command.args([base, target, &patch]), &patch))
}

/// It takes files up to 2 GiB: the blocks that are used, one after the other. To pack them costs it nothing here.
fn zstd(programs: &[PathBuf], base: &Path, target: &Path, dir: &Path) -> Rows {
    let [old, new, patch, made] = ["old", "new", "patch", "made"].map(|name| dir.join(name));
    pack(base, &old, dir);
    pack(target, &new, dir);
    let zstd = |how: &str| {
        let mut command = Command::new(&programs[0]);
        command.args(["-q", "-f", how, "--long=31"]).arg(format!("--patch-from={}", old.display()));
        command
    };
    let create = |level: &str| cost(zstd(level).arg(&new).arg("-o").arg(&patch), &patch);
    let (nine, three) = (create("-9"), create("-3"));
    let apply = cost(zstd("-d").arg(&patch).arg("-o").arg(&made), &made);
    vec![
        ("zstd -3, used blocks".to_owned(), three),
        ("zstd -9, used blocks".to_owned(), nine),
        ("zstd -d, used blocks".to_owned(), apply),
    ]
}

/// Writes the used blocks of a disk that are not zero.
fn pack(disk: &Path, packed: &Path, dir: &Path) {
    const BLOCK: usize = 4096;
    let used = dir.join("used.raw");
    done(Command::new(env!("CARGO_BIN_EXE_imgtool")).args(["sparsify", "-q"]).args([disk, &used]));
    let mut from = BufReader::new(File::open(&used).expect("a disk"));
    let mut to = BufWriter::new(File::create(packed).expect("a file"));
    let mut block = [0; BLOCK];
    while from.read_exact(&mut block).is_ok() {
        if block != [0; BLOCK] {
            to.write_all(&block).expect("room");
        }
    }
    to.flush().expect("room");
    std::fs::remove_file(&used).expect("a file of ours");
}
