//! Small images to damage, where their metadata is, and what e2fsck thinks of them.

use disk::{Cancel, Cx, ExtentKind, ExtentMap, Limits, Quiet, ReadAt};
use extfs::check::{Finding, Scope, check};
use extfs::csum::{Object, seal_superblock};
use extfs::read::map::Piece;
use extfs::{BlockNo, Ext, GroupNo, Inode, InodeNo, Kind, layout};
use ondisk::{Len, Offset, Span};
use std::fs;
use std::path::{Path, PathBuf};
use testkit::small::Small;
use testkit::tool::{output, said};
use zerocopy::{FromBytes, IntoBytes};

/// A disk in memory.
pub struct Memory<'a>(pub &'a [u8]);

impl ReadAt for Memory<'_> {
    fn len(&self) -> Len {
        Len::of(self.0)
    }
    fn read_at(&self, at: Offset, buf: &mut [u8]) -> disk::Result<()> {
        disk::traits::bounded(at, buf.len(), self.len())?;
        let start = at.get() as usize;
        buf.copy_from_slice(&self.0[start..start + buf.len()]);
        Ok(())
    }
    fn extents(&self, within: Span) -> disk::Result<ExtentMap> {
        Ok(ExtentMap::single(within, ExtentKind::Data))
    }
}

/// All that we find.
pub fn findings(bytes: &[u8]) -> Vec<String> {
    let (cancel, limits) = (Cancel::new(), Limits::default());
    let cx = Cx { progress: &Quiet, cancel: &cancel, limits, now: 1_800_000_000 };
    let report = Ext::open(Memory(bytes), &limits).and_then(|fs| check(&fs, Scope::Full, &cx));
    match report {
        Ok(report) => report.damage().map(Finding::to_string).collect(),
        Err(error) => vec![format!("error: {error}")],
    }
}

/// What we think: `None` where it is clean, else the first findings.
pub fn verdict(bytes: &[u8]) -> Option<String> {
    let all = findings(bytes);
    (!all.is_empty()).then(|| all.into_iter().take(4).collect::<Vec<_>>().join(" | "))
}

/// What e2fsck thinks.
#[derive(Debug, PartialEq, Eq)]
pub enum Theirs {
    Clean,
    /// It says something, and is content in the end.
    Murmurs,
    Damaged,
    /// It crashed, hung, or looked at an unreplayed filesystem.
    Unknown,
}

pub fn theirs(image: &Path) -> (Theirs, String) {
    let out = output(
        "timeout",
        ["20".as_ref(), testkit::tool::find("e2fsck").as_os_str(), "-fn".as_ref(), image.as_os_str()],
    );
    let text = said(&out);
    let harmless = |line: &str| {
        let totals = line.contains(" files (") && line.contains(" non-contiguous), ");
        line.trim().is_empty()
            || line.starts_with("e2fsck 1.")
            || line.starts_with("Pass ")
            || line.ends_with("Optimize? no")
            || totals
    };
    let theirs = match out.status.code() {
        // Not replayed, orphans not freed (a note of ours), in use elsewhere, or beyond what it knows: no verdict.
        _ if [
            "skipping journal recovery",
            "MMP check failed",
            "unsupported feature",
            "unsupported encoding",
            "Feature orphan_present is set",
        ]
        .iter()
        .any(|no| text.contains(no)) =>
        {
            Theirs::Unknown
        }
        Some(0) if text.lines().all(harmless) => Theirs::Clean,
        Some(0) => Theirs::Murmurs,
        Some(4 | 8 | 12) => Theirs::Damaged,
        _ => Theirs::Unknown,
    };
    (theirs, text)
}

/// Something to damage: its bytes, and how to make its checksum right again.
#[derive(Clone, Debug)]
pub struct Target {
    pub at: u64,
    pub len: usize,
    pub seal: Seal,
}

#[derive(Clone, Debug)]
pub enum Seal {
    None,
    Super,
    Journal,
    Object(Object),
    BlockBitmap(u32),
    InodeBitmap(u32),
}

/// One small filesystem.
pub struct Base {
    pub name: &'static str,
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    pub targets: Vec<Vec<Target>>,
}

/// Makes a base image below `dir`.
pub fn base(small: &Small, dir: &Path) -> Base {
    let path = small.make(dir);
    let (name, (theirs, text)) = (small.name, theirs(&path));
    assert_eq!(theirs, Theirs::Clean, "{name}: {text}");
    let bytes = fs::read(&path).unwrap();
    assert_eq!(verdict(&bytes), None, "{name}");
    let targets = targets(&bytes);
    Base { name, path, bytes, targets }
}

/// Where all kinds of metadata are, one list a kind.
fn targets(bytes: &[u8]) -> Vec<Vec<Target>> {
    let fs = Ext::open(Memory(bytes), &Limits::default()).unwrap();
    let (geom, bs) = (fs.geom().clone(), fs.geom().block_size.bytes());
    let block = |at: BlockNo, seal| Target { at: at.0 * bs, len: bs as usize, seal };
    let supers = vec![Target { at: 1024, len: 1024, seal: Seal::Super }];
    let (mut descs, mut bitmaps, mut inodes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut nodes, mut dirs, mut xattrs, mut others) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for group in geom.all_groups() {
        let k = geom.desc_block_of(group);
        let within = u64::from(group.0 % geom.descs_per_block()) * u64::from(geom.desc_size);
        let at = geom.primary_desc_block(k).unwrap().0 * bs + within;
        descs.push(Target { at, len: geom.desc_size.into(), seal: Seal::Object(Object::Descriptor(group)) });
        let desc = fs.groups().get(group).unwrap();
        bitmaps.push(block(desc.block_bitmap, Seal::BlockBitmap(group.0)));
        bitmaps.push(block(desc.inode_bitmap, Seal::InodeBitmap(group.0)));
    }
    for ino in (1..=geom.inodes()).map(InodeNo) {
        let Ok(inode) = fs.inode(ino) else { continue };
        if inode.links() == 0 && ino.0 > 12 {
            continue;
        }
        let at = fs.inode_offset(ino).unwrap().get();
        inodes.push(Target { at, len: geom.inode_size.into(), seal: Seal::Object(Object::Inode(ino)) });
        of_inode(&fs, &inode, &mut nodes, &mut dirs, &mut xattrs, &mut others);
    }
    if let Some(at) = fs.sb().mmp_block() {
        others.push(block(at, Seal::Object(Object::Mmp)));
    }
    let mut all =
        vec![supers, descs, bitmaps, inodes.clone(), inodes, nodes, dirs.clone(), dirs, xattrs, others];
    all.retain(|kind| !kind.is_empty());
    all
}

fn of_inode(
    fs: &Ext<Memory<'_>>,
    inode: &Inode,
    nodes: &mut Vec<Target>,
    dirs: &mut Vec<Target>,
    xattrs: &mut Vec<Target>,
    others: &mut Vec<Target>,
) {
    let (bs, sums) = (fs.geom().block_size.bytes(), fs.sb().sums());
    let seed = inode.seed(sums);
    let block = |at: BlockNo, seal| Target { at: at.0 * bs, len: bs as usize, seal };
    for piece in fs.walk(inode).unwrap() {
        if let Piece::Node(at, _) = piece.unwrap() {
            nodes.push(block(at, Seal::Object(Object::ExtentBlock(seed))));
        }
    }
    if inode.kind() == Some(Kind::Dir) {
        for found in fs.dir_blocks(inode).unwrap().map(Result::unwrap) {
            let object = found.hashed.map_or(Object::DirBlock(seed), |at| Object::DxBlock(seed, at));
            dirs.push(block(found.block, Seal::Object(object)));
        }
    }
    if let Some(at) = inode.xattr_block() {
        xattrs.push(block(at, Seal::Object(Object::XattrBlock(at))));
    }
    let raw = fs.sb().raw();
    let ino = inode.ino().0;
    let quota =
        [&raw.s_usr_quota_inum, &raw.s_grp_quota_inum, &raw.s_prj_quota_inum].iter().any(|n| n.get() == ino);
    if inode.kind() != Some(Kind::File) {
        return;
    }
    for run in fs.map(inode).unwrap().map(Result::unwrap) {
        for k in 0..run.count.0 {
            let at = run.start.plus(k);
            if quota {
                others.push(block(at, Seal::None));
            } else if ino == raw.s_orphan_file_inum.get() {
                others.push(block(at, Seal::Object(Object::OrphanBlock(seed, at))));
            } else if ino == raw.s_journal_inum.get() && run.at.0 + k == 0 {
                others.push(Target { at: at.0 * bs, len: 1024, seal: Seal::Journal });
            }
        }
    }
}

/// Makes the checksum of a target right again.
pub fn seal(base: &Base, bytes: &mut [u8], target: &Target) {
    let fs = Ext::open(Memory(&base.bytes), &Limits::default()).unwrap();
    let start = target.at as usize;
    let range = start..start + target.len;
    let (sums, geom) = (*fs.sb().sums(), fs.geom().clone());
    let bitmap = |bytes: &mut [u8], group: u32, covered: usize, lo: usize, hi: usize| {
        let sum = sums.bitmap(&bytes[start..start + covered], geom.desc_size);
        let k = geom.desc_block_of(GroupNo(group));
        let within = u64::from(group % geom.descs_per_block()) * u64::from(geom.desc_size);
        let at = (geom.primary_desc_block(k).unwrap().0 * geom.block_size.bytes() + within) as usize;
        if !sums.cover_all() {
            return;
        }
        bytes[at + lo..at + lo + 2].copy_from_slice(&(sum as u16).to_le_bytes());
        if geom.desc_size >= 64 {
            bytes[at + hi..at + hi + 2].copy_from_slice(&((sum >> 16) as u16).to_le_bytes());
        }
        sums.seal(Object::Descriptor(GroupNo(group)), &mut bytes[at..at + usize::from(geom.desc_size)]);
    };
    match target.seal {
        Seal::None => {}
        Seal::Super => {
            let (mut raw, _) = layout::Superblock::read_from_prefix(&bytes[range.clone()]).unwrap();
            if sums.cover_all() {
                seal_superblock(&mut raw);
            }
            bytes[range].copy_from_slice(raw.as_bytes());
        }
        Seal::Journal => {
            let mut raw = layout::jbd2::Superblock::read_from_bytes(&bytes[range.clone()]).unwrap();
            ondisk::Sealed::seal(&mut raw, &());
            bytes[range].copy_from_slice(raw.as_bytes());
        }
        Seal::Object(object) => sums.seal(object, &mut bytes[range]),
        Seal::BlockBitmap(group) => bitmap(bytes, group, geom.block_bitmap_bytes(), 0x18, 0x38),
        Seal::InodeBitmap(group) => bitmap(bytes, group, geom.inode_bitmap_bytes(), 0x1a, 0x3a),
    }
}
