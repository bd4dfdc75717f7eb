//! What we read from filesystems of many shapes is what the kernel reads from them.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use disk::{ExtentKind, ExtentMap, Limits, ReadAt};
use extfs::read::inode::INLINE_DATA;
use extfs::{Ext, Groups, Inode, InodeNo, Kind};
use ondisk::{Len, Offset, Span};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

struct Image(File, Len);

impl ReadAt for Image {
    fn len(&self) -> Len {
        self.1
    }
    fn read_at(&self, at: Offset, buf: &mut [u8]) -> disk::Result<()> {
        disk::traits::bounded(at, buf.len(), self.1)?;
        self.0.read_exact_at(buf, at.get()).unwrap();
        Ok(())
    }
    fn extents(&self, within: Span) -> disk::Result<ExtentMap> {
        Ok(ExtentMap::single(within, ExtentKind::Data))
    }
}

struct Memory(Vec<u8>);

impl ReadAt for Memory {
    fn len(&self) -> Len {
        Len::of(&self.0)
    }
    fn read_at(&self, at: Offset, buf: &mut [u8]) -> disk::Result<()> {
        let span = disk::traits::bounded(at, buf.len(), self.len())?;
        buf.copy_from_slice(&self.0[at.get() as usize..span.end().get() as usize]);
        Ok(())
    }
    fn extents(&self, within: Span) -> disk::Result<ExtentMap> {
        Ok(ExtentMap::single(within, ExtentKind::Data))
    }
}

fn run(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A mounted image; unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(image: &Path, at: &Path, options: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        run("mount", &["-t", "ext4", "-o", options, image.to_str().unwrap(), at.to_str().unwrap()]);
        Self(at.to_path_buf())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run("umount", &[self.0.to_str().unwrap()]);
    }
}

fn noise(len: usize, mut seed: u64) -> Vec<u8> {
    (0..len)
        .map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 56) as u8
        })
        .collect()
}

/// Files of every kind, with holes, unwritten ranges, fragments, and a directory with a hash tree.
fn populate(root: &Path, names: usize) {
    let big = noise(3 << 20, 1);
    fs::write(root.join("big"), &big).unwrap();
    for (i, len) in [0, 1, 59, 60, 61, 120, 1023, 1024, 4097].into_iter().enumerate() {
        fs::write(root.join(format!("small{i}")), noise(len, i as u64)).unwrap();
    }
    let sparse = File::create(root.join("sparse")).unwrap();
    for at in [0_u64, 70_000, 1 << 20, 300 << 20, (1 << 30) + 5] {
        sparse.write_all_at(b"island", at).unwrap();
    }
    sparse.set_len((1 << 30) + 4_000_000).unwrap();
    // Where the filesystem has extents, unwritten ones; else this is refused, and the file stays a hole.
    let reserved = root.join("reserved");
    File::create(&reserved).unwrap().set_len(900_000).unwrap();
    let _ = Command::new("fallocate").args(["-o", "10000", "-l", "800000"]).arg(&reserved).output().unwrap();
    File::options().write(true).open(&reserved).unwrap().write_all_at(b"written", 300_000).unwrap();
    // Two files that grow in turns become fragments.
    let mut turns = [File::create(root.join("turn0")).unwrap(), File::create(root.join("turn1")).unwrap()];
    for i in 0..120_u64 {
        for (j, file) in turns.iter_mut().enumerate() {
            file.write_all(&noise(4096, i * 2 + j as u64)).unwrap();
            file.sync_data().unwrap();
        }
    }
    std::os::unix::fs::symlink("big", root.join("fast")).unwrap();
    std::os::unix::fs::symlink("/".repeat(200) + "deep/er/../er/leaf", root.join("slow")).unwrap();
    std::os::unix::fs::symlink("loop", root.join("loop")).unwrap();
    fs::create_dir_all(root.join("deep/er/e/s/t")).unwrap();
    fs::write(root.join("deep/er/leaf"), b"leaf").unwrap();
    std::os::unix::fs::symlink("../../../../../../big", root.join("deep/er/out")).unwrap();
    fs::hard_link(root.join("big"), root.join("deep/again")).unwrap();
    fs::create_dir(root.join("many")).unwrap();
    for i in 0..names {
        File::create(root.join(format!("many/a name of some length {i}"))).unwrap();
    }
    let at = |name: &str| root.join(name).to_str().unwrap().to_owned();
    run("mknod", &[&at("null"), "c", "1", "3"]);
    run("mknod", &[&at("disk"), "b", "259", "65537"]);
    run("mkfifo", &[&at("pipe")]);
    run("chown", &["70000:90000", &at("small3")]);
    run("chmod", &["4751", &at("small3")]);
    run("touch", &["-d", "1969-12-31 23:59:50 UTC", &at("small4")]);
}

fn compare<D: ReadAt>(fs: &Ext<D>, inode: &Inode, path: &Path, buf: &mut [Vec<u8>; 2]) {
    let meta = fs::symlink_metadata(path).unwrap();
    let show = path.display();
    assert_eq!(u32::from(inode.mode()), meta.mode(), "{show}");
    assert_eq!((inode.uid(), inode.gid()), (meta.uid(), meta.gid()), "{show}");
    assert_eq!(u64::from(inode.ino().0), meta.ino(), "{show}");
    assert_eq!(u64::from(inode.links()), meta.nlink(), "{show}");
    let time = inode.mtime();
    assert_eq!((time.seconds, i64::from(time.nanoseconds)), (meta.mtime(), meta.mtime_nsec()), "{show}");
    let time = inode.ctime();
    assert_eq!((time.seconds, i64::from(time.nanoseconds)), (meta.ctime(), meta.ctime_nsec()), "{show}");
    if let Some((major, minor)) = inode.device() {
        let rdev = meta.rdev();
        let split = ((rdev >> 8 & 0xfff) as u32, ((rdev & 0xff) | (rdev >> 12 & 0xf_ff00)) as u32);
        assert_eq!((major, minor), split, "{show}");
    }
    match inode.kind().unwrap() {
        Kind::Symlink => {
            assert_eq!(fs.read_link(inode).unwrap(), fs::read_link(path).unwrap().as_os_str().as_bytes());
        }
        Kind::File => {
            assert_eq!(inode.size().get(), meta.size(), "{show}");
            let file = File::open(path).unwrap();
            let mut at = 0;
            while at < meta.size() {
                let [ours, theirs] = &mut *buf;
                let n = fs.read_file(inode, Offset::new(at), ours).unwrap();
                file.read_exact_at(&mut theirs[..n], at).unwrap();
                assert!(ours[..n] == theirs[..n], "{show} from {at}");
                at += n as u64;
                // Of a large sparse file, the ends and the islands.
                if (2 << 20..290 << 20).contains(&at) || (302 << 20..1 << 30).contains(&at) {
                    at = if at < 290 << 20 { 295 << 20 } else { (1 << 30) - 12345 };
                }
            }
        }
        Kind::Dir => {
            let entries: Vec<_> = fs.entries(inode).unwrap().map(|e| e.unwrap()).collect();
            let ours: HashSet<Vec<u8>> = entries.iter().map(|e| e.name.clone()).collect();
            let mut theirs: HashSet<Vec<u8>> =
                fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().as_bytes().to_vec()).collect();
            theirs.extend([b".".to_vec(), b"..".to_vec()]);
            assert_eq!(ours.len(), entries.len(), "{show}: names twice");
            assert_eq!(ours, theirs, "{show}");
            for entry in entries.iter().filter(|e| e.name != b"." && e.name != b"..") {
                let child = fs.inode(entry.ino).unwrap();
                assert!(entry.kind.is_none_or(|kind| Some(kind) == child.kind()), "{show}");
                compare(fs, &child, &path.join(std::ffi::OsStr::from_bytes(&entry.name)), buf);
            }
        }
        _ => {}
    }
}

/// Bitmaps, free counts, backups and descriptors agree with each other.
fn accounts<D: ReadAt>(fs: &Ext<D>) {
    let geom = fs.geom();
    let mut free_inodes = 0;
    for group in geom.all_groups() {
        let desc = fs.groups().get(group).unwrap();
        let blocks = fs.block_bitmap(group).unwrap();
        assert_eq!(blocks.count_clear(), desc.free_clusters, "group {group}");
        assert!(blocks.is_padded(), "group {group}");
        let implied = fs.implied_block_bitmap(group, &desc);
        assert!(implied.runs(true).flatten().all(|bit| blocks.get(bit)), "group {group}");
        let inodes = fs.inode_bitmap(group).unwrap();
        assert_eq!(inodes.count_clear(), desc.free_inodes, "group {group}");
        free_inodes += desc.free_inodes;
        // What is put back unchanged gives the same bytes.
        let mut groups = fs.groups().clone();
        groups.put(group, &desc).unwrap();
        assert_eq!(groups.bytes_of(group), fs.groups().bytes_of(group));
    }
    assert_eq!(fs.free_blocks().unwrap(), fs.sb().free_blocks());
    assert_eq!(free_inodes, fs.sb().free_inodes());
    for group in geom.backup_groups() {
        let backup = fs.sb().read_backup(fs.disk(), group).unwrap();
        assert_eq!(backup.geom(), geom);
        assert_eq!(u32::from(backup.raw().s_block_group_nr.get()), group.0);
        if geom.has_classic(group) {
            let copy = Groups::read_backup(fs.disk(), fs.sb(), fs.limits(), group).unwrap();
            assert_eq!(copy.get(group).unwrap().inode_table, fs.groups().get(group).unwrap().inode_table);
        }
    }
}

/// Only `i_size` says so: e2fsck is content, and the kernel reads zeros.
#[test]
fn files_longer_than_the_data_inside_their_inode() {
    let dir = tempfile::tempdir().unwrap();
    let (image, at) = (dir.path().join("image"), dir.path().join("mnt"));
    File::create(&image).unwrap().set_len(8 << 20).unwrap();
    let path = image.to_str().unwrap();
    run("mke2fs", &["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-O", "inline_data", path]);
    let sizes = [(9, 61), (9, 200), (60, 4000), (100, 101), (100, 4096), (100, 5000), (100, 3 << 20)];
    let source = dir.path().join("source");
    for (i, (len, size)) in sizes.into_iter().enumerate() {
        fs::write(&source, noise(len, i as u64)).unwrap();
        run("debugfs", &["-w", "-R", &format!("write {} file{i}", source.display()), path]);
        run("debugfs", &["-w", "-R", &format!("set_inode_field file{i} size {size}"), path]);
    }
    testkit::oracle::assert_clean(&image, Offset::ZERO);
    let mount = Mount::new(&image, &at, "loop,ro");
    let fs = Ext::open(Image(File::open(&image).unwrap(), Len::new(8 << 20)), &Limits::default()).unwrap();
    let root = fs.inode(InodeNo::ROOT).unwrap();
    compare(&fs, &root, &mount.0, &mut [vec![0; 777_777], vec![0; 777_777]]);
    for (i, (len, size)) in sizes.into_iter().enumerate() {
        let inode = fs.inode(fs.lookup(&root, format!("file{i}").as_bytes()).unwrap().unwrap()).unwrap();
        assert_eq!((inode.has(INLINE_DATA), inode.size().get()), (true, size));
        assert_eq!(fs.inline_data(&inode).unwrap()[..len], noise(len, i as u64));
    }
    let (cancel, limits) = (disk::Cancel::new(), Limits::default());
    let cx = disk::Cx { progress: &disk::Quiet, cancel: &cancel, limits, now: 1_800_000_000 };
    let report = extfs::check::check(&fs, extfs::check::Scope::Full, &cx).unwrap();
    assert!(report.is_clean(), "{:?}", report.damage().collect::<Vec<_>>());
}

fn matrix(args: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let (image, at) = (dir.path().join("image"), dir.path().join("mnt"));
    let file = File::create(&image).unwrap();
    file.set_len(96 << 20).unwrap();
    let path = image.to_str().unwrap();
    run("mke2fs", &[&["-q", "-F"], args, &[path]].concat());
    {
        let mount = Mount::new(&image, &at, "loop");
        populate(&mount.0, 1500);
    }
    // Written by other hands than the kernel's.
    let large = format!("ea_set /small5 user.large {}", "x".repeat(600));
    for command in ["ea_set /small5 user.one two", "ea_set /big trusted.empty \"\"", &large] {
        run("debugfs", &["-w", "-R", command, path]);
    }
    let mount = Mount::new(&image, &at, "loop,ro,noload");
    let fs = Ext::open(Image(File::open(&image).unwrap(), Len::new(96 << 20)), &Limits::default()).unwrap();
    let mut buf = [vec![0; 777_777], vec![0; 777_777]];
    compare(&fs, &fs.inode(InodeNo::ROOT).unwrap(), &mount.0, &mut buf);
    accounts(&fs);
    let leaf = fs.resolve(b"/slow").unwrap();
    assert_eq!(fs.read_whole(&leaf).unwrap(), b"leaf");
    assert_eq!(fs.resolve(b"deep/er/out").unwrap().ino(), fs.resolve(b"/../big").unwrap().ino());
    assert!(matches!(fs.resolve(b"loop"), Err(extfs::Error::Links { .. })));
    assert!(matches!(fs.resolve(b"big/x"), Err(extfs::Error::WrongKind { .. })));
    let attrs = fs.xattrs(&fs.resolve(b"small5").unwrap()).unwrap();
    let value = |name: &[u8]| {
        let attr = attrs.iter().find(|a| a.full_name() == name).unwrap();
        fs.xattr_value(attr).unwrap()
    };
    assert_eq!((value(b"user.one"), value(b"user.large")), (b"two".to_vec(), vec![b'x'; 600]));
}

macro_rules! shapes {
    ($($name:ident: $args:expr;)*) => {$(
        #[test]
        fn $name() {
            matrix(&$args);
        }
    )*};
}

shapes! {
    ext2_1k: ["-t", "ext2", "-b", "1024", "-I", "128"];
    ext2_without_features: ["-t", "ext2", "-b", "4096", "-O", "none,ext_attr"];
    ext3_2k: ["-t", "ext3", "-b", "2048", "-I", "128", "-J", "size=4"];
    ext4_4k: ["-t", "ext4", "-b", "4096"];
    ext4_1k_many_groups: ["-t", "ext4", "-b", "1024", "-g", "1024", "-N", "12000"];
    uninit_32bit: ["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,uninit_bg,^64bit"];
    inline_data: ["-t", "ext4", "-b", "4096", "-I", "512", "-O", "inline_data,metadata_csum_seed"];
    bigalloc: ["-t", "ext4", "-b", "4096", "-C", "16384", "-O", "bigalloc"];
    bigalloc_1k: ["-t", "ext4", "-b", "1024", "-C", "8192", "-O", "bigalloc,^resize_inode"];
    meta_bg: ["-t", "ext4", "-b", "1024", "-g", "2048", "-N", "12000", "-O", "meta_bg,^resize_inode"];
    sparse_super2: ["-t", "ext4", "-b", "1024", "-O", "sparse_super2,^flex_bg"];
    ea_inode: ["-t", "ext4", "-b", "1024", "-E", "mmp_update_interval=1", "-O", "ea_inode,large_dir,mmp,orphan_file"];
}

/// Reads everything there is; the number of things that could be read.
fn read_all(image: &Memory) -> usize {
    let limits = Limits { memory: Len::mib(64), ..Limits::default() };
    let Ok(fs) = Ext::open(image, &limits) else { return 0 };
    let mut good = 0;
    for group in fs.geom().all_groups().take(64) {
        good += usize::from(fs.block_bitmap(group).is_ok()) + usize::from(fs.inode_bitmap(group).is_ok());
    }
    let mut buf = vec![0; 100_000];
    for ino in (1..=fs.sb().first_inode().0.min(64) + 60).map(InodeNo) {
        let Ok(inode) = fs.inode(ino) else { continue };
        good += fs.walk(&inode).map_or(0, |walk| walk.take(1 << 20).filter(|p| p.is_ok()).count());
        good += fs.entries(&inode).map_or(0, |all| all.filter(|e| e.is_ok()).count());
        good += fs.read_file(&inode, Offset::new(11), &mut buf).unwrap_or_default().min(1);
        good += usize::from(fs.read_link(&inode).is_ok());
        good += fs.xattrs(&inode).map_or(0, |all| all.iter().filter(|a| fs.xattr_value(a).is_ok()).count());
    }
    good += usize::from(fs.resolve(b"/slow").is_ok()) + usize::from(fs.mmp().is_ok());
    good
}

#[test]
fn damage_ends_in_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("deep/er")).unwrap();
    for i in 0..40 {
        fs::write(tree.join(format!("file {i}")), noise(i * 700, i as u64)).unwrap();
    }
    fs::write(tree.join("deep/er/leaf"), b"leaf").unwrap();
    std::os::unix::fs::symlink(format!("{}deep/er/leaf", "/".repeat(90)), tree.join("slow")).unwrap();
    for (shape, features) in ["^metadata_csum,^extents,^64bit", "^metadata_csum,inline_data", "metadata_csum"]
        .into_iter()
        .enumerate()
    {
        let path = dir.path().join(format!("image{shape}"));
        let path = path.to_str().unwrap();
        File::create(path).unwrap().set_len(4 << 20).unwrap();
        let tree = tree.to_str().unwrap();
        run("mke2fs", &["-q", "-F", "-t", "ext4", "-b", "1024", "-O", features, "-d", tree, path]);
        let mut image = Memory(fs::read(path).unwrap());
        let intact = read_all(&image);
        assert!(intact > 150, "{features}: {intact}");
        let places: Vec<usize> = (1024..image.0.len()).filter(|&i| image.0[i] != 0).collect();
        let mut seed = shape as u64;
        let mut next = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % below
        };
        let mut noticed = 0;
        for round in 0..1200 {
            let old: Vec<(usize, u8)> = (0..=next(4))
                .map(|_| {
                    // The superblock, the metadata at the start, or anywhere.
                    let at = match round % 3 {
                        0 => 1024 + next(400),
                        1 => places[next(places.len().min(20_000))],
                        _ => places[next(places.len())],
                    };
                    (at, std::mem::replace(&mut image.0[at], [0, 1, 0x7f, 0x80, 0xff][next(5)]))
                })
                .collect();
            let started = std::time::Instant::now();
            noticed += usize::from(read_all(&image) != intact);
            assert!(started.elapsed().as_secs() < 5, "{features}: round {round}: {old:?}");
            for (at, byte) in old.into_iter().rev() {
                image.0[at] = byte;
            }
        }
        assert!(noticed > 100, "{features}: only {noticed} mutations made a difference");
        assert_eq!(read_all(&image), intact);
    }
}
