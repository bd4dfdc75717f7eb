//! Filesystems of every flavour that mke2fs makes, empty, filled, or lived in by a kernel.
//!
//! An image is built once and kept in a cache below the temporary folder, under the digest of all that went into it;
//! callers get a sparse copy of their own.

use std::fs::{File, OpenOptions, create_dir_all, hard_link, write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ondisk::{Len, Offset};
use rustix::fs::{CWD, FallocateFlags, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};

use crate::oracle::{Mount, assert_clean};
use crate::tool::{copy_data, copy_sparse, done, output, run, said, tool};

/// A set of features as a distribution or an administrator would choose it.
#[derive(Clone, Copy, Debug)]
pub struct Flavor {
    /// For messages and look-up.
    pub name: &'static str,
    /// Bytes in a block.
    pub block: u32,
    /// Bytes in an inode.
    pub inode: u32,
    /// What mke2fs gets as `-O` behind `none`.
    features: [&'static str; 2],
    /// Further options of mke2fs.
    options: &'static [&'static str],
    /// Whether kernels mount it for writing, and soon. Quota needs a kernel built for it, MMP takes its time.
    pub mounts: bool,
}

const EXT2: &str = "ext_attr,resize_inode,dir_index,filetype,sparse_super,large_file";
const EXT3: &str = "has_journal,ext_attr,resize_inode,dir_index,filetype,sparse_super,large_file";
const EXT4: &str = "has_journal,ext_attr,resize_inode,dir_index,filetype,sparse_super,large_file,\
                    extent,64bit,flex_bg,huge_file,dir_nlink,extra_isize,metadata_csum";

/// `base` features changed by `change`, in a filesystem with the given blocks and inodes.
const fn with(
    name: &'static str,
    block: u32,
    inode: u32,
    base: &'static str,
    change: &'static str,
) -> Flavor {
    Flavor { name, block, inode, features: [base, change], options: &[], mounts: true }
}

impl Flavor {
    const fn options(mut self, options: &'static [&'static str]) -> Self {
        self.options = options;
        self
    }

    const fn not_mounted(mut self) -> Self {
        self.mounts = false;
        self
    }

    /// A size that gives this flavour a few groups (one with blocks of 64 KiB).
    #[must_use]
    pub const fn usual_len(&self) -> Len {
        match self.block {
            1024 => Len::mib(64),
            2048 => Len::mib(160),
            4096 => Len::mib(300),
            _ => Len::gib(1),
        }
    }

    /// What mke2fs is called with, without the place of the filesystem.
    fn args(&self) -> Vec<String> {
        let features = ["none", self.features[0], self.features[1]];
        let features = features.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(",");
        let [block, inode] = [self.block, self.inode].map(|n| n.to_string());
        let fixed = ["-q", "-F", "-i", "16384", "-b", &block, "-I", &inode, "-O", &features];
        let names = ["-L", "testkit", "-U", "6f8b1a52-0c4e-4f57-9d3a-8f2f5d1c7e10"];
        fixed.iter().chain(&names).chain(self.options).map(|arg| (*arg).to_owned()).collect()
    }
}

/// Every flavour.
pub const FLAVORS: &[Flavor] = &[
    with("ext4-1k", 1024, 256, EXT4, ""),
    with("ext4-2k", 2048, 256, EXT4, ""),
    with("ext4-4k", 4096, 256, EXT4, ""),
    with("ext4-64k", 65536, 256, EXT4, "").not_mounted(),
    with("ext4-128-byte-inodes", 4096, 128, EXT4, "^extra_isize"),
    with("ext4-512-byte-inodes", 4096, 512, EXT4, ""),
    with("ext4-no-resize-inode", 1024, 256, EXT4, "^resize_inode"),
    with("ext4-few-reserved", 1024, 256, EXT4, "").options(&["-E", "resize=131072"]),
    with("ext4-no-flex-bg", 1024, 256, EXT4, "^flex_bg"),
    with("ext4-flex-bg-2", 1024, 256, EXT4, "").options(&["-G", "2"]),
    with("ext4-uninit-bg", 4096, 256, EXT4, "^metadata_csum,^64bit,uninit_bg"),
    with("ext4-uninit-bg-1k", 1024, 256, EXT4, "^metadata_csum,^64bit,uninit_bg"),
    with("ext4-no-checksums", 1024, 256, EXT4, "^metadata_csum,^64bit"),
    with("ext4-32bit", 1024, 256, EXT4, "^64bit"),
    with("ext4-csum-seed", 1024, 256, EXT4, "metadata_csum_seed"),
    with("ext4-no-sparse-super", 1024, 256, EXT4, "^resize_inode,^sparse_super"),
    with("ext4-sparse-super2", 1024, 256, EXT4, "^resize_inode,sparse_super2"),
    with("ext4-sparse-super2-one", 1024, 256, EXT4, "^resize_inode,sparse_super2")
        .options(&["-E", "num_backup_sb=1"]),
    with("ext4-sparse-super2-none", 1024, 256, EXT4, "^resize_inode,sparse_super2")
        .options(&["-E", "num_backup_sb=0"]),
    with("ext4-meta-bg", 1024, 256, EXT4, "^resize_inode,meta_bg"),
    with("ext4-meta-bg-no-flex", 1024, 256, EXT4, "^resize_inode,^flex_bg,meta_bg"),
    with("ext4-meta-bg-32bit", 1024, 256, EXT4, "^resize_inode,^64bit,meta_bg"),
    with("ext4-bigalloc", 4096, 256, EXT4, "bigalloc").options(&["-C", "16384", "-g", "32768"]),
    with("ext4-bigalloc-1k", 1024, 256, EXT4, "bigalloc").options(&["-C", "16384"]),
    with("ext4-orphan-file", 1024, 256, EXT4, "orphan_file"),
    with("ext4-quota", 1024, 256, EXT4, "quota").not_mounted(),
    with("ext4-project", 1024, 256, EXT4, "quota,project")
        .options(&["-E", "quotatype=usrquota:grpquota:prjquota"])
        .not_mounted(),
    with("ext4-mmp", 1024, 256, EXT4, "mmp").not_mounted(),
    with("ext4-inline-data", 1024, 256, EXT4, "inline_data"),
    with("ext4-ea-inode", 1024, 256, EXT4, "ea_inode,large_dir"),
    with("ext4-encrypt-verity", 1024, 256, EXT4, "encrypt,verity").not_mounted(),
    with("ext4-no-journal", 1024, 256, EXT4, "^has_journal"),
    with("ext4-small-groups", 4096, 256, EXT4, "").options(&["-g", "2048"]),
    with("ext3-4k", 4096, 256, EXT3, ""),
    with("ext3-centos5", 4096, 128, EXT3, ""),
    with("ext3-1k", 1024, 128, EXT3, ""),
    with("ext3-no-resize-inode", 1024, 128, EXT3, "^resize_inode,^dir_index"),
    with("ext2-4k", 4096, 256, EXT2, ""),
    with("ext2-1k", 1024, 128, EXT2, ""),
    with("ext2-plain", 1024, 128, "filetype", ""),
    with("ext2-revision-0", 1024, 128, "", "").options(&["-r", "0"]),
];

/// The flavour of that name.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn flavor(name: &str) -> &'static Flavor {
    FLAVORS.iter().find(|flavor| flavor.name == name).unwrap_or_else(|| panic!("there is no flavour {name}"))
}

/// What lies in a new filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Only `lost+found`.
    Empty,
    /// A tree as mke2fs copies it: kinds of files, links, attributes, holes; folders are linear.
    Tree,
    /// The tree, then changed by the kernel: indexed folders, deep extent trees, punched, unwritten and removed files.
    /// Where the kernel does not mount the flavour, as `Tree`.
    Lived,
}

/// Makes the image `to` of one filesystem.
///
/// # Panics
/// Where mke2fs, the kernel or e2fsck disagrees.
pub fn make(flavor: &Flavor, len: Len, fill: Fill, to: &Path) {
    copy_sparse(&cached(flavor, len, fill), to);
}

/// Puts a filesystem into the span at `at` of an existing disk image that reads as zero there.
///
/// # Panics
/// As `make`.
pub fn make_at(flavor: &Flavor, len: Len, fill: Fill, disk: &Path, at: Offset) {
    place(&cached(flavor, len, fill), disk, at);
}

/// Copies the data of one sparse file into another, from `at` on.
///
/// # Panics
/// Where that fails.
pub fn place(from: &Path, into: &Path, at: Offset) {
    let from = File::open(from).expect("an image opens");
    let into = OpenOptions::new().write(true).open(into).expect("a disk opens");
    let len = from.metadata().expect("a length").len();
    copy_data(&from, 0..len, &into, at.get());
}

fn cached(flavor: &Flavor, len: Len, fill: Fill) -> PathBuf {
    let version = said(&output("mke2fs", ["-V"]));
    let recipe = format!("{:?} {len:?} {fill:?} {version} {}", flavor.args(), include_str!("images.rs"));
    let dir = std::env::temp_dir().join(format!("imgtool-testkit-{}", rustix::process::getuid().as_raw()));
    create_dir_all(&dir).expect("the temporary folder takes a cache");
    let kept = dir.join(format!("{}-{}", flavor.name, &blake3::hash(recipe.as_bytes()).to_hex()[..16]));
    if !kept.exists() {
        let new = tempfile::NamedTempFile::new_in(&dir).expect("the cache takes a file");
        build(flavor, len, fill, new.path());
        new.persist(&kept).expect("the cache keeps a file");
    }
    kept
}

fn build(flavor: &Flavor, len: Len, fill: Fill, image: &Path) {
    let tree = tempfile::tempdir().expect("a temporary folder");
    if fill != Fill::Empty {
        plant(tree.path());
    }
    format(flavor, len, (fill != Fill::Empty).then_some(tree.path()), image);
    if fill == Fill::Lived && flavor.mounts {
        live(Mount::read_write(image).path(), flavor.block.into());
    }
    assert_clean(image, Offset::ZERO);
    let dense = image.with_extension("dense");
    std::fs::rename(image, &dense).expect("the cache renames");
    copy_sparse(&dense, image);
    std::fs::remove_file(dense).expect("the cache removes");
}

/// Makes a filesystem that holds a tree of files of the caller's choice.
///
/// # Panics
/// Where mke2fs fails.
pub fn format(flavor: &Flavor, len: Len, tree: Option<&Path>, image: &Path) {
    File::create(image).and_then(|file| file.set_len(len.get())).expect("a sparse file");
    let mut mke2fs = tool("mke2fs");
    mke2fs.env("E2FSPROGS_FAKE_TIME", "1700000000").args(flavor.args());
    mke2fs.args(tree.map(|tree| ["-d".as_ref(), tree.as_os_str()]).into_iter().flatten());
    done(mke2fs.arg(image));
    if flavor.features[1].contains("quota") {
        // mke2fs counts before it copies the tree; the checker counts again.
        output("e2fsck", ["-fy".as_ref(), image.as_os_str()]);
    }
}

/// Bytes that do not compress and differ from file to file, the same each time.
#[must_use]
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A small guest's root below `root`.
///
/// # Panics
/// Where a file cannot be made: this takes root's rights (devices, owners).
pub fn plant(root: &Path) {
    for dir in ["etc", "small", "wide", "dev", "home/user"] {
        create_dir_all(root.join(dir)).expect("a folder");
    }
    let put = |name: &str, content: &[u8]| {
        write(root.join(name), content).unwrap_or_else(|e| panic!("{name}: {e}"))
    };
    put("etc/os-release", b"ID=testkit\nPRETTY_NAME=\"Testkit 1\"\n");
    put("etc/fstab", b"LABEL=testkit / auto defaults 0 1\n");
    for i in 0..160 {
        put(&format!("small/{i}"), &noise(i, usize::try_from(i * 137 % 9001).expect("a small size")));
    }
    put("empty", b"");
    put("big", &noise(1000, 3 << 20));
    put(&"n".repeat(255), b"the longest name");
    put("h\u{e4}user \"x\"\n", b"a name with blanks, quotes and a line feed");
    create_dir_all(root.join(["down"; 40].join("/"))).expect("deep folders");
    sparse(&root.join("sparse"));
    links(root);
    special(root);
    times(root);
}

/// A file with data at its start, behind each level of indirect blocks of 1 KiB, and at its end.
fn sparse(path: &Path) {
    let file = File::create(path).expect("a file");
    for at in [0, 200 << 10, 1 << 20, 70 << 20] {
        file.write_all_at(&noise(at, 5000), at).expect("data between holes");
    }
    file.set_len(80 << 20).expect("a hole at the end");
}

fn links(root: &Path) {
    symlink("etc/fstab", root.join("link")).expect("a short link");
    symlink("/nowhere/".to_owned() + &"x".repeat(200), root.join("long-link")).expect("a long link");
    lchown(root.join("link"), Some(1000), Some(1000)).expect("the link's owner");
    for name in ["second", "etc/third"] {
        hard_link(root.join("big"), root.join(name)).expect("a further name");
    }
    for i in 0..150 {
        hard_link(root.join("empty"), root.join(format!("wide/a rather long name, number {i:05}")))
            .expect("a name");
    }
}

fn special(root: &Path) {
    let nodes = [
        ("dev/sda", FileType::BlockDevice, makedev(8, 0)),
        ("dev/ttyS0", FileType::CharacterDevice, makedev(4, 64)),
        ("dev/large", FileType::CharacterDevice, makedev(260, 70000)),
        ("dev/fifo", FileType::Fifo, 0),
    ];
    for (name, kind, device) in nodes {
        mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o640), device).expect("a device (as root)");
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(root.join("setuid")).expect("a file");
    chown(root.join("setuid"), Some(70000), Some(80000)).expect("a large owner (as root)");
    std::fs::set_permissions(root.join("setuid"), PermissionsExt::from_mode(0o4751)).expect("its mode");
    chown(root.join("home/user"), Some(1000), Some(1000)).expect("an owner (as root)");
    let attributes =
        [("etc/fstab", "user.short", 10), ("big", "user.long", 700), ("home/user", "trusted.dir", 40)];
    for (file, name, len) in attributes {
        let value = noise(2000, len);
        setxattr(root.join(file), name, &value, XattrFlags::empty()).expect("an attribute (as root)");
    }
}

/// Gives each file a time of its own, and all the rest one.
fn times(root: &Path) {
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    for i in 0..160 {
        let file = File::options().append(true).open(root.join(format!("small/{i}"))).expect("a file");
        let time = start + Duration::new(i * 1000, u32::try_from(i * 1001).expect("few nanoseconds"));
        file.set_modified(time).expect("a time");
    }
    let rest = ["-not", "-path", "*/small/*", "-exec", "touch", "-h", "-d", "@1650000000", "{}", "+"];
    run("find", std::iter::once(root.to_str().expect("test paths are UTF-8")).chain(rest));
}

/// What a kernel leaves behind that mke2fs does not make.
fn live(root: &Path, block: u64) {
    let dir = root.join("lived");
    create_dir_all(&dir).expect("a folder");
    write(dir.join("one"), b"a file of many names").expect("a file");
    for i in 0..3000 {
        let name = dir.join(format!("a name that makes the folder's index grow {i:06}"));
        hard_link(dir.join("one"), name).expect("a name");
    }
    for i in (0..3000).step_by(3) {
        let name = dir.join(format!("a name that makes the folder's index grow {i:06}"));
        std::fs::remove_file(name).expect("a name to remove");
    }
    let file = File::create(dir.join("many extents")).expect("a file");
    for i in 0..700 {
        file.write_all_at(&noise(i, 100), i * 2 * block).expect("data between holes");
    }
    let punched = File::create(dir.join("punched")).expect("a file");
    punched.write_all_at(&noise(5000, 2 << 20), 0).expect("data");
    for i in 0..100 {
        // Old filesystems may not know how; the file is then simply whole.
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let _ = rustix::fs::fallocate(&punched, flags, i * 3 * block, block);
    }
    let unwritten = File::create(dir.join("unwritten")).expect("a file");
    let _ = rustix::fs::fallocate(&unwritten, FallocateFlags::empty(), 0, 1 << 20);
    unwritten.write_all_at(&noise(5001, 3000), 300_000).expect("data between unwritten extents");
    let pair = ["left", "right"].map(|name| File::create(dir.join(name)).expect("a file"));
    for i in 0..16 {
        for file in &pair {
            file.write_all_at(&noise(i, 8192), i * 8192).expect("data");
            file.sync_data().expect("data on disk");
        }
    }
    for i in (0..160).step_by(2) {
        std::fs::remove_file(root.join(format!("small/{i}"))).expect("a file to remove");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Manifest;

    #[test]
    fn each_flavor_is_made_and_read_back() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let planted = dir.path().join("planted");
        std::fs::create_dir(&planted).expect("a folder");
        plant(&planted);
        let planted = Manifest::of(&planted).portable();
        for flavor in FLAVORS {
            let image = dir.path().join(flavor.name);
            make(flavor, flavor.usual_len(), Fill::Tree, &image);
            if flavor.mounts && flavor.inode > 128 && !flavor.features[1].contains("inline") {
                let mount = Mount::new(&image, "ro,noatime,loop");
                compare(&planted, &Manifest::of(mount.path()).portable(), flavor);
            }
            make(flavor, flavor.usual_len(), Fill::Lived, &image);
        }
    }

    /// mke2fs rounds times to seconds, and the root folder is its own.
    fn compare(planted: &Manifest, found: &Manifest, flavor: &Flavor) {
        let [mut planted, mut found] = [planted.clone(), found.clone()];
        for manifest in [&mut planted, &mut found] {
            manifest.0.remove(b"".as_slice());
            manifest.0.values_mut().for_each(|entry| entry.modified.1 = 0);
        }
        let lines = planted.differences(&found);
        assert!(lines.is_empty(), "{}:\n{}", flavor.name, lines.join("\n"));
    }

    #[test]
    fn a_copy_into_a_partition_is_the_same_filesystem() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let disk = dir.path().join("disk");
        File::create(&disk).and_then(|file| file.set_len(80 << 20)).expect("a sparse file");
        let at = Offset::new(1 << 20);
        make_at(flavor("ext4-1k"), Len::mib(64), Fill::Tree, &disk, at);
        assert_clean(&disk, at);
        let alone = dir.path().join("alone");
        make(flavor("ext4-1k"), Len::mib(64), Fill::Tree, &alone);
        let there = Mount::read_only_at(&disk, at, Len::mib(64));
        Manifest::of(Mount::read_only(&alone).path()).assert_same(&Manifest::of(there.path()));
    }
}
