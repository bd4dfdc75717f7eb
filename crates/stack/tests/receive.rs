//! A base that becomes the target of a patch: in every state that a crash and its recovery leave it is the one or the
//! other.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used
)]

use container::{Container, Format};
use delta::{Codec, Options, Patch, Patched, create, survey};
use disk::{Cancel, Limits, MemDisk, ReadAt, Sparse};
use ondisk::Offset;
use stack::receive::{Received, stage};
use stack::source::Source;
use testkit::images::noise;
use testkit::oracle::qemu_convert;
use testkit::sim::{Knobs, cx, sweep_poured};
use testkit::vhd::{Block, Image, content};

fn bytes(disk: &dyn ReadAt) -> Vec<u8> {
    let mut bytes = vec![0; disk.len().to_usize()];
    disk.read_at(Offset::ZERO, &mut bytes).unwrap();
    bytes
}

/// What makes `target` of the disk in `file`, staged on the file.
fn staged<'f>(
    file: &'f dyn ReadAt,
    format: Format,
    target: &[u8],
) -> (Received, Patched<MemDisk, Container<&'f dyn ReadAt>>) {
    let cancel = Cancel::new();
    let cx = cx(&cancel);
    let open = || Container::open(file, format, &Limits::default()).unwrap();
    let mut patch = Vec::new();
    let options = Options { codec: Codec::Zstd, level: 1, drop_free: false };
    create(&[&open()], &MemDisk::from_bytes(target), options, &mut patch, &cx).unwrap();
    let patch = Patch::open(MemDisk::from_bytes(&patch), &cx.limits).unwrap();
    let leaves = survey(&open(), "base", &cx).unwrap();
    let made = Patched::new(patch, vec![(open(), leaves)], &cx).unwrap();
    let source = Source { file, format, with: Default::default(), parent: None, fixed_len: false };
    (stage(&source, &made, true, &cx).unwrap(), made)
}

fn sweep(before: &[u8], format: Format, was: &[u8], target: &[u8]) {
    let base = Sparse::load(&MemDisk::from_bytes(before)).unwrap();
    let (received, made) = staged(&base, format, target);
    let knobs = Knobs { pairs: 20, random: 20, mixes: 20, nested_every: 200, ..Knobs::quick() };
    let report = sweep_poured(&base, &received.change, &made, &knobs, &mut |recovered| {
        let disk = Container::open(recovered, format, &Limits::default()).unwrap();
        let is = bytes(&disk);
        assert!(is == was || is == target);
    });
    println!("{format}: {} states, {} before, {} after", report.tried(), report.before, report.after);
    report.assert_clean();
    assert!(report.before > 0 && report.after > 0);
}

/// Bytes change places, so that each is needed after its place was, and something comes, goes and grows.
fn turned(base: &[u8], grown: usize) -> Vec<u8> {
    let mut target = base.to_vec();
    target[..40_000].rotate_left(4096 + 512);
    target[42_000..44_000].copy_from_slice(&noise(5, 2000));
    target[46_000..58_000].fill(0);
    target.resize(base.len() + grown, 9);
    target
}

#[test]
fn a_raw_disk_in_every_state() {
    let mut base = noise(1, 60_000);
    base[20_000..30_000].fill(0);
    let longer = turned(&base, 5001);
    sweep(&base, Format::Raw, &base, &longer);
    sweep(&longer, Format::Raw, &longer, &base);
}

#[test]
fn a_vhd_in_every_state() {
    let image = Image {
        blocks: vec![Block::whole(0), Block { index: 4, sectors: vec![0..8, 77..78] }],
        ..Image::tap(2 << 20).with_block(64 << 10)
    };
    let file = image.build();
    let was = content(&file, None);
    sweep(&file, Format::Vhd, &was, &turned(&was, 0));
}

/// Clusters come, are freed and are written over, and the tables that lead to them grow.
#[test]
fn a_qcow2_in_every_state() {
    let dir = tempfile::tempdir().unwrap();
    let [raw, image] = ["raw", "image"].map(|name| dir.path().join(name));
    let mut was = noise(1, 60 << 10);
    was[20_000..30_000].fill(0);
    std::fs::write(&raw, &was).unwrap();
    for options in ["cluster_size=512,compat=0.10", "cluster_size=4096"] {
        qemu_convert(&raw, "raw", &image, "qcow2", &[options]);
        sweep(&std::fs::read(&image).unwrap(), Format::Qcow2, &was, &turned(&was, 5 << 10));
    }
}
