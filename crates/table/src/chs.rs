//! Cylinders, heads and sectors: 24 bits that reach 8 GiB, kept in the style of the table at hand.
//!
//! ```text
//! byte 0: head    byte 1: cylinder bits 9..8, sector 1..63    byte 2: cylinder bits 7..0
//! ```
//! Nothing here trusts them; they are written for the sake of old BIOSes, as `sfdisk` writes them.

use crate::layout::{Chs, MbrEntry};
use ondisk::num::low8;

const CYLINDER_MAX: u64 = 1023;

/// The translation that a table was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    heads: u64,
    sectors: u64,
}

const USUAL: [(u64, u64); 7] = [(255, 63), (240, 63), (128, 63), (64, 63), (32, 63), (16, 63), (64, 32)];

impl Geometry {
    /// The usual translation that explains all the entries; `None` where none does.
    pub fn of<'a>(entries: impl Iterator<Item = &'a MbrEntry> + Clone) -> Option<Self> {
        let usual = USUAL.into_iter().map(|(heads, sectors)| Self { heads, sectors });
        usual.into_iter().find(|geometry| entries.clone().all(|entry| geometry.explains(entry)))
    }

    fn explains(self, entry: &MbrEntry) -> bool {
        let start = u64::from(entry.starting_lba.get());
        let end = start.saturating_add(u64::from(entry.size_in_lba.get())).saturating_sub(1);
        [(entry.starting_chs, start), (entry.ending_chs, end)]
            .into_iter()
            .all(|(chs, lba)| chs.is_silent() || chs == self.encode(lba))
    }

    fn encode(self, lba: u64) -> Chs {
        let track = lba.checked_div(self.sectors).unwrap_or_default();
        let cylinder = track.checked_div(self.heads).unwrap_or_default();
        if cylinder > CYLINDER_MAX {
            return Chs::pack(CYLINDER_MAX, self.heads.saturating_sub(1), self.sectors);
        }
        let head = track.checked_rem(self.heads).unwrap_or_default();
        let sector = lba.checked_rem(self.sectors).unwrap_or_default();
        Chs::pack(cylinder, head, sector.saturating_add(1))
    }
}

impl Chs {
    /// Beyond what can be said.
    const BEYOND: Self = Self([0xfe, 0xff, 0xff]);
    /// The same in the slot that protects a GPT (UEFI 2.10, 5.2.3).
    const BEYOND_GUARD: Self = Self([0xff, 0xff, 0xff]);

    /// The last sector of a slot that protects a GPT (UEFI 2.10, 5.2.3).
    pub fn guard_end(lba: u64) -> Self {
        let [(heads, sectors), ..] = USUAL;
        let reach = CYLINDER_MAX.saturating_add(1).saturating_mul(heads).saturating_mul(sectors);
        if lba < reach { Geometry { heads, sectors }.encode(lba) } else { Self::BEYOND_GUARD }
    }

    /// The sector behind the MBR, where such a slot begins.
    pub const GUARD_START: Self = Self([0, 2, 0]);

    const fn pack(cylinder: u64, head: u64, sector: u64) -> Self {
        Self([low8(head), low8(sector & 0x3f | (cylinder >> 2) & 0xc0), low8(cylinder)])
    }

    /// Whether it says nothing about a geometry: never filled in, or beyond what can be said.
    const fn is_silent(self) -> bool {
        let [_, middle, low] = self.0;
        matches!(self.0, [0, 0, 0]) || (low == 0xff && middle & 0xc0 == 0xc0)
    }

    /// The same field after its sector has moved up to `lba`.
    pub fn moved_up(self, geometry: Option<Geometry>, lba: u64) -> Self {
        if self.is_silent() { self } else { geometry.map_or(Self::BEYOND, |geometry| geometry.encode(lba)) }
    }

    /// As [`Self::moved_up`], in the slot that protects a GPT.
    pub fn guard_moved_up(self, geometry: Option<Geometry>, lba: u64) -> Self {
        let moved = self.moved_up(geometry, lba);
        if moved.is_silent() && !self.is_silent() { Self::BEYOND_GUARD } else { moved }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_as_fdisk_does() {
        let usual = Geometry { heads: 255, sectors: 63 };
        assert_eq!(usual.encode(2048), Chs([0x20, 0x21, 0x00]));
        assert_eq!(usual.encode(262_143), Chs([0x51, 0x01, 0x10]));
        assert_eq!(usual.encode(u64::from(u32::MAX)), Chs::BEYOND);
        assert_eq!(usual.encode(1024 * 255 * 63 - 1), Chs::BEYOND);
        assert_eq!(usual.encode(1024 * 255 * 63 - 2), Chs([0xfe, 0xfe, 0xff]));
    }

    #[test]
    fn silent_fields_stay() {
        let usual = Geometry::of([].iter());
        for bytes in [[0, 0, 0], [0xff, 0xff, 0xff], [0xfe, 0xff, 0xff]] {
            assert_eq!(Chs(bytes).moved_up(usual, 4096), Chs(bytes));
        }
        assert_eq!(Chs([1, 1, 0]).moved_up(None, 4096), Chs::BEYOND);
    }
}
