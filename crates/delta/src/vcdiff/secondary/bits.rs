//! Bits of a section: the low ones of a byte come first, the high ones of a number.

/// Bits that are still to be taken.
pub struct Bits<'a> {
    bytes: &'a [u8],
    /// The byte that is being taken, and how many bits of it are left.
    byte: u8,
    left: u32,
}

impl<'a> Bits<'a> {
    /// All bits of these bytes.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, byte: 0, left: 0 }
    }

    /// The next bit.
    pub fn bit(&mut self) -> Result<u32, String> {
        if self.left == 0 {
            let (byte, rest) = self.bytes.split_first().ok_or("is cut off")?;
            (self.byte, self.bytes, self.left) = (*byte, rest, 8);
        }
        let bit = u32::from(self.byte & 1);
        self.byte >>= 1;
        self.left = self.left.saturating_sub(1);
        Ok(bit)
    }

    /// The next number, of so many bits.
    pub fn number(&mut self, bits: u32) -> Result<u32, String> {
        (0..bits).try_fold(0_u32, |number, _| Ok(number.wrapping_shl(1) | self.bit()?))
    }

    /// Refuses bytes of which nothing was taken.
    pub fn end(&self) -> Result<(), String> {
        if self.bytes.is_empty() { Ok(()) } else { Err("has bytes behind its end".to_owned()) }
    }
}
