//! What is written, xdelta3 reads; what it writes, is read.

use crate::support::{LIMITS, whole, with_cx};
use delta::vcdiff::{Decoded, Vcdiff, create};
use disk::{FileDev, MemDisk, ReadAt, Sparse};
use ondisk::{Len, Offset, Span};
use std::fs::{File, read, write};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use testkit::images::noise;
use testkit::sim::Rng;
use testkit::tool::tool;

/// Pieces of `from`, noise, text, zeros, and what there is already.
fn disk(random: &mut Rng, from: &[u8], pieces: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    for _ in 0..random.pick(pieces) {
        let len = [3, 40, 700, 5000, 60_000, 300_000][random.pick(6)];
        let len = random.pick(len);
        match random.pick(5) {
            0 => bytes.extend(noise(random.pick(9) as u64, len)),
            1 => bytes.extend((0..len).map(|at| (at / 9 % 90) as u8)),
            2 => bytes.resize(bytes.len() + len, 0),
            3 => {
                let at = random.pick(bytes.len());
                let end = bytes.len().min(at + len);
                bytes.extend_from_within(at..end);
            }
            _ => {
                let at = random.pick(from.len());
                bytes.extend(&from[at..from.len().min(at + len)]);
            }
        }
    }
    bytes
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(base: &[u8], target: &[u8]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        write(folder.path("base"), base).unwrap();
        write(folder.path("target"), target).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs xdelta3 in the folder.
    fn xdelta(&self, line: &str) {
        let out = tool("xdelta3").current_dir(self.0.path()).args(line.split(' ')).output().unwrap();
        assert!(out.status.success(), "{line}: {}", testkit::tool::said(&out));
    }

    /// Runs xdelta3, which must write `want` to its standard output. (Nothing that is so long becomes a file.)
    fn xdelta_makes(&self, line: &str, want: &Sparse) {
        let mut command = tool("xdelta3");
        command.current_dir(self.0.path()).args(line.split(' ')).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let mut bytes = [vec![0; 1 << 20], vec![0; 1 << 20]];
        for part in Span::whole(want.len()).chunks(Len::mib(1)) {
            let [made, wanted] = bytes.each_mut().map(|bytes| &mut bytes[..part.len().to_usize()]);
            out.read_exact(made).unwrap();
            want.get(part.start(), wanted);
            assert!(made == wanted, "{part:?}");
        }
        assert_eq!(out.read(&mut [0]).unwrap(), 0, "it is longer");
        assert!(child.wait().unwrap().success());
    }

    /// Makes our patch, as far as there is a base.
    fn create(&self, level: i32) -> Vec<u8> {
        let [base, target] = ["base", "target"].map(|name| open(&self.path(name)));
        let mut out = Vec::new();
        with_cx(|cx| create(Some(&base), &target, level, &mut out, cx)).unwrap();
        write(self.path("patch"), &out).unwrap();
        out
    }

    fn apply(&self, patch: &str) -> delta::Result<Vec<u8>> {
        let patch = Vcdiff::open(open(&self.path(patch)), &LIMITS)?;
        whole(&Decoded::new(patch, Some(open(&self.path("base"))), LIMITS)?)
    }
}

fn open(path: &Path) -> FileDev {
    FileDev::new(File::open(path).unwrap()).unwrap()
}

fn round(what: &str, base: &[u8], target: &[u8], level: i32) -> usize {
    let folder = Folder::new(base, target);
    let patch = folder.create(level);
    assert!(folder.apply("patch").unwrap() == target, "{what}: by ourselves");
    folder.xdelta("-d -f -s base patch out");
    assert!(read(folder.path("out")).unwrap() == target, "{what}: by xdelta3");
    patch.len()
}

#[test]
fn xdelta3_reads_what_is_written() {
    let base = noise(1, 20 << 20);
    for len in [0, 1, 511, 8 << 20, (8 << 20) + 1] {
        let patch = round("the head of the base", &base, &base[..len], 3);
        assert!(patch < 200, "{len}: {patch}");
        round("an empty base", &[], &base[..len.min(70_000)], 1);
    }
    let moved = [&noise(3, 777), &base[15 << 20..], &base[..15 << 20], &[0; 9 << 20], &base[5..70]].concat();
    let patch = round("turned", &base, &moved, 9);
    assert!(patch < 3000, "{patch}");
    let text: Vec<u8> = (0..700_000_u32).flat_map(|n| (n / 5).to_le_bytes()).collect();
    let twice = [noise(5, 2 << 20), text, noise(5, 2 << 20)].concat();
    let patch = round("what no base has", &base, &twice, 3);
    assert!(patch < 3 << 20, "the second time is not stored: {patch}");
}

#[test]
fn small_disks_by_chance() {
    let mut random = Rng::new(11);
    for number in 0..40 {
        let base = disk(&mut random, &[], 8);
        let target = disk(&mut random, &base, 20);
        round(&format!("disk {number}"), &base, &target, [1, 9, 13][number % 3]);
    }
}

#[test]
fn what_xdelta3_writes_is_read() {
    let mut random = Rng::new(5);
    let options = [
        "",
        "-S none",
        "-S djw",
        "-S lzma",
        "-S fgk",
        "-9 -S djw",
        "-9",
        "-1 -S fgk",
        "-n",
        "-A",
        "-W 16384",
    ];
    for (number, option) in options.iter().cycle().take(33).enumerate() {
        let base = disk(&mut random, &[], 20);
        // Windows so small that there are several.
        let target = disk(&mut random, &base, 40);
        let folder = Folder::new(&base, &target);
        folder.xdelta(&["-e -f", option, "-W 65536 -s base target patch"].join(" ").replace("  ", " "));
        // What FGK cannot save in one window, xdelta3 itself cannot read in the next.
        let sound = tool("xdelta3")
            .current_dir(folder.0.path())
            .args("-d -f -s base patch out".split(' '))
            .output()
            .unwrap();
        if sound.status.success() || target.is_empty() {
            assert!(folder.apply("patch").unwrap() == target, "{number}: {option}");
        } else {
            assert!(option.contains("fgk"), "{number}: {option}");
        }
    }
}

/// Far behind 4 GiB: where the base is, what is copied, and what is made.
#[test]
fn beyond_four_gibibytes() {
    let folder = Folder::new(&[], &[]);
    let put = |name: &str, len: u64, parts: &[(u64, &[u8])]| {
        let file = File::create(folder.path(name)).unwrap();
        file.set_len(len).unwrap();
        parts.iter().for_each(|(at, bytes)| file.write_all_at(bytes, *at).unwrap());
    };
    let (one, two) = (noise(1, 3 << 20), noise(2, 3 << 20));
    put("base", (4 << 30) + (9 << 20), &[(1 << 20, &one), ((4 << 30) + (1 << 20), &two)]);
    // Copies from both ends of the base, one beside the other; short ones as well.
    let mixed: Vec<u8> =
        (0..200).flat_map(|n| [&one[n * 4000..][..700], &two[n * 9000..][..2000]].concat()).collect();
    let len = (4 << 30) + (5 << 20);
    let parts: [(u64, &[u8]); 3] = [(77, &two), (4 << 20, &mixed), (len - (3 << 20), &one)];
    put("target", len, &parts);
    let patch = folder.create(3);
    // What is too short for a window of its own is stored.
    assert!(patch.len() < 300_000, "{}", patch.len());
    let mut want = Sparse::new(Len::new(len));
    parts.iter().for_each(|(at, bytes)| want.put(Offset::new(*at), bytes));
    folder.xdelta_makes("-d -c -s base patch", &want);
    let patch = Vcdiff::open(open(&folder.path("patch")), &LIMITS).unwrap();
    assert_eq!(patch.facts().target, Len::new(len));
    let disk = Decoded::new(patch, Some(open(&folder.path("base"))), LIMITS).unwrap();
    for (at, bytes) in parts {
        let mut there = vec![0; bytes.len()];
        disk.read_at(Offset::new(at), &mut there).unwrap();
        assert!(there == *bytes, "{at}");
    }
    let stored =
        disk.extents(Span::whole(disk.len())).unwrap().data().fold(0, |sum, data| sum + data.len().get());
    assert!(stored < 64 << 20, "zeros cost nothing: {stored}");
}

#[test]
fn a_wrong_base_is_found() {
    let base = noise(1, 300_000);
    let folder = Folder::new(&base, &[&base[1000..], b"more"].concat());
    folder.create(3);
    write(folder.path("base"), noise(2, 300_000)).unwrap();
    assert!(matches!(folder.apply("patch"), Err(delta::Error::Disk(_))));
    write(folder.path("base"), &base[..1000]).unwrap();
    assert!(matches!(folder.apply("patch"), Err(delta::Error::WrongBase { .. })));
}

/// The same patch comes out whatever the number of threads.
#[test]
fn threads_make_no_difference() {
    let mut random = Rng::new(3);
    let base = disk(&mut random, &[], 20);
    let target = [disk(&mut random, &base, 30), vec![0; 9 << 20], disk(&mut random, &base, 30)].concat();
    let (base, target) = (MemDisk::from_bytes(&base), MemDisk::from_bytes(&target));
    let patches = [1, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut out = Vec::new();
        pool.install(|| with_cx(|cx| create(Some(&base), &target, 3, &mut out, cx))).unwrap();
        out
    });
    assert!(patches[0] == patches[1]);
}
