//! An input: a base image and changes of it, as bytes.
//!
//! ```text
//! base:1  knob:1  flags:1  length:2  { kind:1  index:2  at:2  len:1  bytes:len } …
//! ```

use crate::base::{Base, Place, of};
use libfuzzer_sys::fuzzer_mutate;
use testkit::sim::Rng;

const SEALED: u8 = 1;
const RESIZED: u8 = 2;
/// More patches than this are left out.
const PATCHES: usize = 48;

/// A few bytes written into a piece of metadata. All numbers wrap around at what is there.
#[derive(Clone, Debug)]
pub struct Patch {
    /// The kind of metadata.
    pub kind: u8,
    /// Which piece of that kind.
    pub index: u16,
    /// Where in it.
    pub at: u16,
    /// One to eight bytes.
    pub bytes: Vec<u8>,
}

/// What is done to which base.
#[derive(Clone, Debug)]
pub struct Input {
    /// The base.
    pub base: u8,
    /// A choice that is the target's.
    pub knob: u8,
    /// Whether checksums are made right again.
    pub sealed: bool,
    /// The length of the image in 65536ths of what it was; twice that above the middle.
    pub length: Option<u16>,
    /// In this order.
    pub patches: Vec<Patch>,
}

impl Input {
    /// Any bytes are an input.
    #[must_use]
    pub fn decode(data: &[u8]) -> Self {
        let (head, mut rest) = data.split_at(data.len().min(5));
        let byte = |at: usize| head.get(at).copied().unwrap_or_default();
        let length = u16::from_le_bytes([byte(3), byte(4)]);
        let mut patches = Vec::new();
        while let Some((&[kind, i0, i1, a0, a1, len], tail)) = rest.split_first_chunk() {
            let len = (usize::from(len & 7) + 1).min(tail.len());
            if len == 0 || patches.len() == PATCHES {
                break;
            }
            let (bytes, tail) = tail.split_at(len);
            let (index, at) = (u16::from_le_bytes([i0, i1]), u16::from_le_bytes([a0, a1]));
            patches.push(Patch { kind, index, at, bytes: bytes.to_vec() });
            rest = tail;
        }
        let flags = byte(2);
        let length = (flags & RESIZED != 0).then_some(length);
        Self { base: byte(0), knob: byte(1), sealed: flags & SEALED != 0, length, patches }
    }

    /// The bytes of an input.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let flags = u8::from(self.sealed) * SEALED | u8::from(self.length.is_some()) * RESIZED;
        let mut data = vec![self.base, self.knob, flags];
        data.extend(self.length.unwrap_or_default().to_le_bytes());
        for patch in &self.patches {
            data.push(patch.kind);
            data.extend(patch.index.to_le_bytes());
            data.extend(patch.at.to_le_bytes());
            data.push((patch.bytes.len().max(1) - 1) as u8);
            data.extend(&patch.bytes);
        }
        data
    }
}

/// Changes an input: mostly as one who knows where the fields are, sometimes as the fuzzer likes.
pub fn mutate(data: &mut [u8], size: usize, max: usize, seed: u32, bases: &[Base]) -> usize {
    let mut rng = Rng::new(seed.into());
    if rng.below(6) == 0 {
        return fuzzer_mutate(data, size, max);
    }
    let mut input = Input::decode(&data[..size]);
    for _ in 0..=rng.below(3) {
        step(&mut input, &mut rng, bases);
    }
    let bytes = input.encode();
    if bytes.len() > max {
        return size;
    }
    data[..bytes.len()].copy_from_slice(&bytes);
    bytes.len()
}

fn step(input: &mut Input, rng: &mut Rng, bases: &[Base]) {
    let count = input.patches.len() as u64;
    match rng.below(20) {
        0 => input.base = rng.draw() as u8,
        1 => input.knob = rng.draw() as u8,
        2 => input.sealed = !input.sealed,
        3 if rng.below(3) == 0 => input.length = Some(rng.draw() as u16),
        3 => input.length = None,
        4..=6 if count > 0 => drop(input.patches.remove(rng.below(count) as usize)),
        7..=10 if count > 0 => {
            let patch = &mut input.patches[rng.below(count) as usize];
            let place = of(bases, &Input { patches: vec![], ..*input }).place(patch.kind, patch.index);
            patch.bytes = value(rng, place, usize::from(patch.at), patch.bytes.len());
        }
        11 if count > 0 => {
            let patch = &mut input.patches[rng.below(count) as usize];
            patch.index = patch.index.wrapping_add(rng.below(5) as u16).wrapping_sub(2);
        }
        _ => {
            if input.patches.is_empty() {
                input.sealed = true;
            }
            let patch = new_patch(rng, of(bases, input));
            input.patches.push(patch);
        }
    }
}

fn new_patch(rng: &mut Rng, base: &Base) -> Patch {
    let (kind, index) = (rng.draw() as u8, rng.draw() as u16);
    let place = base.place(kind, index);
    let len = place.bytes.len().max(1) as u64;
    let width = [1, 2, 4, 4, 8][rng.below(5) as usize];
    // The first bytes of most records are where most fields are.
    let reach = if rng.below(3) == 0 { len } else { len.min(160) };
    let at = rng.below(reach);
    let at = (at - at % width) as u16;
    Patch { kind, index, at, bytes: value(rng, place, at.into(), width as usize) }
}

/// A value that a parser may stumble over, in the place of what is there.
fn value(rng: &mut Rng, place: &Place, at: usize, width: usize) -> Vec<u8> {
    let width = width.clamp(1, 8);
    let stored = |at: usize| {
        let mut field = [0; 8];
        let there = place.bytes.get(at % place.bytes.len().max(1)..).unwrap_or_default();
        let n = there.len().min(width);
        field[..n].copy_from_slice(&there[..n]);
        field
    };
    let big = rng.below(2) == 0;
    let load = |field: [u8; 8]| {
        if big { u64::from_be_bytes(field) >> (64 - 8 * width) } else { u64::from_le_bytes(field) }
    };
    let (old, bits) = (load(stored(at)), 8 * width as u64);
    let number = match rng.below(14) {
        0 | 1 => old ^ 1 << rng.below(bits),
        2 => old.wrapping_add(1 + rng.below(3)),
        3 => old.wrapping_sub(1 + rng.below(3)),
        4 => 0,
        5 => u64::MAX,
        6 => 1 << rng.below(bits),
        7 => (1_u64 << rng.below(bits)).wrapping_sub(1 + rng.below(2)),
        8 => rng.below(300),
        9 => rng.below(20_000),
        10 => old.wrapping_mul(2),
        11 => load(stored(rng.below(place.bytes.len() as u64) as usize)),
        12 => load(stored(at.wrapping_add(width))),
        _ => rng.draw(),
    };
    if big { number.to_be_bytes()[8 - width..].to_vec() } else { number.to_le_bytes()[..width].to_vec() }
}
