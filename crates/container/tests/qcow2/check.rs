//! We find what `qemu-img check` finds.

use crate::kit::*;
use container::Severity;
use disk::Disk;
use ondisk::Offset;
use testkit::tool::run;

/// The exit code that our findings stand for.
fn ours(bytes: &[u8]) -> (i32, String) {
    let findings =
        match container::qcow2::Qcow2::open(disk::MemDisk::from_bytes(bytes), &disk::Limits::default()) {
            Ok(disk) => disk.check().unwrap(),
            Err(error) => return (1, error.to_string()),
        };
    let texts: Vec<_> = findings.iter().map(|finding| finding.text.as_str()).collect();
    let code = match (findings.count(Severity::Damage), findings.count(Severity::Leak)) {
        (0, 0) => 0,
        (0, _) => 3,
        _ => 2,
    };
    (code, texts.join("\n"))
}

#[test]
fn clean_images_are_clean() {
    let lab = Lab::new();
    for kind in KINDS {
        let image = lab.lived_in("image.qcow2", kind);
        assert_eq!(ours(&std::fs::read(&image).unwrap()), (0, String::new()), "{kind}");
        if kind.contains("preallocation") {
            continue; // qemu does not compress into these
        }
        let image = lab.compressed("compressed.qcow2", kind);
        assert_eq!(ours(&std::fs::read(&image).unwrap()), (0, String::new()), "{kind}");
    }
    let image = lab.lived_in("image.qcow2", "compat=1.1");
    run("qemu-img", ["bitmap", "--add", text(&image), "changes"]);
    qemu_io(&image, &["write -P 3 0 4M"]);
    assert_eq!(ours(&std::fs::read(&image).unwrap()), (0, String::new()));
    let mut bytes = std::fs::read(&image).unwrap();
    bytes[95] = 0;
    std::fs::write(&image, &bytes).unwrap();
    assert_eq!((qemu_check(&image).0, ours(&bytes).0), (3, 3), "stale bitmaps leak");
}

/// Bitmaps that the header does not count would pass for leaks, and a repair would free them.
#[test]
fn a_directory_holds_as_many_bitmaps_as_the_header_counts() {
    let lab = Lab::new();
    let image = lab.lived_in("image.qcow2", "compat=1.1");
    for name in ["one", "two"] {
        run("qemu-img", ["bitmap", "--add", text(&image), name]);
    }
    let mut bytes = std::fs::read(&image).unwrap();
    let extension = bytes.windows(4).position(|word| word == [0x23, 0x85, 0x28, 0x75]).unwrap();
    for (count, code) in [(2, 0), (1, 1), (3, 1)] {
        bytes[extension + 11] = count;
        std::fs::write(&image, &bytes).unwrap();
        assert_eq!((qemu_check(&image).0, ours(&bytes).0), (code, code), "{count}: {}", ours(&bytes).1);
    }
}

fn word(bytes: &[u8], at: usize) -> usize {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()) as usize & 0x00ff_ffff_ffff_fe00
}

/// Damage of every kind, and the exit code of both.
#[test]
fn damage_is_found() {
    let lab = Lab::new();
    let image = lab.lived_in("image.qcow2", "compat=1.1");
    let sound = std::fs::read(&image).unwrap();
    let (l1, table) = (word(&sound, 40), word(&sound, 48));
    let (l2, block) = (word(&sound, l1), word(&sound, table));
    let data = word(&sound, l2);
    let clusters = sound.len().div_ceil(65536);
    type Edit<'a> = &'a dyn Fn(&mut Vec<u8>);
    let cases: &[(&str, i32, &str, Edit)] = &[
        ("leak", 3, "refcount 7", &|b| {
            b.resize((clusters + 1) << 16, 0);
            b[block + 2 * clusters + 1] = 7;
        }),
        ("too high", 2, "refcount 7", &|b| b[block + 2 * (clusters - 1) + 1] = 7),
        ("too low", 2, "refcount 0", &|b| b[block + 2 * (data >> 16) + 1] = 0),
        ("copied", 2, "copied bit", &|b| b[l2 + 8 * 64] ^= 0x80),
        ("copied L1", 2, "copied bit of L1", &|b| b[l1] ^= 0x80),
        ("unaligned", 2, "middle of a cluster", &|b| b[l2 + 6] ^= 2),
        ("behind the end", 2, "behind the end", &|b| b[l2 + 3] = 0x77),
        ("L1 into nothing", 2, "behind the end", &|b| b[l1 + 3] = 0x77),
        ("data is L2", 2, "is L2 table and data", &|b| b.copy_within(l1..l1 + 8, l2)),
        ("data is header", 2, "middle of a cluster|reserved", &|b| b[l2 + 7] |= 2),
        ("refcount block lost", 2, "refcount 0", &|b| b[table..table + 8].fill(0)),
        ("refcount block is data", 2, "is refcount block and", &|b| {
            b[table + 8..table + 16].copy_from_slice(&(data as u64).to_be_bytes())
        }),
        ("two places, one cluster", 2, "but", &|b| b.copy_within(l2..l2 + 8, l2 + 8 * 5)),
    ];
    for (name, code, words, edit) in cases {
        let mut bytes = sound.clone();
        edit(&mut bytes);
        let (found, text) = ours(&bytes);
        assert_eq!(found, *code, "{name}: {text}");
        assert!(words.split('|').any(|words| text.contains(words)), "{name}: {text}");
        let copy = lab.path("damaged.qcow2");
        std::fs::write(&copy, &bytes).unwrap();
        let (theirs, said) = qemu_check(&copy);
        assert_eq!(theirs, *code, "{name}: qemu says {said}");
        let written = open(disk::MemDisk::from_bytes(&bytes)).write_at(Offset::ZERO, b"x");
        assert_eq!(written.is_ok(), *code == 3, "{name}: damage is not written to");
    }
}

/// Any byte of a table changed: both have the same opinion of the image.
#[test]
fn opinions_agree_on_mutated_tables() {
    let lab = Lab::new();
    let mut random = Random(0xabcdef);
    let mut codes = Vec::new();
    for kind in ["cluster_size=4k", "compat=0.10,cluster_size=512", "extended_l2=on,cluster_size=16k"] {
        for image in [lab.lived_in("image.qcow2", kind), lab.compressed("compressed.qcow2", kind)] {
            if !kind.contains("0.10") {
                run("qemu-img", ["bitmap", "--add", text(&image), "changes"]);
            }
            let sound = std::fs::read(&image).unwrap();
            let tables: Vec<_> = table_sectors(&sound).into_iter().filter(|sector| *sector > 0).collect();
            for _ in 0..40 {
                let mut bytes = sound.clone();
                let at =
                    tables[random.below(tables.len() as u64) as usize] * 512 + random.below(512) as usize;
                bytes[at] = mutated(&mut random, bytes[at]);
                let copy = lab.path("mutated.qcow2");
                std::fs::write(&copy, &bytes).unwrap();
                let ((code, text), (theirs, said)) = (ours(&bytes), qemu_check(&copy));
                // 1 is that somebody gives up in view of the damage.
                let agree = code == theirs || (matches!(code, 1 | 2) && matches!(theirs, 1 | 2));
                assert!(agree, "{kind}, byte {at}: we say {code} {text}\nqemu says {theirs} {said}");
                codes.push(code);
            }
        }
    }
    for code in [0, 2, 3] {
        assert!(codes.contains(&code), "no mutation ended as {code}");
    }
}
