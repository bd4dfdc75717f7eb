//! Integers of few bytes: seven bits each, the high ones first; the high bit says that another byte follows.

/// Bits of a byte that count.
const BITS: u32 = 7;

/// Appends a number.
pub fn put(out: &mut Vec<u8>, value: u64) {
    let more = len(value).saturating_sub(1);
    for place in (0..=more).rev() {
        let bits = ondisk::num::low8(value.wrapping_shr(place.wrapping_mul(BITS))) & 0x7f;
        out.push(if place == 0 { bits } else { bits | 0x80 });
    }
}

/// Bytes that a number takes.
pub const fn len(value: u64) -> u32 {
    let bits = 64_u32.saturating_sub(value.leading_zeros());
    if bits == 0 { 1 } else { bits.div_ceil(BITS) }
}

/// Takes a number from the front; none where there is no whole one, or one of more than 64 bits.
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    loop {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if value >> (64_u32.wrapping_sub(BITS)) != 0 {
            return None;
        }
        value = value.wrapping_shl(BITS) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let numbers = [0, 1, 127, 128, 300, 123_456_789, 1 << 32, (1 << 63) - 1, u64::MAX];
        let mut bytes = Vec::new();
        for number in numbers {
            let before = bytes.len();
            put(&mut bytes, number);
            assert_eq!(bytes.len() - before, usize::try_from(len(number)).unwrap());
        }
        let mut rest = bytes.as_slice();
        assert_eq!(numbers.map(|_| take(&mut rest).unwrap()), numbers);
        assert_eq!(take(&mut rest), None);
        // The example of RFC 3284, section 2.
        let mut example = Vec::new();
        put(&mut example, 123_456_789);
        assert_eq!(example, [0xba, 0xef, 0x9a, 0x15]);
        assert_eq!(take(&mut [0xff; 20].as_slice()), None);
        assert_eq!(take(&mut [0x80].as_slice()), None);
    }
}
