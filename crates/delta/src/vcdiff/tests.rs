//! Patches that lie.

use super::layout::{MAGIC, header, packed, window};
use super::{Decoded, Vcdiff, create, number};
use crate::{Error, Result};
use disk::{Cancel, Cx, Limits, MemDisk, Quiet, ReadAt};
use ondisk::num::{low8, to_u64};
use ondisk::{Class, Classified, Len, Offset};
use testkit::images::noise;
use testkit::sim::Rng;
use testkit::tool::{done, tool};

/// What is tried of each patch.
const PATCHES: usize = 2000;

const LIMITS: Limits = Limits { memory: Len::mib(64), threads: 1, chain_depth: 8, partitions: 64 };

/// What a patch makes, and whether something of that has no checksum.
fn apply(base: &[u8], patch: &[u8]) -> Result<(Vec<u8>, bool)> {
    let patch = Vcdiff::open(MemDisk::from_bytes(patch), &LIMITS)?;
    let disk = Decoded::new(patch, Some(MemDisk::from_bytes(base)), LIMITS)?;
    // Nobody is asked to make zeros for an hour.
    let len = disk.len().min(Len::mib(1));
    let mut bytes = vec![0; len.to_usize()];
    disk.read_at(Offset::ZERO, &mut bytes)?;
    Ok((bytes, disk.facts().unchecked > 0))
}

/// A base, a target that has something of everything, and patches of it: ours, and those of xdelta3, with their options.
type Samples = (Vec<u8>, Vec<u8>, Vec<(String, Vec<u8>)>);

fn samples() -> Samples {
    let base = noise(1, 20_000);
    let text: Vec<u8> = (0..9000).map(|at| low8(at / 90)).collect();
    let target =
        [&base[7000..], &noise(2, 3000), &text, &[0; 9000], &noise(2, 3000), &base[..5000], b"end"].concat();
    let cancel = Cancel::new();
    let cx = Cx { progress: &Quiet, cancel: &cancel, limits: LIMITS, now: 0 };
    let mut ours = Vec::new();
    let disks = (MemDisk::from_bytes(&base), MemDisk::from_bytes(&target));
    create(Some(&disks.0), &disks.1, 3, &mut ours, &cx).unwrap();
    let mut all = vec![("ours".to_owned(), ours)];
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("base"), &base).unwrap();
    std::fs::write(dir.path().join("target"), &target).unwrap();
    for options in ["-W 16384 -S none", "-W 16384 -S djw -n", "-W 16384 -S lzma", "-S fgk -n", "-S djw"] {
        let args = ["-e -f", options, "-s base target patch"].join(" ");
        done(tool("xdelta3").current_dir(dir.path()).args(args.split(' ')));
        all.push((options.to_owned(), std::fs::read(dir.path().join("patch")).unwrap()));
    }
    (base, target, all)
}

#[test]
fn hostile_patches() {
    let (base, target, patches) = samples();
    let mut random = Rng::new(7);
    for (name, sound) in patches {
        assert!(apply(&base, &sound).unwrap().0 == target, "{name}");
        for len in 0..sound.len() {
            // Cut between two windows, it is a shorter patch.
            let made = apply(&base, &sound[..len]);
            assert!(made.is_err() || made.is_ok_and(|(made, _)| target.starts_with(&made)), "{name}: {len}");
        }
        let (mut refused, checked) = (0, !name.contains("-n"));
        for _ in 0..PATCHES {
            let mut bytes = sound.clone();
            for _ in 0..=random.pick(3) {
                let at = random.pick(bytes.len());
                let flip = bytes[at] ^ (1 << random.pick(8));
                bytes[at] = [0, 1, 0x7f, 0xff, bytes[at].wrapping_add(1), flip][random.pick(6)];
            }
            match apply(&base, &bytes) {
                // A flag may have taken a checksum away, or a window its neighbour.
                Ok((made, unchecked)) => assert!(unchecked || made.len() != target.len() || made == target),
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().chars().any(char::is_control), "{error}");
                }
            }
        }
        assert!(!checked || refused > PATCHES / 2, "{name}: {refused} refused");
    }
}

/// A patch of one window.
fn one(flags: u8, segment: Option<(u64, u64)>, len: u64, packed: u8, sections: [&[u8]; 3]) -> Vec<u8> {
    let mut inner = Vec::new();
    number::put(&mut inner, len);
    inner.push(packed);
    sections.iter().for_each(|section| number::put(&mut inner, to_u64(section.len())));
    sections.iter().for_each(|section| inner.extend(*section));
    let mut out = MAGIC.to_vec();
    out.extend([0, flags]);
    if let Some((len, start)) = segment {
        number::put(&mut out, len);
        number::put(&mut out, start);
    }
    number::put(&mut out, to_u64(inner.len()));
    out.extend(inner);
    out
}

#[test]
fn what_the_rfc_allows() {
    let base = b"0123456789abcdef";
    // COPY 4 of the segment and ADD 1; COPY 8 that runs into itself; COPY 6 that begins in the segment and goes on in
    // what was made; RUN 3.
    let sections: [&[u8]; 3] = [b"xy", &[247, 24, 22, 0, 3], &[4, 8, 6]];
    let patch = one(window::SOURCE, Some((8, 4)), 4 + 1 + 8 + 6 + 3, 0, sections);
    assert_eq!(apply(base, &patch).unwrap().0, b"89abx89abx89aab89abyyy");
    let empty = one(0, None, 0, 0, [b"", b"", b""]);
    assert_eq!(apply(base, &empty).unwrap().0, b"");
}

#[test]
fn what_is_not_taken_is_named() {
    let base = noise(1, 100);
    let class = |patch: &[u8]| apply(&base, patch).unwrap_err();
    let run = |len: u64| {
        let mut instructions = vec![0];
        number::put(&mut instructions, len);
        instructions
    };
    assert_eq!(class(b"").class(), Class::Corrupt);
    assert_eq!(class(&[0xd6, 0xc3, 0xc4, b'S', 0]).class(), Class::Unsupported, "of another version");
    let custom = [MAGIC.as_slice(), &[header::CODE_TABLE, 9]].concat();
    assert!(class(&custom).to_string().contains("code table"));
    let unknown = [MAGIC.as_slice(), &[header::SECONDARY, 77]].concat();
    assert!(class(&unknown).to_string().contains("77"));
    let target = one(window::TARGET, Some((1, 0)), 1, 0, [b"", &run(1), b""]);
    assert!(class(&target).to_string().contains("VCD_TARGET"));
    assert_eq!(class(&target).class(), Class::Unsupported);
    let large = one(0, None, 65 << 20, 0, [&[0], &run(65 << 20), &[]]);
    assert!(matches!(class(&large), Error::TooLarge { .. }));
    let longer = one(window::SOURCE, Some((50, 51)), 1, 0, [&[0], &run(1), &[]]);
    assert!(matches!(class(&longer), Error::WrongBase { .. }));
    let packed = one(0, None, 1, packed::DATA, [&[0], &run(1), &[]]);
    assert!(matches!(class(&packed), Error::Damaged { .. }));
    for len in [0, 2] {
        let other = one(0, None, len, 0, [&[7], &run(1), &[]]);
        assert!(matches!(class(&other), Error::Disk(_) | Error::Damaged { .. }), "{len}");
    }
}
