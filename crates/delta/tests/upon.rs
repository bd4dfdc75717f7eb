//! Patches that are made without the base, of its signature.

use crate::support::{apply, upon, with_cx};
use delta::{Stats, signature};
use disk::MemDisk;
use testkit::images::noise;
use testkit::sim::Rng;

fn signed(base: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let len = with_cx(|cx| signature(&MemDisk::from_bytes(base), &mut out, cx)).unwrap();
    assert_eq!(len.get(), out.len() as u64);
    out
}

fn round(what: &str, bases: &[&[u8]], target: &[u8]) -> Stats {
    let signatures: Vec<_> = bases.iter().map(|base| signed(base)).collect();
    let (patch, stats) = upon(&signatures, target).unwrap();
    assert!(apply(bases, &patch).unwrap() == target, "{what}");
    stats
}

#[test]
fn sizes() {
    let base = noise(1, 9 << 20);
    for len in [0, 1, 4095, 4 << 20, (4 << 20) + 1, 9 << 20] {
        let stats = round("the head of the base", &[&base], &base[..len]);
        assert!(stats.literals < 4096, "{len}: {stats:?}");
        round("from an empty base", &[&[]], &base[..len]);
    }
    let longer = [base.as_slice(), &vec![0; 20 << 20]].concat();
    let stats = round("grown", &[&base], &longer);
    assert_eq!((stats.literals, stats.copied, stats.unchanged), (0, 1 << 20, 25 << 20));
}

#[test]
fn blocks_are_found_wherever_they_went() {
    let [a, b] = [noise(2, 10 << 20), noise(3, 5 << 20)];
    let new = noise(4, 100_000);
    let stats = round("shifted", &[&a], &[&new[..777], &a, &new[777..]].concat());
    assert!(stats.literals < 100_000 + 4 * 4096, "{stats:?}");
    let mut holed = a.clone();
    holed[3 << 20..(3 << 20) + 600_000].fill(0);
    let target = [&b[1 << 20..], &new, &holed[5..], &vec![0; 100_000], &new, &b[..1 << 20]].concat();
    let stats = round("two bases", &[&a, &b], &target);
    assert!(stats.literals < 100_000 + 16 * 4096 && stats.again > 90_000, "{stats:?}");
    let mut changed = a.clone();
    (0..changed.len()).step_by(50_000).for_each(|at| changed[at] ^= 1);
    let stats = round("a byte in 50,000", &[&a], &changed);
    assert!(stats.literals <= 4096 * (1 + (10 << 20) / 50_000), "{stats:?}");
}

/// A few bytes for each block that is not zero, and nothing for the others.
#[test]
fn it_is_small() {
    let mut disk = vec![0; 24 << 20];
    let empty = signed(&disk).len();
    assert!(empty < 400, "{empty}");
    disk[5 << 20..6 << 20].copy_from_slice(&noise(5, 1 << 20));
    assert_eq!(signed(&disk).len(), empty + 256 * 16 + 16);
}

/// Cut anywhere, changed anywhere: refused.
#[test]
fn damage() {
    let base = noise(6, 30_000);
    let sound = signed(&base);
    assert!(upon(std::slice::from_ref(&sound), &base).is_ok());
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x41;
        assert!(upon(&[bytes], &base).is_err(), "byte {at}");
        assert!(upon(&[sound[..at].to_vec()], &base).is_err(), "cut to {at}");
    }
}

/// What lies under a right digest and makes no sense is refused, or leads to a patch all the same.
#[test]
fn hostile_signatures() {
    let base = [noise(7, 300_000), vec![0; 50_000], noise(8, 70_000)].concat();
    let sound = signed(&base);
    let sealed = sound.len() - 40;
    let (mut random, mut refused) = (Rng::new(9), 0);
    for _ in 0..3000 {
        let mut bytes = sound.clone();
        for _ in 0..=random.pick(3) {
            // The end and the tables are what is worth changing.
            let at = if random.pick(2) == 0 { sealed - 1 - random.pick(130) } else { random.pick(sealed) };
            bytes[at] = [0, 1, 0x7f, 0xff, bytes[at].wrapping_add(1)][random.pick(5)];
        }
        let digest = *blake3::hash(&bytes[..sealed]).as_bytes();
        bytes[sealed..sealed + 32].copy_from_slice(&digest);
        refused += usize::from(upon(&[bytes], &base[5000..]).is_err());
    }
    assert!(refused > 1000, "{refused}");
}
