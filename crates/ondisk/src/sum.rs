//! Checksums. Each exists here once.

use crate::num::to_usize;
use sha1::Digest;

/// CRC-32C (Castagnoli) as ext4 and jbd2 use it: a raw continuation, neither start value nor result inverted.
///
/// Start with `!0` where the format says `~0`, else with the seed or a partial result.
#[must_use]
pub fn crc32c(start: u32, bytes: &[u8]) -> u32 {
    // The crate inverts at both ends; undo that to get the raw register.
    !crc32c::crc32c_append(!start, bytes)
}

/// CRC-32 (IEEE 802.3, reflected), start value and result inverted: GPT, and gzip's check.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// CRC-32 (IEEE, reflected) as a raw continuation without inversions: LVM2 starts it with `0xf597a6cf`.
#[must_use]
pub fn crc32_raw(start: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(!start);
    hasher.update(bytes);
    !hasher.finalize()
}

/// CRC-32 with the big-endian (not reflected) polynomial 0x04C11DB7, raw: commit blocks of jbd2's checksum version 1.
#[must_use]
pub fn crc32_be(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |crc, &byte| {
        let index = to_usize(u64::from((crc >> 24) ^ u32::from(byte)));
        (crc << 8) ^ CRC32_BE.get(index).copied().unwrap_or_default()
    })
}

/// CRC-16 (reflected polynomial 0xA001), raw: group descriptors of ext4 without `metadata_csum`.
#[must_use]
pub fn crc16(start: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(start, |crc, &byte| {
        let index = to_usize(u64::from((crc ^ u16::from(byte)) & 0xff));
        (crc >> 8) ^ CRC16.get(index).copied().unwrap_or_default()
    })
}

/// SHA-1: the chunks of XenServer's exports. It guards against accidents, not against people.
#[must_use]
pub fn sha1(bytes: &[u8]) -> [u8; 20] {
    sha1::Sha1::digest(bytes).into()
}

/// XXH64 with the seed 0: the chunks of newer exports.
#[must_use]
pub fn xxh64(bytes: &[u8]) -> u64 {
    twox_hash::XxHash64::oneshot(0, bytes)
}

static CRC32_BE: [u32; 256] = crc32_be_table();
static CRC16: [u16; 256] = crc16_table();

#[allow(
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "evaluated at compile time: a mistake is a compiler error"
)]
const fn crc32_be_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = (i as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000_0000 == 0 { crc << 1 } else { (crc << 1) ^ 0x04c1_1db7 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

#[allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "evaluated at compile time: a mistake is a compiler error"
)]
const fn crc16_table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u16;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0xa001 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: &[u8] = b"123456789";

    #[test]
    fn published_check_values() {
        assert_eq!(!crc32c(!0, CHECK), 0xe306_9283);
        assert_eq!(crc32(CHECK), 0xcbf4_3926);
        assert_eq!(!crc32_raw(!0, CHECK), 0xcbf4_3926);
        assert_eq!(crc32_be(!0, CHECK), 0x0376_e6e7); // CRC-32/MPEG-2
        assert_eq!(crc16(0, CHECK), 0xbb3d); // CRC-16/ARC
        assert_eq!(crc16(0xffff, CHECK), 0x4b37); // CRC-16/MODBUS
        assert_eq!(sha1(b"abc")[..4], [0xa9, 0x99, 0x3e, 0x36]); // FIPS 180-1
        assert_eq!(xxh64(b""), 0xef46_db37_51d8_e999);
        assert_eq!(xxh64(b"abc"), 0x44bc_2cf5_ad77_0999);
    }

    #[test]
    fn continuation_equals_one_pass() {
        assert_eq!(crc32c(crc32c(7, b"1234"), b"56789"), crc32c(7, CHECK));
        assert_eq!(crc32_raw(crc32_raw(7, b"1234"), b"56789"), crc32_raw(7, CHECK));
    }
}
