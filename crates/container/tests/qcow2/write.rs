//! Whatever we write, qemu reads, and finds nothing wrong.

use crate::kit::*;
use container::Mapped;
use disk::{Disk, ReadAt};
use ondisk::{Len, Offset, Span};
use std::path::Path;
use testkit::tool::run;

/// One random step on a disk and on the bytes that it should have.
fn step(random: &mut Random, disk: &mut dyn Disk, model: &mut [u8]) {
    let size = model.len() as u64;
    let at = random.below(size);
    let len = 1 + match random.below(3) {
        0 => random.below(600),
        1 => random.below(70_000),
        _ => random.below(900_000),
    };
    let len = len.min(size - at);
    let span = Span::new(Offset::new(at), Len::new(len)).unwrap();
    let range = at as usize..(at + len) as usize;
    match random.below(5) {
        0 | 1 => {
            let bytes = random.bytes(len);
            disk.write_at(span.start(), &bytes).unwrap();
            model[range].copy_from_slice(&bytes);
        }
        2 => {
            disk.zero(span).unwrap();
            model[range].fill(0);
        }
        3 => {
            disk.discard(span).unwrap();
            model[range].fill(0);
        }
        _ => {
            let to = random.below(size - len + 1);
            if to.abs_diff(at) >= len {
                disk.copy(span, Offset::new(to)).unwrap();
                model.copy_within(range, to as usize);
            }
        }
    }
}

fn lives(lab: &Lab, image: &Path, model: &mut [u8], seed: u64, steps: usize, what: &str) {
    let mut random = Random(seed);
    change(lab, image, |disk| {
        for i in 0..steps {
            step(&mut random, disk, model);
            if i % 8 == 0 {
                assert!(whole(disk) == *model, "{what}: step {i}");
            }
        }
    });
    assert_clean(image, what);
    assert!(content(lab, image) == *model, "{what}: qemu reads something else");
    let disk = open(load(image));
    assert!(whole(&disk) == *model, "{what}: reopened");
    assert!(disk.check().unwrap().is_clean(), "{what}: {:?}", disk.check());
}

#[test]
fn random_writes_on_all_kinds() {
    let lab = Lab::new();
    for (seed, kind) in (1..).zip(KINDS) {
        let image = lab.lived_in("image.qcow2", kind);
        let snapshots: &[&str] = if kind.contains("refcount_bits=1") { &[] } else { &["first", "second"] };
        let old: Vec<_> = snapshots.iter().map(|name| snapshot_content(&lab, &image, name)).collect();
        let mut model = content(&lab, &image);
        lives(&lab, &image, &mut model, seed, 40, kind);
        lives(&lab, &image, &mut model, seed + 100, 15, kind);
        let new: Vec<_> = snapshots.iter().map(|name| snapshot_content(&lab, &image, name)).collect();
        assert!(old == new, "{kind}: a snapshot changed");
    }
}

#[test]
fn random_writes_on_compressed_images() {
    let lab = Lab::new();
    for kind in ["compat=0.10", "compat=1.1", "compression_type=zstd", "extended_l2=on", "cluster_size=512"] {
        let image = lab.compressed("image.qcow2", kind);
        let mut model = content(&lab, &image);
        lives(&lab, &image, &mut model, 9, 40, kind);
    }
}

#[test]
fn random_writes_on_a_child() {
    let lab = Lab::new();
    for (seed, (kind, size)) in (1..).zip([
        ("compat=1.1", SIZE + 65536),
        ("compat=0.10", SIZE * 2),
        ("extended_l2=on", SIZE / 2 / 512 * 512),
    ]) {
        let base = lab.lived_in("base.qcow2", "compat=1.1");
        let child = lab.path("child.qcow2");
        let options = format!("{kind},backing_file=base.qcow2,backing_fmt=qcow2");
        run("qemu-img", ["create", "-q", "-f", "qcow2", "-o", &options, text(&child), &size.to_string()]);
        qemu_io(&child, &["write -P 0xaa 64k 1k", "write -P 0xab 2M 200k"]);
        let mut model = content(&lab, &child);
        let file = load(&child);
        let mut overlay = disk::Overlay::new(&file, &disk::Limits::default());
        let mut disk = open(&mut overlay);
        disk.set_parent(Box::new(open(load(&base))));
        let mut random = Random(seed);
        for i in 0..60 {
            step(&mut random, &mut disk, &mut model);
            if i % 8 == 0 {
                assert!(whole(&disk) == model, "{kind}: step {i}");
            }
        }
        drop(disk);
        commit(&lab, &child, &overlay.into_change().unwrap());
        assert_clean(&child, kind);
        assert!(content(&lab, &child) == model, "{kind}");
    }
}

/// So many small clusters that the refcount table has to move.
#[test]
fn the_refcount_table_grows() {
    let lab = Lab::new();
    for kind in ["cluster_size=512,refcount_bits=64", "cluster_size=512", "compat=0.10,cluster_size=512"] {
        let image = lab.create("image.qcow2", kind, 24 << 20);
        let mut model = vec![0; 24 << 20];
        let bytes = Random(3).bytes(20 << 20);
        let old = std::fs::read(&image).unwrap()[48..60].to_vec();
        change(&lab, &image, |disk| disk.write_at(Offset::new(4096), &bytes).unwrap());
        model[4096..4096 + bytes.len()].copy_from_slice(&bytes);
        assert_ne!(old, std::fs::read(&image).unwrap()[48..60], "{kind}: the test wants a move");
        assert_clean(&image, kind);
        assert!(content(&lab, &image) == model, "{kind}");
    }
}

/// Everything new is fresh: only tables are left for the journal.
#[test]
fn new_clusters_are_fresh() {
    let lab = Lab::new();
    let image = lab.create("image.qcow2", "compat=1.1", 64 << 20);
    let bytes = vec![7; 8 << 20];
    let change = change(&lab, &image, |disk| disk.write_at(Offset::new(1 << 20), &bytes).unwrap());
    assert!(change.fresh_len().get() >= 8 << 20);
    assert!(change.home_len().get() <= 8 * 512, "{}", change.home_len());
}

#[test]
fn marks_are_passed_to_exclusive_clusters_only() {
    let lab = Lab::new();
    let image = lab.create("image.qcow2", "compat=1.1", SIZE);
    qemu_io(&image, &["write -P 1 0 64k"]);
    run("qemu-img", ["snapshot", "-c", "one", text(&image)]);
    qemu_io(&image, &["write -P 2 64k 64k"]);
    let mut disk = open(load(&image));
    let first = Span::new(Offset::ZERO, Len::kib(128)).unwrap();
    disk.mark_fresh(first).unwrap();
    let marked: Vec<_> = disk.file().fresh().iter().collect();
    let own = disk.status(first).unwrap();
    let exclusive =
        own.iter().find(|s| s.span.contains(Span::new(Offset::new(65536), Len::new(1)).unwrap())).unwrap();
    let place = exclusive.offset.unwrap().get() + 65536 - exclusive.span.start().get();
    assert_eq!(marked, [Span::new(Offset::new(place), Len::kib(64)).unwrap()]);
}

/// Writing makes bitmaps invalid in a way that qemu understands and that leaks nothing.
#[test]
fn bitmaps_become_invalid() {
    let lab = Lab::new();
    let image = lab.lived_in("image.qcow2", "compat=1.1");
    run("qemu-img", ["bitmap", "--add", text(&image), "changes"]);
    change(&lab, &image, |disk| disk.write_at(Offset::new(5), b"new").unwrap());
    assert_clean(&image, "bitmaps");
    let info = run("qemu-img", ["info", text(&image)]);
    assert!(info.contains("changes") && info.contains("in-use"), "{info}");
}

/// Unknown autoclear bits are cleared, unknown compatible bits and extensions stay.
#[test]
fn unknown_features() {
    let lab = Lab::new();
    let image = lab.create("image.qcow2", "compat=1.1", SIZE);
    let mut bytes = std::fs::read(&image).unwrap();
    bytes[80 + 5] |= 4;
    bytes[88 + 5] |= 4;
    let end = bytes.windows(4).position(|w| w == 0x6803_f857_u32.to_be_bytes()).unwrap();
    let length = u32::from_be_bytes(bytes[end + 4..end + 8].try_into().unwrap()) as usize;
    let at = end + 8 + length;
    bytes[at..at + 16].copy_from_slice(b"\x12\x34\x56\x78\0\0\0\x05hello\0\0\0");
    std::fs::write(&image, &bytes).unwrap();
    change(&lab, &image, |disk| disk.write_at(Offset::new(5), b"new").unwrap());
    let now = std::fs::read(&image).unwrap();
    assert_eq!((now[80 + 5], now[88 + 5]), (4, 0));
    assert_eq!(now[at..at + 16], bytes[at..at + 16]);
}

/// Stale refcounts of an image that was not closed are set to the references first.
#[test]
fn an_image_that_was_not_closed() {
    let lab = Lab::new();
    let image = lab.create("image.qcow2", "lazy_refcounts=on", SIZE);
    let killed = testkit::tool::output(
        "qemu-io",
        ["-f", "qcow2", "-c", "write -P 5 0 500k", "-c", "flush", "-c", "abort", text(&image)],
    );
    assert!(!killed.status.success());
    let disk = open(load(&image));
    assert!(disk.facts().dirty, "the test wants a dirty image");
    let mut model = whole(&disk);
    assert_eq!(model[1000], 5);
    change_dirty(&image, &mut model);
    assert_clean(&image, "rebuilt");
    assert!(!open(load(&image)).facts().dirty);
    assert!(content(&lab, &image) == model);
}

fn change_dirty(image: &Path, model: &mut [u8]) {
    let file = load(image);
    let mut overlay = disk::Overlay::new(&file, &disk::Limits::default());
    let mut disk = open(&mut overlay);
    disk.write_at(Offset::new(600_000), b"after the crash").unwrap();
    model[600_000..600_015].copy_from_slice(b"after the crash");
    drop(disk);
    let mut file = load(image);
    file.apply(&overlay.into_change().unwrap()).unwrap();
    std::fs::write(image, file.to_vec()).unwrap();
}

/// A crash between a refcount and the "copied" bits that follow from it leaves both stale. What is written next, or
/// moves the L1 table, sets both right.
#[test]
fn copied_bits_of_an_image_that_was_not_closed() {
    for size in [Len::new(SIZE + (1 << 20)), Len::gib(5 << 10)] {
        let lab = Lab::new();
        let image = lab.create("image.qcow2", "lazy_refcounts=on", SIZE);
        run("qemu-io", ["-f", "qcow2", "-c", "write -P 5 0 500k", text(&image)]);
        let expected = content(&lab, &image);
        let mut bytes = std::fs::read(&image).unwrap();
        let word = |bytes: &[u8], at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        let l1 = usize::try_from(word(&bytes, 40)).unwrap();
        let l2 = usize::try_from(word(&bytes, l1) & 0x00ff_ffff_ffff_fe00).unwrap();
        bytes[79] |= 1;
        bytes[l1] &= 0x7f;
        bytes[l2] &= 0x7f;
        let mut file = disk::MemDisk::from_bytes(&bytes);
        let plan = open(&file).plan_grow(size).unwrap();
        plan.apply(&mut file).unwrap();
        std::fs::write(&image, file.to_vec()).unwrap();
        assert_clean(&image, "settled");
        let disk = open(load(&image));
        assert_eq!(disk.len(), size);
        let mut head = vec![0; expected.len()];
        disk.read_at(Offset::ZERO, &mut head).unwrap();
        assert!(head == expected);
    }
}

#[test]
fn a_corrupt_image_is_read_but_not_written() {
    let lab = Lab::new();
    let image = lab.lived_in("image.qcow2", "compat=1.1");
    let expected = content(&lab, &image);
    let mut bytes = std::fs::read(&image).unwrap();
    bytes[79] |= 2;
    let mut disk = open(disk::MemDisk::from_bytes(&bytes));
    assert!(whole(&disk) == expected);
    let error = disk.write_at(Offset::ZERO, b"x").unwrap_err();
    assert!(error.to_string().contains("marked as corrupt"), "{error}");
    assert!(disk.plan_grow(Len::gib(1)).is_err());
    assert!(disk.file().len().get() == bytes.len() as u64 && disk.file().to_vec() == bytes);
}
