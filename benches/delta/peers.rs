//! What others make of the same images.

use crate::cost::{Cost, cost};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A way to send a difference.
pub struct Peer {
    pub name: &'static str,
    /// Programs it needs, each with the variable that names it where it is not in the path.
    needs: &'static [(&'static str, &'static str)],
    run: fn(&[PathBuf], &Path, &Path, &Path) -> Cost,
}

pub const PEERS: &[Peer] = &[
    Peer { name: "xdelta3", needs: &[("xdelta3", "XDELTA3")], run: xdelta3 },
    Peer { name: "rdiff, zstd -3", needs: &[("rdiff", "RDIFF"), ("zstd", "ZSTD")], run: rdiff },
    Peer { name: "casync", needs: &[("casync", "CASYNC")], run: casync },
    Peer { name: "bita", needs: &[("bita", "BITA")], run: bita },
    Peer { name: "hdiffz", needs: &[("hdiffz", "HDIFFZ")], run: hdiffz },
];

impl Peer {
    /// Nothing where a program is missing, or was left out.
    pub fn measure(&self, base: &Path, target: &Path, dir: &Path) -> Option<Cost> {
        let without = std::env::var("WITHOUT").unwrap_or_default();
        let programs = self.needs.iter().map(|(name, variable)| {
            let named = std::env::var_os(variable).map(PathBuf::from);
            let paths = std::env::var_os("PATH").unwrap_or_default();
            let found = named.or_else(|| {
                std::env::split_paths(&paths).map(|folder| folder.join(name)).find(|path| path.exists())
            });
            found.filter(|_| !without.split(',').any(|out| out == *name))
        });
        let programs: Vec<PathBuf> = programs.collect::<Option<_>>()?;
        let own = tempfile::tempdir_in(dir).expect("a folder on a real disk");
        Some((self.run)(&programs, base, target, own.path()))
    }
}

fn xdelta3(programs: &[PathBuf], base: &Path, target: &Path, dir: &Path) -> Cost {
    let patch = dir.join("patch");
    cost(Command::new(&programs[0]).args(["-e", "-f", "-s"]).args([base, target, &patch]), &patch)
}

fn rdiff(programs: &[PathBuf], base: &Path, target: &Path, dir: &Path) -> Cost {
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
    sign.then(differ).then(pack)
}

/// New chunks and the index; the base's chunks are there.
fn casync(programs: &[PathBuf], base: &Path, target: &Path, dir: &Path) -> Cost {
    let (store, index) = (dir.join("store"), dir.join("index.caibx"));
    let make = |source: &Path| {
        let mut command = Command::new(&programs[0]);
        command.args(["make", "--compression=zstd", "--chunk-size=16384:65536:262144", "--store"]);
        cost(command.arg(&store).args([&index, source]), &index)
    };
    make(base);
    let before = size_of(&store);
    let made = make(target);
    Cost { size: made.size + size_of(&store) - before, ..made }
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
fn bita(programs: &[PathBuf], base: &Path, target: &Path, dir: &Path) -> Cost {
    let told = dir.join("told");
    let line = r#""$0" diff "$1" "$2" >"$3""#;
    let mut command = Command::new("sh");
    let taken = cost(command.args(["-c", line]).args([&programs[0], base, target, &told]), &told);
    let text = std::fs::read_to_string(&told).expect("what bita says");
    let new =
        text.lines().rfind(|line| line.contains("Chunks not in other")).expect("the chunks of the target");
    let bytes = new.rsplit('(').next().and_then(|rest| rest.split(' ').next()).expect("their size");
    Cost { size: bytes.parse().expect("a number"), ..taken }
}

fn hdiffz(programs: &[PathBuf], base: &Path, target: &Path, dir: &Path) -> Cost {
    let patch = dir.join("patch");
    let mut command = Command::new(&programs[0]);
    command.args(["-s-64", "-SD", "-c-zstd-19-24", "-p-1", "-C-no", "-d", "-f"]);
    cost(command.args([base, target, &patch]), &patch)
}
