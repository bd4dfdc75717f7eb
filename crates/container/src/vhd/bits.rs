//! The bitmap of a block: which of its sectors are in this file.
//!
//! The most significant bit of the first byte is sector 0.

use super::batmap::all_set;
use super::header::BlockShape;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// The bits of one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bits {
    /// All sectors are here.
    All,
    /// Some are; the bytes are those of the file.
    Some(Arc<[u8]>),
}

impl Bits {
    /// What the bytes of a bitmap say.
    pub fn of(bytes: Vec<u8>, shape: BlockShape) -> Self {
        if all_set(&bytes, shape.sectors()) { Self::All } else { Self::Some(bytes.into()) }
    }

    /// Whether sector `index` of the block is here.
    pub fn has(&self, sector: u64) -> bool {
        match self {
            Self::All => true,
            Self::Some(bytes) => bit(bytes, sector),
        }
    }

    /// The sectors of `within` in runs of equal bits.
    pub fn runs(&self, within: Range<u64>) -> Vec<(Range<u64>, bool)> {
        let mut runs: Vec<(Range<u64>, bool)> = Vec::new();
        let bytes = match self {
            Self::All => return vec![(within, true)],
            Self::Some(bytes) => bytes,
        };
        for sector in within {
            let here = bit(bytes, sector);
            let next = sector.saturating_add(1);
            match runs.last_mut() {
                Some((run, value)) if *value == here => run.end = next,
                _ => runs.push((sector..next, here)),
            }
        }
        runs
    }
}

fn bit(bytes: &[u8], sector: u64) -> bool {
    let byte = bytes.get(ondisk::num::to_usize(sector >> 3)).copied().unwrap_or_default();
    byte & (0x80 >> (sector & 7)) != 0
}

/// Sets the bits of `sectors`.
pub fn set(bytes: &mut [u8], sectors: Range<u64>) {
    for sector in sectors {
        if let Some(byte) = bytes.get_mut(ondisk::num::to_usize(sector >> 3)) {
            *byte |= 0x80 >> (sector & 7);
        }
    }
}

/// Bitmaps that were read lately, by the sector number of their block.
#[derive(Debug, Default)]
pub struct Cache(HashMap<u32, Bits>);

impl Cache {
    const KEPT: usize = 64;

    pub fn get(&self, entry: u32) -> Option<Bits> {
        self.0.get(&entry).cloned()
    }

    pub fn put(&mut self, entry: u32, bits: Bits) {
        if self.0.len() >= Self::KEPT {
            self.0.clear();
        }
        self.0.insert(entry, bits);
    }

    pub fn forget(&mut self) {
        self.0.clear();
    }
}
