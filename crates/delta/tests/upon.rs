//! Patches that are made without the base, of its signature.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

use delta::{Codec, DiskSignature, Options, Patch, Patched, Stats, create_upon, signature, survey};
use disk::{Cancel, Cx, Limits, MemDisk, Quiet, ReadAt};
use ondisk::{Len, Offset};

const LIMITS: Limits = Limits { memory: Len::mib(256), threads: 2, chain_depth: 8, partitions: 64 };

fn with_cx<T>(work: impl FnOnce(&Cx<'_>) -> T) -> T {
    let cancel = Cancel::new();
    work(&Cx { progress: &Quiet, cancel: &cancel, limits: LIMITS, now: 0 })
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn signed(base: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let len = with_cx(|cx| signature(&MemDisk::from_bytes(base), &mut out, cx)).unwrap();
    assert_eq!(len.get(), out.len() as u64);
    out
}

fn upon(signatures: &[Vec<u8>], target: &[u8]) -> delta::Result<(Vec<u8>, Stats)> {
    with_cx(|cx| {
        let open = |bytes: &Vec<u8>| DiskSignature::open(MemDisk::from_bytes(bytes), cx);
        let signatures = signatures.iter().map(open).collect::<delta::Result<Vec<_>>>()?;
        let mut out = Vec::new();
        let options = Options { codec: Codec::Zstd, level: 3, drop_free: false };
        let stats = create_upon(&signatures, &MemDisk::from_bytes(target), options, &mut out, cx)?;
        Ok((out, stats))
    })
}

fn round(what: &str, bases: &[&[u8]], target: &[u8]) -> Stats {
    let signatures: Vec<_> = bases.iter().map(|base| signed(base)).collect();
    let (patch, stats) = upon(&signatures, target).unwrap();
    let bases: Vec<MemDisk> = bases.iter().map(|base| MemDisk::from_bytes(base)).collect();
    with_cx(|cx| {
        let patch = Patch::open(MemDisk::from_bytes(&patch), &LIMITS).unwrap();
        let given = bases.iter().map(|base| (base, survey(base, "base", cx).unwrap())).collect();
        let disk = Patched::new(patch, given, cx).unwrap();
        let mut bytes = vec![0; disk.len().to_usize()];
        disk.read_at(Offset::ZERO, &mut bytes).unwrap();
        assert!(bytes == target, "{what}");
    });
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
    let mut state = 9_u64;
    let mut below = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    let mut refused = 0;
    for _ in 0..3000 {
        let mut bytes = sound.clone();
        for _ in 0..=below(3) {
            // The end and the tables are what is worth changing.
            let at = if below(2) == 0 { sealed - 1 - below(130) } else { below(sealed) };
            bytes[at] = [0, 1, 0x7f, 0xff, bytes[at].wrapping_add(1)][below(5)];
        }
        let digest = *blake3::hash(&bytes[..sealed]).as_bytes();
        bytes[sealed..sealed + 32].copy_from_slice(&digest);
        refused += usize::from(upon(&[bytes], &base[5000..]).is_err());
    }
    assert!(refused > 1000, "{refused}");
}
