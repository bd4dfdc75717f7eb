//! What an image says about itself.

use super::Qcow2;
use super::header::Compression;
use super::layout::compatible;
use disk::ReadAt;
use ondisk::Len;
use ondisk::text::Printable;

/// What `info` tells about a qcow2 image. All text is safe to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// 2 or 3.
    pub version: u32,
    /// The bytes of a cluster.
    pub cluster_size: Len,
    /// The size of the virtual disk.
    pub virtual_size: Len,
    /// The bits of a refcount.
    pub refcount_bits: u32,
    /// Whether refcounts may be brought up to date late.
    pub lazy_refcounts: bool,
    /// Whether clusters have subclusters.
    pub extended_l2: bool,
    /// How compressed clusters are compressed.
    pub compression: Compression,
    /// The image was not closed.
    pub dirty: bool,
    /// Somebody has marked the image as damaged.
    pub corrupt: bool,
    /// The backing file, as the image names it.
    pub backing_file: Option<String>,
    /// The backing file's format, where the image states it.
    pub backing_format: Option<String>,
    /// Internal snapshots.
    pub snapshots: Vec<SnapshotFacts>,
    /// Persistent bitmaps that belong to the present content.
    pub bitmaps: Vec<BitmapFacts>,
    /// There are bitmaps, but somebody has written to the image without minding them.
    pub stale_bitmaps: bool,
    /// It is a parent in a chain of XenServer's.
    pub hidden: bool,
}

/// An internal snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFacts {
    /// Its number.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was taken, in seconds since 1970.
    pub seconds: u64,
    /// The saved state of the running machine.
    pub vm_state: Len,
    /// The size of the disk then, where it is stated.
    pub size: Option<Len>,
}

/// A persistent bitmap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitmapFacts {
    /// Its name.
    pub name: String,
    /// How many bytes a bit stands for.
    pub granularity: Len,
    /// Whether it is recorded further.
    pub auto: bool,
    /// Whether its content means nothing any more.
    pub in_use: bool,
}

impl Compression {
    /// As qemu-img calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deflate => "zlib",
            Self::Zstd => "zstd",
        }
    }
}

impl<D: ReadAt> Qcow2<D> {
    /// What the image says about itself.
    #[must_use]
    pub fn facts(&self) -> Facts {
        let header = &self.header;
        let text = |bytes: &[u8]| Printable(bytes).to_string();
        let snapshots = self.snapshots.iter().map(|snapshot| SnapshotFacts {
            id: text(&snapshot.id),
            name: text(&snapshot.name),
            seconds: snapshot.seconds.into(),
            vm_state: snapshot.vm_state,
            size: snapshot.size,
        });
        let bitmaps = self.bitmaps.iter().map(|bitmap| BitmapFacts {
            name: text(&bitmap.name),
            granularity: Len::new(1_u64.checked_shl(bitmap.granularity_bits.into()).unwrap_or_default()),
            auto: bitmap.flags & 2 != 0,
            in_use: bitmap.in_use(),
        });
        let format = header.backing.as_ref().and_then(|backing| backing.format.as_deref());
        Facts {
            version: header.version,
            cluster_size: header.geo.len(),
            virtual_size: header.size,
            refcount_bits: 1_u32.wrapping_shl(header.refcount_order),
            lazy_refcounts: header.compatible & compatible::LAZY_REFCOUNTS != 0,
            extended_l2: header.geo.extended(),
            compression: header.compression,
            dirty: header.is_dirty(),
            hidden: header.hidden,
            corrupt: header.is_corrupt(),
            backing_file: header.backing.as_ref().map(|backing| text(&backing.name)),
            backing_format: format.map(text),
            snapshots: snapshots.collect(),
            bitmaps: bitmaps.collect(),
            stale_bitmaps: header.bitmaps.is_some() && header.valid_bitmaps().is_none(),
        }
    }
}
