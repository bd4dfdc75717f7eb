//! The copies of a GPT, as they were read.

use crate::layout::{GptHeader, HeaderSector};
use crate::record::Record;
use ondisk::num::to_usize;
use ondisk::{Lba, Len, SectorSize, Span};

/// One valid copy: a header and its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Where the header lies.
    pub at: Lba,
    /// The header's whole sector.
    pub sector: HeaderSector,
    /// The whole sectors of the entries.
    pub array: Vec<u8>,
    /// The fields, in native numbers.
    pub facts: Facts,
}

/// The fields of a header that everything else goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Where the other copy lies.
    pub alternate: Lba,
    /// The first usable sector.
    pub first: Lba,
    /// The last usable sector.
    pub last: Lba,
    /// Where the entries begin.
    pub entries_at: Lba,
    /// Bytes of one entry.
    pub entry_bytes: u64,
    /// Bytes of all entries.
    pub array_bytes: u64,
}

/// Everything a GPT disk keeps about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copies {
    /// Sector 0.
    pub protective: Record,
    /// Whether it describes partitions besides protecting.
    pub hybrid: bool,
    /// The copy at sector 1, if it is valid.
    pub primary: Option<Copy>,
    /// The copy at the end, if it is valid.
    pub backup: Option<Copy>,
}

impl Copy {
    /// The bytes under the checksum.
    pub fn entries(&self) -> &[u8] {
        self.array.get(..to_usize(self.facts.array_bytes)).unwrap_or_default()
    }

    /// The number of whole sectors that the entries take.
    pub fn array_sectors(&self, size: SectorSize) -> u64 {
        size.sectors_in(Len::of(&self.array))
    }

    /// The header's fields.
    pub fn header(&self) -> Option<&GptHeader> {
        self.sector.header()
    }

    /// Where it lies: the header, then the entries.
    pub fn spans(&self, size: SectorSize) -> [Span; 2] {
        let span = |at: Lba, len: Len| size.offset(at).and_then(|start| Span::new(start, len));
        [
            span(self.at, Len::of(&self.sector.0)).unwrap_or_default(),
            span(self.facts.entries_at, Len::of(&self.array)).unwrap_or_default(),
        ]
    }
}

impl Copies {
    /// Where all of it lies.
    pub fn spans(&self, size: SectorSize) -> impl Iterator<Item = Span> + '_ {
        let copies = self.primary.iter().chain(&self.backup).flat_map(move |copy| copy.spans(size));
        copies.chain(Some(Span::whole(Len::new(size.bytes()))))
    }
}
