//! Hyper-V's VHDX, dynamic and fixed.
//!
//! ```text
//! headers ─► log, replayed in memory
//! region tables ─► metadata: sizes and flags
//!               └► BAT: an entry of 64 bits a block, and one for a bitmap after each chunk of blocks ─► blocks
//! ```
//!
//! 1. Everything behind the headers is read as the log makes it.
//! 2. Every checksum is right, or the structure counts as not there; of two copies one that is right will do.
//! 3. Images with a parent are refused by its name.

mod layout;
mod log;
mod meta;

use crate::foreign::{Blocks, Body, Fact, Facts, Files, Owners, Patches, Place, Run, Table, Tables, What};
use crate::foreign::{record, stored};
use crate::{Error, Findings, Result};
use disk::{Limits, ReadAt};
use layout::{FILE_SIGNATURE, HEADERS, Header, REGION_TABLE_LEN, REGION_TABLES, state};
use meta::{METADATA, Metadata, Regions};
use ondisk::size::Human;
use ondisk::text::Printable;
use ondisk::{Len, Offset, Severity, Span};
use zerocopy::FromBytes;
use zerocopy::little_endian::U16;

const IDENTIFIER: &str = "VHDX file identifier";
const BAT: &str = "VHDX BAT";

/// What is known of an image.
pub(crate) struct Vhdx {
    header: Header,
    creator: String,
    regions: Regions,
    metadata: Metadata,
    blocks: Blocks,
    /// Blocks of a chunk, after each of which the BAT has an entry for a bitmap.
    chunk: u64,
    bat: Table,
    tables: Tables,
    log: Option<Patches>,
}

impl Vhdx {
    pub fn open(file: &dyn ReadAt, limits: &Limits) -> Result<Self> {
        let files = Files::own(file);
        let identifier: [u8; 520] = record(&files, IDENTIFIER, Place::own(Offset::ZERO))?;
        let Some(creator) = identifier.strip_prefix(&FILE_SIGNATURE) else {
            return Err(Error::corrupt(IDENTIFIER, Offset::ZERO, "it has no signature"));
        };
        let header = meta::header(&files)?;
        let log = log::replay(&files, &header, limits)?;
        let files = Files::new(file, &[], log.as_ref());
        let regions = meta::regions(&files)?;
        let metadata = meta::metadata(&files, regions.metadata)?;
        if metadata.has_parent {
            return Err(with_parent(&files, &metadata, limits));
        }
        let blocks = Blocks { disk: metadata.disk, size: metadata.block };
        let chunk_bytes = u64::from(metadata.logical_sector).saturating_mul(1 << 23);
        let chunk = chunk_bytes.checked_div(metadata.block.get()).unwrap_or(1).max(1);
        let last = blocks.count().saturating_sub(1);
        let entries = last.saturating_add(last.checked_div(chunk).unwrap_or_default()).saturating_add(1);
        let bat = Table { name: BAT, place: Place::own(regions.bat.start()), entries, width: 8 };
        if !regions.bat.contains(bat.span()) {
            let problem =
                format!("{entries} entries do not fit into its region of {} bytes", regions.bat.len());
            return Err(Error::corrupt(BAT, regions.bat.start(), problem));
        }
        let creator = utf16(creator);
        Ok(Self { header, creator, regions, metadata, blocks, chunk, bat, tables: Tables::default(), log })
    }

    /// The BAT's entry of a block.
    fn entry_of(&self, block: u64) -> u64 {
        block.saturating_add(block.checked_div(self.chunk).unwrap_or_default())
    }
}

/// UTF-16 up to its first zero, safe to print.
fn utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).filter_map(|pair| U16::read_from_bytes(pair).ok());
    let units = units.map(U16::get).take_while(|unit| *unit != 0);
    let text: String = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    Printable(text.as_bytes()).to_string()
}

/// The refusal of an image that stands on another one.
fn with_parent(files: &Files<'_>, metadata: &Metadata, limits: &Limits) -> Error {
    let name = match metadata.parent {
        Some(at) if at.len() <= Len::kib(64) => parent_name(files, at, limits).unwrap_or_default(),
        _ => String::new(),
    };
    let why = format!("VHDX differencing images are not supported: this one stands on '{name}'");
    Error::refused(why, Some("merge it with its parents in Hyper-V: Merge-VHD"))
}

/// What a locator calls the parent: the value behind `relative_path`, else nothing.
fn parent_name(files: &Files<'_>, at: Span, limits: &Limits) -> Result<String> {
    let mut bytes = limits.buffer(METADATA, at.len())?;
    files.read(Place::own(at.start()), &mut bytes)?;
    let key: Vec<u8> = "relative_path".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let word = |at: usize, len: usize| -> usize {
        let field = bytes.get(at..).and_then(|rest| rest.get(..len)).unwrap_or_default();
        field.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    for index in 0..word(18, 2) {
        let entry = index.saturating_mul(12).saturating_add(20);
        let part = |from: usize, len: usize| bytes.get(from..).and_then(|rest| rest.get(..len));
        let (key_at, value_at) = (word(entry, 4), word(entry.saturating_add(4), 4));
        let (key_len, value_len) = (word(entry.saturating_add(8), 2), word(entry.saturating_add(10), 2));
        if part(key_at, key_len) == Some(&key[..]) {
            return Ok(utf16(part(value_at, value_len).unwrap_or_default()));
        }
    }
    Ok(String::new())
}

impl Body for Vhdx {
    fn len(&self) -> Len {
        self.blocks.disk
    }

    fn granule(&self) -> Len {
        self.blocks.size
    }

    fn run(&self, files: &Files<'_>, within: Span) -> Result<Run> {
        let block = self.blocks.index_of(within.start());
        let index = self.entry_of(block);
        let window = self.tables.window(files, self.bat, index)?;
        let entry = window.get(index).unwrap_or_default();
        let what = match entry & state::MASK {
            state::NOT_PRESENT => What::Absent,
            state::UNDEFINED | state::ZERO | state::UNMAPPED | state::UNMAPPED_DRAFT => What::Zero,
            state::FULLY_PRESENT => {
                let at = Offset::new(entry & state::POSITION);
                if at.get() < 1 << 20 {
                    let problem = format!("block {block} is at byte {at} of the file, among the headers");
                    return Err(Error::corrupt(BAT, self.bat.place.at, problem));
                }
                return stored(files, BAT, self.blocks.span(block, 1), Some(Place::own(at)), within);
            }
            other => {
                let problem =
                    format!("block {block} has the state {other}, which needs a parent or does not exist");
                return Err(Error::corrupt(BAT, self.bat.place.at, problem));
            }
        };
        // Not beyond the chunk: behind it stands the entry of a bitmap.
        let left = self.chunk.saturating_sub(block.checked_rem(self.chunk).unwrap_or_default());
        let span = self.blocks.span(block, window.same(index, entry).clamp(1, left)).intersect(within);
        Ok(Run { span: span.unwrap_or(within), what })
    }

    fn facts(&self, _: &Files<'_>) -> Facts {
        let meta = &self.metadata;
        let kind = if meta.fixed { "fixed" } else { "dynamic" };
        let mut lines = vec![
            format!("created by '{}', id {}", self.creator, meta.id),
            format!(
                "blocks of {}, sectors of {} (physical {})",
                Human(meta.block),
                meta.logical_sector,
                meta.physical_sector
            ),
        ];
        if self.log.is_some() {
            lines.push("not closed: its log is replayed in memory".to_owned());
        }
        Facts {
            title: format!("{kind} VHDX"),
            cluster_size: Some(meta.block),
            dirty: self.log.is_some(),
            lines,
            fields: vec![
                ("subformat", Fact::Text(kind.to_owned())),
                ("creator", Fact::Text(self.creator.clone())),
                ("uuid", Fact::Text(meta.id.to_string())),
                ("logical-sector-size", Fact::Number(meta.logical_sector.into())),
                ("physical-sector-size", Fact::Number(meta.physical_sector.into())),
                ("log-size", Fact::Number(self.header.log_length.get().into())),
            ],
        }
    }

    fn check(&self, files: &Files<'_>, owners: &mut Owners, findings: &mut Findings) -> Result<()> {
        owners.structure(0, Span::whole(Len::mib(1)), "VHDX headers", findings)?;
        owners.structure(0, self.regions.bat, BAT, findings)?;
        owners.structure(0, self.regions.metadata, METADATA, findings)?;
        let log = Span::new(
            Offset::new(self.header.log_offset.get()),
            Len::new(self.header.log_length.get().into()),
        );
        owners.structure(0, log.unwrap_or_default(), "VHDX log", findings)?;
        if self.log.is_some() {
            findings.push(Severity::Note, log, "the image was not closed: its log is to be replayed");
        }
        for at in HEADERS {
            let header: Header = record(files, "VHDX header", Place::own(Offset::new(at)))?;
            if let Err(mismatch) = layout::verify(zerocopy::IntoBytes::as_bytes(&header)) {
                findings.push(Severity::Note, None, format!("the header at byte {at} is void: {mismatch}"));
            }
        }
        let mut copies = REGION_TABLES.map(|_| vec![0; ondisk::num::to_usize(REGION_TABLE_LEN)]);
        for (at, copy) in REGION_TABLES.into_iter().zip(&mut copies) {
            files.read(Place::own(Offset::new(at)), copy)?;
        }
        if copies.first() != copies.last() {
            findings.push(Severity::Damage, None, "the two region tables differ");
        }
        Ok(())
    }

    fn patches(&self) -> Option<&Patches> {
        self.log.as_ref()
    }
}
