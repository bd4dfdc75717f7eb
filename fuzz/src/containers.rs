//! VHDs of several creators, qcow2 images of several kinds, and their tables.

use crate::base::{Base, Place, Seal, sealing, span};
use disk::{MemDisk, ReadAt, Sparse};
use ondisk::{Len, Span};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use testkit::tool::{run, tool};
use testkit::vhd::{self, Block, Image};

/// VHDs: fixed, dynamic, as tapdisk makes them, differencing.
#[must_use]
pub fn vhds() -> Vec<Base> {
    let some = |index: u32, sectors: Range<u64>| Block { index, sectors: vec![sectors] };
    let dynamic = Image::dynamic(*b"win ", 4 << 20).with_block(1 << 19);
    let tap = Image::tap(8 << 20);
    let fixed = Image { kind: 2, ..Image::dynamic(*b"vpc ", 68 * 512) };
    let images = [
        ("fixed", fixed.clone()),
        ("fixed, by geometry", Image { chs: (1, 4, 17), ..fixed }),
        (
            "dynamic",
            Image { blocks: vec![some(3, 0..9), Block::whole(1), some(0, 5..700)], ..dynamic.clone() },
        ),
        ("dynamic, empty", dynamic.clone()),
        ("tap", Image { blocks: vec![some(2, 0..64), some(0, 100..200)], gap: 8192, ..tap }),
        ("differencing", differencing(Image { blocks: vec![some(1, 3..90)], ..dynamic })),
    ];
    images.into_iter().map(|(name, image)| vhd_base(name, sparse(&image.build()))).collect()
}

fn differencing(image: Image) -> Image {
    let name: Vec<u8> = ".\\parent.vhd".encode_utf16().flat_map(u16::to_le_bytes).collect();
    Image { kind: 4, parent: Some((*b"parent of a test", vec![(*b"W2ru", name)])), ..image }
}

fn sparse(bytes: &[u8]) -> Sparse {
    MemDisk::from_bytes(bytes).bytes().clone()
}

fn be(disk: &Sparse, at: u64, len: usize) -> u64 {
    let mut bytes = [0; 8];
    disk.get(ondisk::Offset::new(at), &mut bytes[8 - len..]);
    u64::from_be_bytes(bytes)
}

fn vhd_base(name: &str, disk: Sparse) -> Base {
    let kinds = vhd_places(&disk);
    Base::new(name, disk, kinds)
}

/// The metadata of a VHD.
pub(crate) fn vhd_places(disk: &Sparse) -> Vec<Vec<Place>> {
    let sealed = |at: u64, len: u64, field: usize| {
        let at = span(at, len);
        Place::on(disk, at, sealing(at, move |bytes| vhd::seal(bytes, field)))
    };
    let end = disk.len().get() - 512;
    let footer = sealed(end, 512, 64);
    if be(disk, end + 60, 4) == 2 {
        return vec![vec![footer]];
    }
    let header = sealed(512, 1024, 36);
    let (table, entries) = (be(disk, 512 + 16, 8), be(disk, 512 + 28, 4));
    let table_len = (entries * 4).next_multiple_of(512);
    let blocks = (0..entries).map(|i| be(disk, table + i * 4, 4)).filter(|sector| *sector != 0xffff_ffff);
    let bitmaps = blocks.map(|sector| Place::on(disk, span(sector * 512, 512), None)).collect();
    let locators = (0..8).map(|i| be(disk, 512 + 576 + i * 24 + 16, 8)).filter(|at| *at != 0);
    let mut others: Vec<Place> = locators.map(|at| Place::on(disk, span(at, 512), None)).collect();
    others.push(Place::on(disk, span(table + table_len, 1024), None));
    vec![
        vec![footer.clone(), both_footers(disk, end), sealed(0, 512, 64)],
        vec![header],
        vec![Place::on(disk, span(table, table_len), None)],
        bitmaps,
        others,
    ]
}

/// The copy at the start, from which both footers are made: a lie that both agree on.
fn both_footers(disk: &Sparse, end: u64) -> Place {
    let seal: Seal = Arc::new(move |disk| {
        let mut bytes = [0; 512];
        if disk.read_at(ondisk::Offset::ZERO, &mut bytes).is_ok() {
            vhd::seal(&mut bytes, 64);
            for at in [0, end] {
                disk.write_at(ondisk::Offset::new(at), &bytes).expect("the disk of the base");
            }
        }
    });
    Place::on(disk, span(0, 512), Some(seal))
}

/// Options of `qemu-img create`, and what `qemu-io` writes.
const QCOW2: &[(&str, &[&str])] = &[
    (
        "compat=1.1,cluster_size=4k",
        &["write -P 1 0 300k", "write -P 2 1M 64k", "discard 64k 64k", "write -z 200k 8k"],
    ),
    ("compat=0.10,cluster_size=512", &["write -P 1 0 30k", "write -P 2 1M 9k"]),
    ("extended_l2=on,cluster_size=16k", &["write -P 1 20k 3k", "write -z 32k 2k", "write -P 2 1M 64k"]),
    ("refcount_bits=1,cluster_size=1k", &["write -P 1 0 10k"]),
    ("refcount_bits=64,cluster_size=512,lazy_refcounts=on", &["write -P 1 0 10k"]),
    ("cluster_size=64k", &["write -P 1 0 4k"]),
];

/// qcow2 images: snapshots and bitmaps where there can be any, one with compressed clusters.
#[must_use]
pub fn qcow2s() -> Vec<Base> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let make = |(options, writes): &(&str, &[&str])| {
        let path = dir.path().join("image");
        run("qemu-img", ["create", "-q", "-f", "qcow2", "-o", options, text(&path), "6M"]);
        qemu_io(&path, writes);
        if !options.contains("refcount_bits=1,") {
            run("qemu-img", ["snapshot", "-c", "first", text(&path)]);
            qemu_io(&path, &["write -P 9 4k 8k"]);
        }
        if options.contains("compat=1.1") {
            run("qemu-img", ["bitmap", "--add", text(&path), "changes"]);
        }
        qcow2_base(options, &path)
    };
    let mut bases: Vec<Base> = QCOW2.iter().map(make).collect();
    for kind in ["zlib", "zstd"] {
        let (raw, path) = (dir.path().join("raw"), dir.path().join(kind));
        let bytes: Vec<u8> = (0..300_000_u32).map(|i| (i / 97 % 251) as u8 ^ (i % 5) as u8).collect();
        std::fs::write(&raw, bytes).expect("a raw image");
        let options = format!("compression_type={kind},cluster_size=8k");
        tool("qemu-img")
            .args(["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", &options])
            .args([&raw, &path])
            .status()
            .expect("qemu-img");
        bases.push(qcow2_base(&options, &path));
    }
    bases
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

fn qemu_io(path: &Path, commands: &[&str]) {
    let mut args = vec!["-f", "qcow2"];
    commands.iter().for_each(|command| args.extend(["-c", command]));
    args.push(text(path));
    run("qemu-io", args);
}

fn qcow2_base(name: &str, path: &Path) -> Base {
    let disk = crate::ext::load(path);
    let kinds = qcow2_places(&disk);
    Base::new(name, disk, kinds)
}

/// The metadata of a qcow2 image; nothing of it has a checksum.
pub(crate) fn qcow2_places(disk: &Sparse) -> Vec<Vec<Place>> {
    let place = |at: u64, len: u64| Place::on(disk, span(at, len.min(0x1_0000)), None);
    let cluster = 1_u64 << be(disk, 20, 4);
    let l1 = span(be(disk, 40, 8), be(disk, 36, 4) * 8);
    let table = span(be(disk, 48, 8), be(disk, 56, 4) * cluster);
    let snapshots = be(disk, 64, 8);
    let entries = |table: Span| -> Vec<u64> {
        let table = table.intersect(Span::whole(disk.len())).unwrap_or_default();
        let all =
            table.chunks(Len::new(8)).map(|entry| be(disk, entry.start().get(), 8) & 0x00ff_ffff_ffff_fe00);
        all.filter(|at| *at != 0).collect()
    };
    let clusters = |table| entries(table).into_iter().map(|at| place(at, cluster)).collect::<Vec<_>>();
    let data = entries(l1).first().map(|&l2| entries(span(l2, cluster.min(256))));
    vec![
        vec![place(0, 104), place(104, 408)],
        vec![place(l1.start().get(), l1.len().get())],
        clusters(l1),
        clusters(l1),
        vec![place(table.start().get(), table.len().get().min(512))],
        clusters(table),
        if snapshots == 0 { vec![] } else { vec![place(snapshots, 256)] },
        data.unwrap_or_default().into_iter().take(8).map(|at| place(at, 512)).collect(),
    ]
}

/// Images of all containers.
#[must_use]
pub fn bases() -> Vec<Base> {
    let mut all = vhds();
    all.extend(qcow2s());
    all
}
