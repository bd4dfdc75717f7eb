//! Integer conversions and divisions that cannot go wrong silently.
//!
//! The workspace denies `as`; the conversions that are always right on the platforms we build for live here.

const _: () =
    assert!(usize::BITS == 64, "imgtool needs a 64-bit platform: sizes in memory must fit sizes on disk");

/// A size in memory as a size on disk; lossless on 64-bit platforms.
#[must_use]
#[allow(clippy::as_conversions, reason = "usize has 64 bits, asserted above")]
pub const fn to_u64(n: usize) -> u64 {
    n as u64
}

/// A size on disk as a size in memory; lossless on 64-bit platforms.
#[must_use]
#[allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "usize has 64 bits, asserted above"
)]
pub const fn to_usize(n: u64) -> usize {
    n as usize
}

/// The low 32 bits.
#[must_use]
#[allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "the low half is what is asked for"
)]
pub const fn low32(n: u64) -> u32 {
    n as u32
}

/// The low 16 bits.
#[must_use]
#[allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "the low bits are what is asked for"
)]
pub const fn low16(n: u64) -> u16 {
    n as u16
}

/// The low 8 bits.
#[must_use]
#[allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "the low bits are what is asked for"
)]
pub const fn low8(n: u64) -> u8 {
    n as u8
}

/// Rounds `n` up to a multiple of `unit`; `None` on overflow or a zero unit.
#[must_use]
pub fn round_up(n: u64, unit: u64) -> Option<u64> {
    n.checked_next_multiple_of(unit)
}

/// Rounds `n` down to a multiple of `unit`; `None` for a zero unit.
#[must_use]
pub fn round_down(n: u64, unit: u64) -> Option<u64> {
    n.checked_sub(n.checked_rem(unit)?)
}

/// `ceil(n / unit)`; `None` for a zero unit.
#[must_use]
pub fn div_up(n: u64, unit: u64) -> Option<u64> {
    if unit == 0 { None } else { Some(n.div_ceil(unit)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding() {
        assert_eq!(round_up(513, 512), Some(1024));
        assert_eq!(round_up(u64::MAX, 512), None);
        assert_eq!(round_down(1023, 512), Some(512));
        assert_eq!(round_down(1, 0), None);
        assert_eq!(div_up(0, 512), Some(0));
        assert_eq!(div_up(1, 512), Some(1));
        assert_eq!(div_up(1, 0), None);
    }
}
