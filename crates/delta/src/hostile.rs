//! Patches whose digests are right and whose contents are not.

use crate::digest::{Tree, WINDOW, leaf};
use crate::format::frame;
use crate::format::layout;
use crate::format::op::Op;
use crate::format::writer::Writer;
use crate::{Codec, Options, Patch, Patched, create, survey};
use disk::{Cancel, Cx, Limits, MemDisk, Quiet, ReadAt};
use ondisk::num::{low8, low32, to_u64, to_usize};
use ondisk::{Len, Offset};
use std::mem::size_of;
use testkit::images::noise;
use testkit::sim::Rng;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What is tried.
const PATCHES: u64 = 10_000;

const LIMITS: Limits = Limits { memory: Len::mib(64), threads: 1, chain_depth: 8, partitions: 64 };

/// A patch, taken apart.
#[derive(Clone)]
struct Apart {
    header: layout::Header,
    bases: Vec<layout::Base>,
    frames: Vec<(layout::Frame, Vec<u8>)>,
    /// Lists are not compressed here.
    sections: Vec<(layout::Section, Vec<u8>)>,
    trailer: layout::Trailer,
}

fn record(patch: &[u8], at: u64, len: u32) -> Vec<u8> {
    patch[to_usize(at)..][..to_usize(u64::from(len))].to_vec()
}

impl Apart {
    fn of(patch: &[u8]) -> Self {
        let (end_at, _) = patch.split_at(patch.len().checked_sub(size_of::<layout::End>()).unwrap());
        let (header, rest) = layout::Header::read_from_prefix(patch).unwrap();
        let count = to_usize(u64::from(header.bases.get()));
        let (bases, _) = <[layout::Base]>::ref_from_prefix_with_elems(rest, count).unwrap();
        let end = layout::End::read_from_bytes(&patch[end_at.len()..]).unwrap();
        let (trailer, rest) =
            layout::Trailer::read_from_prefix(&end_at[to_usize(end.trailer.get())..]).unwrap();
        let count = to_usize(u64::from(trailer.frames.get()));
        let (frames, rest) = <[layout::Frame]>::ref_from_prefix_with_elems(rest, count).unwrap();
        let count = to_usize(u64::from(trailer.sections.get()));
        let (sections, _) = <[layout::Section]>::ref_from_prefix_with_elems(rest, count).unwrap();
        let frame = |frame: &layout::Frame| (*frame, record(patch, frame.at.get(), frame.stored.get()));
        let section = |section: &layout::Section| {
            let packed = record(patch, section.at.get(), section.stored.get());
            let len = to_usize(u64::from(section.len.get()));
            (*section, zstd::bulk::decompress(&packed, len).unwrap())
        };
        Self {
            header,
            bases: bases.to_vec(),
            frames: frames.iter().map(frame).collect(),
            sections: sections.iter().map(section).collect(),
            trailer,
        }
    }

    /// Puts it together again; digests are right, and so are places and lengths unless they were `kept` as they are.
    fn sealed(&self, kept: bool) -> Vec<u8> {
        let mut head = self.header.as_bytes().to_vec();
        head.extend(self.bases.as_bytes());
        let (mut out, mut tables) = (head.clone(), self.trailer.as_bytes().to_vec());
        for (frame, bytes) in &self.frames {
            let mut frame = *frame;
            if !kept {
                frame.at.set(to_u64(out.len()));
                frame.stored.set(low32(to_u64(bytes.len())));
            }
            frame.digest = *blake3::hash(bytes).as_bytes();
            out.extend(bytes);
            tables.extend(frame.as_bytes());
        }
        for (section, bytes) in &self.sections {
            let packed = zstd::bulk::compress(bytes, 1).unwrap();
            let mut section = *section;
            if !kept {
                section.at.set(to_u64(out.len()));
                section.stored.set(low32(to_u64(packed.len())));
                section.len.set(low32(to_u64(bytes.len())));
            }
            section.digest = *blake3::hash(&packed).as_bytes();
            out.extend(packed);
            tables.extend(section.as_bytes());
        }
        let digest = *blake3::Hasher::new().update(&head).update(&tables).finalize().as_bytes();
        let end = layout::End { trailer: to_u64(out.len()).into(), digest, magic: layout::END_MAGIC };
        out.extend(tables);
        out.extend(end.as_bytes());
        out
    }
}

/// Changes a few bytes, or cuts.
fn spoil(random: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..=random.pick(3) {
        let at = random.pick(bytes.len());
        match (random.pick(6), bytes.get_mut(at)) {
            (0, Some(byte)) => *byte = 0xff,
            (1, Some(byte)) => *byte = 0,
            (2, Some(byte)) => *byte = byte.wrapping_add(1),
            (3, _) => bytes.truncate(at),
            (4, _) => bytes.extend([0x7f, 0xff, 0x11]),
            (_, Some(byte)) => *byte ^= 1_u8 << (at % 8),
            _ => {}
        }
    }
}

fn spoil_record<T: IntoBytes + Immutable + FromBytes + Copy>(random: &mut Rng, record: &mut T) {
    let mut bytes = record.as_bytes().to_vec();
    let at = random.pick(bytes.len());
    bytes[at] = [0, 1, 0x7f, 0xff, bytes[at].wrapping_add(1), bytes[at] ^ 0x80][random.pick(6)];
    *record = T::read_from_bytes(&bytes).unwrap();
}

fn spoiled(sound: &Apart, random: &mut Rng) -> Vec<u8> {
    let mut apart = sound.clone();
    let mut kept = false;
    for _ in 0..=random.pick(2) {
        match random.pick(8) {
            0 => spoil_record(random, &mut apart.header),
            1 => {
                let at = random.pick(apart.bases.len());
                spoil_record(random, &mut apart.bases[at]);
            }
            2 => spoil_record(random, &mut apart.trailer),
            3 => {
                kept = random.pick(2) == 0;
                let at = random.pick(apart.frames.len());
                spoil_record(random, &mut apart.frames[at].0);
            }
            4 => {
                kept = random.pick(2) == 0;
                let at = random.pick(apart.sections.len());
                spoil_record(random, &mut apart.sections[at].0);
            }
            5 => {
                let at = random.pick(apart.frames.len());
                spoil(random, &mut apart.frames[at].1);
            }
            _ => {
                let at = random.pick(apart.sections.len());
                spoil(random, &mut apart.sections[at].1);
            }
        }
    }
    apart.sealed(kept)
}

/// Whatever a patch says: it is refused, or makes what it says.
#[test]
fn hostile_patches() {
    let base = noise(1, 20_000);
    let text: Vec<u8> = (0..9000).map(|at| low8(at / 90)).collect();
    let target = [&base[7000..], &noise(2, 3000), &text, &[0; 9000], &noise(2, 3000), &base[..5000]].concat();
    let base = MemDisk::from_bytes(&base);
    let target = MemDisk::from_bytes(&target);
    let cancel = Cancel::new();
    let cx = Cx { progress: &Quiet, cancel: &cancel, limits: LIMITS, now: 0 };
    let leaves = survey(&base, "base", &cx).unwrap();
    let apply = |patch: &[u8]| {
        let patch = Patch::open(MemDisk::from_bytes(patch), &LIMITS)?;
        patch.check(&cx)?;
        // Nobody is asked to hash zeros for an hour.
        if patch.facts().target.len > Len::gib(1) {
            return Ok(None);
        }
        let made = patch.facts().target;
        let disk = Patched::verified(patch, vec![(&base, leaves.clone()), (&base, leaves.clone())], &cx)?;
        let mut bytes = vec![0; made.len.to_usize()];
        disk.read_at(Offset::ZERO, &mut bytes)?;
        assert_eq!(blake3::hash(&bytes), made.digest, "something else than it says");
        crate::Result::Ok(Some(bytes))
    };
    for codec in [Codec::Zstd, Codec::Xz] {
        let mut patch = Vec::new();
        let options = Options { codec, level: 1, drop_free: false };
        create(&[&base, &base], &target, options, &mut patch, &cx).unwrap();
        let sound = Apart::of(&patch);
        assert!(apply(&sound.sealed(false)).unwrap().is_some_and(|bytes| bytes == target.to_vec()));
        let (mut random, mut refused) = (Rng::new(7), 0);
        for _ in 0..PATCHES / 2 {
            match apply(&spoiled(&sound, &mut random)) {
                Ok(_) => {}
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().chars().any(char::is_control), "{error}");
                }
            }
        }
        assert!(refused > PATCHES / 4, "{refused} refused");
    }
}

/// A patch whose last window repeats a little of each of so many frames of zeros.
#[expect(clippy::arithmetic_side_effects, reason = "small numbers of a test")]
fn scattered(frames: u64) -> Vec<u8> {
    let len = WINDOW.to_usize();
    let target = Len::new((frames + 1) * WINDOW.get());
    let (zeros, mut out, mut tree) = (vec![0; len], Vec::new(), Tree::default());
    let record = frame::pack::<MemDisk>(&zeros, &[], &[], (Codec::Zstd, 1), &LIMITS).unwrap();
    let mut writer = Writer::begin(&mut out, 0, target, &[]).unwrap();
    for index in 0..frames {
        writer.frame(&record, len).unwrap();
        let leaf = leaf(index, target, &zeros);
        tree.push(leaf);
        writer.window(index, &leaf, &[Op::Fresh(WINDOW.get())], index * WINDOW.get()).unwrap();
    }
    let piece = 16 << 10;
    let mut ops: Vec<Op> = (0..frames).map(|n| Op::Again { at: n * WINDOW.get(), len: piece }).collect();
    ops.push(Op::Zero(WINDOW.get() - frames * piece));
    let leaf = leaf(frames, target, &zeros);
    tree.push(leaf);
    writer.window(frames, &leaf, &ops, frames * WINDOW.get()).unwrap();
    writer.finish(tree.finish()).unwrap();
    out
}

/// However small a patch is: the work for one window is bounded.
#[test]
fn work_is_bounded() {
    let cancel = Cancel::new();
    let cx = Cx { progress: &Quiet, cancel: &cancel, limits: LIMITS, now: 0 };
    for (frames, fits) in [(102, true), (103, false)] {
        let patch = scattered(frames);
        assert!(patch.len() < 40_000, "{}", patch.len());
        let patch = Patch::open(MemDisk::from_bytes(&patch), &LIMITS).unwrap();
        let disk = Patched::<_, MemDisk>::new(patch, vec![], &cx).unwrap();
        let read = disk.read_at(Offset::new(frames * WINDOW.get()), &mut [1; 100]);
        assert_eq!(read.is_ok(), fits, "{frames} frames: {read:?}");
    }
}

#[test]
fn what_exists_only_in_a_header_is_refused() {
    let mut apart = Apart::of(&scattered(1));
    for (len, known) in [(1 << 50, true), ((1 << 50) + 1, false)] {
        apart.header.target.set(len);
        let opened = Patch::open(MemDisk::from_bytes(&apart.sealed(false)), &LIMITS);
        assert_eq!(!matches!(opened, Err(crate::Error::TooLarge { .. })), known);
    }
}
