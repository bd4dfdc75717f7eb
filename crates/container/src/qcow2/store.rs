//! Refcounts of 1 to 64 bits in a block, and words in a table.

use super::file;
use crate::Result;
use disk::Disk;
use ondisk::Offset;
use ondisk::num::{low8, to_usize};

/// Bytes of the pieces in which tables are written.
const SECTOR: u64 = 512;

/// Where a refcount stands: the byte of the block, the bytes it takes, and the bit in it if it is smaller than one.
const fn place(index: u64, order: u32) -> (u64, usize, u32) {
    let bit = index.wrapping_shl(order);
    let bytes = if order < 3 { 1 } else { 1_usize.wrapping_shl(order.wrapping_sub(3)) };
    (bit >> 3, bytes, ondisk::num::low32(bit & 7))
}

/// The largest refcount of 2^`order` bits.
pub const fn max(order: u32) -> u64 {
    if order >= 6 { u64::MAX } else { 1_u64.wrapping_shl(1_u32.wrapping_shl(order)).wrapping_sub(1) }
}

/// Refcount `index` of a block, or of a part of one that begins with refcount 0.
pub fn get(block: &[u8], index: u64, order: u32) -> u64 {
    let (byte, bytes, bit) = place(index, order);
    let field = block.get(to_usize(byte)..).and_then(|rest| rest.get(..bytes)).unwrap_or_default();
    let value = field.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    value.wrapping_shr(bit) & max(order)
}

/// Changes refcount `index` of a block. The value fits.
pub fn put(block: &mut [u8], index: u64, order: u32, value: u64) {
    let (byte, bytes, bit) = place(index, order);
    let field = block.get_mut(to_usize(byte)..).and_then(|rest| rest.get_mut(..bytes)).unwrap_or_default();
    if order < 3 {
        if let Some(byte) = field.first_mut() {
            let mask = low8(max(order).wrapping_shl(bit));
            *byte = (*byte & !mask) | low8((value & max(order)).wrapping_shl(bit));
        }
    } else {
        let mut rest = value;
        for byte in field.iter_mut().rev() {
            *byte = low8(rest);
            rest >>= 8;
        }
    }
}

/// Changes refcount `index` of the block at `block`, and returns what it was.
pub fn put_in_file(
    file: &mut (impl Disk + ?Sized),
    block: Offset,
    index: u64,
    order: u32,
    value: u64,
) -> Result<u64> {
    let per_sector = (SECTOR << 3).wrapping_shr(order);
    let first = index & !per_sector.wrapping_sub(1);
    let at = Offset::new(block.get().saturating_add(first.wrapping_shl(order) >> 3));
    let mut sector = [0; 512];
    file::read(file, at, &mut sector)?;
    let within = index & per_sector.wrapping_sub(1);
    let old = get(&sector, within, order);
    put(&mut sector, within, order, value);
    file.write_at(at, &sector)?;
    Ok(old)
}

/// Refcount `index` of the block at `block`.
pub fn get_in_file(
    file: &(impl disk::ReadAt + ?Sized),
    block: Offset,
    index: u64,
    order: u32,
) -> Result<u64> {
    let (byte, bytes, bit) = place(index, order);
    let mut field = [0; 8];
    let field = field.get_mut(..bytes).unwrap_or_default();
    file::read(file, Offset::new(block.get().saturating_add(byte)), field)?;
    let value = field.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    Ok(value.wrapping_shr(bit) & max(order))
}

/// Changes one word of a table, as a whole sector.
pub fn put_word(file: &mut (impl Disk + ?Sized), at: Offset, word: u64) -> Result<()> {
    let start = Offset::new(at.get() & !(SECTOR - 1));
    let mut sector = [0; 512];
    file::read(file, start, &mut sector)?;
    let within = to_usize(at.get() & (SECTOR - 1));
    let field = sector.get_mut(within..).unwrap_or_default();
    field.iter_mut().zip(word.to_be_bytes()).for_each(|(target, source)| *target = source);
    file.write_at(start, &sector)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refcounts_of_all_widths() {
        for order in 0..=6 {
            let mut block = vec![0; 512];
            let n = (512 * 8) >> order;
            let value = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) & max(order);
            (0..n).for_each(|i| put(&mut block, i, order, value(i)));
            (0..n).for_each(|i| assert_eq!(get(&block, i, order), value(i), "order {order}, {i}"));
        }
        let mut block = [0; 8];
        put(&mut block, 1, 1, 2);
        put(&mut block, 1, 4, 0x1234);
        assert_eq!(block, [8, 0, 0x12, 0x34, 0, 0, 0, 0]);
    }
}
