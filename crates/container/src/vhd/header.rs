//! The dynamic header and what it points at.
//!
//! ```text
//! 0        512        1536                                                       end - 512
//! | footer | dynamic  | BAT | batmap | parent    | bitmap | data | bitmap | data | footer |
//! | copy   | header   |     | (tap)  | locators  |    a block    |    a block    |        |
//! ```
//!
//! 1. The BAT lies in the file whole, and behind it is at least one entry for each block of the disk.
//! 2. Header, BAT, batmap, locators and the footer copy do not overlap each other.

use super::layout::{self, DynamicHeader, Footer};
use crate::{Error, Result};
use disk::{ReadAt, read_record};
use ondisk::num::{round_up, to_usize};
use ondisk::text::Printable;
use ondisk::{Len, Offset, Sealed, Span};

const WHAT: &str = "VHD dynamic header";
pub const SECTOR: u64 = 512;
pub const HEADER_LEN: Len = Len::new(1024);
/// Larger blocks exist nowhere; the specification leaves them open.
const BLOCK_MAX: u32 = 256 << 20;

/// The size of a block and of the bitmap in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockShape {
    /// log2 of the data's length.
    bits: u32,
}

impl BlockShape {
    /// The data of a block.
    pub const fn data(self) -> Len {
        Len::new(1 << self.bits)
    }

    /// Bytes of the bitmap that carry bits; small blocks have less than one byte.
    pub fn bitmap_bytes(self) -> usize {
        to_usize(self.sectors().div_ceil(8))
    }

    /// The bitmap, in whole sectors.
    pub fn bitmap(self) -> Len {
        let sectors = (self.sectors() >> 3).div_ceil(SECTOR).max(1);
        Len::new(sectors << 9)
    }

    /// Bitmap and data.
    pub fn whole(self) -> Len {
        Len::new(self.bitmap().get().saturating_add(self.data().get()))
    }

    /// Sectors of data, bits of the bitmap.
    pub const fn sectors(self) -> u64 {
        self.data().get() >> 9
    }

    /// How many blocks a disk of `len` has.
    pub const fn count(self, len: Len) -> u64 {
        let whole = len.get() >> self.bits;
        if len.is_aligned(self.data().get()) { whole } else { whole.saturating_add(1) }
    }

    /// The block that holds position `at` of the disk.
    pub const fn index_of(self, at: Offset) -> u64 {
        at.get() >> self.bits
    }

    /// Block `index` on the disk.
    pub fn virtual_span(self, index: u64) -> Span {
        let at = index.checked_shl(self.bits).filter(|at| at >> self.bits == index).unwrap_or(u64::MAX);
        Span::new(Offset::new(at), self.data()).unwrap_or_default()
    }
}

/// The validated header of a dynamic or differencing image.
#[derive(Clone, Debug)]
pub struct Header {
    /// As it was read.
    pub raw: DynamicHeader,
    /// Where it is.
    pub at: Offset,
    /// The BAT, padding to whole sectors included.
    pub bat: Span,
    /// Entries in the BAT.
    pub entries: u64,
    pub shape: BlockShape,
}

/// The BAT's length with its padding.
pub fn bat_len(entries: u64) -> Len {
    Len::new(round_up(entries.saturating_mul(4), SECTOR).unwrap_or(u64::MAX))
}

impl Header {
    /// Reads and validates the header that `footer` points at.
    pub fn read(file: &dyn ReadAt, footer: &Footer) -> Result<Self> {
        let at = Offset::new(footer.data_offset.get());
        let span = Span::new(at, HEADER_LEN).filter(|span| Span::whole(file.len()).contains(*span));
        if span.is_none() || at.get() < SECTOR {
            let problem = format!("it must lie between the footer copy and the file's end at {}", file.len());
            return Err(Error::corrupt(WHAT, at, problem));
        }
        Self::of(read_record(file, at)?, at, file.len(), footer)
    }

    /// Validates the header that was found at `at` in a file of `file_len`.
    pub fn of(raw: DynamicHeader, at: Offset, file_len: Len, footer: &Footer) -> Result<Self> {
        let shape = validate(&raw, at)?;
        let entries = u64::from(raw.max_table_entries.get());
        let bat_at = Offset::new(raw.table_offset.get());
        let bat = Span::new(bat_at, bat_len(entries));
        let bat = bat.filter(|bat| Span::whole(file_len).contains(*bat)).ok_or_else(|| {
            let problem =
                format!("{entries} entries at byte {bat_at} do not lie in the file of {file_len} bytes");
            Error::corrupt("VHD block allocation table", bat_at, problem)
        })?;
        let needed = shape.count(Len::new(footer.current_size.get()));
        if entries < needed {
            let problem = format!("the table has {entries} entries, the disk has {needed} blocks");
            return Err(Error::corrupt(WHAT, at, problem));
        }
        let header = Self { raw, at, bat, entries, shape };
        if bat.start().get() < SECTOR || bat.intersect(header.span()).is_some() {
            let problem = "it overlaps the footer copy or the header";
            return Err(Error::corrupt("VHD block allocation table", bat_at, problem));
        }
        Ok(header)
    }

    /// The header's own place.
    pub fn span(&self) -> Span {
        Span::new(self.at, HEADER_LEN).unwrap_or_default()
    }
}

fn validate(raw: &DynamicHeader, at: Offset) -> Result<BlockShape> {
    let corrupt = |problem: String| Err(Error::corrupt(WHAT, at, problem));
    if raw.cookie != layout::HEADER_COOKIE {
        return corrupt(format!("the cookie is '{}', expected 'cxsparse'", Printable(&raw.cookie)));
    }
    if let Err(mismatch) = raw.verify(&()) {
        return corrupt(mismatch.to_string());
    }
    if raw.header_version.get() >> 16 != layout::VERSION >> 16 {
        return corrupt(format!("the version is {:#x}, expected 0x10000", raw.header_version.get()));
    }
    let block = raw.block_size.get();
    if !block.is_power_of_two() || !(512..=BLOCK_MAX).contains(&block) {
        return corrupt(format!(
            "the block size is {block}, expected a power of two from 512 to {BLOCK_MAX}"
        ));
    }
    Ok(BlockShape { bits: block.trailing_zeros() })
}

/// Reads and validates the head of a dynamic image by the footer copy at byte 0: the probe's view.
pub fn read_any(file: &dyn ReadAt) -> Result<Header> {
    let copy: Footer = read_record(file, Offset::ZERO)?;
    Header::read(file, &copy)
}
