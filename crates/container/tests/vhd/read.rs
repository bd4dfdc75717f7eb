//! Content, extents and map.

use super::*;
use container::{Container, Error, Format, Mapped};
use disk::ExtentKind;
use testkit::oracle;
use testkit::vhd::{Block, Image, content};

fn odd(index: u32) -> Block {
    Block { index, sectors: vec![1..2, 7..9, 100..101] }
}

/// Images that stress one thing each.
pub fn images() -> Vec<(&'static str, Image)> {
    let m = 1 << 20;
    let blocks = |list: &[u32]| list.iter().map(|&index| Block::whole(index)).collect::<Vec<_>>();
    let win = Image::dynamic(*b"win ", 9 * m);
    let tap = Image::tap(20 * m);
    vec![
        ("win, odd order", Image { blocks: blocks(&[3, 0, 4]), ..win.clone() }),
        ("win, partial", Image { blocks: vec![odd(2), Block::whole(0), odd(4)], ..win.clone() }),
        ("win, empty", win.clone()),
        (
            "vbox, 512 KiB",
            Image {
                blocks: blocks(&[7, 1, 9, 8]),
                ..Image::dynamic(*b"vbox", 5 * m + 512).with_block(512 << 10)
            },
        ),
        (
            "unknown, 1 KiB",
            Image {
                blocks: vec![Block::whole(9), Block { index: 3, sectors: vec![1..2] }],
                ..Image::dynamic(*b"what", 40 << 10).with_block(1024)
            },
        ),
        (
            "unknown, 8 MiB",
            Image { blocks: vec![odd(1)], ..Image::dynamic(*b"what", 20 * m).with_block(8 << 20) },
        ),
        ("tap", Image { blocks: vec![Block::whole(5), odd(1), Block::whole(0)], ..tap.clone() }),
        (
            "tap 1.1",
            Image {
                blocks: vec![Block::whole(5), odd(1)],
                version: 0x0001_0001,
                batmap_version: 0x0001_0001,
                ..tap.clone()
            },
        ),
        ("tap 0.1", Image { blocks: vec![odd(1)], version: 1, batmap: false, ..tap.clone() }),
        ("tap in a volume", Image { blocks: vec![Block::whole(5), odd(1)], gap: 5 << 20, ..tap.clone() }),
        ("tap, preallocated", Image { blocks: vec![Block::whole(2), odd(1)], entries: 5000, ..tap }),
        ("fixed", Image { kind: 2, ..Image::dynamic(*b"win ", 3 * m) }),
    ]
}

#[test]
fn the_second_reader_agrees() {
    for (name, image) in images() {
        let file = image.build();
        let vhd = open(&file);
        assert_same(&all(&vhd), &content(&file, None), name);
        assert!(vhd.check().unwrap().iter().all(|f| f.severity < container::Severity::Damage), "{name}");
        // Unaligned pieces across block borders.
        let whole = all(&vhd);
        for at in [0_u64, 511, 1023, whole.len().min(2 << 20) as u64 - 1, whole.len() as u64 - 700] {
            let mut buf = vec![1; 700.min(whole.len() - at as usize)];
            vhd.read_at(Offset::new(at), &mut buf).unwrap();
            assert_eq!(buf, whole[at as usize..at as usize + buf.len()], "{name} at {at}");
        }
        let mut over = [0; 2];
        assert!(vhd.read_at(Offset::new(whole.len() as u64 - 1), &mut over).is_err());
    }
}

#[test]
fn extents_and_map_cover_the_disk_and_tell_no_lie() {
    for (name, image) in images() {
        let file = image.build();
        let vhd = open(&file);
        let disk = all(&vhd);
        let mut at = 0;
        for extent in vhd.extents(Span::whole(vhd.len())).unwrap().iter() {
            assert_eq!(extent.span.start().get(), at, "{name}");
            at = extent.span.end().get();
            if extent.kind.reads_zero() {
                let part = &disk[extent.span.start().get() as usize..at as usize];
                assert!(part.iter().all(|&b| b == 0), "{name} {extent:?}");
            }
        }
        assert_eq!(at, disk.len() as u64, "{name}");
        let mut at = 0;
        for run in vhd.status(Span::whole(vhd.len())).unwrap() {
            assert_eq!(run.span.start().get(), at, "{name}");
            at = run.span.end().get();
            let part = &disk[run.span.start().get() as usize..at as usize];
            match run.offset {
                Some(offset) => assert_same(part, &file[offset.get() as usize..][..part.len()], name),
                None => assert!(run.zero && part.iter().all(|&b| b == 0), "{name}"),
            }
        }
        assert_eq!(at, disk.len() as u64, "{name}");
    }
}

#[test]
fn qemu_agrees_on_its_own_images() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("content.raw");
    let mut bytes = vec![0; 37 << 20];
    for at in [0, 5 << 20, (6 << 20) - 4096, 20 << 20, (37 << 20) - 5000] {
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
        let back = dir.path().join("back.raw");
        oracle::qemu_raw(&image, "vpc", &back);
        let file = load(&image);
        let vhd = Vhd::open(&file, &limits()).unwrap();
        assert_same(&all(&vhd), &std::fs::read(&back).unwrap(), &format!("{options:?}"));
        assert_clean(&file);
    }
}

/// Grandparent raw, parent VHD, child VHD, each with other blocks and bits.
#[test]
fn a_chain_reads_through() {
    let m = 1 << 20;
    let locators = |name: &str| {
        let le: Vec<u8> = name.replace('/', "\\").encode_utf16().flat_map(u16::to_le_bytes).collect();
        vec![(*b"W2ku", le.clone()), (*b"W2ru", le), (*b"MacX", format!("file://{name}").into_bytes())]
    };
    let base = testkit::images::noise(1, 5 * m as usize);
    let middle = Image {
        kind: 4,
        uuid: [2; 16],
        blocks: vec![odd(1), Block { index: 3, sectors: vec![0..5, 4095..4096] }],
        parent: Some(([0; 16], locators("./base.raw"))),
        ..Image::tap(8 * m)
    };
    let child = Image {
        kind: 4,
        uuid: [3; 16],
        blocks: vec![Block { index: 0, sectors: vec![2..3] }, Block { index: 1, sectors: vec![8..101] }],
        parent: Some(([2; 16], locators("./sub/middle.vhd"))),
        ..Image::dynamic(*b"win ", 11 * m)
    };
    let (middle_file, child_file) = (middle.build(), child.build());
    let mut parent = open(&middle_file);
    let named = parent.parent_ref().unwrap().clone();
    assert_eq!(
        (named.names.as_slice(), named.id, named.format),
        (&["base.raw".to_owned()][..], None, Some(Format::Raw))
    );
    assert!(
        matches!(parent.read_at(Offset::ZERO, &mut [0; 512]), Err(disk::Error::Layer(_))),
        "no parent yet"
    );
    parent.set_parent(Box::new(Container::Raw(mem(&base))), None).unwrap();
    let expect_middle = content(&middle_file, Some(&base));
    assert_same(&all(&parent), &expect_middle, "middle");

    let mut vhd = open(&child_file);
    let named = vhd.parent_ref().unwrap().clone();
    assert_eq!(named.names, ["sub/middle.vhd", "middle.vhd"]);
    let wrong = vhd.set_parent(Box::new(Container::Raw(mem(&base))), None).unwrap_err();
    assert!(matches!(wrong, Error::WrongParent { .. }), "{wrong}");
    let wrong = vhd.set_parent(Box::new(Container::Raw(mem(&vec![0; 12 << 20]))), named.id).unwrap_err();
    assert!(matches!(wrong, Error::WrongParent { .. }), "{wrong}");
    let id = parent.uuid();
    vhd.set_parent(Box::new(parent), Some(id)).unwrap();
    let expect = content(&child_file, Some(&expect_middle));
    assert_same(&all(&vhd), &expect, "child");
    for extent in vhd.extents(Span::whole(vhd.len())).unwrap().iter() {
        let part = &expect[extent.span.start().get() as usize..extent.span.end().get() as usize];
        assert!(extent.kind == ExtentKind::Data || part.iter().all(|&b| b == 0));
    }
    let depths: Vec<u32> = vhd.status(Span::whole(vhd.len())).unwrap().iter().map(|run| run.depth).collect();
    assert!(depths.contains(&0) && depths.contains(&1));
}

/// libvhdi reads dynamic and differencing images by itself.
#[test]
fn libvhdi_sees_the_same_head() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.vhd");
    let image = Image { blocks: vec![Block::whole(3), Block::whole(1)], ..Image::dynamic(*b"win ", 9 << 20) };
    std::fs::write(&path, image.build()).unwrap();
    let out = testkit::tool::output("vhdiinfo", [path.as_os_str()]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let vhd = open(&image.build());
    assert!(out.status.success(), "{text}");
    assert!(text.contains(&format!("({} bytes)", vhd.len())), "{text}");
    assert!(text.contains(&vhd.uuid().to_string()), "{text}");
    assert!(text.contains("Dynamic"), "{text}");
}
