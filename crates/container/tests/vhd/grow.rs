//! Growing.

use super::read::images;
use super::*;
use container::Error;
use container::vhd::size::{Geometry, LEN_MAX};
use disk::Disk;
use ondisk::{Class, Classified};
use testkit::oracle;
use testkit::vhd::{Block, Image, content};

/// Grows and compares everything: content kept, new space zero, metadata right by the second reader.
fn grown(file: &MemDisk, to: u64, what: &str) -> MemDisk {
    let before = content(&file.to_vec(), None);
    let plan = Vhd::open(file, &limits()).unwrap().plan_grow(Len::new(to)).unwrap();
    let (new_len, file_len) = (plan.new_len(), plan.file_len());
    assert!(!plan.sentences().is_empty());
    let after = changed(file, |overlay| plan.apply(overlay).unwrap());
    assert_eq!(after.len(), file_len, "{what}");
    let vhd = Vhd::open(&after, &limits()).unwrap();
    assert_eq!(vhd.len(), new_len, "{what}");
    assert!(new_len.get() >= to && new_len.get() - to < 2 << 20, "{what}: {to} became {new_len}");
    let mut expect = before;
    expect.resize(new_len.to_usize(), 0);
    assert_same(&content(&after.to_vec(), None), &expect, what);
    assert_same(&all(&vhd), &expect, what);
    assert_eq!(vhd.check().unwrap().count(container::Severity::Damage), 0, "{what}");
    let old = Vhd::open(file, &limits()).unwrap();
    assert_eq!((vhd.uuid(), vhd.creator(), vhd.timestamp()), (old.uuid(), old.creator(), old.timestamp()));
    after
}

#[test]
fn every_kind_grows_again_and_again() {
    for (name, image) in images() {
        // The creators that a geometry binds have tests of their own.
        let mut file = mem(&image.build());
        for to in [image.len + 512, image.len + (3 << 20), image.len + (20 << 20)] {
            file = grown(&file, to, &format!("{name} to {to}"));
            let at = to - 600;
            let expect = testkit::images::noise(to, 600);
            file = edited(&file, |vhd| vhd.write_at(Offset::new(at), &expect).unwrap());
            assert_same(&content(&file.to_vec(), None)[at as usize..to as usize], &expect, name);
        }
    }
}

/// A table of many sectors pushes blocks, batmap and locators aside, or moves itself.
#[test]
fn a_table_without_room() {
    let m = 1_u64 << 20;
    let locators = vec![(*b"MacX", b"file://./p.vhd".to_vec()), (*b"W2ru", vec![b'p', 0])];
    let partial = |index| Block { index, sectors: vec![2..5, 90..91] };
    for creator in [*b"tap\0", *b"win ", *b"vbox"] {
        for child in [false, true] {
            let tap = creator == *b"tap\0";
            let image = Image {
                kind: if child { 4 } else { 3 },
                batmap: tap,
                pad: if tap { 0 } else { 0xff },
                parent: child.then(|| ([9; 16], locators.clone())),
                blocks: vec![Block::whole(6), partial(2), Block::whole(0), partial(1)],
                ..Image::dynamic(creator, 64 << 10).with_block(4096)
            };
            let file = mem(&image.build());
            let what = format!("{creator:?} {child}");
            let before = content(&file.to_vec(), Some(&[3; 64 << 10]));
            let plan = Vhd::open(&file, &limits()).unwrap().plan_grow(Len::new(40 * m)).unwrap();
            let text = plan.sentences().join("\n");
            assert_eq!(tap, text.contains("blocks move"), "{what}: {text}");
            let after = changed(&file, |overlay| plan.apply(overlay).unwrap());
            let mut expect = before;
            expect.resize(40 << 20, 0);
            assert_same(&content(&after.to_vec(), Some(&[3; 64 << 10])), &expect, &what);
            let vhd = Vhd::open(&after, &limits()).unwrap();
            assert_eq!(vhd.parent_ref().is_some_and(|named| named.names == ["p", "p.vhd"]), child, "{what}");
            assert_eq!(vhd.check().unwrap().count(container::Severity::Damage), 0, "{what}");
            if tap {
                let first = testkit::vhd::blocks(&after.to_vec()).iter().map(|b| b.1).min().unwrap();
                assert!(first >= 1536 + 10240 * 4, "all metadata stands before all blocks");
            }
        }
    }
}

#[test]
fn blocks_move_as_moves() {
    let image = Image { blocks: vec![Block::whole(1), Block::whole(0)], ..Image::tap(20 << 20) };
    let file = mem(&image.build());
    let plan = Vhd::open(&file, &limits()).unwrap().plan_grow(Len::gib(300)).unwrap();
    let mut overlay = Overlay::new(&file, &limits());
    plan.apply(&mut overlay).unwrap();
    let change = overlay.into_change().unwrap();
    assert!(!change.moves.is_empty(), "the block is copied within the file, not carried");
    assert!(change.home_len() < Len::mib(1), "{}", change.home_len());
}

#[test]
fn stale_entries_and_tails_do_not_come_to_light() {
    // Blocks beyond the disk, and a last block that is longer than the disk.
    for (creator, batmap) in [(*b"win ", false), (*b"tap\0", true)] {
        let image = Image {
            blocks: (0..10).map(Block::whole).collect(),
            batmap,
            ..Image::dynamic(creator, 20 << 20)
        };
        let mut small = image.build();
        let end = small.len() - 512;
        for at in [0, end] {
            small[at + 48..at + 56].copy_from_slice(&(5_u64 << 20).to_be_bytes());
            testkit::vhd::seal(&mut small[at..at + 512], 64);
        }
        let file = mem(&small);
        assert_eq!(content(&small, None).len(), 5 << 20);
        for to in [5 << 20 | 512, 6 << 20, 12 << 20, 20 << 20, 4_u64 << 30] {
            let before = content(&small, None);
            let plan = Vhd::open(&file, &limits()).unwrap().plan_grow(Len::new(to)).unwrap();
            let after = changed(&file, |overlay| plan.clone().apply(overlay).unwrap());
            let vhd = Vhd::open(&after, &limits()).unwrap();
            let mut seen = vec![1; 30 << 20];
            seen.truncate(plan.new_len().to_usize());
            vhd.read_at(Offset::ZERO, &mut seen).unwrap();
            assert_same(&seen[..5 << 20], &before, "old");
            assert!(seen[5 << 20..].iter().all(|&b| b == 0), "{creator:?} {to}: stale bytes came to light");
            if to <= 20 << 20 {
                assert_same(&content(&after.to_vec(), None), &seen, "second reader");
            }
        }
    }
}

#[test]
fn qemu_follows() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("content.raw");
    let mut bytes = vec![0; 37 << 20];
    for at in [0, 5 << 20, 20 << 20, (37 << 20) - 5000] {
        bytes[at..at + 5000].copy_from_slice(&testkit::images::noise(at as u64, 5000));
    }
    std::fs::write(&raw, &bytes).unwrap();
    for options in [
        &["subformat=dynamic"][..],
        &["subformat=fixed"],
        &["force_size=on"],
        &["force_size=on", "subformat=fixed"],
    ] {
        let image = dir.path().join("image.vhd");
        oracle::qemu_convert(&raw, "raw", &image, "vpc", options);
        let mut file = load(&image);
        for to in [38 << 20, 100_000_000, (600 << 20) + 512] {
            let plan = Vhd::open(&file, &limits()).unwrap().plan_grow(Len::new(to)).unwrap();
            let new = plan.new_len();
            file = changed_sparse(&file, |overlay| plan.apply(overlay).unwrap());
            let path = dir.path().join("grown.vhd");
            save(&file, &path);
            let out = testkit::tool::run("qemu-img", ["info", "-f", "vpc", path.to_str().unwrap()]);
            assert!(out.contains(&format!("({new} bytes)")), "{options:?} {to}: {out}");
            assert!(oracle::qemu_same(&path, "vpc", &raw, "raw"), "{options:?} {to}");
        }
    }
}

/// qemu's own choice of a size is our choice.
#[test]
fn sizes_are_those_of_qemu() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.vhd");
    let small = dir.path().join("small.vhd");
    testkit::tool::run("qemu-img", ["create", "-q", "-f", "vpc", small.to_str().unwrap(), "1M"]);
    let file = load(&small);
    let vhd = Vhd::open(&file, &limits()).unwrap();
    let mut sizes: Vec<u64> = (1..30).map(|i| (3_u64.pow(i % 20) << 20) + 512 * u64::from(i)).collect();
    sizes.extend([1 << 30, 8_455_200_768, 136_899_993_600 - 512, 136_899_993_600, 137_000_000_000]);
    for want in sizes.into_iter().filter(|want| (vhd.len().get()..=130 << 30).contains(want)) {
        testkit::tool::run(
            "qemu-img",
            ["create", "-q", "-f", "vpc", path.to_str().unwrap(), &want.to_string()],
        );
        let theirs = load(&path);
        let theirs = Vhd::open(&theirs, &limits()).unwrap();
        let plan = vhd.plan_grow(Len::new(want)).unwrap();
        assert_eq!(plan.new_len(), theirs.len(), "{want}");
        if theirs.geometry() != Geometry::LARGEST {
            assert_eq!(Geometry::for_len(theirs.len()), theirs.geometry(), "{want}");
        }
    }
}

#[test]
fn the_largest_disk_and_no_larger() {
    for image in [
        Image::tap(20 << 20),
        Image { entries: 1_044_480, ..Image::tap(20 << 20) },
        Image::dynamic(*b"qemu", 20 << 20),
    ] {
        let file = mem(&Image { blocks: vec![Block::whole(3), Block::whole(0)], ..image }.build());
        let old = Vhd::open(&file, &limits()).unwrap();
        let mut first = vec![0; 20 << 20];
        old.read_at(Offset::ZERO, &mut first).unwrap();
        let plan = old.plan_grow(LEN_MAX).unwrap();
        assert_eq!(plan.new_len(), LEN_MAX);
        let after = changed_sparse(&file, |overlay| plan.apply(overlay).unwrap());
        let vhd = Vhd::open(&after, &limits()).unwrap();
        assert_eq!(vhd.len(), LEN_MAX);
        let mut again = vec![0; 20 << 20];
        vhd.read_at(Offset::ZERO, &mut again).unwrap();
        assert_same(&again, &first, "content");
        assert!(vhd.extents(span(20 << 20, LEN_MAX.get() - (20 << 20))).unwrap().all_zero());
        assert_eq!(vhd.check().unwrap().count(container::Severity::Damage), 0);
        let error = old.plan_grow(Len::new(LEN_MAX.get() + 512)).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
        assert!(old.plan_grow(Len::new(u64::MAX)).is_err());
        assert_eq!(old.plan_grow(Len::mib(1)).unwrap_err().class(), Class::Usage);
    }
}

fn save(file: &MemDisk, path: &Path) {
    use std::os::unix::fs::FileExt;
    let out = std::fs::File::create(path).unwrap();
    out.set_len(file.len().get()).unwrap();
    for part in file.extents(Span::whole(file.len())).unwrap().data() {
        let mut buf = vec![0; part.len().to_usize()];
        file.read_at(part.start(), &mut buf).unwrap();
        out.write_all_at(&buf, part.start().get()).unwrap();
    }
}

fn changed_sparse(file: &MemDisk, work: impl FnOnce(&mut Overlay<'_>)) -> MemDisk {
    let mut overlay = Overlay::new(file, &limits());
    work(&mut overlay);
    let mut after = file.clone();
    after.apply(&overlay.into_change().unwrap()).unwrap();
    after
}

#[test]
fn nothing_to_do_is_nothing() {
    for (name, image) in images() {
        let file = mem(&image.build());
        let vhd = Vhd::open(&file, &limits()).unwrap();
        let plan = vhd.plan_grow(vhd.len()).unwrap();
        if vhd.creator() != *b"tap\0" || image.len % (2 << 20) == 0 {
            let mut overlay = Overlay::new(&file, &limits());
            plan.apply(&mut overlay).unwrap();
            assert!(overlay.into_change().unwrap().is_empty(), "{name}");
        }
    }
}

#[test]
fn a_resize_of_the_disk_is_refused() {
    let mut vhd = open(&Image::tap(20 << 20).build());
    assert!(vhd.resize(Len::mib(30)).is_err());
}
