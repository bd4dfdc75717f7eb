//! What a tree of files is: every name, owner, mode, time, attribute, hole and byte of it, to be compared.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Everything about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes; of a folder zero, because its size is no content.
    pub size: u64,
    /// Names of this file.
    pub links: u64,
    /// Number of the device that this node names.
    pub device: u64,
    /// Number of the inode.
    pub inode: u64,
    /// When the content changed, in seconds and nanoseconds.
    pub modified: (i64, i64),
    /// When the inode changed.
    pub changed: (i64, i64),
    /// When it was last read.
    pub accessed: (i64, i64),
    /// BLAKE3 of the content, or where the link points.
    pub content: Vec<u8>,
    /// Where data begins and ends, as (start, end).
    pub data: Vec<(u64, u64)>,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A tree of files by path below its root; the root itself is the empty path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest(pub BTreeMap<Vec<u8>, Entry>);

impl Manifest {
    /// Reads everything below `root`, without crossing into other filesystems.
    ///
    /// # Panics
    /// Where a file cannot be read.
    #[must_use]
    pub fn of(root: &Path) -> Self {
        let device = lstat(root).dev();
        let mut manifest = Self::default();
        let mut open = vec![PathBuf::new()];
        while let Some(relative) = open.pop() {
            let path =
                if relative.as_os_str().is_empty() { root.to_path_buf() } else { root.join(&relative) };
            let meta = lstat(&path);
            if meta.dev() != device {
                continue;
            }
            if meta.is_dir() {
                let names = std::fs::read_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                open.extend(
                    names.map(|name| relative.join(name.expect("a folder stays readable").file_name())),
                );
            }
            // Read the content last: reading may change the time of access.
            manifest.0.insert(relative.into_os_string().into_vec(), entry(&path, &meta));
        }
        manifest
    }

    /// Only what survives copying elsewhere: no inode numbers, holes, times of access and of inode changes,
    /// and no `lost+found`.
    #[must_use]
    pub fn portable(mut self) -> Self {
        self.0.remove(b"lost+found".as_slice());
        for entry in self.0.values_mut() {
            entry.inode = 0;
            entry.changed = (0, 0);
            entry.accessed = (0, 0);
            entry.data.clear();
            if entry.mode & 0o170_000 == 0o040_000 {
                entry.links = 0;
            }
        }
        self
    }

    /// What differs from `other`, one line each, at most twenty.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (path, entry) in &self.0 {
            let name = String::from_utf8_lossy(path);
            match other.0.get(path) {
                None => lines.push(format!("/{name}: is missing")),
                Some(now) if now != entry => lines.push(format!("/{name}: was {entry:?}\n    is {now:?}")),
                Some(_) => {}
            }
        }
        let added = other.0.keys().filter(|path| !self.0.contains_key(*path));
        lines.extend(added.map(|path| format!("/{}: is new", String::from_utf8_lossy(path))));
        lines.truncate(20);
        lines
    }

    /// Expects that nothing has changed between this and `now`.
    ///
    /// # Panics
    /// Where something has: with the list of differences.
    pub fn assert_same(&self, now: &Self) {
        let lines = self.differences(now);
        assert!(lines.is_empty(), "the files differ:\n  {}", lines.join("\n  "));
    }
}

fn lstat(path: &Path) -> Metadata {
    path.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn entry(path: &Path, meta: &Metadata) -> Entry {
    let kind = meta.file_type();
    let content = if kind.is_file() {
        content(path)
    } else if kind.is_symlink() {
        let target = path.read_link().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        target.as_os_str().as_bytes().to_vec()
    } else {
        Vec::new()
    };
    let is_node = kind.is_block_device() || kind.is_char_device();
    Entry {
        mode: meta.mode(),
        uid: meta.uid(),
        gid: meta.gid(),
        size: if meta.is_dir() { 0 } else { meta.size() },
        links: meta.nlink(),
        device: if is_node { meta.rdev() } else { 0 },
        inode: meta.ino(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
        accessed: (meta.atime(), meta.atime_nsec()),
        content,
        data: if kind.is_file() { data(path) } else { Vec::new() },
        xattrs: xattrs(path),
    }
}

/// The digest of a file's content; a large hole costs nothing but its zeros.
fn content(path: &Path) -> Vec<u8> {
    let mut file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut hasher = blake3::Hasher::new();
    let mut buf = vec![0; 1 << 17];
    loop {
        let n = file.read(&mut buf).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if n == 0 {
            return hasher.finalize().as_bytes().to_vec();
        }
        hasher.update(&buf[..n]);
    }
}

/// The spans of data between the holes of a file.
fn data(path: &Path) -> Vec<(u64, u64)> {
    use rustix::fs::{SeekFrom, seek};
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut spans = Vec::new();
    let mut at = 0;
    while let Ok(start) = seek(&file, SeekFrom::Data(at)) {
        let end = seek(&file, SeekFrom::Hole(start)).expect("data is followed by a hole");
        spans.push((start, end));
        at = end;
    }
    spans
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 1 << 16];
    let Ok(n) = rustix::fs::llistxattr(path, &mut names) else { return BTreeMap::new() };
    let names = names[..n].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 1 << 16];
        let n = rustix::fs::lgetxattr(path, name, &mut value).expect("a listed attribute can be read");
        value.truncate(n);
        value
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}
