//! Crashed filesystems, our recovery of them, and what the kernel makes of the same.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use disk::{Cancel, Cx, FileDev, Limits, Overlay, Quiet, ReadAt};
use extfs::read::map::Piece;
use extfs::{BlockNo, Error, Ext, GroupNo, Inode, InodeNo, Recovery, Superblock, recovered};
use ondisk::{Len, Offset};
use testkit::oracle::{Mount, e2fsck};
use testkit::tool::{copy_sparse, run};
use zerocopy::IntoBytes;

pub const LIMITS: Limits = Limits { memory: Len::mib(128), threads: 1, chain_depth: 64, partitions: 1024 };

pub fn open(image: &Path) -> FileDev {
    FileDev::new(File::open(image).unwrap()).unwrap()
}

/// Recovers an image in place; it stays as it is where that fails.
pub fn recover(image: &Path) -> Result<Recovery, Error> {
    let dev = open(image);
    let cancel = Cancel::new();
    let cx = Cx { progress: &Quiet, cancel: &cancel, limits: LIMITS, now: 1_700_000_000 };
    let mut overlay = Overlay::new(&dev, &LIMITS);
    let done = recovered(&mut overlay, &cx)?;
    assert_eq!(done.is_empty(), overlay.is_clean());
    let again = recovered(&mut overlay, &cx)?;
    assert!(again.is_empty(), "a second recovery: {again:?}");
    let file = File::options().read(true).write(true).open(image).unwrap();
    let [mut new, mut old] = [vec![0; 1 << 20], vec![0; 1 << 20]];
    for at in (0..dev.len().get()).step_by(new.len()) {
        let len = usize::try_from(dev.len().get() - at).unwrap().min(new.len());
        overlay.read_at(Offset::new(at), &mut new[..len])?;
        dev.read_at(Offset::new(at), &mut old[..len])?;
        if new[..len] != old[..len] {
            file.write_all_at(&new[..len], at).unwrap();
        }
    }
    Ok(done)
}

/// How a guest comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Somebody copies its running disk.
    Copied,
    /// The log is on disk, and nothing behind it.
    Flushed,
    /// Not even that.
    Dropped,
}

/// Lets the kernel work on an image until it crashes. What `work` returns stays open until then.
pub fn crash<T>(image: &Path, options: &str, end: End, work: impl FnOnce(&Path) -> T) {
    let mount = Mount::new(image, &format!("rw,noatime,noinit_itable,loop{options}"));
    let held = work(mount.path());
    let crashed = image.with_extension("crashed");
    match end {
        End::Copied => copy_sparse(image, &crashed),
        End::Flushed | End::Dropped => {
            let how = if end == End::Flushed { "shutdown -f" } else { "shutdown" };
            run("xfs_io", ["-x".as_ref(), "-c".as_ref(), how.as_ref(), mount.path().as_os_str()]);
        }
    }
    drop(held);
    drop(mount);
    if end == End::Copied {
        std::fs::rename(crashed, image).unwrap();
    }
}

/// The kernel's own recovery.
pub fn kernel_recovers(image: &Path) {
    drop(Mount::new(image, "rw,noatime,noinit_itable,loop"));
}

/// Recovers copies of a crashed image both ways and expects the same.
pub fn judge(image: &Path, name: &str) -> Recovery {
    let [ours, theirs] = ["ours", "theirs"].map(|end| image.with_extension(end));
    copy_sparse(image, &ours);
    copy_sparse(image, &theirs);
    let done = recover(&ours).unwrap_or_else(|error| panic!("{name}: {error}"));
    kernel_recovers(&theirs);
    let fsck = e2fsck(&ours, Offset::ZERO);
    assert!(fsck.is_clean(), "{name}: {}", fsck.text);
    assert_same(&theirs, &ours, name);
    done
}

fn assert_same(theirs: &Path, ours: &Path, name: &str) {
    let [theirs, ours] = [open(theirs), open(ours)];
    let [a, b] = [&theirs, &ours].map(|dev| Ext::open(dev, &LIMITS).unwrap());
    assert_eq!(plain(a.sb()), plain(b.sb()), "{name}: superblocks");
    let mut apart = own_blocks(&a);
    for group in a.geom().all_groups() {
        let [x, y] = [&a, &b].map(|fs| fs.groups().get(group).unwrap());
        assert_eq!(x, y, "{name}: descriptor of group {group}");
        let [x, y] = [&a, &b].map(|fs| (fs.block_bitmap(group).unwrap(), fs.inode_bitmap(group).unwrap()));
        assert_eq!(x, y, "{name}: bitmaps of group {group}");
        apart.extend(inodes(&a, &b, group, name));
    }
    for group in a.geom().all_groups() {
        let bits = a.block_bitmap(group).unwrap();
        for bit in bits.runs(true).flatten() {
            let first = a.geom().block_of_bit(group, bit);
            for block in (first.0..first.plus(a.geom().cluster_ratio()).0).map(BlockNo) {
                if block.0 >= a.geom().blocks.0 || apart.contains(&block) {
                    continue;
                }
                let part = extfs::error::Part::JournalBlock(0);
                let [x, y] = [&a, &b].map(|fs| fs.read_block(part, block).unwrap());
                assert!(x == y, "{name}: block {block} differs");
            }
        }
    }
}

/// The superblock without what every mount changes.
fn plain(sb: &Superblock) -> Vec<u8> {
    let mut raw = *sb.raw();
    for time in [&mut raw.s_mtime, &mut raw.s_wtime, &mut raw.s_checksum] {
        time.set(0);
    }
    raw.s_mnt_count.set(0);
    raw.s_kbytes_written.set(0);
    raw.s_last_mounted = [0; 64];
    raw.as_bytes().to_vec()
}

/// Blocks that are compared in another way, or not at all.
fn own_blocks<D: ReadAt>(fs: &Ext<D>) -> BTreeSet<BlockNo> {
    let geom = fs.geom();
    let mut all = BTreeSet::from([BlockNo(1024 >> geom.block_size.bits())]);
    let journal = fs.inode(InodeNo::JOURNAL).unwrap();
    for run in fs.map(&journal).unwrap().map(Result::unwrap) {
        all.extend((0..run.count.0).map(|by| run.start.plus(by)));
    }
    for group in geom.all_groups() {
        let table = fs.groups().get(group).unwrap().inode_table;
        all.extend((0..geom.table_blocks().0).map(|by| table.plus(by)));
    }
    all
}

/// Compares the inodes in use of a group. Of those that recovery has truncated, the bytes that no longer count may
/// differ, also in the blocks of their maps: these are returned, compared.
fn inodes<D: ReadAt>(a: &Ext<D>, b: &Ext<D>, group: GroupNo, name: &str) -> Vec<BlockNo> {
    let mut compared = Vec::new();
    let bits = a.inode_bitmap(group).unwrap();
    for index in bits.runs(true).flatten() {
        let ino = a.geom().inode_at(group, index);
        let [x, y] = [a, b].map(|fs| fs.inode(ino).unwrap());
        if x.bytes() == y.bytes() {
            continue;
        }
        assert_eq!(masked(&x), masked(&y), "{name}: inode {ino}");
        let [p, q] = [(a, &x), (b, &y)]
            .map(|(fs, inode)| fs.walk(inode).unwrap().map(Result::unwrap).collect::<Vec<Piece>>());
        assert_eq!(p, q, "{name}: map of inode {ino}");
        compared.extend(p.iter().filter_map(|piece| match piece {
            Piece::Node(block, _) => Some(*block),
            Piece::Run(_) => None,
        }));
    }
    compared
}

/// An inode without its times, its checksum and the entries of its map.
fn masked(inode: &Inode) -> Vec<u8> {
    let mut bytes = inode.bytes().to_vec();
    let extra = usize::from(inode.extra_isize());
    for (range, there) in
        [(0x0c..0x14, true), (0x28..0x64, true), (0x7c..0x7e, true), (0x82..0x8c, extra >= 12)]
    {
        if there {
            bytes[range].fill(0);
        }
    }
    bytes
}

/// All bytes that inodes have for data, used or not.
pub fn contents(image: &Path, files: &[(u64, u64)]) -> Vec<[u8; 60]> {
    let fs = Ext::open(open(image), &LIMITS).unwrap();
    let number = |ino: u64| InodeNo(u32::try_from(ino).unwrap());
    files.iter().map(|&(ino, _)| fs.inode(number(ino)).unwrap().raw().i_block).collect()
}

/// Whether the journal of an image waits for a replay.
pub fn is_dirty(image: &Path) -> bool {
    Superblock::read(&open(image)).unwrap().needs_recovery()
}

/// The bytes of a file.
pub fn bytes(path: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    File::open(path).unwrap().read_to_end(&mut all).unwrap();
    all
}
