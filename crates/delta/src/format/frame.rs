//! A piece of the literal stream, compressed by itself, with a dictionary out of the bases.
//!
//! A record has a byte for the codec, the parts of the dictionary, those of the frame, and the bytes. The dictionary is what lies in the
//! bases where the literal bytes would have been copied from if they were the same. Where patches were composed, some of
//! that are zeros now, or literal bytes themselves.

use super::codec::Codec;
use super::gather::{Piece, gather};
use super::layout::codec;
use super::{kinds, varint};
use crate::error::{Error, Result};
use crate::pool::{Buf, Pool};
use disk::{Limits, ReadAt};
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset, Span};
use std::sync::Arc;

/// Literal bytes of a frame, at most.
pub const FRAME: Len = Len::mib(16);
/// Bytes of a dictionary, at most.
pub const DICTIONARY: Len = Len::mib(16);
/// Spans of a dictionary that is written, at most.
pub const SPANS: usize = 1 << 14;
/// Parts of a dictionary, at most: composing patches divides them.
pub const PARTS: u64 = 1 << 18;
/// Bytes of the list of these parts, at most.
const LIST: u64 = 8 << 20;
/// A list of so many bytes is compressed, and how well.
const LONG: usize = 256;
const LIST_LEVEL: i32 = 9;

/// A span of a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Like {
    /// Which base.
    pub base: usize,
    /// Where in it.
    pub span: Span,
}

/// A part of a dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Zeros.
    Zero(Len),
    /// Bytes of the literal stream, before those of the frame itself: of patches that were composed.
    Stream(Span),
    /// Bytes of a base.
    Base(Like),
}

impl Part {
    /// Its bytes.
    pub const fn len(&self) -> Len {
        match self {
            Self::Zero(len) => *len,
            Self::Stream(span) | Self::Base(Like { span, .. }) => span.len(),
        }
    }
}

/// Where parts of a dictionary come from, as they are stored. Bases are counted on from there.
mod source {
    pub const ZERO: u64 = 0;
    pub const STREAM: u64 = 1;
    pub const BASE: u64 = 2;
}

/// Gives bytes of the literal stream.
pub type Stream<'a> = dyn Fn(Offset, &mut [u8]) -> Result<()> + 'a;

/// What frames are decoded in.
pub struct Pools {
    /// For what comes out.
    pub literals: Arc<Pool>,
    /// For records.
    pub records: Arc<Pool>,
    /// For dictionaries.
    pub dictionaries: Arc<Pool>,
}

impl Pools {
    /// Nothing is taken yet.
    pub fn new() -> Self {
        Self { literals: Pool::new(), records: Pool::new(), dictionaries: Pool::new() }
    }
}

/// Reads a dictionary. The literal stream is read in its order, so that no frame is decoded twice.
fn dictionary<B: ReadAt>(parts: &[Part], bases: &[B], stream: &Stream<'_>, bytes: &mut [u8]) -> Result<()> {
    let (mut again, mut copies, mut start) = (Vec::new(), Vec::new(), 0_usize);
    for part in parts {
        let target = start..start.saturating_add(part.len().to_usize());
        start = target.end;
        match part {
            Part::Zero(_) => bytes.get_mut(target).unwrap_or_default().fill(0),
            Part::Stream(span) => again.push((span.start(), target)),
            Part::Base(like) => {
                copies.push(Piece { source: like.base, at: like.span.start().get(), target });
            }
        }
    }
    gather(bases, &copies, bytes)?;
    again.sort_by_key(|(start, _)| *start);
    again.into_iter().try_for_each(|(at, target)| stream(at, bytes.get_mut(target).unwrap_or_default()))
}

/// Bytes of a dictionary.
fn len_of(parts: &[Part]) -> Len {
    Len::new(parts.iter().map(|part| part.len().get()).sum())
}

/// The beginning of a record: its codec, and its dictionary.
fn head(codec: u8, parts: &[Part]) -> Vec<u8> {
    let list = list(parts);
    let packed = if list.len() < LONG { None } else { zstd::bulk::compress(&list, LIST_LEVEL).ok() };
    let Some(packed) = packed.filter(|packed| packed.len() < list.len()) else {
        return [&[codec], list.as_slice()].concat();
    };
    let mut record = vec![codec | codec::PACKED_LIST];
    varint::put(&mut record, to_u64(list.len()));
    varint::put(&mut record, to_u64(packed.len()));
    record.extend(packed);
    record
}

/// The parts of a dictionary, as they are stored.
fn list(parts: &[Part]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let record = &mut bytes;
    varint::put(record, to_u64(parts.len()));
    let mut expected = 0_u64;
    for part in parts {
        let (source, span) = match part {
            Part::Zero(_) => (source::ZERO, None),
            Part::Stream(span) => (source::STREAM, Some(span)),
            Part::Base(like) => (source::BASE.saturating_add(to_u64(like.base)), Some(&like.span)),
        };
        varint::put(record, source);
        if let Some(span) = span {
            varint::put(record, varint::fold(span.start().get().wrapping_sub(expected)));
            expected = span.end().get();
        }
        varint::put(record, part.len().get());
    }
    bytes
}

/// The record of a frame.
pub fn pack<B: ReadAt>(
    literals: &[u8],
    spans: &[Like],
    bases: &[B],
    (codec, level): (Codec, i32),
    limits: &Limits,
) -> Result<Vec<u8>> {
    let parts: Vec<Part> = spans.iter().copied().map(Part::Base).collect();
    // What is compressed lies behind its dictionary: zstd takes both for one piece then, which is quicker.
    let mut both = limits.buffer("a dictionary", len_of(&parts))?;
    dictionary(&parts, bases, &|_, _| Ok(()), &mut both)?;
    both.reserve_exact(literals.len());
    let known = both.len();
    let kinds = kinds::of(literals);
    let stored = kinds::split(literals, &kinds, &mut both);
    let (known, rest) = both.split_at(known);
    let packed = codec.compress(rest, known, level)?;
    // What does not come back as it was is not relied on: a base may be gone by the time it is needed.
    let fits = packed.len() < rest.len();
    let mut again = Vec::new();
    if !fits || codec.decompress(&packed, known, (rest.len(), 0), &mut again).is_none() || again != rest {
        return Ok([head(codec::STORED, &[]).as_slice(), literals].concat());
    }
    let mut record = head(codec.number(), &parts);
    kinds::put(&mut record, &kinds);
    record.extend(stored);
    record.extend(packed);
    Ok(record)
}

/// Takes the dictionary from the front of a record behind its codec. The frame's own bytes begin at `own` in the
/// literal stream.
fn take_dictionary(
    record: &mut &[u8],
    bases: &[Len],
    own: Offset,
) -> std::result::Result<Vec<Part>, &'static str> {
    let cut = "ends within its dictionary";
    let count = varint::take(record).ok_or(cut)?;
    if count > PARTS {
        return Err("has a dictionary of too many parts");
    }
    let (mut parts, mut expected, mut total) = (Vec::new(), 0_u64, Len::ZERO);
    for _ in 0..count {
        let source = varint::take(record).ok_or(cut)?;
        let start = match source {
            source::ZERO => 0,
            _ => expected.wrapping_add(varint::unfold(varint::take(record).ok_or(cut)?)),
        };
        let len = Len::new(varint::take(record).ok_or(cut)?);
        total = total
            .checked_add(len)
            .filter(|total| *total <= DICTIONARY)
            .ok_or("has a dictionary that is too large")?;
        let within =
            |limit: Len| Span::new(Offset::new(start), len).filter(|span| Span::whole(limit).contains(*span));
        let part = match source.checked_sub(source::BASE).map(to_usize) {
            Some(base) => {
                let limit = *bases.get(base).ok_or("has a dictionary of an unknown base")?;
                let span = within(limit).ok_or("has a dictionary behind the end of a base")?;
                Part::Base(Like { base, span })
            }
            None if source == source::ZERO => Part::Zero(len),
            None => {
                let limit = own.since(Offset::ZERO).unwrap_or_default();
                Part::Stream(within(limit).ok_or("has a dictionary of literal bytes that come later")?)
            }
        };
        if let Part::Stream(span) | Part::Base(Like { span, .. }) = part {
            expected = span.end().get();
        }
        parts.push(part);
    }
    Ok(parts)
}

/// Takes a list that was compressed from the front of a record behind its codec.
fn take_list(record: &mut &[u8]) -> std::result::Result<Vec<u8>, &'static str> {
    let cut = "ends within its dictionary";
    let len = varint::take(record).filter(|len| *len <= LIST).ok_or("has a dictionary of too many parts")?;
    let stored = to_usize(varint::take(record).ok_or(cut)?);
    let (packed, rest) = record.split_at_checked(stored).ok_or(cut)?;
    *record = rest;
    let list = zstd::bulk::decompress(packed, to_usize(len)).ok();
    list.filter(|list| to_u64(list.len()) == len).ok_or("has a dictionary that cannot be decompressed")
}

/// A record, taken apart.
pub struct Record<'a> {
    codec: u8,
    /// Its dictionary.
    pub dictionary: Vec<Part>,
    /// What follows it.
    packed: &'a [u8],
    at: Offset,
}

impl<'a> Record<'a> {
    /// Takes apart the record that lies at `at` in the patch, of a frame whose bytes begin at `own` in the literal
    /// stream.
    pub fn parse(record: &'a [u8], at: Offset, own: Offset, bases: &[Len]) -> Result<Self> {
        let damaged = |why: &str| Error::damaged("the frame", at, why);
        let (codec, mut packed) = record.split_first().ok_or_else(|| damaged("is empty"))?;
        let dictionary = if codec & codec::PACKED_LIST == 0 {
            take_dictionary(&mut packed, bases, own).map_err(damaged)?
        } else {
            let list = take_list(&mut packed).map_err(damaged)?;
            let mut rest = list.as_slice();
            let parts = take_dictionary(&mut rest, bases, own).map_err(damaged)?;
            if !rest.is_empty() {
                return Err(damaged("has a dictionary that goes on behind its last part"));
            }
            parts
        };
        Ok(Self { codec: codec & !codec::PACKED_LIST, dictionary, packed, at })
    }

    /// The same bytes with another way to say the same dictionary.
    pub fn with(&self, dictionary: &[Part]) -> Vec<u8> {
        [head(self.codec, dictionary).as_slice(), self.packed].concat()
    }

    /// Its `len` literal bytes.
    pub fn unpack<B: ReadAt>(
        &self,
        len: usize,
        bases: &[B],
        stream: &Stream<'_>,
        pools: &Pools,
        limits: &Limits,
    ) -> Result<Buf> {
        let damaged = |why: &str| Error::damaged("the frame", self.at, why);
        let mut bytes = pools.literals.take();
        if self.codec == codec::STORED {
            bytes.clear();
            bytes.extend(self.packed);
            let whole = self.packed.len() == len;
            return if whole { Ok(bytes) } else { Err(damaged("does not have its length")) };
        }
        let codec = Codec::of(self.codec).ok_or_else(|| damaged("has an unknown codec"))?;
        let mut rest = self.packed;
        let kinds = kinds::take(&mut rest, len).map_err(damaged)?;
        let stored = rest.split_at_checked(kinds::stored(&kinds));
        let (stored, packed) = stored.ok_or_else(|| damaged("ends within its parts"))?;
        let mut known = pools.dictionaries.sized("a dictionary", len_of(&self.dictionary), limits)?;
        dictionary(&self.dictionary, bases, stream, &mut known)?;
        let lens = (len.saturating_sub(stored.len()), stored.len());
        let done = codec.decompress(packed, &known, lens, &mut bytes);
        done.ok_or_else(|| damaged("cannot be decompressed"))?;
        kinds::join(&kinds, stored, &mut bytes);
        Ok(bytes)
    }
}
