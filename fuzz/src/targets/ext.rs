//! Filesystems.

use super::{applied, blames_the_image, states_of};
use crate::ext::clean;
use crate::{Case, LIMITS, cx};
use disk::{Cancel, Disk, MemDisk, Overlay, ReadAt};
use extfs::check::Scope;
use extfs::resize::{GrowOptions, plan_grow};
use extfs::{BlockCount, Error, Ext, Inode, InodeNo, Kind, Part, Result};
use ondisk::Offset;
use std::collections::HashSet;

/// Looks at every file that can be reached, and at every inode.
pub fn walk(case: Case<'_>) {
    let fs = match Ext::open(&case.disk, &LIMITS) {
        Ok(fs) => fs,
        Err(error) => return blames_the_image(&error),
    };
    let _ = (fs.mmp(), fs.free_blocks(), fs.sb().feature_names());
    if let Err(error) = files(&fs, &mut |_, _| {}) {
        blames_the_image(&error);
    }
    for ino in (1..=fs.geom().inodes().min(300)).map(InodeNo) {
        let _ = fs.inode(ino).and_then(|inode| file(&fs, &inode));
    }
    for path in [&b"/a/b/again"[..], b"/slow", b"/fast", b"/many/../a/./size3", b"/a/b/c/d/e"] {
        let _ = fs.resolve(path);
    }
}

/// Everything that a file has, as bytes.
fn file<D: ReadAt>(fs: &Ext<D>, inode: &Inode) -> Result<Vec<u8>> {
    let mut bytes = vec![0; 1 << 16];
    for attr in fs.xattrs(inode)? {
        bytes.extend(attr.full_name());
        bytes.extend(fs.xattr_value(&attr)?);
    }
    let _ = (inode.atime(), inode.crtime(), inode.device(), inode.sectors());
    match inode.kind() {
        Some(Kind::Symlink) => bytes.extend(fs.read_link(inode)?),
        Some(Kind::File) => {
            let (head, _) = bytes.split_at_mut(1 << 16);
            fs.read_file(inode, Offset::ZERO, head)?;
            fs.read_file(inode, Offset::new(inode.size().get().saturating_sub(100)), &mut [0; 100])?;
            for run in fs.map(inode)? {
                run?;
            }
        }
        _ => {}
    }
    fs.blocks_of(inode)?;
    Ok(bytes)
}

/// All files below the root, each once, with all that they have.
fn files<D: ReadAt>(fs: &Ext<D>, tell: &mut dyn FnMut(&Inode, &[u8])) -> Result<()> {
    let (mut open, mut seen) = (vec![InodeNo(2)], HashSet::from([InodeNo(2)]));
    let mut first = None;
    while let Some(ino) = open.pop() {
        let found = fs.inode(ino).and_then(|inode| Ok((file(fs, &inode)?, inode)));
        let result = found.and_then(|(bytes, inode)| {
            tell(&inode, &bytes);
            if inode.kind() == Some(Kind::Dir) {
                for entry in fs.entries(&inode)? {
                    let entry = entry?;
                    tell(&inode, &entry.name);
                    open.extend(seen.insert(entry.ino).then_some(entry.ino));
                }
            }
            Ok(())
        });
        first = first.or(result.err());
    }
    first.map_or(Ok(()), Err)
}

/// Checks a filesystem; one without damage can be read to the last file.
pub fn check(case: Case<'_>) {
    let cancel = Cancel::new();
    let fs = match Ext::open(&case.disk, &LIMITS) {
        Ok(fs) => fs,
        Err(error) => return blames_the_image(&error),
    };
    let _ = extfs::check::check(&fs, Scope::Touched, &cx(&cancel));
    match extfs::check::check(&fs, Scope::Full, &cx(&cancel)) {
        Ok(report) => {
            for finding in report.damage().chain(report.notes()) {
                assert!(!finding.to_string().chars().any(char::is_control), "control characters: {finding}");
            }
            if report.is_clean() && !fs.needs_recovery() {
                readable(&fs);
            }
        }
        Err(error) => blames_the_image(&error),
    }
}

/// Expects that all files can be read. Inline data may be shorter than their file: e2fsck does not mind, so we must not.
fn readable<D: ReadAt>(fs: &Ext<D>) {
    match files(fs, &mut |_, _| {}) {
        Ok(()) | Err(Error::Field { part: Part::Inline(_), field: "i_size", .. }) => {}
        Err(error) => panic!("a clean filesystem cannot be read: {error}"),
    }
}

/// Replays a journal; afterwards there is nothing to be replayed.
pub fn replay(case: Case<'_>) {
    let cancel = Cancel::new();
    let mut overlay = Overlay::new(&case.disk, &LIMITS);
    match extfs::recovered(&mut overlay, &cx(&cancel)) {
        Ok(_) => {
            let again =
                extfs::recovered(&mut overlay, &cx(&cancel)).expect("what was recovered can be opened");
            assert!(again.is_empty(), "again: {:?}", again.sentences());
            let _ = Ext::open(&overlay, &LIMITS)
                .and_then(|fs| extfs::check::check(&fs, Scope::Full, &cx(&cancel)));
        }
        Err(error) => blames_the_image(&error),
    }
}

/// Grows a filesystem. What growing relies on is sound afterwards; and where everything was, everything is, with the
/// same files, also when only the fresh bytes have been written.
pub fn grow(case: Case<'_>) {
    let Ok(fs) = Ext::open(&case.disk, &LIMITS) else { return };
    let (old, size) = (fs.geom().blocks.0, fs.geom().block_size);
    let more = [1, 7, 300, 1024, 4000, 9000, 40_000, 200_000, old, old * 5];
    let to = BlockCount(old.saturating_add(more[usize::from(case.knob) % more.len()]));
    let options = GrowOptions { legacy_boot: case.knob & 0x80 != 0 };
    let plan = match plan_grow(&fs, to, options) {
        Ok(plan) => plan,
        Err(error) => return blames_the_image(&error),
    };
    let _ = plan.sentences();
    let Some(len) = size.len_of(plan.new.blocks) else { panic!("a plan beyond all disks") };
    let mut overlay = Overlay::new(&case.disk, &LIMITS);
    overlay.resize(len.max(case.disk.len())).expect("an overlay has any length");
    let cancel = Cancel::new();
    if applied(plan.apply(&mut overlay, &cx(&cancel))).is_none() {
        return;
    }
    let Some((half, new)) = states_of(&case.disk, overlay) else { return };
    let grown = Ext::open(&new, &LIMITS).expect("a grown filesystem opens");
    let damage = |fs: &Ext<&MemDisk>| {
        let report = extfs::check::check(fs, Scope::Touched, &cx(&cancel)).ok()?;
        report.damage().next().map(ToString::to_string)
    };
    if damage(&fs).is_none() {
        assert_eq!(damage(&grown), None, "grown");
    }
    if clean(&case.disk) {
        if let Ok(report) = extfs::check::check(&grown, Scope::Full, &cx(&cancel)) {
            let first = report.damage().next().map(ToString::to_string);
            assert!(report.is_clean(), "was clean, and is not when grown: {first:?}");
        }
        assert!(clean(&half), "fresh bytes have damaged the old state");
        let was = digest(&case.disk);
        assert!(was == digest(&half) && was == digest(&new), "files have changed");
    }
}

fn digest(disk: &MemDisk) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let fs = Ext::open(disk, &LIMITS).expect("a clean filesystem opens");
    readable(&fs);
    let _ = files(&fs, &mut |inode, bytes| {
        hasher.update(&inode.ino().0.to_le_bytes()).update(bytes);
    });
    hasher.finalize()
}
