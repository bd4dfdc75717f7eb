//! Partitions that move, by more and by less than their length, under a power that fails at every instant: each recovered
//! state is the disk before or after, and what moves has the same bytes in both.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used
)]

use container::{Container, Format, OpenWith};
use disk::{Cancel, Cx, Image, Limits, OpenOptions, Quiet, ReadAt, Sparse};
use ondisk::{Len, Offset};
use stack::grow::{BootNeeds, Depth, Request, stage};
use stack::source::Source;
use stack::{Place, VolumeId, discover};
use std::fs::File;
use std::path::Path;
use testkit::guest::partition;
use testkit::images::{Fill, flavor, make_at, noise};
use testkit::oracle::{self, assert_clean};
use testkit::sim::{Knobs, sweep};

const MIB: u64 = 1 << 20;

/// Root, and behind it a filesystem and 2 MiB of noise.
const GPT: (&str, [u64; 3], u64) = (
    "label: gpt\nfirst-lba: 34\n1: start=2048, size=16384\n2: start=18432, size=24576\n3: start=43008, size=4096\n",
    [1, 9, 21],
    24,
);
const LOGICAL: (&str, [u64; 3], u64) = (
    "label: dos\n1: start=2048, size=16384\n2: start=18434, size=30718, type=5\n5: start=20480, size=24576\n\
     6: start=47104, size=2048, type=da\n",
    [1, 10, 23],
    24,
);

fn cx(cancel: &Cancel) -> Cx<'_> {
    Cx { progress: &Quiet, cancel, limits: Limits::default(), now: 1_800_000_000 }
}

/// What lies behind the root, byte by byte; the filesystems must be sound.
fn behind(file: &dyn ReadAt, format: Format, dir: &Path) -> Vec<blake3::Hash> {
    let cancel = Cancel::new();
    let cx = cx(&cancel);
    let disk = Container::open(file, format, &cx.limits).unwrap();
    let layout = discover(&disk, &cx).unwrap();
    assert!(stack::check::all(&disk, &cx).unwrap().is_clean());
    let mut hashes = Vec::new();
    for volume in &layout.volumes {
        let view = volume.region.reader(&disk).unwrap();
        let mut bytes = vec![0; view.len().to_usize()];
        view.read_at(Offset::ZERO, &mut bytes).unwrap();
        if volume.ext.is_some() {
            let raw = dir.join("volume");
            std::fs::write(&raw, &bytes).unwrap();
            assert_clean(&raw, Offset::ZERO);
        }
        if volume.id != VolumeId::Partition(1) {
            hashes.push(blake3::hash(&bytes));
        }
    }
    assert_eq!(hashes.len(), 2);
    hashes
}

fn sweeps((script, starts, mib): (&str, [u64; 3], u64), made: (&str, &[&str]), by: &str) {
    let dir = tempfile::tempdir().unwrap();
    let [raw, image] = ["raw", "image"].map(|name| dir.path().join(name));
    File::create(&raw).unwrap().set_len(mib * MIB).unwrap();
    partition(&raw, script);
    for (at, len) in [(starts[0], 8), (starts[1], 12)] {
        make_at(flavor("ext4-1k"), Len::mib(len), Fill::Empty, &raw, Offset::new(at * MIB));
    }
    let disk = File::options().write(true).open(&raw).unwrap();
    for at in [starts[2] * MIB, starts[1] * MIB + 7 * MIB + 300 * 1024] {
        // A swath of the filesystem's free blocks as well.
        std::os::unix::fs::FileExt::write_all_at(&disk, &noise(at, 700 * 1024), at).unwrap();
    }
    oracle::qemu_convert(&raw, "raw", &image, made.0, made.1);
    let format: Format = made.0.parse().unwrap();
    let file = Image::open(&image, &OpenOptions::default()).unwrap();
    let cancel = Cancel::new();
    let source = Source { file: &file, format, with: OpenWith::default(), parent: None, fixed_len: false };
    let request = Request {
        size: by.parse().unwrap(),
        place: Place::Partition(1),
        depth: Depth::Filesystem,
        move_behind: true,
        full_check: true,
        boot: BootNeeds::default(),
    };
    let grown = stage(&source, &request, &cx(&cancel)).unwrap();
    let what = format!("{script} {} by {by}", made.0);
    assert!(grown.after.filesystem.unwrap().0 > grown.before.filesystem.unwrap().0, "{what}");
    let copies = [&grown.change.moves, &grown.change.carried].map(Vec::len);
    let want = behind(&file, format, dir.path());
    let base = Sparse::load(&file).unwrap();
    let knobs = Knobs { pairs: 20, random: 20, mixes: 40, nested_every: 80, faults: false, ..Knobs::quick() };
    let knobs = std::env::var("SWEEP").map_or(knobs, |times| Knobs::thorough(times.parse().unwrap()));
    let report = sweep(&base, &grown.change, &knobs, &mut |recovered| {
        assert_eq!(behind(recovered, format, dir.path()), want, "{what}");
    });
    println!("{what}: {} states, {copies:?} moves and carried, {:?}", report.tried(), report.receipt);
    assert!(report.before > 0 && report.after > 0, "{what}: {report:?}");
    report.assert_clean();
}

#[test]
fn by_less_than_the_length() {
    sweeps(GPT, ("raw", &[]), "+3M");
    sweeps(LOGICAL, ("raw", &[]), "+5M");
}

#[test]
fn by_more_than_the_length() {
    sweeps(LOGICAL, ("raw", &[]), "+30M");
}

#[test]
fn in_containers() {
    sweeps(GPT, ("vpc", &[]), "+6M");
    sweeps(LOGICAL, ("qcow2", &["cluster_size=4096"]), "+5M");
}
