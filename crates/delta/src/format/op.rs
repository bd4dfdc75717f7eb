//! What a window is made of, one instruction after the other.
//!
//! Each instruction begins with a number: its length times eight, and its kind. Where a copy begins is told as the
//! difference to where one would begin that goes on beside the last copy from the same base.

use super::limits::OPS;
use super::varint;
use crate::digest::window;
use ondisk::{Len, Offset};

/// Kinds, as they are stored.
mod kind {
    pub const ZERO: u64 = 0;
    pub const FRESH: u64 = 1;
    pub const COPY: u64 = 2;
    pub const AGAIN: u64 = 3;
    pub const ANYWHERE: u64 = 4;
    pub const BITS: u32 = 3;
}

/// An instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Zeros.
    Zero(u64),
    /// The next bytes of the literal stream.
    Fresh(u64),
    /// Bytes of a base.
    Copy {
        /// Which one.
        base: usize,
        /// Where in it.
        at: u64,
        /// How many.
        len: u64,
    },
    /// Bytes of the literal stream from anywhere: what an earlier instruction has taken already, or where patches were
    /// composed, what none takes as fresh.
    Again {
        /// Where in the stream.
        at: u64,
        /// How many.
        len: u64,
    },
}

impl Op {
    /// How many bytes of the target it makes.
    pub const fn len(self) -> u64 {
        match self {
            Self::Zero(len) | Self::Fresh(len) | Self::Copy { len, .. } | Self::Again { len, .. } => len,
        }
    }
}

/// Where copies from each base are expected: what to add to a position of the target. Wraps around.
struct Expected(Vec<u64>);

impl Expected {
    fn new(bases: usize) -> Self {
        Self(vec![0; bases])
    }

    /// The shift that a copy from `base` tells as a difference.
    fn shift(&mut self, base: usize, difference: u64) -> u64 {
        let Some(slot) = self.0.get_mut(base) else { return 0 };
        *slot = slot.wrapping_add(difference);
        *slot
    }

    /// The difference that tells a shift.
    fn difference(&mut self, base: usize, shift: u64) -> u64 {
        let Some(slot) = self.0.get_mut(base) else { return 0 };
        shift.wrapping_sub(std::mem::replace(slot, shift))
    }
}

/// The instructions of window `index`, which takes fresh bytes from `literals` on, as bytes.
pub fn encode(ops: &[Op], index: u64, mut literals: u64, bases: usize, out: &mut Vec<u8>) {
    let mut expected = Expected::new(bases);
    let mut anywhere = 0_u64;
    let mut at = index.saturating_mul(crate::WINDOW.get());
    for op in ops {
        let head = |kind: u64| op.len().wrapping_shl(kind::BITS) | kind;
        match *op {
            Op::Zero(_) => varint::put(out, head(kind::ZERO)),
            Op::Fresh(len) => {
                varint::put(out, head(kind::FRESH));
                literals = literals.saturating_add(len);
            }
            Op::Copy { base, at: from, .. } => {
                varint::put(out, head(kind::COPY));
                if bases > 1 {
                    varint::put(out, ondisk::num::to_u64(base));
                }
                varint::put(out, varint::fold(expected.difference(base, from.wrapping_sub(at))));
            }
            Op::Again { at: from, len } if from.saturating_add(len) <= literals => {
                varint::put(out, head(kind::AGAIN));
                varint::put(out, literals.saturating_sub(from));
            }
            Op::Again { at: from, len } => {
                varint::put(out, head(kind::ANYWHERE));
                varint::put(out, varint::fold(from.wrapping_sub(anywhere)));
                anywhere = from.saturating_add(len);
            }
        }
        at = at.saturating_add(op.len());
    }
}

/// What instructions may refer to.
pub struct Bounds<'a> {
    /// Bytes of the target.
    pub target: Len,
    /// Bytes of the bases.
    pub bases: &'a [Len],
    /// Bytes of the literal stream.
    pub literals: u64,
}

/// The instructions of window `index`: see [`each`].
pub fn decode(
    bytes: &[u8],
    index: u64,
    literals: &mut u64,
    bounds: &Bounds<'_>,
) -> Result<Vec<Op>, &'static str> {
    let mut ops = Vec::new();
    each(bytes, index, literals, bounds, |op| ops.push(op))?;
    Ok(ops)
}

/// Gives the instructions of window `index` to `seen`; `literals` comes in as where it takes fresh bytes from, and goes out
/// as where the next window does. Each of them is within bounds, and together they make the window.
pub fn each(
    mut bytes: &[u8],
    index: u64,
    literals: &mut u64,
    bounds: &Bounds<'_>,
    mut seen: impl FnMut(Op),
) -> Result<(), &'static str> {
    let span = window(index, bounds.target);
    let mut expected = Expected::new(bounds.bases.len());
    let mut anywhere = 0_u64;
    let mut at = span.start().get();
    let mut count = 0_usize;
    while !bytes.is_empty() {
        let head = varint::take(&mut bytes).ok_or("ends within an instruction")?;
        let len = head >> kind::BITS;
        let end = at.checked_add(len).filter(|end| len > 0 && *end <= span.end().get());
        let end = end.ok_or("has an instruction that passes the end of its window")?;
        let op = match head & 7 {
            kind::ZERO => Op::Zero(len),
            kind::FRESH => {
                let next = literals.checked_add(len).filter(|next| *next <= bounds.literals);
                *literals = next.ok_or("takes more literal bytes than there are")?;
                Op::Fresh(len)
            }
            kind::COPY => {
                let base = if bounds.bases.len() > 1 { varint::take(&mut bytes) } else { Some(0) };
                let base = base.ok_or("ends within an instruction")?;
                let limit = bounds.bases.get(ondisk::num::to_usize(base)).ok_or("names an unknown base")?;
                let base = ondisk::num::to_usize(base);
                let difference = varint::take(&mut bytes).ok_or("ends within an instruction")?;
                let from = at.wrapping_add(expected.shift(base, varint::unfold(difference)));
                let inside = from.checked_add(len).is_some_and(|end| end <= limit.get());
                if !inside {
                    return Err("copies from behind the end of a base");
                }
                Op::Copy { base, at: from, len }
            }
            kind::AGAIN => {
                let back = varint::take(&mut bytes).ok_or("ends within an instruction")?;
                let from = literals.checked_sub(back).ok_or("repeats bytes before the first literal")?;
                let inside = from.checked_add(len).is_some_and(|end| end <= *literals);
                if !inside {
                    return Err("repeats literal bytes that come later");
                }
                Op::Again { at: from, len }
            }
            kind::ANYWHERE => {
                let difference = varint::take(&mut bytes).ok_or("ends within an instruction")?;
                let from = anywhere.wrapping_add(varint::unfold(difference));
                let end = from.checked_add(len).filter(|end| *end <= bounds.literals);
                anywhere = end.ok_or("takes literal bytes that are not there")?;
                Op::Again { at: from, len }
            }
            _ => return Err("has an unknown instruction"),
        };
        if count >= OPS {
            return Err("has too many instructions");
        }
        count = count.saturating_add(1);
        seen(op);
        at = end;
    }
    if Offset::new(at) == span.end() { Ok(()) } else { Err("does not make the whole window") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds<'static> =
        Bounds { target: Len::new(10_000), bases: &[Len::new(5000), Len::new(1 << 40)], literals: 1000 };

    #[test]
    fn instructions_come_back() {
        let ops = [
            Op::Copy { base: 0, at: 0, len: 1000 },
            Op::Fresh(100),
            Op::Copy { base: 1, at: (1 << 40) - 2000, len: 2000 },
            Op::Zero(5000),
            Op::Copy { base: 0, at: 4500, len: 500 },
            Op::Fresh(400),
            Op::Again { at: 20, len: 480 },
            Op::Copy { base: 1, at: 0, len: 500 },
            Op::Again { at: 600, len: 10 },
            Op::Again { at: 610, len: 5 },
            Op::Again { at: 505, len: 5 },
        ];
        let mut bytes = Vec::new();
        encode(&ops, 0, 10, 2, &mut bytes);
        let mut literals = 10;
        assert_eq!(decode(&bytes, 0, &mut literals, &BOUNDS).unwrap(), ops);
        assert_eq!(literals, 510);
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len], 0, &mut 10, &BOUNDS).is_err(), "cut to {len} bytes");
        }
    }

    #[test]
    fn instructions_are_bounded_in_number() {
        let bounds = Bounds { target: Len::mib(4), bases: &[], literals: 0 };
        for (count, fits) in [(OPS, true), (OPS + 1, false)] {
            let mut ops = vec![Op::Zero(1); count - 1];
            ops.push(Op::Zero((4 << 20) + 1 - u64::try_from(count).unwrap()));
            let mut bytes = Vec::new();
            encode(&ops, 0, 0, 0, &mut bytes);
            assert_eq!(decode(&bytes, 0, &mut 0, &bounds).is_ok(), fits);
        }
    }

    #[test]
    fn nothing_lies_outside() {
        let refused = [
            vec![Op::Zero(10_001)],
            vec![Op::Zero(9999)],
            vec![Op::Fresh(1001), Op::Zero(8999)],
            vec![Op::Copy { base: 0, at: 4001, len: 1000 }, Op::Zero(9000)],
            vec![Op::Copy { base: 0, at: u64::MAX - 3, len: 1000 }, Op::Zero(9000)],
            vec![Op::Copy { base: 2, at: 0, len: 1000 }, Op::Zero(9000)],
            vec![Op::Again { at: 995, len: 6 }, Op::Zero(9994)],
            vec![Op::Again { at: u64::MAX - 3, len: 6 }, Op::Zero(9994)],
            vec![Op::Zero(0), Op::Zero(10_000)],
        ];
        for ops in refused {
            let mut bytes = Vec::new();
            encode(&ops, 0, 0, 2, &mut bytes);
            assert!(decode(&bytes, 0, &mut 0, &BOUNDS).is_err(), "{ops:?}");
        }
    }
}
