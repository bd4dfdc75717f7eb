//! Sparse extents: hosted ones (`KDMV`), as files and as streams, and those of ESX (`COWD`).
//!
//! ```text
//! header ─► grain directory ─► grain tables ─► grains            positions in sectors
//! stream: header, grains with markers, tables, directory, footer = the header with the directory's position
//! ```

use super::layout::{
    AT_END, COWD_MAGIC, CowdHeader, DEFLATE, FOOTER, GrainMarker, MAGIC, Marker, SparseHeader, flags,
};
use crate::foreign::{Blocks, Files, Owners, Place, Run, Table, Tables, Unit, What, record, stored};
use crate::{Error, Findings, Result};
use disk::Limits;
use flate2::{Decompress, FlushDecompress, Status};
use ondisk::num::{div_up, to_usize};
use ondisk::{Len, Offset, Severity, Span};

const HEADER: &str = "VMDK header";
const GD: &str = "VMDK grain directory";
const GT: &str = "VMDK grain table";
const GRAIN: &str = "VMDK grain";
const SECTOR: u64 = 512;
/// Sectors of the largest grain: 64 MiB.
const GRAIN_MAX: u64 = 1 << 17;
/// The same of one that is compressed, and is therefore held in memory by every thread: 4 MiB.
const PACKED_MAX: u64 = 1 << 13;
/// Entries of a table of ESX's.
const COWD_ENTRIES: u64 = 4096;
/// So many sectors of a stream may lie behind its footer.
const TAIL: u64 = 128;

/// What is known of a sparse extent. All places on the disk are relative to it.
pub struct Sparse {
    part: usize,
    pub version: u32,
    pub grains: Blocks,
    pub compressed: bool,
    markers: bool,
    zero_grain: bool,
    pub unclean: bool,
    /// The header, and the descriptor where the image is a single file.
    head: Span,
    pub descriptor: Option<Span>,
    directory: Table,
    redundant: Option<Table>,
    /// Entries of a grain table.
    per_table: u64,
}

/// A position in sectors as one in bytes.
fn sector(n: u64) -> Result<Offset> {
    let beyond = || Error::corrupt(HEADER, Offset::ZERO, format!("sector {n} is behind byte 2^64"));
    n.checked_mul(SECTOR).map(Offset::new).ok_or_else(beyond)
}

impl Sparse {
    /// Reads the head of the extent in one of the files; `None` where it is no sparse extent.
    pub fn open(files: &Files<'_>, part: usize) -> Result<Option<Self>> {
        if files.len(part)? < Len::new(SECTOR) {
            return Ok(None);
        }
        let header: SparseHeader = record(files, HEADER, Place { part, at: Offset::ZERO })?;
        match header.magic {
            MAGIC => Self::hosted(files, part, header).map(Some),
            COWD_MAGIC => Self::cowd(files, part).map(Some),
            _ => Ok(None),
        }
    }

    fn hosted(files: &Files<'_>, part: usize, first: SparseHeader) -> Result<Self> {
        let header = if first.gd_offset.get() == AT_END { footer(files, part)? } else { first };
        let bad = |problem: String| Error::corrupt(HEADER, Offset::ZERO, problem);
        let version = header.version.get();
        if !(1..=3).contains(&version) {
            return Err(Error::unsupported(format!("VMDK version {version} is not supported")));
        }
        let flags = header.flags.get();
        if flags & 1 != 0 && header.line_ends != *b"\n \r\n" {
            return Err(bad("its line ends are changed: the file was sent as text".to_owned()));
        }
        let compressed = flags & flags::COMPRESSED != 0;
        if compressed && header.compress_algorithm.get() != DEFLATE {
            let what = format!("VMDK compression {} is not supported", header.compress_algorithm);
            return Err(Error::unsupported(what));
        }
        if compressed && header.grain_size.get() > PACKED_MAX {
            return Err(bad(format!("it has compressed grains of {} sectors", header.grain_size)));
        }
        let per_table = u64::from(header.num_gtes_per_gt.get());
        if !per_table.is_power_of_two() || per_table > COWD_ENTRIES {
            return Err(bad(format!("its grain tables have {per_table} entries")));
        }
        let grains = grains(header.capacity.get(), header.grain_size.get())?;
        let entries = div_up(grains.count(), per_table).unwrap_or_default();
        let table = |at: u64| -> Result<Table> {
            Ok(Table { name: GD, place: Place { part, at: sector(at)? }, entries, width: 4 })
        };
        let second = flags & flags::REDUNDANT != 0 && header.rgd_offset.get() != 0;
        let redundant = if second { Some(table(header.rgd_offset.get())?) } else { None };
        let directory = table(header.gd_offset.get())?;
        // Either directory will do.
        let (directory, redundant) = match (directory.check(files), redundant) {
            (Ok(()), redundant) => (directory, redundant),
            (Err(error), None) => return Err(error),
            (Err(_), Some(second)) => {
                second.check(files)?;
                (second, None)
            }
        };
        let at = sector(header.descriptor_offset.get())?;
        let size = Len::new(sector(header.descriptor_size.get())?.get());
        let descriptor = Span::new(at, size).filter(|span| !span.is_empty() && at != Offset::ZERO);
        Ok(Self {
            part,
            version,
            grains,
            compressed,
            markers: flags & flags::MARKERS != 0,
            zero_grain: flags & flags::ZERO_GRAIN != 0,
            unclean: header.unclean_shutdown != 0,
            head: Span::whole(Len::new(SECTOR)),
            descriptor,
            directory,
            redundant,
            per_table,
        })
    }

    fn cowd(files: &Files<'_>, part: usize) -> Result<Self> {
        let header: CowdHeader = record(files, HEADER, Place { part, at: Offset::ZERO })?;
        if header.version.get() != 1 {
            let what = format!("version {} of ESX's VMDK extents is not supported", header.version);
            return Err(Error::unsupported(what));
        }
        let grains = grains(header.num_sectors.get().into(), header.grain_size.get().into())?;
        let place = Place { part, at: sector(header.gd_offset.get().into())? };
        let entries = u64::from(header.num_gd_entries.get());
        if entries < div_up(grains.count(), COWD_ENTRIES).unwrap_or_default() {
            let problem = format!("{entries} grain tables are too few for {} grains", grains.count());
            return Err(Error::corrupt(HEADER, Offset::ZERO, problem));
        }
        let directory = Table { name: GD, place, entries, width: 4 };
        directory.check(files)?;
        Ok(Self {
            part,
            version: 1,
            grains,
            compressed: false,
            markers: false,
            zero_grain: false,
            unclean: false,
            head: Span::whole(Len::new(SECTOR)),
            descriptor: None,
            directory,
            redundant: None,
            per_table: COWD_ENTRIES,
        })
    }

    /// A grain table.
    fn table(&self, entry: u64) -> Result<Table> {
        let place = Place { part: self.part, at: sector(entry)? };
        Ok(Table { name: GT, place, entries: self.per_table, width: 4 })
    }

    /// The first run of `within`, which lies in the extent.
    pub fn run(&self, files: &Files<'_>, tables: &Tables, within: Span) -> Result<Run> {
        let index = self.grains.index_of(within.start());
        let upper = index.checked_div(self.per_table).unwrap_or_default();
        let lower = index.checked_rem(self.per_table).unwrap_or_default();
        let absent = |index: u64, count: u64, what: What| Run {
            span: self.grains.span(index, count).intersect(within).unwrap_or(within),
            what,
        };
        let window = tables.window(files, self.directory, upper)?;
        let entry = window.get(upper).unwrap_or_default();
        if entry == 0 {
            let first = upper.saturating_mul(self.per_table);
            return Ok(absent(first, window.same(upper, 0).saturating_mul(self.per_table), What::Absent));
        }
        let table = self.table(entry)?;
        let window = tables.window(files, table, lower)?;
        let entry = window.get(lower).unwrap_or_default();
        match entry {
            0 => return Ok(absent(index, window.same(lower, 0), What::Absent)),
            1 if self.zero_grain => return Ok(absent(index, window.same(lower, 1), What::Zero)),
            _ => {}
        }
        let place = Place { part: self.part, at: sector(entry)? };
        let grain = self.grains.span(index, 1);
        if !self.compressed {
            return stored(files, GRAIN, grain, Some(place), within);
        }
        let what = What::Unit(Unit { span: grain, place, plain: false });
        Ok(Run { span: grain.intersect(within).unwrap_or(within), what })
    }

    /// The compressed data of a grain.
    pub fn packed(&self, files: &Files<'_>, unit: Unit) -> Result<Span> {
        let most = self.grains.size.get().saturating_mul(2).saturating_add(4096);
        let len = files.len(self.part)?;
        if !self.markers {
            let rest = len.end().since(unit.place.at).unwrap_or_default();
            return Ok(Span::new(unit.place.at, rest.min(Len::new(most))).unwrap_or_default());
        }
        let marker: GrainMarker = record(files, GRAIN, unit.place)?;
        let bad = |problem: String| Error::corrupt(GRAIN, unit.place.at, problem);
        let lba = unit.span.start().get() / SECTOR;
        if marker.lba.get() != lba {
            return Err(bad(format!("the grain of sector {lba} says that it is that of {}", marker.lba)));
        }
        let size = Len::new(marker.size.get().into());
        let at = unit.place.at.checked_add(Len::new(12));
        let span = at.and_then(|at| Span::new(at, size)).filter(|span| Span::whole(len).contains(*span));
        span.filter(|span| !span.is_empty() && span.len().get() <= most)
            .ok_or_else(|| bad(format!("{size} bytes of compressed data are not possible there")))
    }

    /// The bytes of a compressed grain.
    pub fn unpack(&self, files: &Files<'_>, unit: Unit, limits: &Limits) -> Result<Vec<u8>> {
        let packed = self.packed(files, unit)?;
        let mut stream = limits.buffer("a compressed grain", packed.len())?;
        files.read(Place { part: self.part, at: packed.start() }, &mut stream)?;
        // A byte of room behind the grain lets the end of the stream be seen.
        let mut grain = limits.buffer("a grain", Len::new(self.grains.size.get().saturating_add(1)))?;
        let mut inflate = Decompress::new(true);
        let bad = |why: String| Error::corrupt(GRAIN, unit.place.at, why);
        let status = inflate
            .decompress(&stream, &mut grain, FlushDecompress::Finish)
            .map_err(|error| bad(format!("its compressed data are damaged: {error}")))?;
        let (filled, need) = (inflate.total_out(), unit.span.len());
        if status != Status::StreamEnd || filled > self.grains.size.get() || filled < need.get() {
            return Err(bad(format!("its compressed data make {filled} bytes, not {need}")));
        }
        grain.truncate(need.to_usize());
        Ok(grain)
    }

    /// Claims what the extent's own structures take, and compares the two directories.
    pub fn check(
        &self,
        files: &Files<'_>,
        tables: &Tables,
        owners: &mut Owners,
        findings: &mut Findings,
    ) -> Result<()> {
        let mut claim = |span: Span, name: &str, findings: &mut Findings| {
            owners.structure(self.part, span, name, findings)
        };
        claim(self.head, HEADER, findings)?;
        claim(self.directory.span(), GD, findings)?;
        if let Some(redundant) = self.redundant {
            claim(redundant.span(), GD, findings)?;
        }
        for index in 0..self.directory.entries {
            let entry = |directory: Table| -> Result<u64> {
                Ok(tables.window(files, directory, index)?.get(index).unwrap_or_default())
            };
            let first = entry(self.directory)?;
            let second = match self.redundant {
                Some(redundant) if redundant.check(files).is_ok() => entry(redundant)?,
                _ => 0,
            };
            for entry in [first, second].into_iter().filter(|entry| *entry != 0) {
                // What is wrong with a table is told when its grains are looked at.
                let table = self.table(entry)?;
                if table.check(files).is_ok() {
                    claim(table.span(), GT, findings)?;
                }
            }
            if first != 0 && second != 0 && !self.same(files, first, second)? {
                let text = format!("the two copies of grain table {index} differ");
                findings.push(Severity::Damage, Some(self.table(first)?.span()), text);
            }
        }
        if self.unclean {
            findings.push(Severity::Note, None, "the image was not closed");
        }
        Ok(())
    }

    /// Whether two grain tables are equal.
    fn same(&self, files: &Files<'_>, first: u64, second: u64) -> Result<bool> {
        let read = |entry: u64| -> Result<Option<Vec<u8>>> {
            let table = self.table(entry)?;
            if table.check(files).is_err() {
                return Ok(None);
            }
            let mut bytes = vec![0; to_usize(self.per_table.saturating_mul(4))];
            files.read(table.place, &mut bytes)?;
            Ok(Some(bytes))
        };
        let first = read(first)?;
        Ok(first.is_some() && first == read(second)?)
    }
}

fn grains(capacity: u64, grain: u64) -> Result<Blocks> {
    let bad = |problem: String| Error::corrupt(HEADER, Offset::ZERO, problem);
    if !grain.is_power_of_two() || grain > GRAIN_MAX {
        return Err(bad(format!("it has grains of {grain} sectors")));
    }
    let disk = capacity.checked_mul(SECTOR).filter(|bytes| *bytes < 1 << 62);
    let disk = disk.ok_or_else(|| bad(format!("it has a capacity of {capacity} sectors")))?;
    Ok(Blocks { disk: Len::new(disk), size: Len::new(grain.saturating_mul(SECTOR)) })
}

/// The header at the end of a stream: behind its marker, before the end-of-stream marker, and before what somebody has
/// padded the file with.
fn footer(files: &Files<'_>, part: usize) -> Result<SparseHeader> {
    let sectors = files.len(part)?.get() / SECTOR;
    for back in 1..=TAIL {
        let Some(at) = sectors.checked_sub(back).and_then(|n| n.checked_mul(SECTOR)) else { break };
        let place = Place { part, at: Offset::new(at) };
        let header: SparseHeader = record(files, HEADER, place)?;
        let Some(before) = at.checked_sub(SECTOR).filter(|_| header.magic == MAGIC) else { continue };
        let marker: Marker = record(files, HEADER, Place { part, at: Offset::new(before) })?;
        if marker.kind.get() == FOOTER && marker.size.get() == 0 && header.gd_offset.get() != AT_END {
            return Ok(header);
        }
    }
    let end = Offset::new(sectors.saturating_mul(SECTOR));
    Err(Error::corrupt(HEADER, end, "the stream has no footer: the file is not complete"))
}
