//! What is refused, and what is forgiven.

use super::*;
use container::probe::{for_reading, for_writing, probe};
use container::{Error, Format, Mapped};
use disk::Disk;
use ondisk::{Class, Classified};
use testkit::vhd::{Block, Image, seal};

fn image() -> Image {
    Image { blocks: vec![Block::whole(3), Block::whole(1)], ..Image::dynamic(*b"win ", 9 << 20) }
}

/// The error of opening, writing to, or surveying a file for a write.
fn refusal(file: &[u8]) -> Option<(Class, String)> {
    let mut vhd = match Vhd::open(mem(file), &limits()) {
        Ok(vhd) => vhd,
        Err(error) => return Some((error.class(), error.to_string())),
    };
    let error = vhd.write_at(Offset::new(700), &[1; 1000]).err()?;
    assert!(vhd.plan_grow(Len::gib(1)).is_err(), "{error}");
    assert_eq!(vhd.file().to_vec(), file, "nothing was written");
    Some((error.class(), error.to_string()))
}

fn patched(file: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

/// Patches both footers and seals them.
fn footers(file: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let end = file.len() - 512;
    let mut file = patched(&patched(file, at, bytes), end + at, bytes);
    seal(&mut file[..512], 64);
    seal(&mut file[end..], 64);
    file
}

fn header(file: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = patched(file, 512 + at, bytes);
    seal(&mut file[512..1536], 36);
    file
}

#[test]
fn hostile_values_are_refused_before_any_write() {
    let good = image().build();
    let end = good.len();
    assert_eq!(refusal(&good), None);
    let be = |n: u64| n.to_be_bytes();
    let block3 = 2048_u32 / 512;
    let cases: Vec<(&str, Vec<u8>, Class)> = vec![
        ("footer sum", patched(&good, end - 400, &[1]), Class::Corrupt),
        ("copy sum", patched(&good, 100, &[1]), Class::Corrupt),
        ("both sums", patched(&patched(&good, 100, &[1]), end - 400, &[1]), Class::Corrupt),
        ("poison", patched(&good, end - 512, b"v_poison"), Class::Refused),
        ("hidden", footers(&good, 85, &[1]), Class::Refused),
        ("saved", footers(&good, 84, &[1]), Class::Refused),
        ("type 5", footers(&good, 60, &[0, 0, 0, 5]), Class::Corrupt),
        ("data offset", footers(&good, 16, &be(u64::MAX - 5)), Class::Corrupt),
        ("data offset 0", footers(&good, 16, &be(0)), Class::Corrupt),
        ("odd size", footers(&good, 48, &be((9 << 20) + 1)), Class::Corrupt),
        ("huge size", footers(&good, 48, &be(u64::MAX - 511)), Class::Corrupt),
        ("more blocks than entries", footers(&good, 48, &be(11 << 20)), Class::Corrupt),
        ("header sum", patched(&good, 600, &[1]), Class::Corrupt),
        ("block size 0", header(&good, 32, &[0, 0, 0, 0]), Class::Corrupt),
        ("block size 3", header(&good, 32, &[0, 0, 0, 3]), Class::Corrupt),
        ("block size 2^31", header(&good, 32, &[0x80, 0, 0, 0]), Class::Corrupt),
        ("block size 256", header(&good, 32, &[0, 0, 1, 0]), Class::Corrupt),
        ("entries", header(&good, 28, &[0xff; 4]), Class::Corrupt),
        ("table in the head", header(&good, 16, &be(512)), Class::Corrupt),
        ("table at 0", header(&good, 16, &be(0)), Class::Corrupt),
        ("table behind", header(&good, 16, &be(u64::MAX - 600)), Class::Corrupt),
        ("block in the head", patched(&good, 1536, &[0, 0, 0, 1]), Class::Corrupt),
        ("block at 0", patched(&good, 1536, &[0, 0, 0, 0]), Class::Corrupt),
        ("block twice", patched(&good, 1536, &block3.to_be_bytes()), Class::Corrupt),
        ("blocks overlap", patched(&good, 1536 + 8, &(block3 + 7).to_be_bytes()), Class::Corrupt),
        (
            "block over the footer",
            patched(&good, 1536, &u32::try_from(end / 512 - 4097).unwrap().to_be_bytes()),
            Class::Corrupt,
        ),
        ("block outside", patched(&good, 1536, &[0xff, 0xff, 0xff, 0xfe]), Class::Corrupt),
        ("truncated", good[..end - 512].to_vec(), Class::Corrupt),
        ("truncated in a block", good[..end - 5000].to_vec(), Class::Corrupt),
        ("empty", Vec::new(), Class::Corrupt),
        ("short", vec![0; 511], Class::Corrupt),
    ];
    for (name, file, class) in cases {
        let (found, text) = refusal(&file).unwrap_or_else(|| panic!("{name} is accepted"));
        assert_eq!(found, class, "{name}: {text}");
    }
}

#[test]
fn a_locator_over_a_block_is_found() {
    let good = image().build();
    let mut locator = [0_u8; 24];
    locator[..4].copy_from_slice(b"W2ru");
    locator[6] = 2;
    locator[16..24].copy_from_slice(&5000_u64.to_be_bytes());
    let (class, text) = refusal(&header(&good, 576, &locator)).unwrap();
    assert_eq!(class, Class::Corrupt, "{text}");
}

#[test]
fn the_footer_that_is_left_opens_the_image() {
    let good = image().build();
    let expect = all(&open(&good));
    for broken in [patched(&good, 100, &[1]), patched(&good, good.len() - 400, &[1])] {
        let vhd = open(&broken);
        assert_same(&all(&vhd), &expect, "content");
        assert_eq!(vhd.check().unwrap().count(container::Severity::Damage), 1);
    }
    let differs = {
        let mut file = patched(&good, 24, &[9]);
        seal(&mut file[..512], 64);
        file
    };
    assert_eq!(open(&differs).check().unwrap().count(container::Severity::Damage), 1);
    assert!(refusal(&differs).is_some());
}

#[test]
fn a_footer_of_511_bytes() {
    for image in [image(), Image { kind: 2, ..image() }] {
        let good = image.build();
        let short = &good[..good.len() - 1];
        let vhd = open(short);
        assert_same(&all(&vhd), &all(&open(&good)), "content");
        let after = edited(&mem(short), |vhd| vhd.write_at(Offset::new(5 << 20), &[7; 5000]).unwrap());
        let mut expect = all(&vhd);
        expect[5 << 20..(5 << 20) + 5000].fill(7);
        assert_same(&all(&Vhd::open(&after, &limits()).unwrap()), &expect, "after a write");
        assert_eq!(probe(&mem(short), None).unwrap().format, Format::Vhd);
        let plan = vhd.plan_grow(Len::mib(30)).unwrap();
        let grown = changed(&mem(short), |overlay| plan.apply(overlay).unwrap());
        expect = all(&vhd);
        expect.resize(30 << 20, 0);
        assert_same(&testkit::vhd::content(&grown.to_vec(), None), &expect, "grown");
    }
}

#[test]
fn an_early_tapdisk_hid_its_images_without_a_checksum() {
    let early = Image { version: 1, batmap: false, ..Image::tap(4 << 20) };
    let mut file = early.build();
    let end = file.len() - 512;
    file[85] = 1;
    file[end + 85] = 1;
    assert!(open(&file).is_hidden());
    let mut late = Image { version: 0x0001_0003, ..early }.build();
    late[end + 85] = 1;
    late[85] = 1;
    assert!(Vhd::open(mem(&late), &limits()).is_err());
}

#[test]
fn virtual_pc_reads_the_geometry() {
    let len = 136_365_211_648_u64;
    let chs = (65_535, 16, 255);
    for (creator, chs, expect) in [
        (*b"vpc ", chs, len),
        (*b"win ", (1000, 16, 63), len),
        (*b"vpc ", (1000, 16, 63), 1000 * 16 * 63 * 512),
        (*b"qemu", (1000, 16, 63), 1000 * 16 * 63 * 512),
        (*b"qemu", (0, 16, 63), len),
    ] {
        let file = Image { chs, ..Image::dynamic(creator, len) }.build();
        assert_eq!(open(&file).len().get(), expect, "{creator:?} {chs:?}");
    }
}

#[test]
fn a_probe_proves_or_refuses() {
    let dynamic = image().build();
    let fixed = Image { kind: 2, ..image() }.build();
    let raw = vec![0; 1 << 20];
    let ambiguous =
        |error: &Error| matches!(error, Error::Ambiguous { .. }) && error.help().unwrap().contains("-f raw");
    for (file, format) in [(&dynamic, Format::Vhd), (&fixed, Format::Vhd), (&raw, Format::Raw)] {
        assert_eq!(for_reading(&mem(file), Some("x.img"), None).unwrap(), format);
        assert_eq!(for_writing(&mem(file), Some("x.img"), Some(format)).unwrap(), format);
        assert_eq!(for_writing(&mem(file), Some("x.raw"), None).unwrap(), Format::Raw, "the name says it");
    }
    assert_eq!(for_writing(&mem(&dynamic), Some("a/x.VHD"), None).unwrap(), Format::Vhd);
    assert_eq!(for_writing(&mem(&raw), Some("disk"), None).unwrap(), Format::Raw);
    for file in [&dynamic, &fixed] {
        let error = for_writing(&mem(file), Some("x.img"), None).unwrap_err();
        assert!(ambiguous(&error) && error.help().unwrap().contains("-f vhd"), "{error}");
    }
    // A polyglot: the head of a dynamic image in the first sectors of a fixed one.
    let head = dynamic[..dynamic.len() - 512].to_vec();
    let end = u64::try_from(head.len()).unwrap();
    let tail = Image { kind: 2, ..Image::dynamic(*b"win ", 0) }.build();
    let mut polyglot = [head, tail].concat();
    let footer = polyglot.len() - 512;
    polyglot[footer + 48..footer + 56].copy_from_slice(&end.to_be_bytes());
    seal(&mut polyglot[footer..], 64);
    assert!(ambiguous(&for_reading(&mem(&polyglot), None, None).unwrap_err()));
    // An old footer in the middle of nowhere is no fixed image.
    let stale = [vec![0; 4096], fixed[fixed.len() - 512..].to_vec()].concat();
    assert_eq!(for_reading(&mem(&stale), None, None).unwrap(), Format::Raw);
    // A damaged head is not raw either.
    let damaged = header(&dynamic, 32, &[0, 0, 0, 3]);
    assert!(ambiguous(&for_reading(&mem(&damaged), None, None).unwrap_err()));
    let mut poisoned = dynamic.clone();
    poisoned[..8].copy_from_slice(b"v_poison");
    assert_eq!(for_reading(&mem(&poisoned), None, None).unwrap_err().class(), Class::Refused);
}

#[test]
fn others_are_known_by_name() {
    let heads: [(&[u8], usize, &str); 3] = [
        (b"\xbe\xba\xfe\xca\0\0\0\0", 0, "SEsparse"),
        (b"LUKS\xba\xbe", 0, "LUKS"),
        (&[0x1f, 0x8b, 8], 0, "gzip"),
    ];
    for (magic, at, name) in heads {
        let file = mem(&patched(&vec![0; 4096], at, magic));
        for error in [for_reading(&file, Some("x.img"), None), for_writing(&file, None, None)] {
            let error = error.unwrap_err();
            assert_eq!(error.class(), Class::Unsupported);
            assert!(error.to_string().contains(name), "{error}");
        }
        assert_eq!(for_writing(&file, None, Some(Format::Raw)).unwrap(), Format::Raw, "told is final");
    }
}

/// Random damage with right checksums: an error or an answer, never a panic, and no write to a damaged map.
#[test]
fn random_damage_is_survived() {
    let small =
        Image { blocks: vec![Block::whole(3), Block::whole(1)], ..Image::tap(64 << 10).with_block(4096) };
    let good = small.build();
    let end = good.len() - 512;
    let mut dice = 99_u64;
    let mut roll = |below: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) as usize % below
    };
    let mut opened = 0;
    for _ in 0..4000 {
        let mut file = good.clone();
        for _ in 0..1 + roll(3) {
            let value = [0, 1, 0x7f, 0x80, 0xff, roll(256) as u8][roll(6)];
            // Head fields, locators, table, batmap.
            let at =
                [16 + roll(70), 512 + roll(56), 1088 + roll(192), 1536 + roll(64), 2048 + roll(32)][roll(5)];
            file[at] = value;
            if at < 512 && roll(3) > 0 {
                file[end + at] = value;
            }
        }
        for at in [0, end] {
            seal(&mut file[at..at + 512], 64);
        }
        seal(&mut file[512..1536], 36);
        if roll(9) == 0 {
            file.truncate(roll(file.len()));
        }
        let _ = probe(&mem(&file), None);
        let Ok(mut vhd) = Vhd::open(mem(&file), &limits()) else { continue };
        opened += 1;
        let len = vhd.len().get();
        let range = span(0, len.min(1 << 20));
        let mut buf = vec![0; range.len().to_usize()];
        let _ =
            (vhd.read_at(Offset::ZERO, &mut buf), vhd.extents(range), vhd.status(range), vhd.parent_ref());
        let findings = vhd.check().unwrap();
        let damaged = findings.count(container::Severity::Damage) > 0;
        for to in [len.saturating_add(512), len.saturating_add(1 << 20)] {
            if let Ok(plan) = vhd.plan_grow(Len::new(to)) {
                assert!(!damaged, "a plan over {findings:?}");
                let mut grown = mem(&file);
                plan.apply(&mut grown).unwrap();
                let vhd = Vhd::open(&grown, &limits()).unwrap();
                assert!(vhd.len().get() >= to);
                assert_eq!(vhd.check().unwrap().count(container::Severity::Damage), 0);
            }
        }
        let at = Offset::new(range.len().get().saturating_sub(600));
        let done = vhd.write_at(at, &buf[..buf.len().min(600)]).is_ok() && vhd.zero(range).is_ok();
        assert!(!(done && damaged && !buf.is_empty()), "a write over {findings:?}");
    }
    assert!(opened > 500, "{opened}");
}
