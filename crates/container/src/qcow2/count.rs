//! How often each cluster of the file is referred to, and as what: two bytes and a bit per cluster.

use super::geom::Host;
use crate::Result;
use disk::Limits;
use ondisk::Len;
use ondisk::num::{low8, low32, to_u64, to_usize};
use std::collections::BTreeMap;
use std::fmt;

/// What a cluster of the file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Free,
    /// Nobody refers to it, and it has a refcount nevertheless.
    Leaked,
    Header,
    RefcountTable,
    RefcountBlock,
    L1,
    L2,
    SnapshotTable,
    BitmapDirectory,
    BitmapTable,
    Bitmap,
    Data,
    Packed,
}

impl Kind {
    /// Whether a cluster of this kind may also be used as `other`.
    const fn admits(self, other: Self) -> bool {
        matches!(
            (self, other),
            (Self::Free, _) | (Self::L2, Self::L2) | (Self::Data | Self::Packed, Self::Data | Self::Packed)
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Free => "free",
            Self::Leaked => "leaked",
            Self::Header => "header",
            Self::RefcountTable => "refcount table",
            Self::RefcountBlock => "refcount block",
            Self::L1 => "L1 table",
            Self::L2 => "L2 table",
            Self::SnapshotTable => "snapshot table",
            Self::BitmapDirectory => "bitmap directory",
            Self::BitmapTable => "bitmap table",
            Self::Bitmap => "bitmap",
            Self::Data => "data",
            Self::Packed => "compressed data",
        })
    }
}

/// What became of a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    Fine,
    /// The cluster lies behind the end of the file.
    Behind,
    /// The cluster is already used in a way that excludes this one.
    Clash(Kind),
}

/// References per cluster.
pub struct Counts {
    /// Up to 254; 255 means that `many` has the number.
    few: Vec<u8>,
    many: BTreeMap<u64, u64>,
    kinds: Vec<Kind>,
    /// Clusters whose stored refcount is 1, by bit.
    single: Vec<u8>,
}

impl Counts {
    /// Nothing counted yet in a file of so many clusters.
    pub fn new(clusters: u64, limits: &Limits) -> Result<Self> {
        // Ask for all at once, so that the bound covers all.
        drop(limits.buffer(
            "the reference counts",
            Len::new(clusters.saturating_mul(2).saturating_add(clusters >> 3)),
        )?);
        let few = limits.buffer("the reference counts", Len::new(clusters))?;
        let kinds = vec![Kind::Free; to_usize(clusters)];
        Ok(Self { few, many: BTreeMap::new(), kinds, single: vec![0; to_usize(clusters.div_ceil(8))] })
    }

    /// How many clusters there are.
    pub fn clusters(&self) -> u64 {
        to_u64(self.few.len())
    }

    /// Counts `times` references.
    pub fn add(&mut self, host: Host, kind: Kind, times: u64) -> Counted {
        let index = to_usize(host.0);
        let Some((few, old)) = self.few.get_mut(index).zip(self.kinds.get_mut(index)) else {
            return Counted::Behind;
        };
        let clash = *old;
        let sum = match *few {
            255 => self.many.get(&host.0).copied().unwrap_or(255),
            few => u64::from(few),
        };
        let sum = sum.saturating_add(times);
        *few = if sum < 255 { low8(sum) } else { 255 };
        if sum >= 255 {
            self.many.insert(host.0, sum);
        }
        if !clash.admits(kind) {
            return Counted::Clash(clash);
        }
        *old = kind;
        Counted::Fine
    }

    /// How often a cluster was referred to.
    pub fn of(&self, host: Host) -> u64 {
        match self.few.get(to_usize(host.0)) {
            Some(255) => self.many.get(&host.0).copied().unwrap_or(255),
            Some(few) => u64::from(*few),
            None => 0,
        }
    }

    /// Notes that a cluster has a refcount although nobody refers to it.
    pub fn set_leaked(&mut self, host: Host) {
        if let Some(kind) = self.kinds.get_mut(to_usize(host.0)) {
            *kind = Kind::Leaked;
        }
    }

    /// Notes that the stored refcount of a cluster is 1.
    pub fn set_single(&mut self, host: Host) {
        if let Some(byte) = self.single.get_mut(to_usize(host.0 >> 3)) {
            *byte |= 1_u8.wrapping_shl(low32(host.0 & 7));
        }
    }

    /// Whether the stored refcount of a cluster is 1.
    pub fn is_single(&self, host: Host) -> bool {
        let byte = self.single.get(to_usize(host.0 >> 3)).copied().unwrap_or_default();
        byte.wrapping_shr(low32(host.0 & 7)) & 1 == 1
    }

    /// As what a cluster is used.
    pub fn kind(&self, host: Host) -> Kind {
        self.kinds.get(to_usize(host.0)).copied().unwrap_or(Kind::Free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_beyond_a_byte() {
        let mut counts = Counts::new(4, &Limits::default()).unwrap();
        for _ in 0..300 {
            assert_eq!(counts.add(Host(1), Kind::Data, 1), Counted::Fine);
        }
        assert_eq!(counts.add(Host(1), Kind::Packed, 1 << 40), Counted::Fine);
        assert_eq!(counts.of(Host(1)), 300 + (1 << 40));
        assert_eq!(counts.add(Host(1), Kind::L2, 1), Counted::Clash(Kind::Packed));
        assert_eq!(counts.add(Host(4), Kind::L2, 1), Counted::Behind);
        assert_eq!(counts.of(Host(2)), 0);
    }
}
