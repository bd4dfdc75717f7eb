//! The header, validated.
//!
//! ```text
//! 0        72 | header_length      backing name           end of cluster 0
//! | header | v3 | extensions … 0 |  | name |
//! ```
//!
//! 1. An unknown incompatible bit means that we cannot even read.
//! 2. Every count is within qemu's limits before anything is allocated for it.
//! 3. The L1 table and the refcount table lie in the file; L1 has an entry for every byte of the virtual disk.

use super::file;
use super::geom::Geometry;
use super::layout::{self, extension, incompatible};
use crate::{Error, Result};
use disk::{Disk, Limits, ReadAt};
use ondisk::num::{to_u64, to_usize};
use ondisk::text::{Printable, until_nul};
use ondisk::{Len, Offset, Span};
use zerocopy::FromBytes;

/// Bytes of L1 that qemu accepts.
pub const L1_MAX: u64 = 32 << 20;
/// Bytes of refcount table that qemu accepts.
pub const REFCOUNT_TABLE_MAX: u64 = 8 << 20;
/// Snapshots that qemu accepts.
const SNAPSHOTS_MAX: u32 = 65536;
/// Bytes of a backing file's name.
const NAME_MAX: u32 = 1023;
/// The header's first sector, which holds every field that is ever changed.
const SECTOR: Len = Len::new(512);

/// How compressed clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Raw deflate streams.
    Deflate,
    /// Zstandard frames.
    Zstd,
}

/// The parent as the header names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// The name, as written there.
    pub name: Vec<u8>,
    /// The format, where it is stated.
    pub format: Option<Vec<u8>>,
}

/// Where the bitmap directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitmapDirectory {
    pub count: u32,
    pub span: Span,
}

/// The header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub version: u32,
    pub geo: Geometry,
    pub size: Len,
    pub l1_at: Offset,
    pub l1_entries: u64,
    pub refcount_table: Span,
    pub refcount_order: u32,
    pub snapshots_at: Offset,
    pub snapshots: u32,
    pub incompatible: u64,
    pub compatible: u64,
    pub autoclear: u64,
    pub compression: Compression,
    pub backing: Option<Backing>,
    pub bitmaps: Option<BitmapDirectory>,
    /// XenServer marks it as the parent of others.
    pub hidden: bool,
}

impl Header {
    /// Reads and validates the header of `file`.
    pub fn read(file: &(impl ReadAt + ?Sized), limits: &Limits) -> Result<Self> {
        let (header, table) = Self::read_but_refcounts(file, limits)?;
        table.map(|refcount_table| Self { refcount_table, ..header })
    }

    /// As [`Self::read`], with an empty refcount table beside the true one or what is wrong with that: reading needs none.
    pub fn read_but_refcounts(
        file: &(impl ReadAt + ?Sized),
        limits: &Limits,
    ) -> Result<(Self, Result<Span>)> {
        if file.len() < Len::new(u64::from(layout::V2_LENGTH)) {
            return Err(bad(0, format!("the file has {} bytes, too few for a header", file.len())));
        }
        let mut record: layout::Header = file::record(file, Offset::ZERO)?;
        if record.magic != layout::MAGIC {
            return Err(bad(0, "it does not begin with 'QFI\\xfb'"));
        }
        match record.version.get() {
            2 => as_version_2(&mut record),
            3 => {}
            version => {
                return Err(Error::unsupported(format!("version {version} of qcow2 is not supported")));
            }
        }
        let bits = record.cluster_bits.get();
        if !(9..=21).contains(&bits) {
            return Err(bad(20, format!("cluster_bits is {bits}, must be 9 to 21")));
        }
        let geo = Geometry::new(bits, record.incompatible_features.get() & incompatible::EXTENDED_L2 != 0);
        let length = header_length(&record, geo)?;
        let extensions = Extensions::read(file, &record, length, geo, limits);
        features(&record, extensions.as_ref().ok())?;
        let extensions = extensions?;
        if geo.extended() && bits < 14 {
            return Err(bad(20, format!("cluster_bits is {bits}, extended L2 entries need at least 14")));
        }
        let header = Self {
            version: record.version.get(),
            geo,
            size: Len::new(record.size.get() & !511),
            l1_at: Offset::new(record.l1_table_offset.get()),
            l1_entries: u64::from(record.l1_size.get()),
            refcount_table: Span::default(),
            refcount_order: refcount_order(&record)?,
            snapshots_at: Offset::new(record.snapshots_offset.get()),
            snapshots: record.nb_snapshots.get(),
            incompatible: record.incompatible_features.get(),
            compatible: record.compatible_features.get(),
            autoclear: record.autoclear_features.get(),
            compression: compression(&record, length)?,
            backing: backing(file, &record, geo, extensions.backing_format)?,
            bitmaps: extensions.bitmaps,
            hidden: extensions.hidden,
        };
        header.check_tables(file.len())?;
        Ok((header, refcount_table(&record, geo, file.len())))
    }

    fn check_tables(&self, file_len: Len) -> Result<()> {
        let geo = self.geo;
        if self.size.get() > u64::MAX >> 1 {
            return Err(bad(24, format!("size is {}, beyond 2^63", self.size)));
        }
        if self.l1_entries.saturating_mul(8) > L1_MAX {
            return Err(bad(36, format!("l1_size is {}, the limit is {}", self.l1_entries, L1_MAX >> 3)));
        }
        let needed = geo.l1_needed(self.size);
        if self.l1_entries < needed {
            let text =
                format!("l1_size is {}, a disk of {} bytes needs {needed}", self.l1_entries, self.size);
            return Err(bad(36, text));
        }
        let l1 = Span::new(self.l1_at, Len::new(self.l1_entries.saturating_mul(8)));
        let inside = |span: Span| span.is_empty() || Span::whole(geo.round_up(file_len)).contains(span);
        if !self.l1_at.is_aligned(geo.bytes()) || !l1.is_some_and(inside) {
            let text = format!("the L1 table of {} entries is at {}", self.l1_entries, self.l1_at);
            return Err(bad(40, format!("{text}, not on a cluster of the file of {file_len} bytes")));
        }
        if self.snapshots > SNAPSHOTS_MAX {
            return Err(bad(60, format!("nb_snapshots is {}, the limit is {SNAPSHOTS_MAX}", self.snapshots)));
        }
        if !self.snapshots_at.is_aligned(geo.bytes()) {
            return Err(bad(64, format!("snapshots_offset is {}, not on a cluster", self.snapshots_at)));
        }
        Ok(())
    }

    /// Whether refcounts may be stale.
    pub const fn is_dirty(&self) -> bool {
        self.incompatible & incompatible::DIRTY != 0
    }

    /// Whether somebody has marked the metadata as damaged.
    pub const fn is_corrupt(&self) -> bool {
        self.incompatible & incompatible::CORRUPT != 0
    }

    /// The bitmap directory, if the bitmaps belong to the present content.
    pub fn valid_bitmaps(&self) -> Option<BitmapDirectory> {
        self.bitmaps.filter(|_| self.autoclear & layout::autoclear::BITMAPS != 0)
    }
}

/// Changes fields of the header in the bytes of its sector.
pub fn edit(file: &mut (impl Disk + ?Sized), change: impl FnOnce(&mut layout::Header)) -> Result<()> {
    let mut sector = [0_u8; 512];
    file.read_at(Offset::ZERO, &mut sector)?;
    if let Ok((record, _)) = layout::Header::mut_from_prefix(&mut sector) {
        change(record);
    }
    debug_assert_eq!(SECTOR, Len::of(&sector));
    file.write_at(Offset::ZERO, &sector)?;
    Ok(())
}

fn bad(at: u64, problem: impl Into<String>) -> Error {
    Error::corrupt("qcow2 header", Offset::new(at), problem)
}

/// The fields that version 2 does not have, with the values that they stand for.
fn as_version_2(record: &mut layout::Header) {
    record.incompatible_features.set(0);
    record.compatible_features.set(0);
    record.autoclear_features.set(0);
    record.refcount_order.set(4);
    record.header_length.set(layout::V2_LENGTH);
    record.compression_type = 0;
}

fn header_length(record: &layout::Header, geo: Geometry) -> Result<u64> {
    let length = u64::from(record.header_length.get());
    let least = if record.version.get() == 2 { layout::V2_LENGTH } else { layout::V3_LENGTH };
    if length < u64::from(least) || length > geo.bytes() || !length.is_multiple_of(8) {
        return Err(bad(100, format!("header_length is {length}, must be {least} to {}", geo.bytes())));
    }
    Ok(length)
}

/// Refuses what we do not know, by the name that the image gives it.
fn features(record: &layout::Header, extensions: Option<&Extensions>) -> Result<()> {
    if record.crypt_method.get() != 0 {
        let kind = if record.crypt_method.get() == 2 { "LUKS" } else { "AES" };
        return Err(Error::unsupported(format!("the image is encrypted ({kind}), which is not supported")));
    }
    let bits = record.incompatible_features.get();
    if let Some(bit) =
        (0..64_u8).find(|bit| bits & !incompatible::KNOWN & 1_u64.wrapping_shl((*bit).into()) != 0)
    {
        let name = extensions.and_then(|extensions| extensions.feature_name(0, bit));
        let name = name.map(|name| format!(" '{}'", Printable(&name))).unwrap_or_default();
        return Err(Error::unsupported(format!(
            "incompatible feature bit {bit}{name} of qcow2 is not supported"
        )));
    }
    if bits & incompatible::DATA_FILE != 0 {
        return Err(Error::unsupported(
            "the guest's data are in an external data file, which is not supported",
        ));
    }
    Ok(())
}

fn compression(record: &layout::Header, length: u64) -> Result<Compression> {
    let kind = if length > 104 { record.compression_type } else { 0 };
    let announced = record.incompatible_features.get() & incompatible::COMPRESSION != 0;
    match (kind, announced) {
        (0, false) => Ok(Compression::Deflate),
        (1, true) => Ok(Compression::Zstd),
        (0 | 1, _) => Err(bad(104, format!("compression_type is {kind}, its feature bit says otherwise"))),
        _ => Err(Error::unsupported(format!("compression type {kind} of qcow2 is not supported"))),
    }
}

fn refcount_order(record: &layout::Header) -> Result<u32> {
    match record.refcount_order.get() {
        order @ 0..=6 => Ok(order),
        order => Err(bad(96, format!("refcount_order is {order}, must be 0 to 6"))),
    }
}

fn refcount_table(record: &layout::Header, geo: Geometry, file_len: Len) -> Result<Span> {
    let at = Offset::new(record.refcount_table_offset.get());
    let clusters = u64::from(record.refcount_table_clusters.get());
    let bytes = clusters.saturating_mul(geo.bytes());
    if clusters == 0 || bytes > REFCOUNT_TABLE_MAX {
        let text = format!("refcount_table_clusters is {clusters}, must be 1 to");
        return Err(bad(56, format!("{text} {}", REFCOUNT_TABLE_MAX.wrapping_shr(geo.cluster_bits()))));
    }
    Span::new(at, Len::new(bytes))
        .filter(|span| at.is_aligned(geo.bytes()) && Span::whole(geo.round_up(file_len)).contains(*span))
        .ok_or_else(|| bad(48, format!("refcount_table_offset is {at}, not on a cluster of the file")))
}

fn backing(
    file: &(impl ReadAt + ?Sized),
    record: &layout::Header,
    geo: Geometry,
    format: Option<Vec<u8>>,
) -> Result<Option<Backing>> {
    let at = record.backing_file_offset.get();
    let len = record.backing_file_size.get();
    if at == 0 {
        return Ok(None);
    }
    if len > NAME_MAX || at.saturating_add(u64::from(len)) > geo.bytes() {
        return Err(bad(
            8,
            format!("the backing file's name of {len} bytes is at {at}, outside of cluster 0"),
        ));
    }
    let mut name = vec![0; to_usize(u64::from(len))];
    file::read(file, Offset::new(at), &mut name)?;
    Ok(Some(Backing { name, format }))
}

/// What the header extensions say.
#[derive(Default)]
struct Extensions {
    backing_format: Option<Vec<u8>>,
    bitmaps: Option<BitmapDirectory>,
    names: Vec<u8>,
    hidden: bool,
}

impl Extensions {
    fn read(
        file: &(impl ReadAt + ?Sized),
        record: &layout::Header,
        length: u64,
        geo: Geometry,
        limits: &Limits,
    ) -> Result<Self> {
        let end = match record.backing_file_offset.get() {
            0 => geo.bytes().min(file.len().get()),
            at => at.min(geo.bytes()),
        };
        let area = end.saturating_sub(length);
        let mut bytes = limits.buffer("the qcow2 header", Len::new(area))?;
        file::read(file, Offset::new(length), &mut bytes)?;
        let mut found = Self::default();
        let mut rest = bytes.as_slice();
        while let Ok((head, behind)) = layout::Extension::read_from_prefix(rest) {
            if head.kind.get() == extension::END {
                break;
            }
            let at = end.saturating_sub(to_u64(rest.len()));
            let len = to_usize(u64::from(head.length.get()));
            let Some(data) = behind.get(..len) else {
                let kind = head.kind.get();
                return Err(bad(
                    at,
                    format!("extension {kind:#x} of {len} bytes passes the end of its area"),
                ));
            };
            found.take(head.kind.get(), data, at)?;
            rest = behind.get(len.next_multiple_of(8)..).unwrap_or_default();
        }
        Ok(found)
    }

    fn take(&mut self, kind: u32, data: &[u8], at: u64) -> Result<()> {
        match kind {
            extension::BACKING_FORMAT => self.backing_format = Some(data.to_vec()),
            extension::FEATURE_NAMES => self.names = data.to_vec(),
            extension::HIDDEN => self.hidden = data.first().is_some_and(|byte| *byte != 0),
            extension::BITMAPS => {
                let ext = layout::Bitmaps::read_from_bytes(data).map_err(|_| {
                    bad(at, format!("the bitmaps extension has {} bytes, not 24", data.len()))
                })?;
                let start = Offset::new(ext.bitmap_directory_offset.get());
                let span = Span::new(start, Len::new(ext.bitmap_directory_size.get()))
                    .ok_or_else(|| bad(at, "the bitmap directory lies beyond all files"))?;
                self.bitmaps = Some(BitmapDirectory { count: ext.nb_bitmaps.get(), span });
            }
            _ => {}
        }
        Ok(())
    }

    fn feature_name(&self, kind: u8, bit: u8) -> Option<Vec<u8>> {
        let mut names =
            self.names.chunks_exact(48).filter_map(|chunk| layout::FeatureName::read_from_bytes(chunk).ok());
        let found = names.find(|name| name.kind == kind && name.bit == bit)?;
        Some(until_nul(&found.name).to_vec())
    }
}
