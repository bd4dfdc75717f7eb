//! Integers of few bytes: seven bits each, the low ones first; the high bit says that more follow.

/// Bits of a byte that count.
const BITS: u32 = 7;

/// Appends a number.
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 1 << BITS {
        out.push(ondisk::num::low8(value) | 0x80);
        value >>= BITS;
    }
    out.push(ondisk::num::low8(value));
}

/// Takes a number from the front; none where there is no whole one, or one of more than 64 bits.
#[inline]
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    // Most are short, and there are millions of them.
    match **bytes {
        [low, ref rest @ ..] if low < 0x80 => {
            *bytes = rest;
            Some(u64::from(low))
        }
        [low, high, ref rest @ ..] if high < 0x80 => {
            *bytes = rest;
            Some(u64::from(low & 0x7f) | u64::from(high) << BITS)
        }
        _ => take_long(bytes),
    }
}

fn take_long(bytes: &mut &[u8]) -> Option<u64> {
    let (mut value, mut shift) = (0_u64, 0_u32);
    loop {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if shift > 63 || (shift == 63 && bits > 1) {
            return None;
        }
        value |= bits.wrapping_shl(shift);
        if byte & 0x80 == 0 {
            return Some(value);
        }
        shift = shift.saturating_add(BITS);
    }
}

/// A difference as a number that is small where the difference is, whatever its sign. Differences wrap around.
pub const fn fold(difference: u64) -> u64 {
    let sign = if difference >> 63 == 1 { u64::MAX } else { 0 };
    difference.wrapping_shl(1) ^ sign
}

/// Takes [`fold`] back.
pub const fn unfold(folded: u64) -> u64 {
    let sign = if folded & 1 == 1 { u64::MAX } else { 0 };
    (folded >> 1) ^ sign
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let numbers = [0, 1, 127, 128, 300, 1 << 20, (1 << 63) - 1, 1 << 63, u64::MAX];
        let mut bytes = Vec::new();
        for number in numbers {
            put(&mut bytes, number);
            assert_eq!(unfold(fold(number)), number);
        }
        let mut rest = bytes.as_slice();
        assert_eq!(numbers.map(|_| take(&mut rest).unwrap()), numbers);
        assert_eq!(take(&mut rest), None);
        assert_eq!((fold(0), fold(1), fold(u64::MAX)), (0, 2, 1));
    }

    #[test]
    fn what_is_too_long_is_none() {
        assert_eq!(take(&mut [0xff; 20].as_slice()), None);
        assert_eq!(take(&mut [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2].as_slice()), None);
        assert_eq!(take(&mut [0x80].as_slice()), None);
    }
}
