//! Every byte of the structures that have a copy, or follow from others, damaged: mended, and nothing reads otherwise.

use super::*;
use container::{Format, repair};
use testkit::vhd::{Block, Image, content, seal};

fn mended(file: &[u8]) -> container::Result<(Vec<String>, Vec<u8>)> {
    mend(file, false)
}

fn mend(file: &[u8], is_device: bool) -> container::Result<(Vec<String>, Vec<u8>)> {
    let base = mem(file);
    let mut overlay = Overlay::new(&base, &limits());
    let says = repair::mend(&mut overlay, Format::Vhd, is_device, &limits())?;
    let seen = all(&overlay);
    let change = overlay.into_change().unwrap();
    assert_eq!(change.is_empty(), says.is_empty(), "{says:?}");
    let mut after = base.clone();
    after.apply(&change).unwrap();
    assert_eq!(after.to_vec(), seen);
    Ok((says, seen))
}

fn images() -> Vec<(&'static str, Vec<u8>)> {
    let blocks = || vec![Block::whole(3), Block { index: 1, sectors: vec![3..17, 100..4096] }];
    let parent = Some((*b"the parent of it", vec![(*b"W2ru", b".\0p\0".to_vec())]));
    let dynamic = Image { blocks: blocks(), ..Image::dynamic(*b"win ", 9 << 20) };
    vec![
        ("dynamic", dynamic.build()),
        ("empty", Image::dynamic(*b"win ", 9 << 20).build()),
        ("tap", Image { blocks: blocks(), ..Image::tap(10 << 20) }.build()),
        ("empty tap", Image::tap(10 << 20).build()),
        (
            "old batmap",
            Image { blocks: blocks(), batmap_version: 0x0001_0001, ..Image::tap(8 << 20) }.build(),
        ),
        ("child", Image { kind: 4, parent, ..dynamic }.build()),
    ]
}

/// Damages bytes `at..at + len` one by one, and in whole, and expects the old image again.
fn each_byte(name: &str, good: &[u8], at: usize, len: usize) {
    let damaged = |range: std::ops::Range<usize>, by: u8| {
        let mut file = good.to_vec();
        file[range].iter_mut().for_each(|byte| *byte ^= by);
        file
    };
    // Images without blocks are small: they stand for the bytes between.
    let step = if good.len() < 1 << 16 { 1 } else { 7 };
    let single = (0..len).step_by(step).map(|i| (i..i + 1, 1_u8 << (i % 8)));
    for (range, by) in single {
        let file = damaged(at + range.start..at + range.end, by);
        let (says, after) = mended(&file).unwrap_or_else(|e| panic!("{name}, byte {range:?} ^ {by:#x}: {e}"));
        assert!(!says.is_empty(), "{name}: byte {range:?}");
        if after != good {
            assert_same(&after, good, &format!("{name}, byte {range:?}: {says:?}"));
        }
    }
}

#[test]
fn sound_images_are_not_touched() {
    for (name, good) in images() {
        assert_eq!(mended(&good).unwrap(), (Vec::new(), good), "{name}");
    }
}

#[test]
fn every_byte_of_footers() {
    for (name, good) in images() {
        each_byte(name, &good, good.len() - 512, 512);
        each_byte(name, &good, 0, 512);
        for (range, what) in [(0..512, "copy"), (good.len() - 512..good.len(), "end footer")] {
            let mut file = good.clone();
            file[range].fill(0);
            assert_same(&mended(&file).unwrap().1, &good, &format!("{name}: {what}"));
        }
        let cut = |len: usize| mended(&good[..len]).unwrap().1;
        assert_same(&cut(good.len() - 512), &good, &format!("{name}: no end footer"));
        assert_same(&cut(good.len() - 3), &good, &format!("{name}: a part of the end footer"));
        let mut long = good.clone();
        long.extend([0xab; 70_000]);
        assert_same(&mended(&long).unwrap().1, &good, &format!("{name}: garbage behind"));
    }
}

#[test]
fn every_byte_of_headers() {
    for (name, good) in images() {
        match name {
            // What names the parent exists only once, and so does the checksum that would prove anything.
            "child" => each_byte(name, &good, 512, 28),
            _ => each_byte(name, &good, 512, 1024),
        }
    }
    let (_, child) = images().pop().unwrap();
    for at in [36, 41, 57, 70, 580] {
        let mut file = child.clone();
        file[512 + at] ^= 4;
        assert!(mended(&file).is_err(), "byte {at} of a child's header");
    }
}

#[test]
fn the_header_is_not_guessed() {
    let good = Image { blocks: vec![Block::whole(3)], ..Image::dynamic(*b"win ", 9 << 20) }.build();
    for damage in [0..1024, 16..40] {
        let mut file = good.clone();
        file[512..][damage].fill(0);
        assert!(mended(&file).is_err());
    }
    // A larger table than the disk needs is nothing that could be told.
    let large = Image { entries: 77, ..Image::dynamic(*b"win ", 9 << 20) }.build();
    let mut file = large.clone();
    file[512 + 31] ^= 1;
    assert!(mended(&file).is_err());
}

#[test]
fn every_byte_of_the_batmap() {
    for (name, good) in
        images().into_iter().filter(|(name, _)| name.ends_with("tap") || *name == "old batmap")
    {
        let batmap = good.windows(8).position(|bytes| bytes == b"tdbatmap").unwrap();
        let want = content(&good, None);
        for at in (0..28).chain([512, 513, 700]) {
            let mut file = good.clone();
            file[batmap + at] ^= 0x10;
            let (says, after) = mended(&file).unwrap();
            if matches!(at, 18 | 19) {
                // Longer than it was, and over something else: whose bytes these are cannot be told.
                assert!(!says.is_empty() || after == file);
                continue;
            }
            assert!(says.len() == 1, "{name}: byte {at}: {says:?}");
            // The second reader insists on a batmap that is true.
            assert_same(&content(&after, None), &want, &format!("{name}: byte {at}"));
            assert_clean(&mem(&after));
            assert!(mended(&after).unwrap().0.is_empty());
        }
    }
}

#[test]
fn fixed_images() {
    let mut fixed = Image::dynamic(*b"win ", 3 << 20);
    fixed.kind = 2;
    let good = fixed.build();
    let disk = &good[..3 << 20];
    assert_eq!(mended(&good).unwrap().0, Vec::<String>::new());
    let footer = &good[3 << 20..];
    for (behind, healed) in [
        (vec![0; 5 << 20], true),
        (vec![0; 1], true),
        (vec![7; 511], true),
        (vec![7; 60_000], true),
        (vec![7; 70_000], false),
        ([vec![7; 1000], vec![0; 200_000]].concat(), true),
    ] {
        let file = [&good, behind.as_slice()].concat();
        match mended(&file) {
            Ok((_, after)) => assert!(healed && after == good, "{} bytes", behind.len()),
            Err(error) => assert!(!healed, "{} bytes: {error}", behind.len()),
        }
        assert!(mend(&file, true).is_err(), "a device does not get shorter");
    }
    // A footer within the disk, which a guest may have written, is none.
    let mut guest = disk.to_vec();
    let mut small = footer.to_vec();
    small[48..56].copy_from_slice(&(1_u64 << 20).to_be_bytes());
    seal(&mut small, 64);
    guest[1 << 20..(1 << 20) + 512].copy_from_slice(&small);
    guest[2 << 20..].fill(7);
    assert!(mended(&guest).is_err());
    // A gap of zeros before the footer goes, one with bytes in it stays.
    for (byte, healed) in [(0, true), (1, false)] {
        let file = [disk, &[byte; 4096], footer].concat();
        let (_, after) = mended(&file).unwrap();
        assert_eq!(after == good, healed);
        assert_eq!(after == file, !healed);
    }
}

#[test]
fn what_lies_behind_the_disk_is_given_up() {
    let image = Image {
        entries: 40,
        blocks: vec![Block::whole(1), Block::whole(20), Block::whole(7)],
        ..Image::tap(8 << 20)
    };
    let file = image.build();
    let (says, after) = mended(&file).unwrap();
    assert!(says.iter().any(|text| text.starts_with("2 blocks")), "{says:?}");
    assert_clean(&mem(&after));
    assert_eq!(after.len(), file.len() - 2 * ((2 << 20) + 512));
    assert_same(&content(&after, None), &content(&file, None), "the disk");
    // Footers that do not agree on the size: nobody knows whose blocks these are.
    let mut differ = file.clone();
    differ[48..56].copy_from_slice(&(64_u64 << 20).to_be_bytes());
    seal(&mut differ[..512], 64);
    assert_eq!(mended(&differ).unwrap(), (Vec::new(), differ));
}

#[test]
fn damage_to_the_table_is_left() {
    let good =
        Image { blocks: vec![Block::whole(3), Block::whole(1)], ..Image::dynamic(*b"win ", 9 << 20) }.build();
    for (name, entry) in [("outside", 0x7000_0000_u32), ("over the header", 1), ("over another", 6)] {
        let mut file = good.clone();
        file[1536..1540].copy_from_slice(&entry.to_be_bytes());
        file[5] ^= 1; // and the copy of the footer
        assert_eq!(mended(&file).unwrap(), (Vec::new(), file), "{name}");
    }
    let poisoned = [b"v_poison", &good[8..]].concat();
    assert!(mended(&poisoned).is_err());
}

/// Random damage anywhere in the metadata: what can be read before reads the same afterwards, and what is mended is clean.
#[test]
fn random_damage() {
    let mut seed = 0x1234_5678_9abc_def1_u64;
    let mut below = |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) as usize % n
    };
    let read = |file: &[u8]| {
        let vhd = Vhd::open(mem(file), &limits()).ok()?;
        let mut buf = vec![0; vhd.len().to_usize()];
        vhd.read_at(Offset::ZERO, &mut buf).ok().map(|()| buf)
    };
    let (mut healed, mut left) = (0, 0);
    for (name, good) in images() {
        for _ in 0..60 {
            let mut file = good.clone();
            for _ in 0..=below(4) {
                let at =
                    if below(3) == 0 { good.len() - 1 - below(512) } else { below(good.len().min(3000)) };
                file[at] = below(256) as u8;
            }
            let Ok((says, after)) = mended(&file) else {
                left += 1;
                continue;
            };
            if let Some(before) = read(&file) {
                assert!(read(&after) == Some(before), "{name}: {says:?}");
            }
            let clean = Vhd::open(mem(&after), &limits()).unwrap().check().unwrap().is_clean();
            assert!(mended(&after).unwrap().0.is_empty(), "{name}: {says:?}: again");
            if clean { healed += usize::from(!says.is_empty()) } else { left += 1 }
        }
    }
    assert!(healed > 100 && left > 20, "{healed} mended, {left} left");
}
