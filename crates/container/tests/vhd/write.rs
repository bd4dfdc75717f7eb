//! Writing through the container.

use super::read::images;
use super::*;
use container::Container;
use container::vhd::create::{New, ParentSpec, Spec, plan};
use disk::Disk;
use ondisk::guid::Uuid;
use testkit::oracle;
use testkit::vhd::{Block, Image, content};

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
    /// Often aligned, sometimes short, sometimes across blocks.
    fn span(&mut self, len: u64) -> Span {
        let unit = [1, 512, 4096, 1 << 19][self.roll(4) as usize];
        let at = self.roll(len) / unit * unit;
        let most = [3, 700, 9000, 3 << 20][self.roll(4) as usize];
        let size = (1 + self.roll(most)).next_multiple_of(unit);
        span(at, size.min(len - at))
    }
}

/// Random verbs against a byte vector.
fn work(vhd: &mut Vhd<impl Disk>, model: &mut [u8], dice: &mut Dice, rounds: u64) {
    let len = model.len() as u64;
    for round in 0..rounds {
        let at = dice.span(len);
        let range = at.start().get() as usize..at.end().get() as usize;
        match dice.roll(7) {
            0 | 1 => {
                let bytes = testkit::images::noise(dice.0, range.len());
                vhd.write_at(at.start(), &bytes).unwrap();
                model[range].copy_from_slice(&bytes);
            }
            2 => {
                vhd.write_at(at.start(), &vec![0; range.len()]).unwrap();
                model[range].fill(0);
            }
            3 => {
                vhd.zero(at).unwrap();
                model[range].fill(0);
            }
            4 => {
                let at = if dice.roll(2) == 0 {
                    at
                } else {
                    Span::whole(Len::new(len)).chunks(Len::mib(2)).nth(round as usize % 4).unwrap_or(at)
                };
                vhd.discard(at).unwrap();
                model[at.start().get() as usize..at.end().get() as usize].fill(0);
            }
            5 => {
                let to = dice.span(len);
                let from = span(at.start().get(), at.len().get().min(to.len().get()));
                let target = span(to.start().get(), from.len().get());
                if from.intersect(target).is_none() && !from.is_empty() {
                    vhd.copy(from, to.start()).unwrap();
                    let start = from.start().get() as usize;
                    model.copy_within(start..start + from.len().to_usize(), to.start().get() as usize);
                }
            }
            _ => {
                let mut buf = vec![1; range.len()];
                vhd.read_at(at.start(), &mut buf).unwrap();
                assert_same(&buf, &model[range], "a read between");
            }
        }
    }
}

#[test]
fn random_work_agrees_with_a_byte_vector() {
    for (number, (name, image)) in images().into_iter().enumerate() {
        let mut file = mem(&image.build());
        let mut model = content(&file.to_vec(), None);
        let mut dice = Dice(number as u64 * 77 + 5);
        for _ in 0..3 {
            file = edited(&file, |vhd| work(vhd, &mut model, &mut dice, 40));
            assert_same(&content(&file.to_vec(), None), &model, name);
            let vhd = Vhd::open(&file, &limits()).unwrap();
            assert_same(&all(&vhd), &model, name);
            let findings = vhd.check().unwrap();
            assert_eq!(findings.count(container::Severity::Damage), 0, "{name}: {findings:?}");
        }
    }
}

#[test]
fn random_work_on_a_child_leaves_the_parent_alone() {
    let m = 1 << 20;
    let base = testkit::images::noise(9, 5 * m as usize + 512);
    let child = Image {
        kind: 4,
        blocks: vec![Block { index: 1, sectors: vec![0..3, 9..700] }, Block::whole(3)],
        parent: Some(([7; 16], vec![(*b"MacX", b"file://./base.vhd".to_vec())])),
        ..Image::tap(8 * m)
    };
    let mut file = mem(&child.build());
    let mut model = content(&file.to_vec(), Some(&base));
    let mut dice = Dice(4);
    for _ in 0..6 {
        file = edited(&file, |vhd| {
            vhd.set_parent(Box::new(Container::Raw(mem(&base))), Some(Uuid([7; 16]))).unwrap();
            work(vhd, &mut model, &mut dice, 25);
        });
        assert_same(&content(&file.to_vec(), Some(&base)), &model, "child");
        assert_clean(&file);
    }
}

#[test]
fn holes_stay_holes_and_stale_bytes_stay_hidden() {
    let image = Image { gap: 7 << 20, ..Image::tap(20 << 20) };
    let file = mem(&image.build());
    let after = edited(&file, |vhd| {
        vhd.zero(span(0, 20 << 20)).unwrap();
        vhd.discard(span(5, 9 << 20)).unwrap();
        vhd.write_at(Offset::new(100), &[0; 4 << 20]).unwrap();
    });
    assert_eq!(after.to_vec(), file.to_vec(), "zeros in holes write nothing");
    // A block in the gap of a volume, which is full of another tenant's bytes.
    let after = edited(&file, |vhd| vhd.write_at(Offset::new(100), &[1]).unwrap());
    assert_eq!(after.len(), file.len(), "the footer of a volume stays at its end");
    let mut expect = vec![0; 20 << 20];
    expect[100] = 1;
    assert_same(&content(&after.to_vec(), None), &expect, "content");
    let (_, at) = testkit::vhd::blocks(&after.to_vec())[0];
    assert_eq!((at + 512) % 4096, 0, "data is aligned");
    assert_same(
        &after.to_vec()[at as usize + 512..][..2 << 20],
        &expect[..2 << 20],
        "no garbage even for readers that ignore bitmaps",
    );
}

#[test]
fn new_blocks_are_fresh_and_tables_are_home() {
    let image = Image { blocks: vec![Block::whole(1)], ..Image::tap(20 << 20) };
    let file = mem(&image.build());
    let mut overlay = Overlay::new(&file, &limits());
    let mut vhd = Vhd::open(&mut overlay, &limits()).unwrap();
    vhd.write_at(Offset::ZERO, &[5; 8192]).unwrap();
    vhd.mark_fresh(span(3 << 20, 4096)).unwrap();
    vhd.write_at(Offset::new(3 << 20), &[6; 4096]).unwrap();
    vhd.mark_fresh(span(9 << 20, 4096)).unwrap();
    let change = overlay.into_change().unwrap();
    // BAT entry, batmap and its checksum, the old footer's sector.
    assert!(change.home_len() <= Len::new(4 * 512), "{:?}", change.home_len());
    let old_end = file.len().end().get() - 512;
    let (_, block1) = testkit::vhd::blocks(&file.to_vec())[0];
    let data = block1 + 512 + (1 << 20);
    for write in &change.fresh {
        let at = write.span();
        assert!(at.start().get() > old_end || span(data, 4096).contains(at), "{at}");
    }
}

#[test]
fn our_own_images_satisfy_qemu_and_libvhdi() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new.vhd");
    for (len, kind) in [(50 << 20, New::Dynamic), ((50 << 20) + 512, New::Dynamic), (3 << 20, New::Fixed)] {
        let spec = Spec { len: Len::new(len), uuid: Uuid([8; 16]), now: 1_700_000_000, kind, hidden: false };
        let mut file = MemDisk::default();
        let made = plan(&spec).unwrap();
        made.clone().apply(&mut file).unwrap();
        assert_eq!(file.len(), made.file_len());
        let file = edited(&file, |vhd| {
            assert_eq!((vhd.len(), vhd.timestamp()), (spec.len, spec.now));
            vhd.write_at(Offset::new(1000), &testkit::images::noise(1, 5000)).unwrap();
            vhd.write_at(Offset::new(len - 700), &testkit::images::noise(2, 700)).unwrap();
        });
        assert_clean(&file);
        std::fs::write(&path, file.to_vec()).unwrap();
        let raw = dir.path().join("raw");
        oracle::qemu_raw(&path, "vpc", &raw);
        assert_same(&std::fs::read(&raw).unwrap(), &content(&file.to_vec(), None), "qemu");
        let out = testkit::tool::output("vhdiinfo", [path.as_os_str()]);
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success() && text.contains(&format!("({len} bytes)")), "{text}");
    }
}

#[test]
fn a_new_child_names_its_parent() {
    let parent =
        ParentSpec { name: "sub/päreñt.vhd".to_owned(), id: Uuid([4; 16]), timestamp: 1_700_000_000 };
    let spec = Spec {
        len: Len::mib(9),
        uuid: Uuid([8; 16]),
        now: 1_700_000_001,
        kind: New::Differencing(parent),
        hidden: false,
    };
    let mut file = MemDisk::default();
    plan(&spec).unwrap().apply(&mut file).unwrap();
    let mut vhd = Vhd::open(file.clone(), &limits()).unwrap();
    let named = vhd.parent_ref().unwrap();
    assert_eq!(named.names, ["sub/päreñt.vhd", "päreñt.vhd"]);
    assert_eq!(named.id, Some(Uuid([4; 16])));
    let base = testkit::images::noise(3, 4 << 20);
    vhd.set_parent(Box::new(Container::Raw(mem(&base))), Some(Uuid([4; 16]))).unwrap();
    let mut expect = content(&file.to_vec(), Some(&base));
    assert_same(&all(&vhd), &expect, "empty child");
    vhd.write_at(Offset::new(600), &[1; 100]).unwrap();
    expect[600..700].fill(1);
    assert_same(&content(&vhd.file().to_vec(), Some(&base)), &expect, "child");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("child.vhd");
    std::fs::write(&path, vhd.file().to_vec()).unwrap();
    let out = testkit::tool::output("vhdiinfo", [path.as_os_str()]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains("Differential") && text.contains("04040404-0404"), "{text}");
    for bad in [Len::ZERO, Len::new(700), Len::gib(2041)] {
        assert!(plan(&Spec { len: bad, kind: New::Dynamic, ..spec.clone() }).is_err());
    }
}
