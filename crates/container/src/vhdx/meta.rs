//! Where an image's parts are, and what it says about its disk: headers, region tables, metadata.

use super::layout::{
    BAT_REGION, ENTRIES_MAX, FILE_PARAMETERS, FileParameters, HEADER_SIGNATURE, HEADERS, Header,
    LOGICAL_SECTOR_SIZE, METADATA_REGION, METADATA_SIGNATURE, MetadataEntry, MetadataTableHeader,
    PARENT_LOCATOR, PHYSICAL_SECTOR_SIZE, REGION_SIGNATURE, REGION_TABLE_LEN, REGION_TABLES, RegionEntry,
    RegionTableHeader, VIRTUAL_DISK_ID, VIRTUAL_DISK_SIZE, verify,
};
use crate::foreign::{Files, Place, record};
use crate::{Error, Result};
use ondisk::guid::MixedGuid;
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset, Span};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};

const HEADER: &str = "VHDX header";
const REGIONS: &str = "VHDX region table";
pub const METADATA: &str = "VHDX metadata";
const MIB: u64 = 1 << 20;
/// No disk is larger.
const DISK_MAX: u64 = 64 << 40;

/// The header that rules.
pub fn header(files: &Files<'_>) -> Result<Header> {
    let [first, second] = HEADERS.map(|at| -> Result<Header> {
        let header: Header = record(files, HEADER, Place::own(Offset::new(at)))?;
        if header.signature != HEADER_SIGNATURE {
            return Err(Error::corrupt(HEADER, Offset::new(at), "it has no signature"));
        }
        let checked = verify(header.as_bytes());
        checked.map_err(|mismatch| Error::corrupt(HEADER, Offset::new(at), mismatch.to_string()))?;
        Ok(header)
    });
    let header = match (first, second) {
        (Ok(first), Ok(second)) if first.sequence_number.get() >= second.sequence_number.get() => first,
        (Ok(_), Ok(second)) => second,
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => one,
        (Err(error), Err(_)) => return Err(error),
    };
    if header.version.get() != 1 {
        return Err(Error::unsupported(format!("VHDX version {} is not supported", header.version)));
    }
    Ok(header)
}

/// Where the regions lie.
#[derive(Clone, Copy, Debug)]
pub struct Regions {
    pub bat: Span,
    pub metadata: Span,
}

/// Reads the first region table that is whole.
pub fn regions(files: &Files<'_>) -> Result<Regions> {
    let [first, second] = REGION_TABLES.map(|at| region_table(files, Offset::new(at)));
    first.or_else(|error| second.map_err(|_| error))
}

fn region_table(files: &Files<'_>, at: Offset) -> Result<Regions> {
    let bad = |problem: String| Error::corrupt(REGIONS, at, problem);
    if !files.holds(Place::own(at), Len::new(REGION_TABLE_LEN))? {
        return Err(bad("the file ends before it".to_owned()));
    }
    let mut bytes = vec![0; to_usize(REGION_TABLE_LEN)];
    files.read(Place::own(at), &mut bytes)?;
    let (head, rest) =
        RegionTableHeader::read_from_prefix(&bytes).map_err(|_| bad("it is too short".to_owned()))?;
    if head.signature != REGION_SIGNATURE {
        return Err(bad("it has no signature".to_owned()));
    }
    verify(&bytes).map_err(|mismatch| bad(mismatch.to_string()))?;
    if head.entry_count.get() > ENTRIES_MAX.into() {
        return Err(bad(format!("it has {} entries", head.entry_count)));
    }
    let (mut bat, mut metadata) = (None, None);
    for entry in records::<RegionEntry>(rest).take(to_usize(head.entry_count.get().into())) {
        let start = Offset::new(entry.file_offset.get());
        let span = Span::new(start, Len::new(entry.length.get().into()));
        let aligned = |span: &Span| span.len().is_aligned(MIB) && start.is_aligned(MIB) && start.get() >= MIB;
        let span =
            span.filter(aligned).ok_or_else(|| bad(format!("region {} lies at {start}", entry.guid)))?;
        let slot = match entry.guid {
            BAT_REGION => &mut bat,
            METADATA_REGION => &mut metadata,
            other if entry.required.get() & 1 != 0 => {
                return Err(Error::unsupported(format!(
                    "the VHDX region {other} is required, and not supported"
                )));
            }
            _ => continue,
        };
        if slot.replace(span).is_some() {
            return Err(bad(format!("it names region {} twice", entry.guid)));
        }
        if !files.holds(Place::own(start), span.len())? {
            return Err(bad(format!("region {} at {span} does not lie in the file", entry.guid)));
        }
    }
    let both = bat.zip(metadata).filter(|(bat, metadata)| bat.intersect(*metadata).is_none());
    let (bat, metadata) =
        both.ok_or_else(|| bad("it does not name both BAT and metadata, apart".to_owned()))?;
    Ok(Regions { bat, metadata })
}

/// The records in some bytes, one behind the other.
fn records<T: FromBytes>(bytes: &[u8]) -> impl Iterator<Item = T> {
    bytes.chunks_exact(size_of::<T>()).filter_map(|chunk| T::read_from_bytes(chunk).ok())
}

/// What an image says about its disk.
#[derive(Clone, Copy, Debug)]
pub struct Metadata {
    pub disk: Len,
    pub block: Len,
    pub logical_sector: u32,
    pub physical_sector: u32,
    pub fixed: bool,
    pub id: MixedGuid,
    /// The item that tells of the parent.
    pub parent: Option<Span>,
    pub has_parent: bool,
}

/// The items by name.
struct Items<'a> {
    files: &'a Files<'a>,
    region: Span,
    entries: Vec<MetadataEntry>,
}

impl Items<'_> {
    /// Where an item lies.
    fn place(&self, id: MixedGuid) -> Result<Option<Span>> {
        let Some(entry) = self.entries.iter().find(|entry| entry.item_id == id) else { return Ok(None) };
        let start = self.region.start().checked_add(Len::new(entry.offset.get().into()));
        let span = start.and_then(|start| Span::new(start, Len::new(entry.length.get().into())));
        let span = span.filter(|span| self.region.contains(*span) && entry.offset.get() >= 64 << 10);
        let bad =
            || Error::corrupt(METADATA, self.region.start(), format!("item {id} does not lie in its region"));
        span.map(Some).ok_or_else(bad)
    }

    fn get<T: FromBytes + IntoBytes>(&self, id: MixedGuid, what: &str) -> Result<T> {
        let missing =
            || Error::corrupt(METADATA, self.region.start(), format!("the {what} is missing, or short"));
        let len = Len::new(to_u64(size_of::<T>()));
        let span = self.place(id)?.filter(|span| span.len() >= len).ok_or_else(missing)?;
        record(self.files, METADATA, Place::own(span.start()))
    }
}

/// Reads the metadata region.
pub fn metadata(files: &Files<'_>, region: Span) -> Result<Metadata> {
    let bad = |problem: String| Error::corrupt(METADATA, region.start(), problem);
    let head: MetadataTableHeader = record(files, METADATA, Place::own(region.start()))?;
    if head.signature != METADATA_SIGNATURE {
        return Err(bad("it has no signature".to_owned()));
    }
    let count = head.entry_count.get();
    if count > ENTRIES_MAX {
        return Err(bad(format!("it has {count} items")));
    }
    let mut bytes = vec![0; usize::from(count).saturating_mul(size_of::<MetadataEntry>())];
    let table = Place::own(region.start()).ahead(Len::new(32)).unwrap_or(Place::own(region.start()));
    files.read(table, &mut bytes)?;
    let entries: Vec<MetadataEntry> = records(&bytes).collect();
    refuse_unknown(&entries)?;
    let items = Items { files, region, entries };
    let parameters: FileParameters = items.get(FILE_PARAMETERS, "file parameters")?;
    let block = parameters.block_size.get();
    if !block.is_power_of_two() || !(1 << 20..=256 << 20).contains(&block) {
        return Err(bad(format!("it has blocks of {block} bytes")));
    }
    let logical_sector = items.get::<U32>(LOGICAL_SECTOR_SIZE, "logical sector size")?.get();
    if ![512, 4096].contains(&logical_sector) {
        return Err(bad(format!("it has sectors of {logical_sector} bytes")));
    }
    let disk = items.get::<U64>(VIRTUAL_DISK_SIZE, "size of the disk")?.get();
    if disk == 0 || disk > DISK_MAX || !disk.is_multiple_of(logical_sector.into()) {
        return Err(bad(format!("it has a disk of {disk} bytes")));
    }
    let physical = items.get::<U32>(PHYSICAL_SECTOR_SIZE, "physical sector size").map_or(0, U32::get);
    Ok(Metadata {
        disk: Len::new(disk),
        block: Len::new(block.into()),
        logical_sector,
        physical_sector: physical,
        fixed: parameters.flags.get() & 1 != 0,
        id: items.get(VIRTUAL_DISK_ID, "identity of the disk").unwrap_or_default(),
        parent: items.place(PARENT_LOCATOR)?,
        has_parent: parameters.flags.get() & 2 != 0,
    })
}

/// Items that one must know to read the disk.
fn refuse_unknown(entries: &[MetadataEntry]) -> Result<()> {
    let known = [
        FILE_PARAMETERS,
        VIRTUAL_DISK_SIZE,
        VIRTUAL_DISK_ID,
        LOGICAL_SECTOR_SIZE,
        PHYSICAL_SECTOR_SIZE,
        PARENT_LOCATOR,
    ];
    let required = |entry: &&MetadataEntry| entry.flags.get() & 4 != 0 && !known.contains(&entry.item_id);
    match entries.iter().find(required) {
        None => Ok(()),
        Some(entry) => {
            let what = format!("the VHDX metadata item {} is required, and not supported", entry.item_id);
            Err(Error::unsupported(what))
        }
    }
}
