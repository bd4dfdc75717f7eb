//! Windows on their way out.

use super::cache::Cache;
use super::code::{self, Kind};
use super::layout::{MAGIC, header, packed, secondary, window};
use super::number;
use super::secondary::lzma;
use ondisk::num::to_u64;
use ondisk::{Len, Offset, Span};

/// Bytes that a window makes, at most: what xdelta3 makes unasked. It reads up to 16 MiB.
pub const WINDOW: u64 = 8 << 20;
/// A segment and a window together must stay below 4 GiB for xdelta3, and below 2 GiB for others.
const SEGMENT: u64 = (1 << 31) - WINDOW - 1;
/// Sections that are shorter stay as they are.
pub const SHORT: usize = 64;

/// What a part of a window is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Zeros.
    Zeros(u64),
    /// The next literal bytes.
    Add(u64),
    /// Bytes of the base.
    Copy {
        /// Where in the base.
        at: u64,
        /// How many.
        len: u64,
    },
}

/// A window that is to be written.
#[derive(Debug, Default)]
pub struct Cut {
    /// Where it begins in the target.
    pub start: u64,
    /// Bytes that it makes.
    pub len: u64,
    parts: Vec<Part>,
    /// Its literal bytes.
    pub literals: Vec<u8>,
    /// What it copies from.
    segment: Option<Span>,
}

impl Cut {
    /// Nothing so far.
    pub fn at(start: u64) -> Self {
        Self { start, ..Self::default() }
    }

    /// What it makes.
    pub fn target(&self) -> Span {
        Span::new(Offset::new(self.start), Len::new(self.len)).unwrap_or_default()
    }

    /// Bytes that still fit.
    pub const fn room(&self) -> u64 {
        WINDOW.saturating_sub(self.len)
    }

    /// The segment with a copy from `at` in it, unless that makes it too long.
    pub fn reach(&self, at: u64, len: u64) -> Option<Span> {
        let end = at.saturating_add(len);
        let (start, end) = self
            .segment
            .map_or((at, end), |segment| (segment.start().get().min(at), segment.end().get().max(end)));
        let segment = Span::between(Offset::new(start), Offset::new(end))?;
        (segment.len().get() <= SEGMENT).then_some(segment)
    }

    /// Adds a part.
    pub fn push(&mut self, part: Part) {
        let len = match (part, self.parts.last_mut()) {
            (Part::Zeros(more), Some(Part::Zeros(len))) | (Part::Add(more), Some(Part::Add(len))) => {
                *len = len.saturating_add(more);
                more
            }
            (Part::Copy { at, len: more }, Some(Part::Copy { at: before, len }))
                if before.saturating_add(*len) == at =>
            {
                *len = len.saturating_add(more);
                more
            }
            (Part::Zeros(len) | Part::Add(len) | Part::Copy { len, .. }, _) => {
                self.parts.push(part);
                len
            }
        };
        if let Part::Copy { at, .. } = part {
            self.segment = self.reach(at, len).or(self.segment);
        }
        self.len = self.len.saturating_add(len);
    }

    /// Data, instructions and addresses. The literals are taken.
    pub fn sections(&mut self) -> [Vec<u8>; 3] {
        let literals = std::mem::take(&mut self.literals);
        let mut rest = literals.as_slice();
        let (mut data, mut instructions, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
        let mut cache = Cache::new();
        let segment = self.segment.unwrap_or_default();
        let mut here = segment.len().get();
        for part in &self.parts {
            let (kind, len) = match *part {
                Part::Zeros(len) => {
                    data.push(0);
                    (Kind::Run, len)
                }
                Part::Add(len) => {
                    let (now, later) = rest.split_at(ondisk::num::to_usize(len).min(rest.len()));
                    data.extend_from_slice(now);
                    rest = later;
                    (Kind::Add, len)
                }
                Part::Copy { at, len } => {
                    let address = at.saturating_sub(segment.start().get());
                    (Kind::Copy(cache.put(&mut addresses, address, here)), len)
                }
            };
            code::put(&mut instructions, kind, len);
            here = here.saturating_add(len);
        }
        [data, instructions, addresses]
    }
}

/// A section as it is stored.
pub enum Stored {
    /// As it is.
    Plain(Vec<u8>),
    /// Compressed, and how long it was.
    Packed(Vec<u8>, u64),
}

/// The header of a patch. Streams of LZMA begin with what is returned.
pub fn begin(out: &mut Vec<u8>, dictionary: u32) -> Begun {
    out.extend(MAGIC);
    out.extend([header::SECONDARY, secondary::LZMA]);
    let head = lzma::begin(dictionary);
    Begun([head.clone(), head.clone(), head])
}

/// What comes before the next compressed section of each kind: the header of its stream, once.
pub struct Begun([Vec<u8>; 3]);

/// The window, as it is stored.
pub fn window(cut: &Cut, checksum: u32, sections: [Stored; 3], begun: &mut Begun) -> Vec<u8> {
    let mut flags = 0;
    let mut bodies = Vec::new();
    for ((section, flag), head) in sections.into_iter().zip(packed::EACH).zip(&mut begun.0) {
        bodies.push(match section {
            Stored::Plain(bytes) => bytes,
            Stored::Packed(bytes, len) => {
                flags |= flag;
                let mut body = Vec::new();
                number::put(&mut body, len);
                body.append(head);
                body.extend(bytes);
                body
            }
        });
    }
    let mut inner = Vec::new();
    number::put(&mut inner, cut.len);
    inner.push(flags);
    bodies.iter().for_each(|body| number::put(&mut inner, to_u64(body.len())));
    inner.extend(checksum.to_be_bytes());
    bodies.iter().for_each(|body| inner.extend(body));
    let mut out = Vec::new();
    match cut.segment {
        Some(segment) => {
            out.push(window::SOURCE | window::ADLER32);
            number::put(&mut out, segment.len().get());
            number::put(&mut out, segment.start().get());
        }
        None => out.push(window::ADLER32),
    }
    number::put(&mut out, to_u64(inner.len()));
    out.extend(inner);
    out
}
