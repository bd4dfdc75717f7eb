//! Extended attributes, byte by byte.

use super::Check;
use super::facts::VALUE;
use super::finding::What;
use crate::csum::Object;
use crate::error::{Part, Result};
use crate::feature::{Compat, Incompat};
use crate::layout::xattr::XATTR_MAGIC;
use crate::layout::{XattrEntry, XattrHeader};
use crate::read::inode::{EA_INODE, Inode};
use crate::unit::{BlockCount, BlockNo, InodeNo};
use disk::ReadAt;
use ondisk::Len;
use ondisk::num::{to_u64, to_usize};
use zerocopy::FromBytes;

/// The largest value beside its entry in a block.
const VALUE_MAX: u32 = 1 << 24;

/// What attributes cost the inode that has them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    /// Clusters, for `i_blocks` and quota.
    pub(super) clusters: u64,
    /// Inodes that hold values, for quota.
    pub(super) inodes: u64,
}

/// A block of attributes that inodes share.
pub(super) struct Shared {
    /// `h_refcount`.
    stored: u32,
    /// Inodes that refer to it.
    counted: u32,
    cost: Cost,
}

/// Which bytes of an area are taken.
struct Region {
    taken: Vec<bool>,
}

impl Region {
    fn new(len: usize) -> Self {
        Self { taken: vec![false; len] }
    }

    /// Takes bytes; whether they were there and free.
    fn take(&mut self, at: usize, len: usize) -> bool {
        let range = self.taken.get_mut(at..at.saturating_add(len));
        range.is_some_and(|bytes| {
            let free = bytes.iter().all(|taken| !taken);
            bytes.fill(true);
            free
        })
    }
}

/// One area with entries.
struct Area<'a> {
    part: Part,
    bytes: &'a [u8],
    /// Where entries begin.
    first: usize,
    /// What value offsets count from.
    base: usize,
    in_block: bool,
}

impl<D: ReadAt> Check<'_, D> {
    /// Attributes inside an inode.
    pub(super) fn inside(&mut self, inode: &Inode) -> Result<Cost> {
        let extra = inode.extra_isize();
        let room = self.fs.geom().inode_size.saturating_sub(128);
        let area = inode.xattr_area();
        let magic = area.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes));
        if extra == 0 || extra >= room.saturating_sub(4) || magic != Some(XATTR_MAGIC) {
            return Ok(Cost::default());
        }
        let area = Area { part: Part::Xattr(inode.ino()), bytes: area, first: 4, base: 4, in_block: false };
        let (cost, problem) = self.attributes(inode, &area)?;
        if let Some(what) = problem {
            self.report.damaged(area.part, what);
        }
        Ok(cost)
    }

    /// The block of attributes of an inode.
    pub(super) fn outside(&mut self, inode: &Inode) -> Result<Cost> {
        let Some(block) = self.xattr_block(inode) else { return Ok(Cost::default()) };
        let supported = self.fs.sb().compat().has(Compat::EXT_ATTR);
        if !supported || block.0 == 0 || !self.fs.geom().holds(block, BlockCount(1)) {
            let expected = if supported { "a block of the filesystem" } else { "0 without ext_attr" };
            // Nobody looks for attributes of reserved inodes.
            if inode.ino() == InodeNo::ROOT || inode.ino() >= self.fs.sb().first_inode() {
                self.damaged(inode, What::field("i_file_acl", block.0, expected));
            }
            return Ok(Cost::default());
        }
        if let Some(shared) = self.shared.get_mut(&block) {
            shared.counted = shared.counted.saturating_add(1);
            return Ok(shared.cost);
        }
        self.budget.take(Len::new(to_u64(size_of::<(BlockNo, Shared)>()).saturating_mul(2)))?;
        let part = Part::XattrBlock(block);
        let bytes = self.fs.read_block(part, block)?;
        let Ok((head, _)) = XattrHeader::read_from_prefix(&bytes) else { return Ok(Cost::default()) };
        if head.h_magic.get() != XATTR_MAGIC {
            self.report.damaged(part, What::field("h_magic", head.h_magic.get(), XATTR_MAGIC));
        }
        if head.h_blocks.get() != 1 {
            self.report.damaged(part, What::field("h_blocks", head.h_blocks.get(), 1));
        }
        if let Err(mismatch) = self.fs.sb().sums().verify(Object::XattrBlock(block), &bytes) {
            self.report.damaged(part, What::Checksum(mismatch));
        }
        let area = Area { part, bytes: &bytes, first: size_of::<XattrHeader>(), base: 0, in_block: true };
        let (mut cost, problem) = self.attributes(inode, &area)?;
        if let Some(what) = problem {
            self.report.damaged(part, what);
        }
        cost.clusters = cost.clusters.saturating_add(1);
        self.claim(part, block, BlockCount(1))?;
        self.shared.insert(block, Shared { stored: head.h_refcount.get(), counted: 1, cost });
        Ok(cost)
    }

    /// `i_file_acl`; its high half exists only with `64bit`.
    fn xattr_block(&self, inode: &Inode) -> Option<BlockNo> {
        let block = inode.xattr_block()?;
        let wide = self.fs.sb().incompat().has(Incompat::BIT64);
        let block = if wide { block } else { BlockNo(block.0 & u64::from(u32::MAX)) };
        (block.0 != 0).then_some(block)
    }

    /// Compares the counts of references once all inodes are known.
    pub(super) fn shared_counts(&mut self) {
        let mut all: Vec<_> = std::mem::take(&mut self.shared).into_iter().collect();
        all.sort_unstable_by_key(|(block, _)| *block);
        for (block, shared) in all {
            if shared.stored != shared.counted {
                let (found, counted) = (shared.stored.into(), shared.counted.into());
                let what = What::Count { name: "h_refcount", found, counted };
                self.report.damaged(Part::XattrBlock(block), what);
            }
        }
    }

    /// Goes through the entries of an area; what they cost, and the first damage.
    fn attributes(&mut self, inode: &Inode, area: &Area<'_>) -> Result<(Cost, Option<What>)> {
        let (mut cost, mut region) = (Cost::default(), Region::new(area.bytes.len()));
        region.take(0, area.first);
        let mut remain = area.bytes.len().saturating_sub(4);
        let mut at = area.first;
        loop {
            let rest = area.bytes.get(at..).unwrap_or_default();
            let over = if area.in_block { rest.len() < 4 } else { remain < 16 };
            if over || rest.first_chunk() == Some(&[0; 4]) {
                break;
            }
            let Ok((raw, tail)) = XattrEntry::ref_from_prefix(rest) else {
                return Ok((cost, Some(What::Broken("has an entry that reaches behind the end"))));
            };
            let len = 16_usize.saturating_add(usize::from(raw.e_name_len)).next_multiple_of(4);
            if !region.take(at, len) {
                return Ok((cost, Some(What::Broken("has entries and values that overlap"))));
            }
            let name = tail.get(..usize::from(raw.e_name_len)).unwrap_or_default();
            remain = remain.saturating_sub(16);
            let padded = len.saturating_sub(16);
            if !area.in_block && padded > remain {
                return Ok((
                    cost,
                    Some(What::field("e_name_len", raw.e_name_len, format!("at most {remain}"))),
                ));
            }
            remain = remain.saturating_sub(padded);
            if area.in_block && raw.e_name_index == 0 {
                return Ok((cost, Some(What::field("e_name_index", 0_u32, "at least 1"))));
            }
            let problem = match raw.e_value_inum.get() {
                0 => value(area, raw, name, remain, &mut region),
                _ => self.value_inode(inode, raw, name, &mut cost)?,
            };
            if problem.is_some() {
                return Ok((cost, problem));
            }
            if raw.e_value_inum.get() == 0 {
                remain = remain.saturating_sub(to_usize(raw.e_value_size.get().into()));
            }
            at = at.saturating_add(len);
        }
        let ended = region.take(at, 4);
        Ok((cost, (!ended).then_some(What::Broken("has no room for the mark behind its entries"))))
    }

    /// A value in an inode of its own.
    fn value_inode(
        &mut self,
        inode: &Inode,
        raw: &XattrEntry,
        name: &[u8],
        cost: &mut Cost,
    ) -> Result<Option<What>> {
        let ino = InodeNo(raw.e_value_inum.get());
        if ino < self.fs.sb().first_inode() || ino.0 > self.fs.geom().inodes() {
            return Ok(Some(What::field("e_value_inum", ino.0, "an inode of the filesystem")));
        }
        let holder = match self.raw_inode(ino) {
            Ok(holder) => holder,
            Err(error) => return Ok(Some(What::Unreadable(error.to_string()))),
        };
        let old = holder.raw();
        let stored = old.i_atime.get();
        let (plain, signed) = hashes(name, &[]);
        let with = |hash: u32| hash.rotate_left(16) ^ stored;
        let fits = raw.e_hash.get() == with(plain) || raw.e_hash.get() == with(signed);
        let lustre = old.i_mtime.get() == inode.ino().0 && old.i_generation.get() == inode.generation();
        if !holder.has(EA_INODE) {
            return Ok(Some(What::field("e_value_inum", ino.0, "an inode that holds a value")));
        }
        if !fits && !lustre {
            return Ok(Some(What::field("e_hash", raw.e_hash.get(), with(plain))));
        }
        if fits {
            let cluster = self.fs.geom().block_size.bytes() << self.fs.geom().cluster_bits;
            let clusters = u64::from(raw.e_value_size.get()).div_ceil(cluster);
            cost.clusters = cost.clusters.saturating_add(clusters);
        }
        cost.inodes = cost.inodes.saturating_add(1);
        self.budget.take(Len::new(32))?;
        let count = self.values.entry(ino).or_default();
        *count = count.saturating_add(1);
        Ok(None)
    }

    /// Inodes that hold values know how many refer to them.
    pub(super) fn value_counts(&mut self) -> Result<()> {
        let mut all: Vec<_> = std::mem::take(&mut self.values).into_iter().collect();
        all.sort_unstable();
        for (ino, counted) in all {
            if !self.facts.get(ino).has(VALUE) {
                continue;
            }
            self.facts.edit(ino, |fact| fact.counted = fact.counted.max(1))?;
            let Ok(inode) = self.raw_inode(ino) else { continue };
            let raw = inode.raw();
            let found = u64::from(raw.i_ctime.get()) << 32 | u64::from(raw.i_version.get());
            if found != counted && raw.i_ctime != raw.i_atime {
                let what = What::Count { name: "the number of attributes it holds", found, counted };
                self.report.damaged(Part::Inode(ino), what);
            }
        }
        Ok(())
    }
}

/// Whether every value inside an inode, an empty one too, has a place there: a reader of inline data asks for it.
pub(super) fn has_places(area: &[u8]) -> bool {
    let entries = area.get(4..).unwrap_or_default();
    let mut rest = entries;
    while let Ok((raw, _)) = XattrEntry::ref_from_prefix(rest) {
        if rest.first_chunk() == Some(&[0; 4]) {
            break;
        }
        let end = to_usize(raw.e_value_size.get().into()).saturating_add(raw.e_value_offs.get().into());
        if raw.e_value_inum.get() == 0 && end > entries.len() {
            return false;
        }
        let len = size_of::<XattrEntry>().saturating_add(raw.e_name_len.into()).next_multiple_of(4);
        rest = rest.get(len..).unwrap_or_default();
    }
    true
}

/// A value beside its entry.
fn value(area: &Area<'_>, raw: &XattrEntry, name: &[u8], remain: usize, region: &mut Region) -> Option<What> {
    let size = raw.e_value_size.get();
    let start = area.base.saturating_add(usize::from(raw.e_value_offs.get()));
    let len = to_usize(size.into());
    let too_large = if area.in_block {
        size > VALUE_MAX || start.saturating_add(len) > area.bytes.len()
    } else {
        len > remain
    };
    if too_large {
        return Some(What::field("e_value_size", size, "a value that fits"));
    }
    let padded = len.next_multiple_of(4);
    if size != 0 && !region.take(start, padded) {
        return Some(What::field("e_value_offs", raw.e_value_offs.get(), "room that nothing else takes"));
    }
    let bytes = area.bytes.get(start..start.saturating_add(padded)).unwrap_or_default();
    let (plain, signed) = hashes(name, if size == 0 { &[] } else { bytes });
    let found = raw.e_hash.get();
    let absent = found == 0 && !area.in_block;
    (found != plain && found != signed && !absent).then(|| What::field("e_hash", found, plain))
}

/// The hash of an entry; kernels on machines with signed characters had another one for names beyond ASCII.
fn hashes(name: &[u8], value: &[u8]) -> (u32, u32) {
    let (mut plain, mut signed) = (0_u32, 0_u32);
    for &byte in name {
        plain = plain.rotate_left(5) ^ u32::from(byte);
        signed = signed.rotate_left(5) ^ i32::from(byte.cast_signed()).cast_unsigned();
    }
    for word in super::special::words(value) {
        plain = plain.rotate_left(16) ^ word;
        signed = signed.rotate_left(16) ^ word;
    }
    (plain, signed)
}
