//! What is mended is clean for qemu as well and reads as before; what is not is left as it was.

use crate::kit::*;
use container::{Format, Severity, repair};
use disk::{Limits, MemDisk, Overlay, ReadAt};
use testkit::tool::run;

/// Mends a copy in memory: what was said, and the file afterwards.
fn mended(bytes: &[u8]) -> container::Result<(Vec<String>, Vec<u8>)> {
    let base = MemDisk::from_bytes(bytes);
    let mut overlay = Overlay::new(&base, &Limits::default());
    let says = repair::mend(&mut overlay, Format::Qcow2, false, &Limits::default())?;
    let seen = whole(&overlay);
    let change = overlay.into_change().unwrap();
    assert_eq!(change.is_empty(), says.is_empty(), "{says:?}");
    let mut after = base.clone();
    after.apply(&change).unwrap();
    assert_eq!(after.to_vec(), seen);
    Ok((says, seen))
}

fn is_clean(bytes: &[u8]) -> bool {
    let disk = container::qcow2::Qcow2::open(MemDisk::from_bytes(bytes), &Limits::default());
    disk.is_ok_and(|disk| disk.check().is_ok_and(|findings| findings.is_clean()))
}

/// What the virtual disk reads as, where all of it can be read.
fn content_of(bytes: &[u8]) -> Option<Vec<u8>> {
    let disk = container::qcow2::Qcow2::open(MemDisk::from_bytes(bytes), &Limits::default()).ok()?;
    let mut buf = vec![0; disk.len().to_usize()];
    disk.read_at(ondisk::Offset::ZERO, &mut buf).ok().map(|()| buf)
}

fn judge(lab: &Lab, bytes: &[u8], when: &str) {
    let copy = lab.path("mended.qcow2");
    std::fs::write(&copy, bytes).unwrap();
    assert_clean(&copy, when);
}

fn word(bytes: &[u8], at: usize) -> usize {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()) as usize & 0x00ff_ffff_ffff_fe00
}

#[test]
fn a_sound_image_is_not_touched() {
    let lab = Lab::new();
    for kind in KINDS {
        let bytes = std::fs::read(lab.lived_in("image.qcow2", kind)).unwrap();
        assert_eq!(mended(&bytes).unwrap(), (Vec::new(), bytes), "{kind}");
    }
}

/// All accounts wrong at once, in every kind of image.
#[test]
fn all_refcounts_lost() {
    let lab = Lab::new();
    for (number, kind) in KINDS.iter().enumerate() {
        // qemu does not compress into preallocated images.
        let packed = (!kind.contains("preallocation")).then(|| lab.compressed("packed.qcow2", kind));
        for image in packed.into_iter().chain([lab.lived_in("image.qcow2", kind)]) {
            let sound = std::fs::read(&image).unwrap();
            let want = content_of(&sound).unwrap();
            let table = word(&sound, 48);
            type Edit<'a> = &'a dyn Fn(&mut Vec<u8>);
            let edits: &[(&str, Edit)] = &[
                ("the table names no block", &|b| b[table..table + 512].fill(0)),
                ("the table is garbage", &|b| b[table..table + 512].fill(0xa5)),
                ("no table", &|b| b[48..60].fill(0)),
                ("a table out of the file", &|b| b[48] = 0x7f),
                ("a table over the header", &|b| b[48..56].fill(0)),
                ("a table over L1", &|b| b.copy_within(40..48, 48)),
                ("many tables", &|b| b[56..60].fill(0xff)),
            ];
            // Each edit meets some of the kinds, and each kind some of the edits.
            for (name, edit) in edits.iter().skip(number % 5).step_by(5) {
                let mut bytes = sound.clone();
                edit(&mut bytes);
                let (says, after) = mended(&bytes).unwrap();
                assert!(!says.is_empty(), "{kind}: {name}");
                assert!(is_clean(&after), "{kind}: {name}: {says:?}");
                judge(&lab, &after, &format!("{kind}: {name}"));
                assert!(content_of(&after).unwrap() == want, "{kind}: {name}");
                assert_eq!(mended(&after).unwrap().0, Vec::<String>::new(), "{kind}: {name}: again");
            }
        }
    }
}

#[test]
fn marks_are_taken_back_where_nothing_is_wrong_any_more() {
    let lab = Lab::new();
    let image = lab.lived_in("image.qcow2", "lazy_refcounts=on");
    let sound = std::fs::read(&image).unwrap();
    for mark in 1..=3 {
        let mut bytes = sound.clone();
        bytes[79] = mark;
        bytes[88] = 0x80; // an autoclear bit that nobody knows
        let (says, after) = mended(&bytes).unwrap();
        assert_eq!((says.len(), after[79], after[88]), (1, 0, 0));
        judge(&lab, &after, "marked");
    }
}

/// Whether qemu finds nothing either, or did not even open the image before.
fn agrees(lab: &Lab, before: &[u8], after: &[u8]) -> bool {
    let codes = [after, before].map(|bytes| {
        let copy = lab.path("mutated.qcow2");
        std::fs::write(&copy, bytes).unwrap();
        qemu_check(&copy).0
    });
    matches!(codes, [0, _] | [1, 1])
}

/// Any byte of header and tables changed: what is mended is clean for qemu too, and nothing reads otherwise.
#[test]
fn mutations_are_mended_or_left() {
    let lab = Lab::new();
    let mut random = Random(0x5eed);
    let (mut healed, mut left) = (0, 0);
    for kind in ["cluster_size=4k", "compat=0.10,cluster_size=512", "extended_l2=on,cluster_size=16k"] {
        for image in [lab.lived_in("image.qcow2", kind), lab.compressed("packed.qcow2", kind)] {
            if !kind.contains("0.10") {
                run("qemu-img", ["bitmap", "--add", text(&image), "changes"]);
            }
            let sound = std::fs::read(&image).unwrap();
            let tables = table_sectors(&sound);
            for _ in 0..20 {
                let mut bytes = sound.clone();
                for _ in 0..=random.below(3) {
                    let sector = tables[random.below(tables.len() as u64) as usize];
                    let at = sector * 512 + random.below(if sector == 0 { 112 } else { 512 }) as usize;
                    bytes[at] = mutated(&mut random, bytes[at]);
                }
                let Ok((says, after)) = mended(&bytes) else {
                    left += 1;
                    continue;
                };
                if let Some(before) = content_of(&bytes) {
                    assert!(content_of(&after).as_ref() == Some(&before), "{kind}: {says:?}");
                }
                if is_clean(&after) {
                    healed += usize::from(!says.is_empty());
                    assert!(agrees(&lab, &bytes, &after), "{kind}: {says:?}");
                    assert!(mended(&after).unwrap().0.is_empty(), "{kind}: {says:?}: again");
                } else {
                    left += 1;
                    assert!(says.is_empty(), "{kind}: half mended: {says:?}");
                }
            }
        }
    }
    assert!(healed > 10 && left > 10, "{healed} mended, {left} left");
}

#[test]
fn damage_to_the_mapping_is_left() {
    let lab = Lab::new();
    let sound = std::fs::read(lab.lived_in("image.qcow2", "compat=1.1")).unwrap();
    let l2 = word(&sound, word(&sound, 40));
    let mut bytes = sound.clone();
    bytes[l2 + 3] = 0x77; // behind the end
    bytes[word(&sound, word(&sound, 48)) + 3] = 0; // and a refcount
    let (says, after) = mended(&bytes).unwrap();
    assert!(says.is_empty() && after == bytes);
    let disk = open(MemDisk::from_bytes(&after));
    assert!(disk.check().unwrap().count(Severity::Damage) > 0);
}
