//! What compresses literal bytes.

use super::layout::codec;
use crate::error::{Error, Result};
use lzma_rust2::{Lzma2Options, Lzma2Reader, Lzma2Writer};
use ondisk::num::{low32, to_u64};
use ondisk::{Len, Span};
use std::io::{Read, Write};
use zstd::zstd_safe::{CCtx, CParameter, DCtx, DParameter, compress_bound, get_error_name};

/// A window of zstd, which reaches over the largest dictionary and frame.
const WINDOW_LOG: u32 = 25;
/// What zstd is told for each level: its own level, and the logarithms of its tables of hashes and chains. By themselves
/// tables are made for less than a dictionary; those of quick levels stay in the cache of the processor all the same:
/// what they forget is less than a percent, what they would miss it for a quarter of the time.
const fn effort(level: i32) -> (i32, Option<(u32, u32)>) {
    match level {
        ..=2 => (level, Some((19, 18))),
        3 | 4 => (5, Some((21, 20))),
        5..=12 => (level, Some((22, 22))),
        _ => (level, None),
    }
}

/// The smallest dictionary of LZMA2.
const LZMA_LEAST: u32 = 4096;

/// How literal bytes are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Codec {
    /// Zstandard.
    #[default]
    Zstd,
    /// LZMA2, as in xz: smaller, and slower on both sides.
    Xz,
}

impl Codec {
    /// As it stands in a record.
    pub const fn number(self) -> u8 {
        match self {
            Self::Zstd => codec::ZSTD,
            Self::Xz => codec::LZMA2,
        }
    }

    /// The one of that number.
    pub const fn of(number: u8) -> Option<Self> {
        match number {
            codec::ZSTD => Some(Self::Zstd),
            codec::LZMA2 => Some(Self::Xz),
            _ => None,
        }
    }

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Xz => "xz",
        }
    }

    /// Memory to compress so many bytes, dictionary included.
    pub const fn memory(self, bytes: Len) -> Len {
        let times = match self {
            Self::Zstd => 5,
            Self::Xz => 12,
        };
        Len::new(bytes.get().saturating_mul(times))
    }

    /// Compresses bytes.
    pub fn compress(self, bytes: &[u8], dictionary: &[u8], level: i32) -> Result<Vec<u8>> {
        match self {
            Self::Zstd => zstd(bytes, dictionary, level),
            Self::Xz => lzma2(bytes, dictionary, level).map_err(failed),
        }
    }

    /// Makes `bytes` exactly the `len` bytes, with room for `more` behind them.
    pub fn decompress(
        self,
        packed: &[u8],
        dictionary: &[u8],
        (len, more): (usize, usize),
        bytes: &mut Vec<u8>,
    ) -> Option<()> {
        bytes.clear();
        bytes.reserve_exact(len.saturating_add(more));
        match self {
            Self::Zstd => {
                let mut context = DCtx::create();
                context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).ok()?;
                if !dictionary.is_empty() {
                    context.ref_prefix(dictionary).ok()?;
                }
                context.decompress(bytes, packed).ok()?;
            }
            Self::Xz => {
                bytes.resize(len, 0);
                let known = Some(dictionary).filter(|known| !known.is_empty());
                let mut reader = Lzma2Reader::new(packed, reach(bytes.len(), dictionary), known);
                reader.read_exact(bytes).ok()?;
                // The end of the stream belongs to it.
                let ended = reader.read(&mut [0]).ok()? == 0 && reader.into_inner().is_empty();
                if !ended {
                    return None;
                }
            }
        }
        (bytes.len() == len).then_some(())
    }
}

fn zstd(bytes: &[u8], dictionary: &[u8], level: i32) -> Result<Vec<u8>> {
    let coded = |code: usize| failed(std::io::Error::other(get_error_name(code)));
    let mut context = CCtx::create();
    let window = to_u64(bytes.len().saturating_add(dictionary.len())).next_power_of_two().ilog2();
    let (level, tables) = effort(level);
    let every = [CParameter::CompressionLevel(level), CParameter::WindowLog(window.clamp(10, WINDOW_LOG))];
    let tables = tables.map(|(hash, chain)| [CParameter::HashLog(hash), CParameter::ChainLog(chain)]);
    for parameter in every.into_iter().chain(tables.into_iter().flatten()) {
        context.set_parameter(parameter).map_err(coded)?;
    }
    if !dictionary.is_empty() {
        context.ref_prefix(dictionary).map_err(coded)?;
    }
    let mut packed = Vec::with_capacity(compress_bound(bytes.len()));
    context.compress2(&mut packed, bytes).map_err(coded)?;
    Ok(packed)
}

fn lzma2(bytes: &[u8], dictionary: &[u8], level: i32) -> std::io::Result<Vec<u8>> {
    // Levels of xz end at 9.
    let mut options = Lzma2Options::with_preset(level.unsigned_abs().div_ceil(2));
    options.lzma_options.dict_size = reach(bytes.len(), dictionary);
    options.lzma_options.preset_dict = Some(dictionary.to_vec()).filter(|known| !known.is_empty());
    let mut writer = Lzma2Writer::new(Vec::new(), options);
    writer.write_all(bytes)?;
    writer.finish()
}

/// What LZMA2 calls its dictionary: all that lies before the last byte.
fn reach(len: usize, dictionary: &[u8]) -> u32 {
    low32(to_u64(len.saturating_add(dictionary.len()))).max(LZMA_LEAST)
}

fn failed(source: std::io::Error) -> Error {
    Error::Disk(disk::Error::Io { op: "compression", span: Span::default(), source })
}
