//! Tapdisk's batmap: one bit for each block whose sectors are all there.
//!
//! 1. Only images of creator `tap` have one, from version 1.2 on; version 1.1 may.
//! 2. Its header stands directly behind the BAT: it moves with it.
//! 3. The checksum covers a length that follows from `current_size` by truncating division; blocks in the last
//!    partial byte of a disk just beyond a multiple of 8 GiB are outside. It must be written exactly so.
//! 4. A bit that is clear is always right.

use super::header::{Header, SECTOR};
use super::layout::{self, BatmapHeader, Footer};
use disk::{Limits, ReadAt, read_record};
use ondisk::num::{round_up, to_u64, to_usize};
use ondisk::{Len, Offset, Span};

/// The batmap of an image, as far as it can be believed.
#[derive(Clone, Debug)]
pub enum Batmap {
    /// The image has none, and needs none.
    None,
    /// It has one, which is not right: nothing of it is believed, and the image is not written to.
    Bad { at: Offset, why: String },
    /// It has one.
    Good(Box<Good>),
}

/// A batmap that is right.
#[derive(Clone, Debug)]
pub struct Good {
    /// As it was read.
    pub raw: BatmapHeader,
    /// Where the header is.
    pub at: Offset,
    /// The map.
    pub map: Span,
    /// How much of the map the checksum covers.
    pub covered: Len,
}

/// How many bytes of the map the checksum covers on a disk of that size.
pub fn covered(current_size: u64) -> Len {
    Len::new(round_up((current_size >> 24).max(1), SECTOR).unwrap_or(u64::MAX))
}

impl Batmap {
    /// Reads the batmap of an image that has one.
    pub fn read(file: &dyn ReadAt, footer: &Footer, header: &Header) -> crate::Result<Self> {
        let version = footer.creator_version.get();
        if &footer.creator_application != b"tap\0" || version < 0x0001_0001 {
            return Ok(Self::None);
        }
        let at = header.bat.end();
        let bad = |why: &str| Ok(Self::Bad { at, why: why.to_owned() });
        let own = Span::new(at, Len::new(SECTOR));
        if own.is_none_or(|own| !Span::whole(file.len()).contains(own)) {
            return if version > 0x0001_0001 {
                bad("it would lie behind the end of the file")
            } else {
                Ok(Self::None)
            };
        }
        let raw: BatmapHeader = read_record(file, at)?;
        if raw.cookie != layout::BATMAP_COOKIE {
            return if version > 0x0001_0001 { bad("its cookie is missing") } else { Ok(Self::None) };
        }
        if raw.key_cookie != 0 {
            return Err(crate::Error::unsupported("the VHD is encrypted, which is not supported"));
        }
        if !matches!(raw.batmap_version.get(), 0x0001_0001 | 0x0001_0002) {
            return bad("its version is not 1.1 or 1.2");
        }
        let len = Len::new(u64::from(raw.batmap_size.get()) << 9);
        let map = Span::new(Offset::new(raw.batmap_offset.get()), len);
        let Some(map) = map.filter(|map| Span::whole(file.len()).contains(*map)) else {
            return bad("its map does not lie in the file");
        };
        let covered = covered(footer.current_size.get());
        if covered > len {
            return bad("its map is shorter than its checksum's range");
        }
        let good = Good { raw, at, map, covered };
        let computed = !good.sum(file, covered)?;
        if computed != raw.checksum.get() {
            return bad(&format!("its checksum is {:#x}, computed {computed:#x}", raw.checksum.get()));
        }
        Ok(Self::Good(Box::new(good)))
    }

    /// What it takes of the file.
    pub fn spans(&self) -> Vec<Span> {
        match self {
            Self::Good(good) => Span::new(good.at, Len::new(SECTOR)).into_iter().chain([good.map]).collect(),
            _ => Vec::new(),
        }
    }

    /// The map where it can be believed.
    pub const fn good(&self) -> Option<&Good> {
        match self {
            Self::Good(good) => Some(good),
            _ => None,
        }
    }
}

impl Good {
    /// The sum of the first `len` bytes of the map.
    pub fn sum(&self, file: &dyn ReadAt, len: Len) -> disk::Result<u32> {
        let mut sum = 0_u32;
        let mut buf = Limits::default().buffer("a piece of the batmap", Len::kib(64).min(len))?;
        for part in Span::new(self.map.start(), len).unwrap_or_default().chunks(Len::kib(64)) {
            let piece = buf.get_mut(..part.len().to_usize()).unwrap_or_default();
            file.read_at(part.start(), piece)?;
            sum = sum.wrapping_add(self.raw.sum_of(piece));
        }
        Ok(sum)
    }

    /// Where block `index` has its bit: the byte in the file and the mask.
    pub fn bit(&self, index: u64) -> Option<(Offset, u8)> {
        let at = self.map.start().checked_add(Len::new(index >> 3))?;
        Some((at, 0x80 >> (index & 7))).filter(|_| at < self.map.end())
    }

    /// Whether the map says that block `index` is complete.
    pub fn has(&self, file: &dyn ReadAt, index: u64) -> disk::Result<bool> {
        let Some((at, mask)) = self.bit(index) else { return Ok(false) };
        let mut byte = [0];
        file.read_at(at, &mut byte)?;
        Ok(byte[0] & mask != 0)
    }

    /// Whether the checksum covers the byte at `at`.
    pub fn covers(&self, at: Offset) -> bool {
        at.since(self.map.start()).is_some_and(|ahead| ahead < self.covered)
    }
}

/// A map of at least `blocks` bits in whole sectors, and at least as long as the checksum's range.
pub fn map_len(blocks: u64, current_size: u64) -> Len {
    let bytes = round_up(blocks.div_ceil(8), SECTOR).unwrap_or(u64::MAX);
    Len::new(bytes).max(covered(current_size))
}

/// A bitmap's bits from a byte with its first bits up to `count`.
pub fn all_set(bitmap: &[u8], count: u64) -> bool {
    let whole = to_usize(count >> 3);
    let (full, rest) = bitmap.split_at_checked(whole).unwrap_or((bitmap, &[]));
    let last = 0xff_u8.checked_shr(u32::try_from(count & 7).unwrap_or_default()).unwrap_or_default();
    to_u64(full.len()) == count >> 3
        && full.iter().all(|&byte| byte == 0xff)
        && (count & 7 == 0 || rest.first().is_some_and(|byte| byte | last == 0xff))
}
