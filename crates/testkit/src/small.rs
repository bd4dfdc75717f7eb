//! Filesystems of a few MiB that together hold every kind of metadata, for tests that damage them.

use crate::tool::{done, output, tool};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// How one of them is made.
#[derive(Clone, Copy, Debug)]
pub struct Small {
    /// Its name.
    pub name: &'static str,
    /// Its size.
    pub kib: u32,
    features: &'static str,
    /// Features besides, or not.
    change: &'static str,
    options: &'static [&'static str],
}

const EXT4: &str = "has_journal,ext_attr,resize_inode,dir_index,filetype,sparse_super,large_file,\
                    extent,64bit,flex_bg,huge_file,dir_nlink,extra_isize,metadata_csum";
const EXT3: &str = "has_journal,ext_attr,resize_inode,dir_index,filetype,sparse_super,large_file";

const fn small(
    name: &'static str,
    kib: u32,
    features: &'static str,
    change: &'static str,
    options: &'static [&'static str],
) -> Small {
    Small { name, kib, features, change, options }
}

/// All of them.
pub const SMALL: &[Small] = &[
    small("ext4", 6144, EXT4, "", &["-b", "1024", "-g", "1024"]),
    small("plain4", 5120, EXT4, "^metadata_csum,^64bit,^has_journal", &["-b", "1024", "-g", "2048"]),
    small(
        "uninit",
        5120,
        EXT4,
        "^metadata_csum,^64bit,uninit_bg,^has_journal",
        &["-b", "1024", "-g", "1024"],
    ),
    small("ext3", 4096, EXT3, "", &["-b", "1024", "-I", "128", "-g", "1024"]),
    small("ext2", 2048, EXT3, "^has_journal", &["-b", "1024", "-I", "256"]),
    small("old", 1024, "filetype", "", &["-b", "1024", "-I", "128", "-g", "512"]),
    small("inline", 4096, EXT4, "inline_data,^has_journal", &["-b", "1024"]),
    small("values", 4096, EXT4, "ea_inode,^has_journal", &["-b", "1024"]),
    small(
        "quota",
        4096,
        EXT4,
        "quota,project,^has_journal",
        &["-b", "1024", "-E", "quotatype=usrquota:grpquota:prjquota"],
    ),
    small("orphans", 6144, EXT4, "orphan_file", &["-b", "1024"]),
    small("bigalloc", 8192, EXT4, "bigalloc,^has_journal,^resize_inode", &["-b", "1024", "-C", "4096"]),
    small("meta_bg", 6144, EXT4, "meta_bg,^resize_inode,^has_journal,^64bit", &["-b", "1024", "-g", "256"]),
    small(
        "sparse2",
        6144,
        EXT4,
        "sparse_super2,^resize_inode,^has_journal,mmp",
        &["-b", "1024", "-g", "1024"],
    ),
    small("four", 8192, EXT4, "casefold,^has_journal", &["-b", "4096"]),
    small("reserve", 6144, EXT4, "^has_journal", &["-b", "1024", "-g", "256", "-E", "resize=8192"]),
    small("large", 16384, EXT4, "large_dir,^has_journal", &["-b", "65536", "-I", "512"]),
    small("revision0", 1024, "", "", &["-b", "1024", "-r", "0"]),
];

impl Small {
    /// The one of that name.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn named(name: &str) -> &'static Self {
        SMALL.iter().find(|small| small.name == name).unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// Makes it below `dir`, clean by e2fsck.
    ///
    /// # Panics
    /// Where it cannot be made; needs root for device nodes and owners.
    #[must_use]
    pub fn make(&self, dir: &Path) -> PathBuf {
        let (work, path) = (tempfile::tempdir_in(dir).expect("a folder"), dir.join(self.name));
        let tree = work.path().join("tree");
        plant(&tree);
        let parts = ["none", self.features, self.change].into_iter().filter(|part| !part.is_empty());
        let features = parts.collect::<Vec<_>>().join(",");
        File::create(&path).and_then(|file| file.set_len(u64::from(self.kib) << 10)).expect("an empty image");
        let mut mke2fs = tool("mke2fs");
        mke2fs.env("E2FSPROGS_FAKE_TIME", "1700000000").args(["-q", "-F", "-N", "256", "-O", &features]);
        mke2fs.args(["-U", "6f8b1a52-0c4e-4f57-9d3a-8f2f5d1c7e10"]);
        mke2fs.args(["-E", "hash_seed=6f8b1a52-0c4e-4f57-9d3a-8f2f5d1c7e11"]);
        done(mke2fs.args(self.options).arg("-d").arg(&tree).arg(&path));
        self.touch_up(work.path(), &path);
        // Builds hash trees, and counts quota.
        output("e2fsck", ["-fyD".as_ref(), path.as_os_str()]);
        done(tool("e2fsck").arg("-fn").arg(&path));
        path
    }

    /// What mke2fs has no option for.
    fn touch_up(&self, dir: &Path, path: &Path) {
        let (value, commands) = (dir.join("value"), dir.join("commands"));
        let value_len = if self.name == "values" { 3000 } else { 300 };
        fs::write(&value, vec![b'w'; value_len]).expect("a value");
        let value = value.display();
        let mut script =
            format!("ea_set -f {value} /a/size7 user.large\nea_set -f {value} /a/size8 user.large\n");
        if self.name == "four" {
            script += "set_inode_field /many flags 0x40080000\n";
        }
        fs::write(&commands, script).expect("a script");
        done(tool("debugfs").arg("-w").arg("-f").arg(&commands).arg(path));
    }
}

/// Files of every kind, with attributes of every size.
fn plant(root: &Path) {
    for dir in ["a/b/c/d", "many", "empty"] {
        fs::create_dir_all(root.join(dir)).expect("a file of the tree");
    }
    for i in 0..90 {
        fs::write(
            root.join(format!("many/a file with a rather long name, the number {i} of them")),
            vec![7; i % 5],
        )
        .expect("a file of the tree");
    }
    for (i, len) in [0, 59, 60, 61, 150, 1023, 1024, 5000, 40_000].into_iter().enumerate() {
        let path = root.join(format!("a/size{i}"));
        fs::write(&path, vec![i as u8; len]).expect("a file of the tree");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("a file of the tree");
    }
    let sparse = File::create(root.join("sparse")).expect("a file of the tree");
    for at in 0..14_u64 {
        sparse.write_all_at(b"island", at * 50_000).expect("a file of the tree");
    }
    symlink("a/size1", root.join("fast")).expect("a file of the tree");
    symlink("x".repeat(90), root.join("slow")).expect("a file of the tree");
    fs::hard_link(root.join("a/size5"), root.join("a/b/again")).expect("a file of the tree");
    let at = |name: &str| root.join(name).to_str().expect("a file of the tree").to_owned();
    done(tool("mknod").args([&at("null"), "c", "1", "3"]));
    done(tool("mkfifo").arg(at("pipe")));
    done(tool("chown").args(["700:900", &at("a/size4")]));
    for (name, len) in [("a/size3", 20), ("a/size4", 400), ("a/size6", 400), ("many", 30), ("a/b", 800)] {
        let value = "v".repeat(len);
        done(tool("setfattr").args(["-n", "user.attr", "-v", &value, &at(name)]));
    }
}
