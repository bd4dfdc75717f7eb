//! Whatever two disks have in common, a patch makes the one from the other.

use crate::support::{LIMITS, OPTIONS, apply, open, patch, patch_by};
use delta::{Codec, Options, Stats, create, survey};
use disk::{Cancel, Cx, Limits, MemDisk, Progress, Quiet, ReadAt, Task, Total};
use ondisk::Len;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use testkit::images::noise;

fn round(what: &str, bases: &[&[u8]], target: &[u8]) -> Stats {
    let (patch, stats) = patch(bases, target);
    assert_eq!(patch.len() as u64, stats.patch, "{what}");
    assert!(apply(bases, &patch).unwrap() == target, "{what}");
    let turned: Vec<&[u8]> = bases.iter().rev().copied().collect();
    assert!(apply(&turned, &patch).unwrap() == target, "{what}, bases in another order");
    let covered = stats.unchanged + stats.copied + stats.zeros + stats.again + stats.literals;
    assert_eq!(covered, target.len() as u64, "{what}: {stats:?}");
    stats
}

#[test]
fn sizes() {
    let base = noise(1, 9 << 20);
    for len in [0, 1, 511, 4 << 20, (4 << 20) + 1, 9 << 20] {
        let stats = round("the head of the base", &[&base], &base[..len]);
        assert_eq!(stats.literals, 0);
        round("from nothing", &[], &base[..len]);
        round("from an empty base", &[&[]], &base[..len]);
    }
    let longer = [base.as_slice(), &vec![0; 20 << 20]].concat();
    let stats = round("grown", &[&base], &longer);
    // Of the third window the base has a part.
    assert_eq!((stats.literals, stats.copied, stats.unchanged), (0, 1 << 20, 25 << 20));
    assert!(stats.patch < 600, "{stats:?}");
}

#[test]
fn what_was_moved_is_found() {
    let base = noise(2, 12 << 20);
    let moved = [&noise(3, 777), &base[5 << 20..12 << 20], &base[..5 << 20]].concat();
    let stats = round("turned", &[&base], &moved);
    assert!(stats.literals < 2000, "{stats:?}");
    let mut changed = base.clone();
    for at in (0..changed.len()).step_by(10_000) {
        changed[at] ^= 1;
    }
    let stats = round("a byte in 10,000", &[&base], &changed);
    assert!(stats.literals < 30_000, "{stats:?}");
}

#[test]
fn what_comes_twice_is_stored_once() {
    let new = noise(4, 6 << 20);
    let target = [new.as_slice(), &noise(5, 1000), &new, &[0; 5000], &new[1 << 20..]].concat();
    let stats = round("twice", &[&noise(6, 1 << 20)], &target);
    assert!(stats.literals < (6 << 20) + 10_000, "{stats:?}");
    assert!(stats.again > 10 << 20, "{stats:?}");
}

#[test]
fn several_bases() {
    let [a, b] = [noise(7, 5 << 20), noise(8, 6 << 20)];
    let target = [&b[1 << 20..], &a[..3 << 20], &b[..1 << 20], &a[3 << 20..]].concat();
    let stats = round("of two", &[&a, &b], &target);
    assert!(stats.literals < 1000, "{stats:?}");
}

/// Code, text and noise among each other, beside what they were changed from: with every codec and size of frames.
#[test]
fn every_codec_and_level() {
    let code = |seed: u32| -> Vec<u8> {
        (0..30_000_u32)
            .flat_map(|at| {
                let to = (at.wrapping_mul(seed) % 97).wrapping_mul(4096).wrapping_sub(at * 13).to_le_bytes();
                [
                    0xe8,
                    to[0],
                    to[1],
                    to[2],
                    if to[3] < 128 { 0 } else { 255 },
                    0x48,
                    0x89,
                    (at % 7) as u8,
                    0xc3,
                ]
            })
            .collect()
    };
    let text = |step: usize| -> Vec<u8> {
        (0..60_000).step_by(step).flat_map(|line| format!("line {line} of a log\n").into_bytes()).collect()
    };
    let base = [code(3), text(2), noise(20, 1 << 20)].concat();
    let target = [text(3), noise(21, 1 << 20), code(5), text(7), noise(20, 100_000)].concat();
    let mut sizes = Vec::new();
    for (codec, level) in [(Codec::Zstd, 1), (Codec::Zstd, 9), (Codec::Zstd, 15), (Codec::Xz, 6)] {
        let (patch, _) = patch_by(Options { codec, level, ..OPTIONS }, &[&base], &target);
        assert!(apply(&[&base], &patch).unwrap() == target, "{codec:?}, level {level}");
        assert_eq!(open(&patch).unwrap().codecs().unwrap(), [codec]);
        sizes.push(patch.len());
    }
    // What is noise stays as large as it is; beside it there is little.
    assert!(sizes.iter().all(|size| (1 << 20..3 << 19).contains(size)), "{sizes:?}");
}

#[test]
fn a_patch_does_not_depend_on_the_number_of_threads() {
    let base = noise(9, 30 << 20);
    let mut target = base.clone();
    target.rotate_left(12_345);
    for at in (0..target.len()).step_by(777) {
        target[at] = 0;
    }
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let one = pool(1).install(|| patch(&[&base], &target));
    assert!(one == pool(4).install(|| patch(&[&base], &target)));
}

/// Adds up what it is told.
#[derive(Default)]
struct Told(Arc<AtomicU64>);

impl Progress for Told {
    fn task(&self, _: &str, _: Total) -> Box<dyn Task> {
        Box::new(Self(Arc::clone(&self.0)))
    }
}

impl Task for Told {
    fn advance(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }
}

/// All of both sides is told of, whatever their sizes.
#[test]
fn progress_reaches_the_end() {
    let (base, target) = (vec![1; (300 << 20) + 5], vec![2; (41 << 20) + 7]);
    let (base, target) = (MemDisk::from_bytes(&base), MemDisk::from_bytes(&target));
    let (told, cancel) = (Told::default(), Cancel::new());
    let cx = Cx { progress: &told, cancel: &cancel, limits: LIMITS, now: 0 };
    let options = Options { level: 1, ..OPTIONS };
    create(&[&base], &target, options, &mut std::io::sink(), &cx).unwrap();
    assert_eq!(told.0.load(Ordering::Relaxed), base.len().get() + target.len().get());
}

#[test]
fn too_little_memory_is_called_so() {
    let disk = MemDisk::from_bytes(&[1; 2 << 20]);
    let cancel = Cancel::new();
    let limits = Limits { memory: Len::mib(1), ..LIMITS };
    let cx = Cx { progress: &Quiet, cancel: &cancel, limits, now: 0 };
    let error = survey(&disk, "base", &cx).unwrap_err().to_string();
    assert!(error.contains("bytes of memory"), "{error}");
}

#[test]
fn another_base_is_refused() {
    let base = noise(10, 5 << 20);
    let (patch, _) = patch(&[&base], &base[..3 << 20]);
    let mut other = base.clone();
    other[4 << 20] ^= 1;
    for wrong in [&[other.as_slice()][..], &[&base[1..]], &[]] {
        assert!(matches!(apply(wrong, &patch), Err(delta::Error::WrongBase { .. })));
    }
}

/// A patch cut at every byte, and with every byte changed: refused, or it makes the same.
#[test]
fn damage() {
    let base = noise(11, 200_000);
    let mut target = base.clone();
    target.rotate_left(100);
    target[5000..6000].fill(3);
    target[50_000..50_100].copy_from_slice(&noise(12, 100));
    let (patch, _) = patch(&[&base], &target);
    assert!(patch.len() < 1000, "{}", patch.len());
    for len in 0..patch.len() {
        assert!(apply(&[&base], &patch[..len]).is_err(), "cut to {len} bytes");
    }
    for at in 0..patch.len() {
        let mut bytes = patch.clone();
        bytes[at] ^= 0x11;
        assert!(apply(&[&base], &bytes).is_err(), "byte {at}");
    }
    assert!(apply(&[&base], &[patch.as_slice(), &[0]].concat()).is_err());
}

/// A block that was cleared is zeros, whatever zeros the base has there by chance.
#[test]
fn cleared_blocks_carry_nothing() {
    let mut base = noise(5, 1 << 20);
    base.chunks_exact_mut(200).for_each(|part| part[..40].fill(0));
    let mut target = base.clone();
    target[4096..500_000].fill(0);
    let (_, stats) = patch_by(OPTIONS, &[&base], &target);
    // Runs of zeros begin and end with words.
    assert!(stats.literals < 16, "{stats:?}");
    assert!(stats.zeros > 495_000, "{stats:?}");
}
