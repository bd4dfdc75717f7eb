//! Patches and signatures of disks in our own format.

use super::blames_the_image;
use crate::patch::{DISKS, made, public};
use crate::{Case, LIMITS};
use delta::{Codec, DiskSignature, Literals, Options, Patch, Patched, compose, create_upon, prove};
use disk::{Cancel, Cx, MemDisk, ReadAt};
use ondisk::{Len, Offset, Span};
use std::sync::LazyLock;

/// Nobody is asked to hash zeros for an hour.
const MOST: Len = Len::mib(64);

/// What leads to the first disk, and away from the others.
static BEFORE: LazyLock<Vec<u8>> = LazyLock::new(|| made(&[2], 0, Codec::Zstd));
static BEHIND: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| vec![made(&[1], 0, Codec::Zstd), made(&[2], 1, Codec::Zstd)]);

/// Opens and applies a patch, alone and composed with another; or makes one of a signature.
pub fn read(case: Case<'_>) {
    let cancel = Cancel::new();
    let cx = crate::cx(&cancel);
    if case.base.name == "signature" {
        return upon(&case, &cx);
    }
    let is_proven = prove(&case.disk, &public()).is_ok();
    let result = match usize::from(case.knob) % 4 {
        1 => composed(&BEFORE, &case.disk.to_vec(), &cx),
        n @ 2..=3 => composed(&case.disk.to_vec(), &BEHIND[n - 2], &cx),
        _ => apply(&case.disk.to_vec(), case.knob & 4 == 0, &cx).map(|made| {
            assert!(
                !is_proven || made == Some(DISKS[1].0.to_vec()),
                "it is signed, and makes something else"
            );
        }),
    };
    if let Err(error) = result {
        blames_the_image(&error);
    }
}

fn open(bytes: &[u8]) -> delta::Result<Patch<MemDisk>> {
    Patch::open(MemDisk::from_bytes(bytes), &LIMITS)
}

/// What a patch makes of the disks that it names: what it says, or nothing.
fn apply(bytes: &[u8], at_once: bool, cx: &Cx<'_>) -> delta::Result<Option<Vec<u8>>> {
    let patch = open(bytes)?;
    patch.check(cx)?;
    patch.codecs()?;
    let target = patch.facts().target;
    if target.len > MOST {
        return Ok(None);
    }
    let known = |digest| DISKS.iter().find(|(_, leaves)| leaves.digest() == digest);
    let given = patch.facts().bases.iter().filter_map(|base| known(base.digest));
    let given = given.map(|(disk, leaves)| (disk, leaves.clone())).collect();
    let disk = if at_once { Patched::verified(patch, given, cx)? } else { Patched::new(patch, given, cx)? };
    let mut bytes = vec![0; target.len.to_usize()];
    // The end before the beginning.
    let (head, tail) = bytes.split_at_mut(target.len.to_usize() / 2);
    disk.read_at(Offset::new(head.len() as u64), tail)?;
    disk.read_at(Offset::ZERO, head)?;
    assert_eq!(blake3::hash(&bytes).as_bytes(), target.digest.as_bytes(), "something else than it says");
    let whole = Span::whole(target.len);
    for extent in disk.extents(whole)?.iter().filter(|extent| extent.kind.reads_zero()) {
        let range = extent.span.start().get() as usize..extent.span.end().get() as usize;
        assert!(bytes[range].iter().all(|byte| *byte == 0), "zeros that are none");
    }
    let parts = disk.against_first(whole)?;
    assert_eq!(parts.iter().map(|(part, _)| part.len().get()).sum::<u64>(), target.len.get());
    Ok(Some(bytes))
}

/// What comes of two patches is one that is whole, and makes what it says or nothing.
fn composed(first: &[u8], second: &[u8], cx: &Cx<'_>) -> delta::Result<()> {
    let (first, second) = (open(first)?, open(second)?);
    if first.facts().target.len.max(second.facts().target.len) > MOST {
        return Ok(());
    }
    let mut out = Vec::new();
    compose(&first, &second, &mut out, cx)?;
    open(&out).and_then(|patch| patch.check(cx)).expect("a patch that we made is whole");
    apply(&out, true, cx).map(drop)
}

/// A patch that is made upon a signature leads from the disk to the other, or nowhere.
fn upon(case: &Case<'_>, cx: &Cx<'_>) {
    let signature = match DiskSignature::open(&case.disk, cx) {
        Ok(signature) => signature,
        Err(error) => return blames_the_image(&error),
    };
    let options = Options { codec: Codec::Zstd, level: 1, drop_free: false };
    let mut out = Vec::new();
    if let Err(error) = create_upon(&[signature], &DISKS[1].0, options, &mut Literals::nowhere(), &mut out, cx) {
        return blames_the_image(&error);
    }
    open(&out).and_then(|patch| patch.check(cx)).expect("a patch that we made is whole");
    match apply(&out, true, cx) {
        Ok(made) => assert!(made.is_none_or(|made| made == DISKS[1].0.to_vec()), "another disk"),
        Err(error) => blames_the_image(&error),
    }
}
