//! Images that qemu makes, and what qemu thinks of ours.

use container::qcow2::Qcow2;
use disk::{Change, Disk, Limits, MemDisk, Overlay, ReadAt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use testkit::tool::{output, run, said};

/// Options of `qemu-img create` that differ in what we must do.
pub const KINDS: &[&str] = &[
    "compat=1.1",
    "compat=0.10",
    "compat=0.10,cluster_size=512",
    "cluster_size=512",
    "cluster_size=4096,refcount_bits=1",
    "cluster_size=1024,refcount_bits=2",
    "cluster_size=4096,refcount_bits=4",
    "refcount_bits=8",
    "refcount_bits=32",
    "cluster_size=512,refcount_bits=64",
    "cluster_size=2M",
    "extended_l2=on",
    "extended_l2=on,cluster_size=16k",
    "lazy_refcounts=on",
    "compression_type=zstd,cluster_size=8k",
    "preallocation=metadata",
];

/// The virtual size of most images: not a whole number of clusters.
pub const SIZE: u64 = (6 << 20) + 5 * 512;

/// A small generator with a seed, so that a failure can be repeated.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 20) % n.max(1)
    }
    pub fn bytes(&mut self, n: u64) -> Vec<u8> {
        let fill = self.below(256) as u8;
        (0..n).map(|i| fill ^ (i % 251) as u8).collect()
    }
}

/// The sectors of an image that look like tables: most of their words have a small first byte and are not all zero.
pub fn table_sectors(image: &[u8]) -> Vec<usize> {
    let small = |word: &&[u8]| word[0] & 0x3f == 0 && word[1] == 0;
    let is_table =
        |sector: &[u8]| sector.chunks(8).filter(small).count() > 55 && sector.iter().any(|byte| *byte != 0);
    (0..image.len() / 512).filter(|i| is_table(&image[i * 512..][..512])).collect()
}

/// Another value for a byte.
pub fn mutated(random: &mut Random, byte: u8) -> u8 {
    match random.below(4) {
        0 => byte ^ 1 << random.below(8),
        1 => 0xff,
        2 => 0,
        _ => random.below(256) as u8,
    }
}

/// A folder of images.
pub struct Lab(TempDir);

impl Lab {
    pub fn new() -> Self {
        // In memory where possible: qemu syncs at every step.
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        Self(TempDir::new_in(root).expect("a temporary folder"))
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    /// An empty image.
    pub fn create(&self, name: &str, options: &str, size: u64) -> PathBuf {
        let path = self.path(name);
        let size = size.to_string();
        run("qemu-img", ["create", "-q", "-f", "qcow2", "-o", options, text(&path), &size]);
        path
    }
    /// An image with data, explicit zeros, discarded places and, where refcounts allow, two snapshots.
    pub fn lived_in(&self, name: &str, options: &str) -> PathBuf {
        let path = self.create(name, options, SIZE);
        qemu_io(&path, &["write -P 0x11 0 300k", "write -P 0x22 1M 64k", "write -P 0x33 3000k 33k"]);
        let snapshots = !options.contains("refcount_bits=1");
        if snapshots {
            run("qemu-img", ["snapshot", "-c", "first", text(&path)]);
        }
        qemu_io(&path, &["write -P 0x44 100k 70k", "write -z 1032k 300k", "write -P 0x55 6291456 2560"]);
        if snapshots {
            run("qemu-img", ["snapshot", "-c", "second", text(&path)]);
        }
        qemu_io(&path, &["write -P 0x66 20k 3k", "discard 128k 64k", "write -P 0x77 4096k 700k"]);
        path
    }
    /// An image whose clusters are compressed, with a few written over.
    pub fn compressed(&self, name: &str, options: &str) -> PathBuf {
        let raw = self.path("compressible.raw");
        let mut random = Random(77);
        let mut bytes = vec![0; SIZE as usize];
        for (i, chunk) in bytes.chunks_mut(3000).enumerate().filter(|(i, _)| i % 3 != 0) {
            chunk.fill(i as u8);
            chunk.iter_mut().step_by(7).for_each(|b| *b = random.below(256) as u8);
        }
        std::fs::write(&raw, bytes).unwrap();
        let path = self.path(name);
        run(
            "qemu-img",
            ["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, text(&raw), text(&path)],
        );
        qemu_io(&path, &["write -P 0x99 1000k 3k", "write -z 2M 128k"]);
        path
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

pub fn qemu_io(path: &Path, commands: &[&str]) {
    let mut args = vec!["-f", "qcow2"];
    commands.iter().for_each(|command| args.extend(["-c", command]));
    args.push(text(path));
    let said = run("qemu-io", args);
    assert!(!said.contains("failed"), "{said}");
}

/// What qemu reads from the image.
pub fn content(lab: &Lab, image: &Path) -> Vec<u8> {
    let raw = lab.path("content.raw");
    run("qemu-img", ["convert", "-f", "qcow2", "-O", "raw", text(image), text(&raw)]);
    std::fs::read(raw).unwrap()
}

/// What qemu reads from a snapshot.
pub fn snapshot_content(lab: &Lab, image: &Path, name: &str) -> Vec<u8> {
    let raw = lab.path("snapshot.raw");
    run("qemu-img", ["convert", "-l", name, "-f", "qcow2", "-O", "raw", text(image), text(&raw)]);
    std::fs::read(raw).unwrap()
}

/// The exit code of `qemu-img check`: 0 clean, 2 damaged, 3 leaks, 1 cannot even be opened.
pub fn qemu_check(image: &Path) -> (i32, String) {
    let out = output("qemu-img", ["check", "-f", "qcow2", text(image)]);
    (out.status.code().unwrap_or(-1), said(&out))
}

pub fn assert_clean(image: &Path, when: &str) {
    let (code, said) = qemu_check(image);
    assert_eq!(code, 0, "{when}: {said}");
}

pub fn load(image: &Path) -> MemDisk {
    MemDisk::from_bytes(&std::fs::read(image).unwrap())
}

pub fn open<D: ReadAt>(file: D) -> Qcow2<D> {
    Qcow2::open(file, &Limits::default()).expect("a valid image opens")
}

pub fn whole(disk: &dyn ReadAt) -> Vec<u8> {
    let mut buf = vec![0; disk.len().to_usize()];
    disk.read_at(ondisk::Offset::ZERO, &mut buf).expect("a valid image can be read");
    buf
}

/// Runs `work` on the virtual disk of `image` and commits; the change is returned. The state in which only fresh bytes
/// have been written must still be the old image.
pub fn change(lab: &Lab, image: &Path, work: impl FnOnce(&mut dyn Disk)) -> Change {
    let base = load(image);
    let mut overlay = Overlay::new(&base, &Limits::default());
    work(&mut open(&mut overlay));
    let change = overlay.into_change().unwrap();
    commit(lab, image, &change);
    change
}

/// Applies `change` to `image`, by way of the state in which only fresh bytes are there.
pub fn commit(lab: &Lab, image: &Path, change: &Change) {
    let mut cut = load(image);
    let mut fresh = change.clone();
    fresh.home.clear();
    fresh.carried.clear();
    cut.resize(ondisk::Len::new(change.old_len.get().max(change.new_len.get()))).unwrap();
    fresh.old_len = cut.len();
    cut.apply(&fresh).unwrap();
    let half = lab.path("half.qcow2");
    std::fs::write(&half, cut.to_vec()).unwrap();
    let codes = [qemu_check(image).0, qemu_check(&half).0];
    assert_eq!(codes[0], codes[1], "fresh writes touched the old state");
    assert!(
        testkit::oracle::qemu_same(image, "qcow2", &half, "qcow2"),
        "fresh writes changed the old content"
    );
    let mut disk = load(image);
    disk.apply(change).unwrap();
    std::fs::write(image, disk.to_vec()).unwrap();
}
