//! Clusters of the file, clusters of the virtual disk, and the arithmetic between them and bytes.

use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset, Span};

/// A cluster of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host(pub u64);

/// A cluster of the virtual disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guest(pub u64);

/// The sizes that give cluster numbers their meaning. Cluster numbers of valid positions times the cluster size do not
/// overflow; all others saturate and then lie outside of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    cluster_bits: u32,
    extended: bool,
}

impl Geometry {
    /// Clusters of 2^`cluster_bits` bytes (9 to 21), with subclusters or without.
    pub const fn new(cluster_bits: u32, extended: bool) -> Self {
        Self { cluster_bits, extended }
    }

    /// log₂ of the cluster's bytes.
    pub const fn cluster_bits(self) -> u32 {
        self.cluster_bits
    }

    /// Whether L2 entries have subclusters.
    pub const fn extended(self) -> bool {
        self.extended
    }

    /// The bytes of a cluster.
    pub const fn bytes(self) -> u64 {
        1_u64.wrapping_shl(self.cluster_bits)
    }

    /// The bytes of a cluster.
    pub const fn len(self) -> Len {
        Len::new(self.bytes())
    }

    /// The cluster of the file that holds `at`.
    pub const fn host_of(self, at: Offset) -> Host {
        Host(at.get().wrapping_shr(self.cluster_bits))
    }

    /// Where a cluster of the file begins.
    pub const fn host_at(self, host: Host) -> Offset {
        Offset::new(host.0.saturating_mul(self.bytes()))
    }

    /// The bytes of a cluster of the file.
    pub fn host_span(self, host: Host) -> Span {
        Span::new(self.host_at(host), self.len()).unwrap_or_default()
    }

    /// The clusters of the file that `span` touches.
    pub fn hosts(self, span: Span) -> std::ops::Range<u64> {
        let end = Offset::new(span.end().get().saturating_sub(1));
        if span.is_empty() {
            0..0
        } else {
            self.host_of(span.start()).0..self.host_of(end).0.saturating_add(1)
        }
    }

    /// The cluster of the virtual disk that holds `at`.
    pub const fn guest_of(self, at: Offset) -> Guest {
        Guest(at.get().wrapping_shr(self.cluster_bits))
    }

    /// Where a cluster of the virtual disk begins.
    pub const fn guest_at(self, guest: Guest) -> Offset {
        Offset::new(guest.0.saturating_mul(self.bytes()))
    }

    /// The bytes of a cluster of the virtual disk.
    pub fn guest_span(self, guest: Guest) -> Span {
        Span::new(self.guest_at(guest), self.len()).unwrap_or_default()
    }

    /// How far `at` lies behind the beginning of its cluster.
    pub const fn within(self, at: Offset) -> u64 {
        at.get() & self.bytes().wrapping_sub(1)
    }

    /// How many clusters hold that many bytes.
    pub const fn clusters(self, len: Len) -> u64 {
        len.get().div_ceil(self.bytes())
    }

    /// `len` rounded up to whole clusters.
    pub const fn round_up(self, len: Len) -> Len {
        Len::new(self.clusters(len).saturating_mul(self.bytes()))
    }

    /// The bytes of an L2 entry.
    pub const fn entry_bytes(self) -> u64 {
        if self.extended { 16 } else { 8 }
    }

    /// log₂ of the entries in an L2 table.
    const fn table_bits(self) -> u32 {
        self.cluster_bits.saturating_sub(if self.extended { 4 } else { 3 })
    }

    /// The entries of an L2 table.
    pub const fn table_entries(self) -> u64 {
        1_u64.wrapping_shl(self.table_bits())
    }

    /// The bytes of the virtual disk that one L1 entry stands for.
    pub const fn table_reach(self) -> u64 {
        1_u64.wrapping_shl(self.table_bits().saturating_add(self.cluster_bits))
    }

    /// The index in the L1 table, and in the L2 table behind it.
    pub const fn indexes(self, guest: Guest) -> (usize, u64) {
        let l1 = guest.0.wrapping_shr(self.table_bits());
        (to_usize(l1), guest.0 & self.table_entries().wrapping_sub(1))
    }

    /// The first cluster that an L1 entry stands for.
    pub const fn guest_of_l1(self, index: usize) -> Guest {
        Guest(to_u64(index).saturating_mul(self.table_entries()))
    }

    /// How many L1 entries a virtual disk needs.
    pub const fn l1_needed(self, size: Len) -> u64 {
        size.get().div_ceil(self.table_reach())
    }

    /// Into how many parts a cluster is divided.
    pub const fn parts(self) -> u32 {
        if self.extended { 32 } else { 1 }
    }

    /// The bytes of such a part.
    pub const fn part_bytes(self) -> u64 {
        if self.extended { self.bytes() >> 5 } else { self.bytes() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_of_the_default_cluster() {
        let geo = Geometry::new(16, false);
        assert_eq!(geo.table_reach(), 512 << 20);
        assert_eq!(geo.indexes(geo.guest_of(Offset::new((512 << 20) + 65536 * 3 + 7))), (1, 3));
        assert_eq!(geo.l1_needed(Len::new((512 << 20) + 1)), 2);
        assert_eq!(geo.hosts(Span::new(Offset::new(65535), Len::new(2)).unwrap()), 0..2);
        assert_eq!(Geometry::new(16, true).table_reach(), 256 << 20);
    }
}
