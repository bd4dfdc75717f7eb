//! The sectors of an MBR and its chain, as they were read.

use crate::layout::{BOOT_SIGNATURE, Mbr, MbrEntry};
use crate::{Result, Type};
use disk::{Limits, ReadAt};
use ondisk::{Lba, SectorSize, Span};
use zerocopy::FromBytes;

/// The type of the slot that protects a GPT.
pub const PROTECTIVE: u8 = 0xee;

/// A sector that holds an MBR or EBR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where.
    pub at: Lba,
    /// The whole sector.
    pub sector: Vec<u8>,
}

/// The MBR, and the EBRs in the order of their chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records(pub Vec<Record>);

impl Record {
    /// Reads the sector at `at`.
    pub fn read(disk: &dyn ReadAt, size: SectorSize, at: Lba, limits: &Limits) -> Result<Self> {
        let span = size.offset(at).and_then(|start| Span::new(start, size.len_of(1)?)).unwrap_or_default();
        Ok(Self { at, sector: disk::read_vec(disk, span, limits)? })
    }

    /// Its fields.
    pub fn mbr(&self) -> Option<&Mbr> {
        Mbr::ref_from_prefix(&self.sector).ok().map(|(mbr, _)| mbr)
    }

    /// Its fields, to be changed.
    pub fn mbr_mut(&mut self) -> Option<&mut Mbr> {
        Mbr::mut_from_prefix(&mut self.sector).ok().map(|(mbr, _)| mbr)
    }

    /// The slots; none where the signature is missing.
    pub fn slots(&self) -> &[MbrEntry] {
        match self.mbr() {
            Some(mbr) if mbr.signature.get() == BOOT_SIGNATURE => &mbr.partition_record,
            _ => &[],
        }
    }
}

impl Records {
    /// The sectors they lie in.
    pub fn spans(&self, size: SectorSize) -> impl Iterator<Item = Span> + '_ {
        self.0.iter().filter_map(move |record| sectors(size, record.at.0, 1))
    }
}

impl MbrEntry {
    /// Its sectors, counted from `base`.
    pub fn span(&self, size: SectorSize, base: Lba) -> Option<Span> {
        sectors(
            size,
            base.0.checked_add(u64::from(self.starting_lba.get()))?,
            u64::from(self.size_in_lba.get()),
        )
    }

    /// Whether it describes an extended partition, or the link to the next EBR.
    pub fn is_extended(&self) -> bool {
        self.is_used() && Type::Mbr(self.os_type).is_extended()
    }

    /// Whether its first byte is one that a BIOS knows.
    pub const fn boots_or_not(&self) -> bool {
        matches!(self.boot_indicator, 0 | 0x80)
    }
}

/// The bytes of so many sectors.
pub fn sectors(size: SectorSize, at: u64, count: u64) -> Option<Span> {
    Span::new(size.offset(Lba(at))?, size.len_of(count)?)
}
