//! Small filesystems of many flavours, made by mke2fs, with all their metadata.

use crate::base::{Base, Place, Seal, sealing, span};
use disk::{Disk, FileDev, Limits, MemDisk, Sparse, read_vec};
use extfs::csum::{InodeSeed, Object, Sums, seal_superblock};
use extfs::read::map::Piece;
use extfs::{BlockNo, Ext, Geometry, GroupNo, Inode, InodeNo, Kind, layout};
use ondisk::{Sealed, Span};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use testkit::small::{SMALL, Small};
use zerocopy::{FromBytes, IntoBytes};

/// Inodes whose map is a tree of extents.
const EXTENTS: u32 = 0x8_0000;

/// A larger one slows every round down and holds nothing that the others have not.
const KIB_MAX: u32 = 8192;

/// All small filesystems.
#[must_use]
pub fn bases() -> Vec<Base> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let make = |small: &Small| {
        let disk = load(&small.make(dir.path()));
        let kinds = places(&disk);
        Base::new(small.name, disk, kinds)
    };
    SMALL.iter().filter(|small| small.kib <= KIB_MAX).map(make).collect()
}

/// The small filesystem of that name, made below `dir`.
pub(crate) fn named(name: &str, dir: &Path) -> Sparse {
    load(&Small::named(name).make(dir))
}

/// The bytes of an image, with its holes.
pub(crate) fn load(path: &Path) -> Sparse {
    let file = File::open(path).and_then(|file| FileDev::new(file).map_err(std::io::Error::other));
    Sparse::load(&file.expect("an image")).expect("an image can be read")
}

/// The metadata of a sound filesystem.
pub(crate) fn places(disk: &Sparse) -> Vec<Vec<Place>> {
    let fs = Ext::open(disk, &Limits::default()).expect("a sound filesystem");
    let mut found = Found { fs: &fs, sums: *fs.sb().sums(), kinds: Default::default() };
    found.supers();
    found.groups();
    for ino in (1..=fs.geom().inodes()).map(InodeNo) {
        if let Ok(inode) = fs.inode(ino)
            && (inode.links() > 0 || ino.0 <= 12)
        {
            found.inode(&inode).expect("a sound inode");
        }
    }
    if let Some(at) = fs.sb().mmp_block() {
        found.block(OTHERS, at, Some(Object::Mmp));
    }
    let mut kinds = Vec::from(found.kinds);
    // Twice as often: there is most to be found.
    kinds.extend([kinds[INODES].clone(), kinds[DIRS].clone()]);
    kinds
}

// In this order: what holds checksums of others comes before them.
const SUPER: usize = 0;
const DESCS: usize = 1;
const BACKUPS: usize = 2;
const BITMAPS: usize = 3;
const INODES: usize = 4;
const NODES: usize = 5;
const DIRS: usize = 6;
const XATTRS: usize = 7;
const OTHERS: usize = 8;
const JOURNAL: usize = 9;

struct Found<'a> {
    fs: &'a Ext<&'a Sparse>,
    sums: Sums,
    kinds: [Vec<Place>; 10],
}

impl Found<'_> {
    fn put(&mut self, kind: usize, span: Span, seal: Option<Seal>) {
        self.kinds[kind].push(Place::on(*self.fs.disk(), span, seal));
    }

    fn geom(&self) -> &Geometry {
        self.fs.geom()
    }

    fn span_of(&self, block: BlockNo) -> Span {
        let size = self.geom().block_size.bytes();
        span(block.0 * size, size)
    }

    fn block(&mut self, kind: usize, at: BlockNo, object: Option<Object>) {
        let (span, sums) = (self.span_of(at), self.sums);
        let seal = object.and_then(|object| sealing(span, move |bytes| sums.seal(object, bytes)));
        self.put(kind, span, seal);
    }

    fn supers(&mut self) {
        let seal_at = |at| {
            let seal = |bytes: &mut [u8]| {
                if let Ok((raw, _)) = layout::Superblock::mut_from_prefix(bytes) {
                    seal_superblock(raw);
                }
            };
            (span(at, 1024), sealing(span(at, 1024), seal).filter(|_| self.sums.cover_all()))
        };
        let primary = seal_at(1024);
        let backups: Vec<_> = self
            .geom()
            .backup_groups()
            .map(|group| seal_at(self.geom().super_block(group).0 * self.geom().block_size.bytes()))
            .collect();
        self.put(SUPER, primary.0, primary.1);
        backups.into_iter().for_each(|(span, seal)| self.put(BACKUPS, span, seal));
    }

    fn groups(&mut self) {
        let geom = self.geom().clone();
        for group in geom.all_groups() {
            let (sums, at) = (self.sums, descriptor(&geom, group));
            let seal = sealing(at, move |bytes| sums.seal(Object::Descriptor(group), bytes));
            self.put(DESCS, at, seal);
            let desc = self.fs.groups().get(group).expect("a sound descriptor");
            let blocks = (desc.block_bitmap, geom.block_bitmap_bytes(), [0x18, 0x38], desc.block_uninit());
            let inodes = (desc.inode_bitmap, geom.inode_bitmap_bytes(), [0x1a, 0x3a], desc.inode_uninit());
            for (block, covered, fields, is_implied) in [blocks, inodes] {
                let seal = bitmap_seal(sums, &geom, group, self.span_of(block), covered, fields)
                    .filter(|_| !is_implied);
                self.put(BITMAPS, self.span_of(block), seal);
            }
        }
        let copies = (0..geom.desc_blocks()).flat_map(|k| geom.desc_block_copies(k).into_iter().skip(1));
        copies.for_each(|at| self.block(BACKUPS, at, None));
    }

    fn inode(&mut self, inode: &Inode) -> extfs::Result<()> {
        let (fs, sums, seed) = (self.fs, self.sums, inode.seed(&self.sums));
        let span = span(fs.inode_offset(inode.ino())?.get(), self.geom().inode_size.into());
        let object = Object::Inode(inode.ino());
        self.put(INODES, span, sealing(span, move |bytes| sums.seal(object, bytes)));
        for piece in fs.walk(inode)? {
            if let Piece::Node(at, _) = piece? {
                self.block(NODES, at, Some(Object::ExtentBlock(seed)).filter(|_| inode.has(EXTENTS)));
            }
        }
        if inode.kind() == Some(Kind::Dir) {
            for found in fs.dir_blocks(inode)? {
                let found = found?;
                let object = found.hashed.map_or(Object::DirBlock(seed), |at| Object::DxBlock(seed, at));
                self.block(DIRS, found.block, Some(object));
            }
        }
        if let Some(at) = inode.xattr_block() {
            self.block(XATTRS, at, Some(Object::XattrBlock(at)));
        }
        self.special(inode, seed)
    }

    /// Files that hold metadata.
    fn special(&mut self, inode: &Inode, seed: InodeSeed) -> extfs::Result<()> {
        let (raw, ino) = (*self.fs.sb().raw(), inode.ino().0);
        let quota = [&raw.s_usr_quota_inum, &raw.s_grp_quota_inum, &raw.s_prj_quota_inum];
        let is_quota = quota.iter().any(|number| number.get() == ino);
        let (is_orphan, is_journal) = (ino == raw.s_orphan_file_inum.get(), ino == raw.s_journal_inum.get());
        if inode.kind() != Some(Kind::File) || !(is_quota || is_orphan || is_journal) {
            return Ok(());
        }
        let mut blocks = Vec::new();
        for run in self.fs.map(inode)? {
            let run = run?;
            blocks.extend((0..run.count.0).map(|k| run.start.plus(k)));
        }
        if is_journal {
            let all: Vec<Span> = blocks.iter().map(|&block| self.span_of(block)).collect();
            let log = crate::jbd2::places(*self.fs.disk(), &all);
            self.kinds[JOURNAL].extend(log);
            return Ok(());
        }
        for at in blocks {
            self.block(OTHERS, at, is_orphan.then_some(Object::OrphanBlock(seed, at)));
        }
        Ok(())
    }
}

fn descriptor(geom: &Geometry, group: GroupNo) -> Span {
    let block = geom.primary_desc_block(geom.desc_block_of(group)).expect("a descriptor block");
    let within = u64::from(group.0 % geom.descs_per_block()) * u64::from(geom.desc_size);
    span(block.0 * geom.block_size.bytes() + within, geom.desc_size.into())
}

/// A bitmap's checksum lies in the descriptor, in two halves at `fields`.
fn bitmap_seal(
    sums: Sums,
    geom: &Geometry,
    group: GroupNo,
    at: Span,
    covered: usize,
    fields: [usize; 2],
) -> Option<Seal> {
    let (desc_at, desc_size) = (descriptor(geom, group), geom.desc_size);
    let seal = move |disk: &mut dyn Disk| {
        let all = Limits::default();
        let (Ok(bits), Ok(mut desc)) = (read_vec(disk, at, &all), read_vec(disk, desc_at, &all)) else {
            return;
        };
        let sum = sums.bitmap(&bits[..covered], desc_size).to_le_bytes();
        for (half, field) in sum.chunks(2).zip(fields) {
            if let Some(place) = desc.get_mut(field..field + 2) {
                place.copy_from_slice(half);
            }
        }
        sums.seal(Object::Descriptor(group), &mut desc);
        disk.write_at(desc_at.start(), &desc).expect("what can be read can be written");
    };
    sums.cover_all().then(|| Arc::new(seal) as Seal)
}

/// Seals the superblock of a journal.
pub(crate) fn seal_journal_superblock(bytes: &mut [u8]) {
    if let Ok(mut raw) = layout::jbd2::Superblock::read_from_bytes(bytes) {
        raw.seal(&());
        bytes.copy_from_slice(raw.as_bytes());
    }
}

/// A filesystem and what lies in it, as far as a reader sees it.
pub(crate) fn clean(disk: &MemDisk) -> bool {
    let cancel = disk::Cancel::new();
    let checked = Ext::open(disk, &crate::LIMITS)
        .and_then(|fs| extfs::check::check(&fs, extfs::check::Scope::Full, &crate::cx(&cancel)));
    checked.is_ok_and(|report| report.is_clean())
}
