//! The lists of snapshots and of bitmaps.
//!
//! Both are records of varying length one behind the other, each padded to 8 bytes; names are bytes.

use super::file;
use super::geom::Geometry;
use super::header::{BitmapDirectory, Header, L1_MAX};
use super::layout;
use crate::{Error, Result};
use disk::{Limits, ReadAt};
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset, Span};
use zerocopy::FromBytes;

/// Bytes of a snapshot's extra data, and of one table, that qemu accepts.
const EXTRA_MAX: u64 = 1024;
const TABLE_MAX: u64 = 64 << 20;
/// Bitmaps that qemu accepts, and bytes that one may have.
const BITMAPS_MAX: u32 = 65535;
const BITMAP_BYTES_MAX: u64 = 0x2000_0000;

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub l1_at: Offset,
    pub l1_entries: u64,
    pub id: Vec<u8>,
    pub name: Vec<u8>,
    pub seconds: u32,
    pub vm_state: Len,
    /// The size of the disk then, where it is stated.
    pub size: Option<Len>,
    /// Its record in the table.
    pub record: Span,
}

/// A bitmap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    pub table_at: Offset,
    pub table_entries: u64,
    pub flags: u32,
    pub granularity_bits: u8,
    pub name: Vec<u8>,
    /// Its record in the directory.
    pub record: Span,
}

impl Bitmap {
    /// Whether its content means nothing any more.
    pub const fn in_use(&self) -> bool {
        self.flags & layout::BITMAP_IN_USE != 0
    }
}

/// Reads the snapshot table.
pub fn snapshots(file: &(impl ReadAt + ?Sized), header: &Header, limits: &Limits) -> Result<Vec<Snapshot>> {
    let mut list = Vec::new();
    let budget = limits.budget("the snapshot table");
    let mut at = header.snapshots_at;
    for index in 0..header.snapshots {
        let bad =
            |text: String| Error::corrupt("qcow2 snapshot table", at, format!("snapshot {index} {text}"));
        let record: layout::Snapshot = file::record(file, at)?;
        let extra = u64::from(record.extra_data_size.get());
        let (id, name) = (u64::from(record.id_str_size.get()), u64::from(record.name_size.get()));
        let len = padded(40_u64.saturating_add(extra).saturating_add(id).saturating_add(name));
        let record_span = Span::new(at, len)
            .filter(|span| header.geo.round_up(file.len()).end() >= span.end())
            .ok_or_else(|| bad("passes the end of the file".to_owned()))?;
        if extra > EXTRA_MAX || at.since(header.snapshots_at).unwrap_or_default().get() > TABLE_MAX {
            return Err(bad(format!("has {extra} bytes of extra data, or the table is larger than 64 MiB")));
        }
        let l1_entries = u64::from(record.l1_size.get());
        if l1_entries.saturating_mul(8) > L1_MAX {
            return Err(bad(format!("has an L1 table of {l1_entries} entries")));
        }
        budget.take(Len::new(len.get().saturating_add(128)))?;
        let mut rest = vec![0; to_usize(len.get().saturating_sub(40))];
        file::read(file, Offset::new(at.get().saturating_add(40)), &mut rest)?;
        let (extra, rest) = cut(&rest, extra);
        let (id, rest) = cut(rest, id);
        let full = layout::SnapshotExtra::read_from_prefix(extra).ok().map(|(full, _)| full);
        let vm_state = full.map_or(u64::from(record.vm_state_size.get()), |full| full.vm_state_size.get());
        list.push(Snapshot {
            l1_at: Offset::new(record.l1_table_offset.get()),
            l1_entries,
            id: id.to_vec(),
            name: cut(rest, name).0.to_vec(),
            seconds: record.date_sec.get(),
            vm_state: Len::new(vm_state),
            size: full.map(|full| Len::new(full.virtual_disk_size.get())),
            record: record_span,
        });
        at = record_span.end();
    }
    Ok(list)
}

/// Reads the bitmap directory.
pub fn bitmaps(
    file: &(impl ReadAt + ?Sized),
    directory: BitmapDirectory,
    geo: Geometry,
    limits: &Limits,
) -> Result<Vec<Bitmap>> {
    let bad = |at, text: String| Error::corrupt("qcow2 bitmap directory", at, text);
    let span = directory.span;
    let inside = Span::whole(geo.round_up(file.len())).contains(span);
    if directory.count > BITMAPS_MAX || span.len().get() > TABLE_MAX || !inside {
        return Err(bad(span.start(), format!("it has {} entries in {} bytes", directory.count, span.len())));
    }
    if !span.start().is_aligned(geo.bytes()) {
        return Err(bad(span.start(), "it does not begin on a cluster".to_owned()));
    }
    let mut bytes = limits.buffer("the bitmap directory", span.len())?;
    file::read(file, span.start(), &mut bytes)?;
    let mut list = Vec::new();
    let mut rest = bytes.as_slice();
    for index in 0..directory.count {
        let at = Offset::new(span.end().get().saturating_sub(to_u64(rest.len())));
        let short = || bad(at, format!("bitmap {index} passes the end of the directory"));
        let (record, behind) = layout::BitmapEntry::read_from_prefix(rest).map_err(|_| short())?;
        let (extra, name) = (u64::from(record.extra_data_size.get()), u64::from(record.name_size.get()));
        let len = padded(24_u64.saturating_add(extra).saturating_add(name));
        let next = rest.get(len.to_usize()..).ok_or_else(short)?;
        let table_entries = u64::from(record.bitmap_table_size.get());
        if table_entries.saturating_mul(geo.bytes()) > BITMAP_BYTES_MAX.max(geo.bytes()) {
            return Err(bad(at, format!("bitmap {index} has a table of {table_entries} entries")));
        }
        list.push(Bitmap {
            table_at: Offset::new(record.bitmap_table_offset.get()),
            table_entries,
            flags: record.flags.get(),
            granularity_bits: record.granularity_bits,
            name: cut(cut(behind, extra).1, name).0.to_vec(),
            record: Span::new(at, len).unwrap_or_default(),
        });
        rest = next;
    }
    if !rest.is_empty() {
        // More bitmaps than are counted: their clusters would pass for leaks.
        let at = Offset::new(span.end().get().saturating_sub(to_u64(rest.len())));
        let text = format!("{} bytes lie behind its {} bitmaps", rest.len(), directory.count);
        return Err(bad(at, text));
    }
    Ok(list)
}

fn padded(len: u64) -> Len {
    Len::new(len.saturating_add(7) & !7)
}

fn cut(bytes: &[u8], len: u64) -> (&[u8], &[u8]) {
    bytes.split_at_checked(to_usize(len)).unwrap_or((bytes, &[]))
}
