//! Compressed sections.

mod bits;
mod djw;
mod fgk;
pub mod lzma;
mod runs;

use super::layout::secondary as id;
use super::number;
use disk::Limits;
use ondisk::Len;

/// A compressor of sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secondary {
    /// Huffman codes, several for each section.
    Djw,
    /// An xz stream for each kind of section.
    Lzma,
    /// One adaptive Huffman code for each kind of section.
    Fgk,
}

impl Secondary {
    /// By its identifier.
    pub const fn of(byte: u8) -> Option<Self> {
        match byte {
            id::DJW => Some(Self::Djw),
            id::LZMA => Some(Self::Lzma),
            id::FGK => Some(Self::Fgk),
            _ => None,
        }
    }

    /// As `xdelta3 -S` calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Djw => "djw",
            Self::Lzma => "lzma",
            Self::Fgk => "fgk",
        }
    }

    /// Whether a section is read by what the sections before it were.
    pub const fn goes_on(self) -> bool {
        matches!(self, Self::Lzma | Self::Fgk)
    }
}

/// One kind of section, as far as it was read.
pub enum Reader {
    /// Needs nothing of the sections before.
    Djw,
    /// Goes on.
    Lzma(Box<lzma::Reader>),
    /// Goes on.
    Fgk(Box<fgk::Tree>),
}

impl Reader {
    /// At its beginning.
    pub fn new(secondary: Secondary) -> Self {
        match secondary {
            Secondary::Djw => Self::Djw,
            Secondary::Fgk => Self::Fgk(Box::default()),
            Secondary::Lzma => Self::Lzma(Box::default()),
        }
    }

    /// The next section, which may have so many bytes at most.
    pub fn unpack(&mut self, mut section: &[u8], most: u64, limits: &Limits) -> Result<Vec<u8>, String> {
        let len = number::take(&mut section).ok_or("does not tell its length")?;
        if len == 0 || len > most {
            return Err(format!("tells a length of {len} bytes, where at most {most} make sense"));
        }
        let mut out = limits.buffer("a section", Len::new(len)).map_err(|error| error.to_string())?;
        match self {
            Self::Djw => djw::unpack(section, &mut out)?,
            Self::Fgk(tree) => tree.unpack(section, &mut out)?,
            Self::Lzma(reader) => reader.unpack(section, &mut out, limits)?,
        }
        Ok(out)
    }
}
