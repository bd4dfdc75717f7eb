//! Positions and lengths as types. Confusing a byte position with a number of bytes, or with a sector, does not compile.

use std::fmt;

/// A byte position on the disk at hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(u64);

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Len(u64);

/// A sector number; meaningful only together with its [`SectorSize`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lba(pub u64);

/// The size of a logical sector: 512 or 4096 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SectorSize(u32);

impl Offset {
    /// The first byte.
    pub const ZERO: Self = Self(0);

    /// A position, in bytes from the start.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// In bytes from the start.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The position `by` bytes further on.
    #[must_use]
    pub const fn checked_add(self, by: Len) -> Option<Self> {
        match self.0.checked_add(by.0) {
            Some(bytes) => Some(Self(bytes)),
            None => None,
        }
    }

    /// The position `by` bytes before.
    #[must_use]
    pub const fn checked_sub(self, by: Len) -> Option<Self> {
        match self.0.checked_sub(by.0) {
            Some(bytes) => Some(Self(bytes)),
            None => None,
        }
    }

    /// How far this position lies behind `start`; `None` where it lies before it.
    #[must_use]
    pub const fn since(self, start: Self) -> Option<Len> {
        match self.0.checked_sub(start.0) {
            Some(bytes) => Some(Len(bytes)),
            None => None,
        }
    }

    /// Whether this is a multiple of `unit` bytes.
    #[must_use]
    pub const fn is_aligned(self, unit: u64) -> bool {
        self.0.is_multiple_of(unit)
    }
}

impl Len {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// A number of bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The length of a buffer.
    #[must_use]
    pub const fn of(buf: &[u8]) -> Self {
        Self(crate::num::to_u64(buf.len()))
    }

    /// `n` times 1024 bytes.
    #[must_use]
    pub const fn kib(n: u32) -> Self {
        Self(widen(n) << 10)
    }

    /// `n` times 1024² bytes.
    #[must_use]
    pub const fn mib(n: u32) -> Self {
        Self(widen(n) << 20)
    }

    /// `n` times 1024³ bytes.
    #[must_use]
    pub const fn gib(n: u32) -> Self {
        Self(widen(n) << 30)
    }

    /// In bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// As the size of a buffer in memory.
    #[must_use]
    pub const fn to_usize(self) -> usize {
        crate::num::to_usize(self.0)
    }

    /// The position just behind that many bytes.
    #[must_use]
    pub const fn end(self) -> Offset {
        Offset(self.0)
    }

    /// The sum; `None` on overflow.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(bytes) => Some(Self(bytes)),
            None => None,
        }
    }

    /// The difference; `None` where it would be negative.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(bytes) => Some(Self(bytes)),
            None => None,
        }
    }

    /// The difference, at least zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Whether there is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Whether this is a multiple of `unit` bytes.
    #[must_use]
    pub const fn is_aligned(self, unit: u64) -> bool {
        self.0.is_multiple_of(unit)
    }
}

#[allow(clippy::as_conversions, reason = "u64::from is not const yet")]
const fn widen(n: u32) -> u64 {
    n as u64
}

impl SectorSize {
    /// 512 bytes: the sector of nearly every virtual disk.
    pub const B512: Self = Self(512);
    /// 4096 bytes: "4K native" disks.
    pub const B4096: Self = Self(4096);

    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        widen(self.0)
    }

    /// Where a sector begins; `None` beyond the end of all numbers.
    #[must_use]
    pub const fn offset(self, lba: Lba) -> Option<Offset> {
        match lba.0.checked_mul(self.bytes()) {
            Some(bytes) => Some(Offset(bytes)),
            None => None,
        }
    }

    /// The length of `sectors` sectors.
    #[must_use]
    pub const fn len_of(self, sectors: u64) -> Option<Len> {
        match sectors.checked_mul(self.bytes()) {
            Some(bytes) => Some(Len(bytes)),
            None => None,
        }
    }

    /// The number of whole sectors in `len`.
    #[must_use]
    pub const fn sectors_in(self, len: Len) -> u64 {
        match len.0.checked_div(self.bytes()) {
            Some(n) => n,
            None => 0,
        }
    }

    /// The sector that begins at `at`; `None` where `at` is not aligned.
    #[must_use]
    pub const fn lba_at(self, at: Offset) -> Option<Lba> {
        if at.is_aligned(self.bytes()) {
            match at.0.checked_div(self.bytes()) {
                Some(n) => Some(Lba(n)),
                None => None,
            }
        } else {
            None
        }
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Len {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Lba {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SectorSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
