//! Addresses of copies, told by what was copied before.
//!
//! Source: RFC 3284, section 5.3.

use super::number;
use ondisk::num::to_usize;

/// Addresses that were used last.
const NEAR: usize = 4;
/// Addresses that are remembered by their lower bits, for each of [`SAMES`].
const SAME: u64 = 256;
const SAMES: u64 = 3;

/// As it is.
const SELF: u8 = 0;
/// Back from where the copy goes.
const HERE: u8 = 1;
/// Forward from an address that was used last.
const FIRST_NEAR: u8 = 2;
/// One that was used before.
const FIRST_SAME: u8 = 6;
/// Ways to tell an address.
pub const MODES: u8 = 9;

/// The addresses so far. Each window begins anew.
pub struct Cache {
    near: [u64; NEAR],
    next: usize,
    same: Vec<u64>,
}

impl Cache {
    /// None so far.
    pub fn new() -> Self {
        Self { near: [0; NEAR], next: 0, same: vec![0; to_usize(SAME.saturating_mul(SAMES))] }
    }

    fn slot(address: u64) -> u64 {
        address.checked_rem(SAME.saturating_mul(SAMES)).unwrap_or_default()
    }

    fn update(&mut self, address: u64) {
        if let Some(near) = self.near.get_mut(self.next) {
            *near = address;
        }
        self.next = self.next.wrapping_add(1) & (NEAR.wrapping_sub(1));
        if let Some(same) = self.same.get_mut(to_usize(Self::slot(address))) {
            *same = address;
        }
    }

    /// Appends an address, which lies before `here`, as shortly as that can be done. How, is returned.
    pub fn put(&mut self, out: &mut Vec<u8>, address: u64, here: u64) -> u8 {
        let slot = Self::slot(address);
        if self.same.get(to_usize(slot)) == Some(&address) {
            out.push(ondisk::num::low8(slot));
            self.update(address);
            return FIRST_SAME.wrapping_add(ondisk::num::low8(slot >> SAME.ilog2()));
        }
        let near = (FIRST_NEAR..).zip(self.near);
        let near = near.filter_map(|(mode, near)| Some((mode, address.checked_sub(near)?)));
        let plain = [(SELF, address), (HERE, here.saturating_sub(address))];
        let shortest = plain.into_iter().chain(near).min_by_key(|(_, told)| number::len(*told));
        let (mode, told) = shortest.unwrap_or((SELF, address));
        number::put(out, told);
        self.update(address);
        mode
    }

    /// Takes an address that lies before `here`.
    pub fn take(&mut self, bytes: &mut &[u8], mode: u8, here: u64) -> Option<u64> {
        let address = match mode {
            SELF => number::take(bytes)?,
            HERE => here.checked_sub(number::take(bytes)?)?,
            _ if mode < FIRST_SAME => {
                let near = self.near.get(usize::from(mode.checked_sub(FIRST_NEAR)?))?;
                near.checked_add(number::take(bytes)?)?
            }
            _ => {
                let (byte, rest) = bytes.split_first()?;
                *bytes = rest;
                let first = u64::from(mode.checked_sub(FIRST_SAME)?).saturating_mul(SAME);
                *self.same.get(to_usize(first.saturating_add(u64::from(*byte))))?
            }
        };
        if address >= here {
            return None;
        }
        self.update(address);
        Some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back() {
        let (mut writer, mut reader) = (Cache::new(), Cache::new());
        let (mut state, mut modes) = (1_u64, [0; 9]);
        for here in (1_u64 << 33..).step_by(97).take(5000) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let address = match state >> 61 {
                0 => state >> 32,
                1 => (state >> 32) % 2000,
                2 => here - 1 - (state >> 40) % 1000,
                _ => 5_000_000 + (state >> 40) % 900,
            };
            let mut bytes = Vec::new();
            let mode = writer.put(&mut bytes, address.min(here - 1), here);
            modes[usize::from(mode)] += 1;
            let mut rest = bytes.as_slice();
            assert_eq!(reader.take(&mut rest, mode, here), Some(address.min(here - 1)));
            assert!(rest.is_empty());
        }
        assert!(modes.iter().all(|count| *count > 0), "{modes:?}");
    }

    #[test]
    fn none_lies_ahead() {
        let mut cache = Cache::new();
        assert_eq!(cache.take(&mut [5].as_slice(), SELF, 5), None);
        assert_eq!(cache.take(&mut [6].as_slice(), HERE, 5), None);
        assert_eq!(cache.take(&mut [0].as_slice(), HERE, 5), None);
        assert_eq!(cache.take(&mut [].as_slice(), FIRST_SAME, 5), None);
        assert_eq!(cache.take(&mut [1].as_slice(), MODES, 5), None);
    }
}
