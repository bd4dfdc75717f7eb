//! A new, empty image.
//!
//! ```text
//! cluster 0   1 …              …               …
//! | header | refcount table | refcount blocks | L1 table |
//! ```

use super::geom::{Geometry, Host};
use super::header::{Compression, L1_MAX, REFCOUNT_TABLE_MAX};
use super::layout::{self, compatible, extension, incompatible};
use super::store;
use crate::{Error, Format, Result};
use disk::{Data, Disk, Write};
use ondisk::num::{low32, to_u64, to_usize};
use ondisk::{Len, Offset, Span};
use zerocopy::{FromZeros, IntoBytes};

/// A parent by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// Relative to the folder of the new image.
    pub name: String,
    /// Its format, which is always stated.
    pub format: Format,
}

/// What kind of image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// The size of the virtual disk, in whole sectors.
    pub len: Len,
    /// 2 or 3.
    pub version: u32,
    /// log₂ of the cluster's bytes, 9 to 21.
    pub cluster_bits: u32,
    /// log₂ of the refcount's bits, 0 to 6.
    pub refcount_order: u32,
    /// Whether clusters have subclusters.
    pub extended_l2: bool,
    /// Whether refcounts may be brought up to date late.
    pub lazy_refcounts: bool,
    /// How clusters that are compressed one day will be.
    pub compression: Compression,
    /// The parent.
    pub backing: Option<Backing>,
    /// Marked as the parent of others, as XenServer does.
    pub hidden: bool,
}

/// How an empty file becomes an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatePlan {
    len: Len,
    file_len: Len,
    writes: Vec<Write>,
}

/// Where the tables of an image lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tables {
    pub l1: Offset,
    pub refcount_table: Offset,
    pub refcount_table_clusters: u64,
}

/// How many clusters each structure takes.
pub(super) struct Room {
    table: u64,
    blocks: u64,
    pub(super) l1: u64,
}

impl Create {
    /// Version 3 with clusters of 64 KiB, as qemu-img makes it when nothing is said.
    #[must_use]
    pub const fn new(len: Len) -> Self {
        Self {
            len,
            version: 3,
            cluster_bits: 16,
            refcount_order: 4,
            extended_l2: false,
            lazy_refcounts: false,
            compression: Compression::Deflate,
            backing: None,
            hidden: false,
        }
    }

    /// Plans the image.
    ///
    /// # Errors
    /// Where the options do not go together, or the disk would be too large for the cluster.
    pub fn plan(&self) -> Result<CreatePlan> {
        self.check()?;
        let geo = self.geometry();
        let room = self.room(geo)?;
        let at = |cluster: u64| geo.host_at(Host(cluster));
        let bytes = |at: Offset, bytes: Vec<u8>| Write { at, data: Data::Bytes(bytes) };
        let first_block = room.table.saturating_add(1);
        let l1 = first_block.saturating_add(room.blocks);
        let end = l1.saturating_add(room.l1);
        let table: Vec<u8> = (first_block..l1).flat_map(|block| at(block).get().to_be_bytes()).collect();
        let tables = Tables { l1: at(l1), refcount_table: at(1), refcount_table_clusters: room.table };
        let mut writes = vec![bytes(at(0), self.header(geo, tables)?), bytes(at(1), padded(table, geo))];
        let per_block = (geo.bytes() << 3).wrapping_shr(self.refcount_order);
        for index in 0..room.blocks {
            let mut block = vec![0; to_usize(geo.bytes())];
            let first = index.saturating_mul(per_block);
            for within in 0..per_block.min(end.saturating_sub(first)) {
                store::put(&mut block, within, self.refcount_order, 1);
            }
            writes.push(bytes(at(first_block.saturating_add(index)), block));
        }
        let l1_len = Len::new(room.l1.saturating_mul(geo.bytes()));
        writes.push(Write { at: at(l1), data: Data::Zero(l1_len) });
        Ok(CreatePlan { len: self.len, file_len: Len::new(at(end).get()), writes })
    }

    /// Its clusters.
    pub(super) const fn geometry(&self) -> Geometry {
        Geometry::new(self.cluster_bits, self.extended_l2)
    }

    pub(super) fn check(&self) -> Result<()> {
        let usage = |what: &str| Err(Error::Usage { what: what.to_owned() });
        if !self.len.is_aligned(512) {
            return usage("the size of a qcow2 disk is a multiple of 512 bytes");
        }
        if !(9..=21).contains(&self.cluster_bits) {
            return usage("qcow2 clusters have 512 bytes to 2 MiB");
        }
        if self.extended_l2 && self.cluster_bits < 14 {
            return usage("subclusters need clusters of at least 16 KiB");
        }
        let plain = self.refcount_order == 4
            && !self.extended_l2
            && !self.lazy_refcounts
            && !self.hidden
            && self.compression == Compression::Deflate;
        if !(self.version == 3 || (self.version == 2 && plain)) || self.refcount_order > 6 {
            return usage("these options need version 3 of qcow2");
        }
        if self.backing.as_ref().is_some_and(|backing| backing.name.len() > 1023) {
            return usage("the name of a backing file has at most 1023 bytes");
        }
        Ok(())
    }

    pub(super) fn room(&self, geo: Geometry) -> Result<Room> {
        let entries = geo.l1_needed(self.len);
        let limit = geo.table_reach().saturating_mul(L1_MAX >> 3).min(u64::MAX >> 1);
        if self.len.get() > limit {
            let format = format!("qcow2 with clusters of {} bytes", geo.bytes());
            return Err(Error::TooLarge { format, want: self.len, limit: Len::new(limit & !511) });
        }
        let mut room = Room { table: 1, blocks: 1, l1: entries.saturating_mul(8).div_ceil(geo.bytes()) };
        let per_block = (geo.bytes() << 3).wrapping_shr(self.refcount_order);
        loop {
            let total = room.table.saturating_add(room.blocks).saturating_add(room.l1).saturating_add(1);
            let blocks = total.div_ceil(per_block);
            let table = blocks.saturating_mul(8).div_ceil(geo.bytes());
            if (blocks, table) == (room.blocks, room.table) {
                break;
            }
            room = Room { table, blocks, ..room };
        }
        if room.table.saturating_mul(geo.bytes()) > REFCOUNT_TABLE_MAX {
            let (want, limit) = (Len::new(room.table), Len::new(REFCOUNT_TABLE_MAX));
            return Err(Error::TooLarge { format: "a qcow2 refcount table".to_owned(), want, limit });
        }
        Ok(room)
    }

    /// Cluster 0.
    pub(super) fn header(&self, geo: Geometry, tables: Tables) -> Result<Vec<u8>> {
        let mut record = layout::Header::new_zeroed();
        record.magic = layout::MAGIC;
        record.version.set(self.version);
        record.cluster_bits.set(self.cluster_bits);
        record.size.set(self.len.get());
        record.l1_size.set(low32(geo.l1_needed(self.len)));
        record.l1_table_offset.set(tables.l1.get());
        record.refcount_table_offset.set(tables.refcount_table.get());
        record.refcount_table_clusters.set(low32(tables.refcount_table_clusters));
        let mut length = layout::V2_LENGTH;
        if self.version == 3 {
            let zstd = if self.compression == Compression::Zstd { incompatible::COMPRESSION } else { 0 };
            let extended = if self.extended_l2 { incompatible::EXTENDED_L2 } else { 0 };
            record.incompatible_features.set(zstd | extended);
            record.compatible_features.set(if self.lazy_refcounts { compatible::LAZY_REFCOUNTS } else { 0 });
            record.refcount_order.set(self.refcount_order);
            record.compression_type = u8::from(zstd != 0);
            length = 112;
            record.header_length.set(length);
        }
        let mut extensions = Vec::new();
        if self.hidden {
            extensions.extend(hidden_extension());
        }
        if let Some(backing) = &self.backing {
            extensions.extend(backing_format(backing.format));
            let at = to_u64(extensions.len()).saturating_add(length.into());
            record.backing_file_offset.set(at);
            record.backing_file_size.set(low32(to_u64(backing.name.len())));
            extensions.extend(backing.name.as_bytes());
        }
        let mut bytes = record.as_bytes().get(..to_usize(length.into())).unwrap_or_default().to_vec();
        bytes.append(&mut extensions);
        // The end of the extensions is eight more zeros.
        if to_u64(bytes.len()).saturating_add(8) > geo.bytes() {
            return Err(Error::Usage {
                what: "the name of the backing file does not fit into the cluster".into(),
            });
        }
        Ok(padded(bytes, geo))
    }
}

/// The extension that marks the parent of others.
fn hidden_extension() -> Vec<u8> {
    let mut bytes = [extension::HIDDEN.to_be_bytes(), 8_u32.to_be_bytes()].concat();
    bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

/// The extension that names the format, and the end of the extensions.
pub(super) fn backing_format(format: Format) -> Vec<u8> {
    let name = format.qemu_name().as_bytes();
    let length = low32(to_u64(name.len()));
    let mut bytes = [extension::BACKING_FORMAT.to_be_bytes(), length.to_be_bytes()].concat();
    bytes.extend(name);
    bytes.resize(bytes.len().next_multiple_of(8).saturating_add(8), 0);
    bytes
}

fn padded(mut bytes: Vec<u8>, geo: Geometry) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(to_usize(geo.bytes())), 0);
    bytes
}

impl CreatePlan {
    /// The size of the virtual disk.
    #[must_use]
    pub const fn len(&self) -> Len {
        self.len
    }

    /// Whether the virtual disk has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len.is_zero()
    }

    /// Does it, on a file whose content does not matter.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn apply(self, file: &mut dyn Disk) -> disk::Result<()> {
        if file.len() < self.file_len {
            file.resize(self.file_len)?;
        }
        file.mark_fresh(Span::whole(self.file_len))?;
        for write in &self.writes {
            match &write.data {
                Data::Bytes(bytes) => file.write_at(write.at, bytes)?,
                Data::Zero(_) => file.zero(write.span())?,
            }
        }
        Ok(())
    }
}
