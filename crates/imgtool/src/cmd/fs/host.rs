//! Files of a guest on this machine.
//!
//! 1. Everything is made below the folder that the operator named, through its open descriptor: one name at a time,
//!    anew, never through a link (threat model, attack 14).
//! 2. Until it is whole, a file or folder is its owner's alone; then it gets the guest's permissions, without set-user-id
//!    and its like, and the guest's time. It belongs to whoever runs the program.
//! 3. Holes stay holes.

use crate::exit::{Exit, Failure, show};
use extfs::Inode;
use ondisk::{Len, Offset};
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const NEW: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A folder that is being filled.
pub(super) struct Folder {
    fd: OwnedFd,
    /// For messages.
    path: PathBuf,
}

/// A file that is being filled.
pub(super) struct Filling {
    file: File,
    path: PathBuf,
}

impl Folder {
    /// The folder that the operator named; this one may be reached through links, for he named it.
    pub(super) fn named(path: &Path) -> Result<Self, Failure> {
        let flags = FOLDER.difference(OFlags::NOFOLLOW);
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| failed(path, error))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Makes a folder in it.
    pub(super) fn folder(&self, name: &[u8]) -> Result<Self, Failure> {
        let path = self.path_of(name);
        rustix::fs::mkdirat(&self.fd, name, Mode::RWXU).map_err(|error| failed(&path, error))?;
        let fd = rustix::fs::openat(&self.fd, name, FOLDER, Mode::empty())
            .map_err(|error| failed(&path, error))?;
        Ok(Self { fd, path })
    }

    /// Makes a file in it.
    pub(super) fn file(&self, name: &[u8]) -> Result<Filling, Failure> {
        let path = self.path_of(name);
        let fd = rustix::fs::openat(&self.fd, name, NEW, Mode::RUSR | Mode::WUSR);
        Ok(Filling { file: File::from(fd.map_err(|error| failed(&path, error))?), path })
    }

    /// Makes a symbolic link in it.
    pub(super) fn link(&self, name: &[u8], target: &[u8], inode: &Inode) -> Result<(), Failure> {
        let path = self.path_of(name);
        rustix::fs::symlinkat(target, &self.fd, name).map_err(|error| failed(&path, error))?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(&self.fd, name, &times(inode), flags).map_err(|error| failed(&path, error))
    }

    /// Gives a file that `base` holds at `old` a further name in it.
    pub(super) fn further_name(&self, base: &Self, old: &[u8], name: &[u8]) -> Result<(), Failure> {
        let made = rustix::fs::linkat(&base.fd, old, &self.fd, name, AtFlags::empty());
        made.map_err(|error| failed(&self.path_of(name), error))
    }

    /// The folder is whole.
    pub(super) fn finish(&self, inode: &Inode) -> Result<(), Failure> {
        finish(&self.fd, inode).map_err(|error| failed(&self.path, error))
    }

    fn path_of(&self, name: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(name))
    }
}

impl Filling {
    /// Writes a piece of it.
    pub(super) fn write(&self, at: Offset, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all_at(bytes, at.get()).map_err(|error| Failure::io(&self.path, &error))
    }

    /// Gives it its length; what was not written is a hole.
    pub(super) fn set_len(&self, len: Len) -> Result<(), Failure> {
        self.file.set_len(len.get()).map_err(|error| Failure::io(&self.path, &error))
    }

    /// The file is whole.
    pub(super) fn finish(self, inode: &Inode) -> Result<(), Failure> {
        finish(&self.file, inode).map_err(|error| failed(&self.path, error))
    }
}

fn finish(fd: &impl std::os::fd::AsFd, inode: &Inode) -> Result<(), Errno> {
    rustix::fs::fchmod(fd, Mode::from_raw_mode(u32::from(inode.mode() & 0o777)))?;
    rustix::fs::futimens(fd, &times(inode))
}

/// The time of change; that of reading is ours.
fn times(inode: &Inode) -> Timestamps {
    let time = inode.mtime();
    let last_modification =
        Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanoseconds.min(999_999_999)) };
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification }
}

fn failed(path: &Path, error: Errno) -> Failure {
    if error == Errno::EXIST {
        return exists(path);
    }
    Failure::io(path, &error.into())
}

/// Nothing is ever overwritten.
pub(super) fn exists(path: &Path) -> Failure {
    Failure::new(Exit::Refused, "refused", format!("{}: exists already", show(path)))
        .with_help("nothing is overwritten: name a new file, or a folder to copy into")
}
