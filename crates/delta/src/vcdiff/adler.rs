//! Adler-32, of bytes and of zeros that nobody reads.

use crate::digest;
use disk::{Limits, ReadAt};
use ondisk::{Len, Span};
use simd_adler32::Adler32;

/// Both halves of a checksum are smaller than this.
const PRIME: u64 = 65_521;
/// Bytes that are read at once.
const STEP: Len = Len::mib(1);

/// The checksum of `bytes`.
pub fn of(bytes: &[u8]) -> u32 {
    simd_adler32::adler32(&bytes)
}

/// The checksum of what was behind `before`, followed by so many zeros.
pub fn zeros(before: u32, count: u64) -> u32 {
    let (sum, count) = (u64::from(before & 0xffff), count.checked_rem(PRIME).unwrap_or_default());
    let sums = u64::from(before >> 16).saturating_add(sum.saturating_mul(count));
    ondisk::num::low32(sums.checked_rem(PRIME).unwrap_or_default().wrapping_shl(16) | sum)
}

/// The checksum of a part of a disk. What is known to be zero is not read.
pub fn of_disk(disk: &dyn ReadAt, span: Span, limits: &Limits) -> disk::Result<u32> {
    let mut sum = of(&[]);
    let mut buffer = limits.buffer("a piece of a disk", STEP.min(span.len()))?;
    for extent in disk.extents(span)?.iter() {
        if extent.kind.reads_zero() {
            sum = zeros(sum, extent.span.len().get());
            continue;
        }
        for part in extent.span.chunks(STEP) {
            let bytes = buffer.get_mut(..part.len().to_usize()).unwrap_or_default();
            digest::fill(disk, part, bytes)?;
            let mut adler = Adler32::from_checksum(sum);
            adler.write(bytes);
            sum = adler.finish();
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_need_not_be_read() {
        assert_eq!(of(b"Wikipedia"), 0x11e6_0398);
        for count in [0, 1, 5000, 70_000, 200_000] {
            let bytes = [b"abc".as_slice(), &vec![0; count]].concat();
            assert_eq!(zeros(of(b"abc"), ondisk::num::to_u64(count)), of(&bytes), "{count}");
        }
    }
}
