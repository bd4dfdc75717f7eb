//! Real grows under a power that fails at every instant: each recovered state is the disk before or the disk after, byte
//! for byte, and both are sound by e2fsck and hold the same files.
//!
//! `SWEEP=10 cargo test -p stack --test crash --release -- --nocapture` tries ten times as many random states.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used
)]

use container::{Container, Format, OpenWith};
use disk::{Cancel, Cx, Image, Limits, OpenOptions, Quiet, ReadAt, Sparse};
use extfs::{Ext, Inode, Kind};
use ondisk::{Len, Offset, Span};
use stack::grow::{BootNeeds, Depth, Request, stage};
use stack::source::Source;
use stack::{Content, Place, discover, view};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use testkit::guest::{extents, partition, put};
use testkit::images::{Fill, flavor, make, place};
use testkit::lvm::Lvm;
use testkit::oracle::{self, Loop};
use testkit::sim::{Knobs, sweep};
use testkit::tool::run;

/// How a disk is divided.
#[derive(Clone, Copy)]
enum Division {
    Whole,
    Mbr,
    Logical,
    Gpt,
    /// Swap in a logical partition behind: it moves.
    SwapBehind,
    /// A swap volume and the root in one run of extents.
    Lvm,
    /// A logical volume of two runs with another one between them, in a logical partition.
    LvmSplit,
}

/// A container as qemu-img makes it: its name and options.
type Made = (&'static str, &'static [&'static str]);

/// A guest: the filesystem's flavour, how its disk is divided, the container, and how many MiB are asked for.
struct Guest(&'static str, Division, Made, u32);

const RAW: Made = ("raw", &[]);
const QCOW2: Made = ("qcow2", &[]);
const QCOW2_TINY: Made = ("qcow2", &["cluster_size=512,compat=0.10"]);
const VHD: Made = ("vpc", &[]);
const VHD_FIXED: Made = ("vpc", &["subformat=fixed"]);

/// One of each kind of change that grow makes: groups filled up and added, the reserve used, `meta_bg`, moved backups,
/// tables at either end of the disk, containers with and without room for their own tables.
static GUESTS: &[Guest] = &[
    Guest("ext4-1k", Division::Gpt, RAW, 40),
    Guest("ext4-4k", Division::Mbr, RAW, 200),
    Guest("ext3-centos5", Division::Mbr, VHD, 200),
    Guest("ext4-1k", Division::Whole, VHD_FIXED, 64),
    Guest("ext4-1k", Division::Logical, QCOW2, 30),
    Guest("ext4-uninit-bg-1k", Division::Gpt, QCOW2_TINY, 40),
    Guest("ext4-few-reserved", Division::Gpt, VHD, 300),
    Guest("ext4-meta-bg", Division::Mbr, QCOW2, 300),
    Guest("ext4-sparse-super2", Division::Gpt, RAW, 70),
    Guest("ext4-bigalloc", Division::Whole, RAW, 100),
    Guest("ext4-no-flex-bg", Division::Logical, VHD_FIXED, 30),
    Guest("ext2-1k", Division::Mbr, QCOW2, 50),
];

/// Changes of more than a partition: swap moves, volume groups grow.
static DEEPER: &[Guest] = &[
    Guest("ext4-1k", Division::SwapBehind, RAW, 30),
    Guest("ext4-1k", Division::SwapBehind, VHD, 8),
    Guest("ext4-1k", Division::Lvm, RAW, 30),
    Guest("ext3-centos5", Division::Lvm, VHD, 200),
    Guest("ext4-1k", Division::LvmSplit, QCOW2, 40),
];

#[test]
fn every_state_is_before_or_after() {
    sweep_all(GUESTS);
}

#[test]
fn every_state_of_swap_and_volume_groups_is_before_or_after() {
    sweep_all(DEEPER);
}

fn sweep_all(guests: &[Guest]) {
    let (tried, next) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(guest) = guests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    tried.fetch_add(guest.sweep(), Ordering::Relaxed);
                }
            });
        }
    });
    println!("{} states of {} guests", tried.load(Ordering::Relaxed), guests.len());
}

fn cx(cancel: &Cancel) -> Cx<'_> {
    Cx { progress: &Quiet, cancel, limits: Limits::default(), now: 1_800_000_000 }
}

fn knobs() -> Knobs {
    match std::env::var("SWEEP").ok().map(|times| times.parse().unwrap()) {
        Some(times) => Knobs::thorough(times),
        // A real grow has hundreds of writes: failing calls and rarer states are left to the long run and to the
        // small changes that `disk` sweeps.
        None => Knobs { pairs: 40, random: 40, mixes: 80, nested_every: 50, faults: false, ..Knobs::quick() },
    }
}

impl Guest {
    /// Sweeps one grow; how many states were tried.
    fn sweep(&self) -> usize {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("image");
        self.build(dir.path(), &file);
        let image = Image::open(&file, &OpenOptions::default()).unwrap();
        let cancel = Cancel::new();
        let source = Source {
            file: &image,
            format: self.format(),
            with: OpenWith::default(),
            parent: None,
            fixed_len: false,
        };
        let request = Request {
            size: format!("+{}M", self.3).parse().unwrap(),
            place: Place::Auto,
            depth: Depth::Filesystem,
            move_behind: false,
            full_check: true,
            boot: BootNeeds::default(),
        };
        let grown = stage(&source, &request, &cx(&cancel)).unwrap();
        assert!(grown.after.filesystem.unwrap().0 > grown.before.filesystem.unwrap().0, "{}", self.name());
        let want = self.files(&image, dir.path());
        assert!(want.len() > 50, "{}: only {} files", self.name(), want.len());
        let base = Sparse::load(&image).unwrap();
        let report = sweep(&base, &grown.change, &knobs(), &mut |recovered| {
            assert_eq!(self.files(recovered, dir.path()), want, "{}", self.name());
        });
        println!(
            "{}: {} states, {} before, {} after",
            self.name(),
            report.tried(),
            report.before,
            report.after
        );
        assert!(report.before > 0 && report.after > 0, "{}: {report:?}", self.name());
        report.assert_clean();
        report.tried()
    }

    fn name(&self) -> String {
        format!("{} in {}", self.0, self.2.0)
    }

    fn format(&self) -> Format {
        self.2.0.parse().unwrap()
    }

    /// Makes the image by the usual tools.
    fn build(&self, dir: &Path, to: &Path) {
        let (fs, disk) = (dir.join("fs"), dir.join("disk"));
        let flavor = flavor(self.0);
        make(flavor, flavor.usual_len(), Fill::Tree, &fs);
        let fs_len = std::fs::metadata(&fs).unwrap().len();
        let sectors = match self.1 {
            // The metadata area, another volume, and extents of 1 MiB that the filesystem does not fill.
            Division::Lvm | Division::LvmSplit => fs_len / 512 + 5 * 2048,
            _ => fs_len / 512,
        };
        let (script, start) = match self.1 {
            Division::Whole => (None, 0),
            Division::Mbr => (Some(format!("label: dos\nstart=2048, size={sectors}, type=83")), 2048),
            Division::Gpt | Division::Lvm => (Some(format!("label: gpt\nstart=2048, size={sectors}")), 2048),
            Division::SwapBehind => {
                let swap = 2048 + sectors;
                let outer = format!("start={swap}, size=6144, type=5");
                let inner = format!("start={}, size=4096, type=82", swap + 2048);
                (Some(format!("label: dos\nstart=2048, size={sectors}, type=83\n{outer}\n\n\n{inner}")), 2048)
            }
            Division::Logical | Division::LvmSplit => {
                let outer = format!("start=4096, size={}, type=5", sectors + 2048);
                let inner = format!("start=6144, size={sectors}, type=83");
                (Some(format!("label: dos\nstart=2048, size=2048, type=83\n{outer}\n\n\n{inner}")), 6144)
            }
        };
        let behind = match self.1 {
            Division::Whole => 0,
            Division::SwapBehind => 4 << 20,
            _ => 1 << 20,
        };
        File::create(&disk).unwrap().set_len((start + sectors) * 512 + behind).unwrap();
        if let Some(script) = script {
            partition(&disk, &script);
        }
        let (start, len) = (Offset::new(start * 512), Len::new(sectors * 512));
        match self.1 {
            Division::Lvm | Division::LvmSplit => self.fill_group(&disk, start, len, &fs),
            Division::SwapBehind => {
                let swap = start.get() + len.get() + (1 << 20);
                let at = Loop::span(&disk, Offset::new(swap), Len::mib(2));
                run("mkswap", ["-q".as_ref(), at.path().as_os_str()]);
                place(&fs, &disk, start);
            }
            _ => place(&fs, &disk, start),
        }
        oracle::qemu_convert(&disk, "raw", to, self.2.0, self.2.1);
    }

    /// Makes a volume group in a partition, with the filesystem in its root volume.
    fn fill_group(&self, disk: &Path, start: Offset, len: Len, fs: &Path) {
        let devices = [Loop::span(disk, start, len)];
        let lvm = Lvm::on(&devices);
        let count = std::fs::metadata(fs).unwrap().len() >> 20;
        lvm.create("vg", &[], &["-s", "1m"]);
        if let Division::LvmSplit = self.1 {
            lvm.lvcreate(&["-l", "20", "-n", "root", "vg"]);
            lvm.lvcreate(&["-l", "2", "-n", "other", "vg"]);
            lvm.run(
                &[
                    &["lvextend", "-q"],
                    &["--driverloaded", "n", "-y"][..],
                    &["-l", &count.to_string(), "vg/root"],
                ]
                .concat(),
            );
        } else {
            lvm.lvcreate(&["-l", "2", "-n", "swap", "vg"]);
            lvm.lvcreate(&["-l", &count.to_string(), "-n", "root", "vg"]);
        }
        lvm.assert_clean("vg");
        let runs = extents(disk, Span::new(start, len).unwrap());
        let runs: Vec<Span> = runs.iter().filter(|one| one.volume == "root").map(|one| one.span).collect();
        put(fs, disk, &runs);
    }

    /// The digest of every file in the image, whose filesystem must be sound for us and for e2fsck.
    fn files(&self, image: &dyn ReadAt, dir: &Path) -> BTreeMap<Vec<u8>, blake3::Hash> {
        let cancel = Cancel::new();
        let cx = cx(&cancel);
        let disk = Container::open(image, self.format(), &cx.limits).unwrap();
        let checked = stack::check::all(&disk, &cx).unwrap();
        assert!(checked.is_clean(), "{}: {checked:?}", self.name());
        let layout = discover(&disk, &cx).unwrap();
        let volume = layout.volumes.iter().find(|volume| volume.content == Content::Ext).unwrap();
        let raw = dir.join("volume");
        let view = volume.region.reader(&disk).unwrap();
        export(&*view, Span::whole(view.len()), &raw);
        oracle::assert_clean(&raw, Offset::ZERO);
        let mut all =
            view::with_filesystem(&disk, volume, &cx, |fs: &view::Filesystem<'_>| hash_all(fs)).unwrap();
        for swap in layout.volumes.iter().filter(|one| matches!(one.content, Content::Swap { .. })) {
            let mut head = vec![0; 4096];
            swap.region.reader(&disk).unwrap().read_at(Offset::ZERO, &mut head).unwrap();
            all.insert(b"swap".to_vec(), blake3::hash(&head));
        }
        all
    }
}

/// Writes the data of a span into a file of its own.
fn export(disk: &dyn ReadAt, span: Span, to: &Path) {
    let file = File::create(to).unwrap();
    file.set_len(span.len().get()).unwrap();
    let mut buf = vec![0; 1 << 20];
    for data in disk.extents(span).unwrap().data() {
        for part in data.chunks(Len::of(&buf)) {
            let buf = &mut buf[..part.len().to_usize()];
            disk.read_at(part.start(), buf).unwrap();
            file.write_all_at(buf, part.start().get() - span.start().get()).unwrap();
        }
    }
}

fn hash_all<D: ReadAt>(fs: &Ext<D>) -> BTreeMap<Vec<u8>, blake3::Hash> {
    let mut all = BTreeMap::new();
    let mut open = vec![(b"/".to_vec(), fs.resolve(b"/").unwrap())];
    while let Some((path, inode)) = open.pop() {
        let mut hash = blake3::Hasher::new();
        let meta = format!("{:o} {} {} {:?}", inode.mode(), inode.uid(), inode.gid(), inode.mtime());
        hash.update(meta.as_bytes());
        match inode.kind() {
            Some(Kind::Dir) => open.extend(children(fs, &path, &inode)),
            Some(Kind::File) => content(fs, &inode, &mut hash),
            Some(Kind::Symlink) => {
                hash.update(&fs.read_link(&inode).unwrap());
            }
            _ => {}
        }
        all.insert(path, hash.finalize());
    }
    all
}

fn children<D: ReadAt>(fs: &Ext<D>, path: &[u8], dir: &Inode) -> Vec<(Vec<u8>, Inode)> {
    let entries = fs.entries(dir).unwrap().map(Result::unwrap);
    let named = entries.filter(|entry| !matches!(entry.name.as_slice(), b"." | b".."));
    named.map(|entry| ([path, b"/", &entry.name].concat(), fs.inode(entry.ino).unwrap())).collect()
}

fn content<D: ReadAt>(fs: &Ext<D>, inode: &Inode, hash: &mut blake3::Hasher) {
    let mut buf = vec![0; 1 << 20];
    let mut at = 0;
    while at < inode.size().get() {
        let read = fs.read_file(inode, Offset::new(at), &mut buf).unwrap();
        hash.update(&buf[..read]);
        at += read as u64;
    }
}
