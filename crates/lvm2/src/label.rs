//! The label of a physical volume.
//!
//! ```text
//! sector 0..3     one holds the label: header, PV header, data areas, metadata areas, extension, bootloader areas
//! 4096            the metadata area, if there is one
//! pe_start        extents
//! end             the second metadata area, if there is one
//! ```
//!
//! 1. The first valid label counts.
//! 2. Offsets are from the start of the device. Lists end with an entry of zeros, and with the sector.

use crate::layout::{
    DiskLocn, IN_USE, LABEL_ID, LABEL_SECTORS, LABEL_TYPE, LabelSector, PvExtension, PvHeader, SECTOR,
};
use crate::{Error, Result, Uuid};
use disk::{ReadAt, read_record};
use ondisk::num::to_usize;
use ondisk::{Len, Offset, Sealed, Span};
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, IntoBytes};

/// A valid label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) sector: LabelSector,
    pub(crate) at: Offset,
    pub(crate) uuid: Uuid,
    pub(crate) device_len: Len,
    /// Where extents begin, where the label says so.
    pub(crate) data: Option<Offset>,
    /// Each metadata area and the place of its entry in the sector.
    pub(crate) areas: Vec<(usize, Span)>,
    pub(crate) boot: Vec<Span>,
    /// Whether a volume group has it; `None` without an extension.
    pub(crate) in_use: Option<bool>,
}

/// The label of a device; `None` where there is none.
pub(crate) fn read(disk: &dyn ReadAt) -> Result<Option<Label>> {
    let mut bad = None;
    for sector in 0..LABEL_SECTORS {
        let at = Offset::new(sector.saturating_mul(SECTOR));
        let here = Span::new(at, Len::new(SECTOR)).unwrap_or_default();
        if !Span::whole(disk.len()).contains(here) {
            break;
        }
        let record: LabelSector = read_record(disk, at)?;
        if record.header.id == LABEL_ID {
            match parse(record, sector) {
                Ok(label) => return Ok(Some(label)),
                Err(why) => bad = bad.or(Some(format!("the label in sector {sector}: {why}"))),
            }
        }
    }
    bad.map_or(Ok(None), |why| Err(Error::Unreadable(why)))
}

fn parse(record: LabelSector, sector: u64) -> std::result::Result<Label, String> {
    record.verify(&()).map_err(|mismatch| mismatch.to_string())?;
    let header = record.header;
    if header.sector.get() != sector {
        return Err(format!("says that it is in sector {}", header.sector));
    }
    if header.label_type != LABEL_TYPE {
        return Err("is not of type LVM2 001".to_owned());
    }
    let mut fields = Fields { bytes: record.as_bytes(), at: to_usize(u64::from(header.offset.get())) };
    let pv: PvHeader = fields.take().ok_or("the physical volume header lies outside of it")?;
    let uuid = Uuid::new(pv.pv_uuid).ok_or("the identifier has characters that none has")?;
    let data = fields.list("data areas")?;
    let areas = fields.list("metadata areas")?;
    let extension: Option<PvExtension> = fields.take().filter(|ext: &PvExtension| ext.version.get() != 0);
    let boot = if extension.is_some() { fields.list("bootloader areas")? } else { Vec::new() };
    let span = |locn: &DiskLocn| Span::new(Offset::new(locn.offset.get()), Len::new(locn.size.get()));
    let area = |(slot, locn): &(usize, DiskLocn)| {
        span(locn).map(|span| (*slot, span)).ok_or("a metadata area ends beyond all numbers")
    };
    Ok(Label {
        sector: record,
        at: Offset::new(sector.saturating_mul(SECTOR)),
        uuid,
        device_len: Len::new(pv.device_size.get()),
        data: data.first().map(|(_, locn)| Offset::new(locn.offset.get())),
        areas: areas.iter().map(area).collect::<std::result::Result<_, _>>()?,
        boot: boot.iter().filter_map(|(_, locn)| span(locn)).collect(),
        in_use: extension.map(|ext| ext.flags.get() & IN_USE != 0),
    })
}

struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn take<T: FromBytes>(&mut self) -> Option<T> {
        let (value, _) = T::read_from_prefix(self.bytes.get(self.at..)?).ok()?;
        self.at = self.at.saturating_add(size_of::<T>());
        Some(value)
    }

    /// A list of locations, each with its place, up to the one of zeros.
    fn list(&mut self, what: &str) -> std::result::Result<Vec<(usize, DiskLocn)>, String> {
        let mut list = Vec::new();
        loop {
            let at = self.at;
            match self.take::<DiskLocn>() {
                Some(locn) if locn.offset.get() == 0 && locn.size.get() == 0 => return Ok(list),
                Some(locn) => list.push((at, locn)),
                None => return Err(format!("its list of {what} does not end")),
            }
        }
    }
}

impl Label {
    /// Says another size of the device.
    pub(crate) fn set_device_len(&mut self, len: Len) {
        let at = to_usize(u64::from(self.sector.header.offset.get()));
        if let Some((pv, _)) =
            self.sector.as_mut_bytes().get_mut(at..).and_then(|bytes| PvHeader::mut_from_prefix(bytes).ok())
        {
            pv.device_size = U64::new(len.get());
        }
        self.device_len = len;
        self.sector.seal(&());
    }

    /// Says that the metadata area of that entry lies elsewhere.
    pub(crate) fn set_area(&mut self, slot: usize, span: Span) {
        if let Some((locn, _)) =
            self.sector.as_mut_bytes().get_mut(slot..).and_then(|bytes| DiskLocn::mut_from_prefix(bytes).ok())
        {
            locn.offset = U64::new(span.start().get());
            locn.size = U64::new(span.len().get());
        }
        self.areas.iter_mut().filter(|area| area.0 == slot).for_each(|area| area.1 = span);
        self.sector.seal(&());
    }
}
