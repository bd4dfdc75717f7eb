//! A piece of the literal stream, compressed by itself, with a dictionary out of the bases.
//!
//! A record has a byte for the codec, the spans of the dictionary, and the bytes. The dictionary is what lies in the
//! bases where the literal bytes would have been copied from if they were the same.

use super::layout::codec;
use super::varint;
use crate::error::{Error, Result};
use disk::{Limits, ReadAt};
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset, Span};
use zstd::zstd_safe::{CCtx, CParameter, DCtx, DParameter, get_error_name};

/// Literal bytes of a frame, at most.
pub const FRAME: Len = Len::mib(4);
/// Bytes of a dictionary, at most.
pub const DICTIONARY: Len = Len::mib(4);
/// Spans of a dictionary, at most.
pub const SPANS: usize = 4096;
/// A window that reaches over a dictionary and a frame.
const WINDOW_LOG: u32 = 23;
/// Tables that remember all places of a dictionary: those of low levels are made for less.
const TABLE_LOG: u32 = 22;
/// From this level on they are large enough.
const LARGE_TABLES: i32 = 13;

/// A span of a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Like {
    /// Which base.
    pub base: usize,
    /// Where in it.
    pub span: Span,
}

/// Reads a dictionary.
fn dictionary<B: ReadAt>(spans: &[Like], bases: &[B], limits: &Limits) -> disk::Result<Vec<u8>> {
    let len: u64 = spans.iter().map(|like| like.span.len().get()).sum();
    let mut bytes = limits.buffer("a dictionary", Len::new(len))?;
    let mut rest = bytes.as_mut_slice();
    for like in spans {
        let (part, behind) = std::mem::take(&mut rest).split_at_mut(like.span.len().to_usize());
        if let Some(base) = bases.get(like.base) {
            base.read_at(like.span.start(), part)?;
        }
        rest = behind;
    }
    Ok(bytes)
}

/// The record of a frame.
pub fn pack<B: ReadAt>(
    literals: &[u8],
    spans: &[Like],
    bases: &[B],
    level: i32,
    limits: &Limits,
) -> Result<Vec<u8>> {
    let dictionary = dictionary(spans, bases, limits)?;
    let packed = compress(literals, &dictionary, level)?;
    let mut record = Vec::new();
    // What does not come back as it was is not relied on: a base may be gone by the time it is needed.
    let fits = packed.len() < literals.len();
    if !fits || decompress(&packed, &dictionary, literals.len()).is_none_or(|bytes| bytes != literals) {
        record.push(codec::STORED);
        varint::put(&mut record, 0);
        record.extend(literals);
        return Ok(record);
    }
    record.push(codec::ZSTD);
    varint::put(&mut record, to_u64(spans.len()));
    let mut expected = 0_u64;
    for like in spans {
        varint::put(&mut record, to_u64(like.base));
        varint::put(&mut record, varint::fold(like.span.start().get().wrapping_sub(expected)));
        varint::put(&mut record, like.span.len().get());
        expected = like.span.end().get();
    }
    record.extend(packed);
    Ok(record)
}

fn compress(literals: &[u8], dictionary: &[u8], level: i32) -> Result<Vec<u8>> {
    let mut context = CCtx::create();
    let every = [CParameter::CompressionLevel(level), CParameter::WindowLog(WINDOW_LOG)];
    let low = [CParameter::HashLog(TABLE_LOG), CParameter::ChainLog(TABLE_LOG)];
    for parameter in every.into_iter().chain(low.into_iter().filter(|_| level < LARGE_TABLES)) {
        context.set_parameter(parameter).map_err(codec_failed)?;
    }
    if !dictionary.is_empty() {
        context.ref_prefix(dictionary).map_err(codec_failed)?;
    }
    let mut packed = Vec::with_capacity(zstd::zstd_safe::compress_bound(literals.len()));
    context.compress2(&mut packed, literals).map_err(codec_failed)?;
    Ok(packed)
}

fn codec_failed(code: usize) -> Error {
    let source = std::io::Error::other(get_error_name(code));
    Error::Disk(disk::Error::Io { op: "compression", span: Span::default(), source })
}

/// Takes the spans of the dictionary from the front of a record behind its codec.
fn spans_of(record: &mut &[u8], bases: &[Len]) -> std::result::Result<Vec<Like>, &'static str> {
    let cut = "ends within its dictionary";
    let count = varint::take(record).ok_or(cut)?;
    if count > to_u64(SPANS) {
        return Err("has a dictionary of too many spans");
    }
    let (mut spans, mut expected, mut total) = (Vec::new(), 0_u64, Len::ZERO);
    for _ in 0..count {
        let base = to_usize(varint::take(record).ok_or(cut)?);
        let start = expected.wrapping_add(varint::unfold(varint::take(record).ok_or(cut)?));
        let len = Len::new(varint::take(record).ok_or(cut)?);
        let limit = *bases.get(base).ok_or("has a dictionary of an unknown base")?;
        let span = Span::new(Offset::new(start), len).filter(|span| Span::whole(limit).contains(*span));
        let span = span.ok_or("has a dictionary behind the end of a base")?;
        total = total
            .checked_add(len)
            .filter(|total| *total <= DICTIONARY)
            .ok_or("has a dictionary that is too large")?;
        expected = span.end().get();
        spans.push(Like { base, span });
    }
    Ok(spans)
}

/// The `len` literal bytes of a record, which lies at `at` in the patch.
pub fn unpack<B: ReadAt>(
    record: &[u8],
    len: usize,
    at: Offset,
    bases: &[B],
    limits: &Limits,
) -> Result<Vec<u8>> {
    let damaged = |why: &str| Error::damaged("the frame", at, why);
    let mut rest = record;
    let (codec, behind) = rest.split_first().ok_or_else(|| damaged("is empty"))?;
    rest = behind;
    let lens: Vec<Len> = bases.iter().map(ReadAt::len).collect();
    let spans = spans_of(&mut rest, &lens).map_err(damaged)?;
    match *codec {
        codec::STORED if rest.len() == len => Ok(rest.to_vec()),
        codec::STORED => Err(damaged("does not have its length")),
        codec::ZSTD => {
            let dictionary = dictionary(&spans, bases, limits)?;
            decompress(rest, &dictionary, len).ok_or_else(|| damaged("cannot be decompressed"))
        }
        _ => Err(damaged("has an unknown codec")),
    }
}

/// Exactly `len` bytes.
fn decompress(packed: &[u8], dictionary: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut context = DCtx::create();
    context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).ok()?;
    if !dictionary.is_empty() {
        context.ref_prefix(dictionary).ok()?;
    }
    let mut bytes = Vec::with_capacity(len);
    context.decompress(&mut bytes, packed).ok()?;
    Some(bytes).filter(|bytes| bytes.len() == len)
}
