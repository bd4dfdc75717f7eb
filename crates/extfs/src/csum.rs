//! Every checksum of the filesystem, once.
//!
//! ```text
//! seed         s_checksum_seed, or crc32c(~0, uuid)
//! inode seed   crc32c(crc32c(seed, number), generation)
//! ```
//!
//! 1. `metadata_csum` wins over `uninit_bg`; with the latter only descriptors have a checksum.
//! 2. A field that holds the checksum counts as zero, or does not count at all; `Sums::sum` says which for each.
//! 3. Bitmaps keep their checksum in the descriptor, so they are written before it.

use crate::feature::{Incompat, RoCompat};
use crate::layout;
use crate::unit::{BlockNo, GroupNo, InodeNo};
use ondisk::sum::{crc16, crc32c};
use ondisk::{Mismatch, Sealed};
use zerocopy::{FromBytes, IntoBytes};

/// The seed of everything that belongs to one inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InodeSeed(u32);

/// A thing with a checksum, and what the checksum depends on besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// A group descriptor, of the filesystem's descriptor size.
    Descriptor(GroupNo),
    /// A whole inode.
    Inode(InodeNo),
    /// A block of an extent tree.
    ExtentBlock(InodeSeed),
    /// A block of directory entries, with its tail.
    DirBlock(InodeSeed),
    /// A block of a directory's hash tree; its entries begin at this byte.
    DxBlock(InodeSeed, usize),
    /// A block of extended attributes.
    XattrBlock(BlockNo),
    /// A block of the orphan file.
    OrphanBlock(InodeSeed, BlockNo),
    /// The block of multiple mount protection: its first 1024 bytes.
    Mmp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    None,
    /// `uninit_bg`: CRC-16 on descriptors.
    Crc16,
    /// `metadata_csum`: CRC-32C on everything.
    Crc32c,
}

/// How a filesystem checksums its metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sums {
    kind: Kind,
    seed: u32,
    uuid: [u8; 16],
}

/// Where a checksum is stored: the low half, or all of it, and the high half.
#[derive(Clone, Copy)]
struct Slot {
    at: usize,
    bytes: usize,
    high: Option<usize>,
}

impl Slot {
    const fn word(at: usize) -> Self {
        Self { at, bytes: 4, high: None }
    }

    fn load(self, bytes: &[u8]) -> u32 {
        let half = |at: usize| u32::from(u16_at(bytes, at).unwrap_or_default());
        let low = if self.bytes == 4 { u32_at(bytes, self.at).unwrap_or_default() } else { half(self.at) };
        low | self.high.map_or(0, half) << 16
    }

    fn store(self, bytes: &mut [u8], sum: u32) {
        let le = sum.to_le_bytes();
        let (low, high) = le.split_at(2);
        put(bytes, self.at, if self.bytes == 4 { &le } else { low });
        if let Some(at) = self.high {
            put(bytes, at, high);
        }
    }

    /// What a computed checksum looks like once stored.
    const fn cut(self, sum: u32) -> u32 {
        if self.bytes == 4 || self.high.is_some() { sum } else { sum & 0xffff }
    }
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    let end = at.saturating_add(what.len());
    if let Some(place) = bytes.get_mut(at..end) {
        place.copy_from_slice(what);
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl Sums {
    /// As a superblock says.
    #[must_use]
    pub fn of(raw: &layout::Superblock) -> Self {
        let (incompat, ro) =
            (Incompat(raw.s_feature_incompat.get()), RoCompat(raw.s_feature_ro_compat.get()));
        let kind = match () {
            () if ro.has(RoCompat::METADATA_CSUM) => Kind::Crc32c,
            () if ro.has(RoCompat::GDT_CSUM) => Kind::Crc16,
            () => Kind::None,
        };
        let stored = incompat.has(Incompat::CSUM_SEED);
        let seed = if stored { raw.s_checksum_seed.get() } else { crc32c(!0, &raw.s_uuid) };
        Self { kind, seed, uuid: raw.s_uuid }
    }

    /// Whether all metadata has checksums, not only descriptors.
    #[must_use]
    pub fn cover_all(&self) -> bool {
        self.kind == Kind::Crc32c
    }

    /// The seed of an inode's blocks.
    #[must_use]
    pub fn inode_seed(&self, ino: InodeNo, generation: u32) -> InodeSeed {
        let seed = crc32c(self.seed, &ino.0.to_le_bytes());
        InodeSeed(crc32c(seed, &generation.to_le_bytes()))
    }

    /// The checksum of a bitmap (the covered bytes only), as a descriptor of that size stores it; 0 where bitmaps have
    /// none.
    #[must_use]
    pub fn bitmap(&self, covered: &[u8], desc_size: u16) -> u32 {
        match self.kind {
            Kind::Crc32c if desc_size >= 64 => crc32c(self.seed, covered),
            Kind::Crc32c => crc32c(self.seed, covered) & 0xffff,
            _ => 0,
        }
    }

    /// Compares the stored checksum of an object with the computed one. What has no checksum here is right.
    ///
    /// # Errors
    /// Both values, where they differ. Bytes too short to hold the checksum never match.
    pub fn verify(&self, object: Object, bytes: &[u8]) -> Result<(), Mismatch> {
        if !self.covers(object) {
            return Ok(());
        }
        let Some((slot, sum)) = self.sum(object, bytes) else {
            return Err(Mismatch { stored: 0, computed: u64::MAX });
        };
        let (stored, computed) = (slot.load(bytes), slot.cut(sum));
        // Tables that were never written are all zero and have no checksums.
        let unwritten = matches!(object, Object::Inode(_)) && bytes.iter().all(|&b| b == 0);
        if stored == computed || unwritten {
            Ok(())
        } else {
            Err(Mismatch { stored: stored.into(), computed: computed.into() })
        }
    }

    /// Computes and stores the checksum of an object, if it has one here.
    pub fn seal(&self, object: Object, bytes: &mut [u8]) {
        if self.covers(object)
            && let Some((slot, sum)) = self.sum(object, bytes)
        {
            slot.store(bytes, sum);
        }
    }

    fn covers(&self, object: Object) -> bool {
        match self.kind {
            Kind::None => false,
            Kind::Crc16 => matches!(object, Object::Descriptor(_)),
            Kind::Crc32c => true,
        }
    }

    /// Where the checksum of an object is, and what it should be.
    fn sum(&self, object: Object, bytes: &[u8]) -> Option<(Slot, u32)> {
        match object {
            Object::Descriptor(group) => self.descriptor(group, bytes),
            Object::Inode(ino) => self.inode(ino, bytes),
            Object::ExtentBlock(InodeSeed(seed)) => {
                let max = usize::from(u16_at(bytes, 4)?);
                let end = max.checked_mul(12)?.checked_add(12)?;
                (end.checked_add(4)? <= bytes.len()).then_some(())?;
                Some((Slot::word(end), crc32c(seed, bytes.get(..end)?)))
            }
            Object::DirBlock(InodeSeed(seed)) => {
                let end = bytes.len().checked_sub(size_of::<layout::DirTail>())?;
                Some((Slot::word(end.checked_add(8)?), crc32c(seed, bytes.get(..end)?)))
            }
            Object::DxBlock(InodeSeed(seed), entries) => dx_sum(seed, entries, bytes),
            Object::XattrBlock(block) => {
                let sum = crc32c(self.seed, &block.0.to_le_bytes());
                Some((Slot::word(0x10), hollow(sum, bytes, 0x10, 4)?))
            }
            Object::OrphanBlock(InodeSeed(seed), block) => {
                let end = bytes.len().checked_sub(size_of::<layout::OrphanTail>())?;
                let sum = crc32c(crc32c(seed, &block.0.to_le_bytes()), bytes.get(..end)?);
                Some((Slot::word(end.checked_add(4)?), sum))
            }
            Object::Mmp => Some((Slot::word(0x3fc), crc32c(self.seed, bytes.get(..0x3fc)?))),
        }
    }

    fn descriptor(&self, group: GroupNo, bytes: &[u8]) -> Option<(Slot, u32)> {
        let slot = Slot { at: 0x1e, bytes: 2, high: None };
        let number = group.0.to_le_bytes();
        if self.kind == Kind::Crc32c {
            return Some((slot, hollow(crc32c(self.seed, &number), bytes, slot.at, 2)?));
        }
        let sum = crc16(crc16(crc16(!0, &self.uuid), &number), bytes.get(..slot.at)?);
        Some((slot, u32::from(crc16(sum, bytes.get(0x20..)?))))
    }

    fn inode(&self, ino: InodeNo, bytes: &[u8]) -> Option<(Slot, u32)> {
        let generation = u32_at(bytes, 0x64)?;
        let InodeSeed(seed) = self.inode_seed(ino, generation);
        let high = (bytes.len() > 128 && u16_at(bytes, 0x80)? >= 4).then_some(0x82);
        let mut sum = crc32c(seed, bytes.get(..0x7c)?);
        sum = crc32c(sum, &[0; 2]);
        let rest = match high {
            Some(at) => {
                sum = crc32c(crc32c(sum, bytes.get(0x7e..at)?), &[0; 2]);
                bytes.get(0x84..)?
            }
            None => bytes.get(0x7e..)?,
        };
        Some((Slot { at: 0x7c, bytes: 2, high }, crc32c(sum, rest)))
    }
}

/// The checksum of bytes of which some count as zero.
fn hollow(start: u32, bytes: &[u8], at: usize, zeros: usize) -> Option<u32> {
    let sum = crc32c(crc32c(start, bytes.get(..at)?), [0_u8; 4].get(..zeros)?);
    Some(crc32c(sum, bytes.get(at.checked_add(zeros)?..)?))
}

/// Covered are the bytes through the last entry in use; the checksum follows behind the last possible entry.
fn dx_sum(seed: u32, entries: usize, bytes: &[u8]) -> Option<(Slot, u32)> {
    let (head, _) = layout::DxCountLimit::ref_from_prefix(bytes.get(entries..)?).ok()?;
    let (limit, count) = (usize::from(head.limit.get()), usize::from(head.count.get()));
    let end = |n: usize| n.checked_mul(size_of::<layout::DxEntry>())?.checked_add(entries);
    let tail = end(limit)?;
    let reserved = bytes.get(tail..tail.checked_add(4)?)?;
    (count <= limit && tail.checked_add(8)? <= bytes.len()).then_some(())?;
    let sum = crc32c(crc32c(seed, bytes.get(..end(count)?)?), reserved);
    Some((Slot::word(tail.checked_add(4)?), crc32c(sum, &[0; 4])))
}

impl Sealed for layout::Superblock {
    type Key = ();

    fn seal(&mut self, (): &()) {
        seal_superblock(self);
    }

    fn verify(&self, (): &()) -> Result<(), Mismatch> {
        verify_superblock(self)
    }
}

/// Computes and stores a superblock's checksum; only for `metadata_csum`.
pub fn seal_superblock(raw: &mut layout::Superblock) {
    let sum = crc32c(!0, raw.as_bytes().get(..0x3fc).unwrap_or_default());
    raw.s_checksum.set(sum);
}

/// Compares a superblock's checksum; only for `metadata_csum`.
///
/// # Errors
/// Both values, where they differ.
pub fn verify_superblock(raw: &layout::Superblock) -> Result<(), Mismatch> {
    compare(raw.s_checksum.get(), crc32c(!0, raw.as_bytes().get(..0x3fc).unwrap_or_default()))
}

impl Sealed for layout::jbd2::Superblock {
    type Key = ();

    fn seal(&mut self, (): &()) {
        self.s_checksum.set(0);
        self.s_checksum.set(crc32c(!0, self.as_bytes()));
    }

    fn verify(&self, (): &()) -> Result<(), Mismatch> {
        let mut copy = *self;
        copy.s_checksum.set(0);
        compare(self.s_checksum.get(), crc32c(!0, copy.as_bytes()))
    }
}

fn compare(stored: u32, computed: u32) -> Result<(), Mismatch> {
    if stored == computed {
        Ok(())
    } else {
        Err(Mismatch { stored: stored.into(), computed: computed.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_verifies_and_any_flip_shows() {
        let sums = Sums { kind: Kind::Crc32c, seed: 77, uuid: [3; 16] };
        let seed = sums.inode_seed(InodeNo(12), 5);
        let mut block = vec![0x5a_u8; 1024];
        // A node of 20 entries at most for the extent tree, a hash tree with 3 of 9 entries.
        block[4..6].copy_from_slice(&20_u16.to_le_bytes());
        block[32..36].copy_from_slice(&[9, 0, 3, 0]);
        let objects = [
            (Object::Descriptor(GroupNo(4)), 0..64, 0x1e),
            (Object::Inode(InodeNo(12)), 0..256, 0x30),
            (Object::ExtentBlock(seed), 0..1024, 40),
            (Object::DirBlock(seed), 0..1024, 40),
            (Object::DxBlock(seed, 32), 0..1024, 40),
            (Object::XattrBlock(BlockNo(9)), 0..1024, 40),
            (Object::OrphanBlock(seed, BlockNo(9)), 0..1024, 40),
            (Object::Mmp, 0..1024, 40),
        ];
        for (object, range, flip) in objects {
            let mut bytes = block[range].to_vec();
            sums.seal(object, &mut bytes);
            sums.verify(object, &bytes).unwrap();
            bytes[flip] ^= 1;
            assert!(sums.verify(object, &bytes).is_err(), "{object:?}");
        }
        assert!(sums.verify(Object::DirBlock(seed), &[0; 4]).is_err());
    }

    #[test]
    fn crc16_covers_descriptors_only() {
        let sums = Sums { kind: Kind::Crc16, seed: 0, uuid: [3; 16] };
        let mut desc = [7_u8; 32];
        sums.seal(Object::Descriptor(GroupNo(1)), &mut desc);
        sums.verify(Object::Descriptor(GroupNo(1)), &desc).unwrap();
        assert!(sums.verify(Object::Descriptor(GroupNo(2)), &desc).is_err());
        sums.verify(Object::Mmp, &[1; 1024]).unwrap();
    }

    #[test]
    fn low16_is_the_low_half() {
        // Guards the splitting in `Slot::store` against a change of byte order.
        let mut bytes = [0; 8];
        Slot { at: 0, bytes: 2, high: Some(4) }.store(&mut bytes, 0x1234_5678);
        assert_eq!(u16_at(&bytes, 0), Some(0x5678));
        assert_eq!(u16_at(&bytes, 4), Some(0x1234));
        assert_eq!(Slot { at: 0, bytes: 2, high: Some(4) }.load(&bytes), 0x1234_5678);
    }
}
