//! Globally unique identifiers, in the two byte orders that disks use.

use std::fmt;
use std::str::FromStr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A UUID in big-endian (RFC 4122) byte order: ext, VHD, LVM's siblings.
#[derive(
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(transparent)]
pub struct Uuid(pub [u8; 16]);

/// A GUID as GPT and Microsoft store it: the first three fields little-endian.
#[derive(
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(transparent)]
pub struct MixedGuid(pub [u8; 16]);

impl Uuid {
    /// All zero: "none" in most formats.
    pub const NIL: Self = Self([0; 16]);

    /// Whether it is all zero.
    #[must_use]
    pub fn is_nil(self) -> bool {
        self == Self::NIL
    }
}

impl MixedGuid {
    /// All zero: an unused GPT entry.
    pub const NIL: Self = Self([0; 16]);

    /// Whether it is all zero.
    #[must_use]
    pub fn is_nil(self) -> bool {
        self == Self::NIL
    }

    /// The same identifier in RFC 4122 order.
    #[must_use]
    pub const fn to_uuid(self) -> Uuid {
        Uuid(swap(self.0))
    }
}

impl From<Uuid> for MixedGuid {
    fn from(uuid: Uuid) -> Self {
        Self(swap(uuid.0))
    }
}

const fn swap(b: [u8; 16]) -> [u8; 16] {
    let [b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15] = b;
    [b3, b2, b1, b0, b5, b4, b7, b6, b8, b9, b10, b11, b12, b13, b14, b15]
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for MixedGuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_uuid(), f)
    }
}

impl fmt::Debug for MixedGuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAUuid;

impl FromStr for Uuid {
    type Err = NotAUuid;

    /// Reads 32 hexadecimal digits, with or without hyphens.
    fn from_str(text: &str) -> Result<Self, NotAUuid> {
        let mut bytes = [0_u8; 16];
        let mut digits = text.chars().filter(|&c| c != '-').map(|c| c.to_digit(16));
        for byte in &mut bytes {
            let high = digits.next().flatten().ok_or(NotAUuid)?;
            let low = digits.next().flatten().ok_or(NotAUuid)?;
            *byte = crate::num::low8(u64::from(high << 4 | low));
        }
        if digits.next().is_some() { Err(NotAUuid) } else { Ok(Self(bytes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_orders() {
        let text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
        let uuid: Uuid = text.parse().unwrap();
        assert_eq!(uuid.to_string(), text);
        let guid = MixedGuid::from(uuid);
        assert_eq!(guid.0[..4], [0x28, 0x73, 0x2a, 0xc1]);
        assert_eq!(guid.to_string(), text);
        assert!("c12a7328".parse::<Uuid>().is_err());
    }
}
