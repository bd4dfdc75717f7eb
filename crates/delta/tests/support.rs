//! Disks, patches of them, and what these make.

use delta::{Codec, DiskSignature, Literals, Options, Patch, Patched, Stats, create, create_upon, survey};
use disk::{Cancel, Cx, Limits, MemDisk, Quiet, ReadAt};
use ondisk::{Len, Offset};

pub const LIMITS: Limits = Limits { memory: Len::mib(256), threads: 2, chain_depth: 8, partitions: 64 };

pub const OPTIONS: Options = Options { codec: Codec::Zstd, level: 3, drop_free: false };

pub fn with_cx<T>(work: impl FnOnce(&Cx<'_>) -> T) -> T {
    let cancel = Cancel::new();
    work(&Cx { progress: &Quiet, cancel: &cancel, limits: LIMITS, now: 0 })
}

pub fn open(patch: &[u8]) -> delta::Result<Patch<MemDisk>> {
    Patch::open(MemDisk::from_bytes(patch), &LIMITS)
}

pub fn patch(bases: &[&[u8]], target: &[u8]) -> (Vec<u8>, Stats) {
    patch_by(OPTIONS, bases, target)
}

pub fn patch_by(options: Options, bases: &[&[u8]], target: &[u8]) -> (Vec<u8>, Stats) {
    let disks: Vec<MemDisk> = bases.iter().map(|base| MemDisk::from_bytes(base)).collect();
    let bases: Vec<&dyn ReadAt> = disks.iter().map(|disk| disk as &dyn ReadAt).collect();
    let mut out = Vec::new();
    let stats = with_cx(|cx| create(&bases, &MemDisk::from_bytes(target), options, &mut out, cx)).unwrap();
    (out, stats)
}

pub fn apply(bases: &[&[u8]], patch: &[u8]) -> delta::Result<Vec<u8>> {
    let bases: Vec<MemDisk> = bases.iter().map(|base| MemDisk::from_bytes(base)).collect();
    with_cx(|cx| {
        let given =
            bases.iter().map(|base| Ok((base, survey(base, "base", cx)?))).collect::<delta::Result<_>>()?;
        whole(&Patched::new(open(patch)?, given, cx)?)
    })
}

/// A patch upon the disks of these signatures.
pub fn upon(signatures: &[Vec<u8>], target: &[u8]) -> delta::Result<(Vec<u8>, Stats)> {
    with_cx(|cx| {
        let open = |bytes: &Vec<u8>| DiskSignature::open(MemDisk::from_bytes(bytes), cx);
        let signatures = signatures.iter().map(open).collect::<delta::Result<Vec<_>>>()?;
        let mut out = Vec::new();
        let stats = create_upon(
            &signatures,
            &MemDisk::from_bytes(target),
            OPTIONS,
            &mut Literals::nowhere(),
            &mut out,
            cx,
        )?;
        Ok((out, stats))
    })
}

/// All of a disk, read in odd pieces, so that they do not begin where windows do.
pub fn whole(disk: &dyn ReadAt) -> delta::Result<Vec<u8>> {
    const PIECE: usize = 1_000_003;
    let mut bytes = vec![0; disk.len().to_usize()];
    for (piece, bytes) in bytes.chunks_mut(PIECE).enumerate() {
        disk.read_at(Offset::new((piece * PIECE) as u64), bytes)?;
    }
    Ok(bytes)
}
