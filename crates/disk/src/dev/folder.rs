//! Folders: where images are opened, and where files are made beside them.

use super::{Dev, DevKind, FileDev, Owner, Room, Store, beneath};
use crate::{Error, Result};
use ondisk::Len;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, Access, AtFlags, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    dir: OwnedFd,
    path: PathBuf,
    owner: Option<Owner>,
}

impl Folder {
    /// The folder that holds `path`, and the name in it.
    ///
    /// # Errors
    /// Where `path` has no last name, or its folder cannot be opened.
    pub fn of(path: &Path) -> Result<(Self, OsString)> {
        let at = |source: Errno| Error::File { op: "open", path: path.to_owned(), source: source.into() };
        let name = path.file_name().ok_or_else(|| at(Errno::ISDIR))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = fs::open(parent, flags, Mode::empty()).map_err(at)?;
        Ok((Self { dir, path: parent.to_owned(), owner: None }, name.to_owned()))
    }

    /// The folder that holds `name`, which lies below `root`, and the last part of the name.
    ///
    /// # Errors
    /// Where `name` leads out of `root` or through a link, or the folder cannot be opened.
    pub(crate) fn beneath(root: &Path, name: &Path) -> Result<(Self, OsString)> {
        let path = root.join(name);
        let at = |source: Errno| Error::File { op: "open", path: path.clone(), source: source.into() };
        let last = name.file_name().ok_or_else(|| at(Errno::ISDIR))?;
        let between = name.parent().filter(|between| !between.as_os_str().is_empty());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::open(root, flags, Mode::empty()).map_err(at)?;
        let dir = match between {
            Some(between) => beneath::open(&root, between, flags).map_err(at)?,
            None => root,
        };
        let folder = path.parent().unwrap_or(&path).to_owned();
        Ok((Self { dir, path: folder, owner: None }, last.to_owned()))
    }

    /// The folder, in which new files belong to `owner`.
    #[must_use]
    pub(crate) fn owned(self, owner: Option<Owner>) -> Self {
        Self { owner, ..self }
    }

    /// Opens an image in this folder, of which `name` is no link. A device that is mounted or part of a stack is not opened
    /// for writing.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn open_image(&self, name: &OsStr, write: bool, exclusive: bool) -> Result<File> {
        // NONBLOCK: opening a pipe must not hang. EXCL without CREATE speaks to block devices alone.
        let how = if write { OFlags::RDWR } else { OFlags::RDONLY };
        let excl = if exclusive { OFlags::EXCL } else { OFlags::empty() };
        let flags = how | excl | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        fs::openat(&self.dir, name, flags, Mode::empty())
            .map(File::from)
            .map_err(|e| self.failed("open", name, e))
    }

    /// Makes a file that is nobody's yet, for whoever may have one.
    ///
    /// # Errors
    /// Where there is one of that name already, or the system fails.
    pub(crate) fn create_new(&self, name: &OsStr) -> Result<File> {
        self.make(name, Mode::from_raw_mode(0o666))
    }

    /// As [`Folder::create_new`], for what only its owner may read.
    ///
    /// # Errors
    /// As [`Folder::create_new`].
    pub(crate) fn create_private(&self, name: &OsStr) -> Result<File> {
        self.make(name, Mode::RUSR | Mode::WUSR)
    }

    /// Opens a file of ours for writing past the cache, where the file system can do that.
    pub(crate) fn open_direct(&self, name: &OsStr) -> Option<File> {
        let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(&self.dir, name, flags, Mode::empty()).map(File::from).ok()
    }

    /// Refuses where no file of that name could be made, because the folder may not be written to.
    pub(crate) fn refuse_read_only(&self, name: &OsStr) -> Result<()> {
        self.writable().map_err(|e| self.failed("create", name, e))
    }

    fn writable(&self) -> rustix::io::Result<()> {
        fs::accessat(&self.dir, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
    }

    /// Opens what may be a file of ours that was left behind; it is not waited for, and no link is followed.
    pub(crate) fn open_left(&self, name: &OsStr) -> Option<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        // Opening a device may do something.
        self.stat(name).filter(|stat| FileType::from_raw_mode(stat.st_mode).is_file())?;
        fs::openat(&self.dir, name, flags, Mode::empty()).ok().map(File::from)
    }

    /// What a name leads to, which may be a link.
    pub(crate) fn stat(&self, name: &OsStr) -> Option<Stat> {
        fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW).ok()
    }

    /// Takes a name away.
    pub(crate) fn remove(&self, name: &OsStr) -> Result<()> {
        fs::unlinkat(&self.dir, name, AtFlags::empty()).map_err(|e| self.failed("unlink", name, e))
    }

    fn make(&self, name: &OsStr, mode: Mode) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(&self.dir, name, flags, mode).map(File::from);
        file.map_err(|e| self.failed("create", name, e))
    }

    /// Gives a file another name, which nothing has yet.
    ///
    /// # Errors
    /// Where something has it, or the system fails.
    pub(crate) fn rename_new(&self, from: &OsStr, to: &OsStr) -> Result<()> {
        match fs::renameat_with(&self.dir, from, &self.dir, to, RenameFlags::NOREPLACE) {
            // Not every file system can rename without replacing; all that have links can do this.
            Err(Errno::INVAL | Errno::NOSYS) => {
                let linked = fs::linkat(&self.dir, from, &self.dir, to, AtFlags::empty());
                linked.and_then(|()| fs::unlinkat(&self.dir, from, AtFlags::empty()))
            }
            other => other,
        }
        .map_err(|e| self.failed("rename", to, e))
    }

    /// Gives a file another name, which another one may have had.
    ///
    /// # Errors
    /// Where the system fails.
    pub(crate) fn rename(&self, from: &OsStr, to: &OsStr) -> Result<()> {
        fs::renameat(&self.dir, from, &self.dir, to).map_err(|e| self.failed("rename", to, e))
    }

    fn failed(&self, op: &'static str, name: &OsStr, source: Errno) -> Error {
        Error::File { op, path: self.path.join(name), source: source.into() }
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// Makes a file that was not there.
pub(crate) type Make = fn(&Folder, &OsStr) -> Result<File>;

impl Store for Folder {
    fn create(&mut self, name: &OsStr) -> Result<Box<dyn Dev>> {
        let file = self.create_private(name)?;
        if let Some(owner) = self.owner {
            // A file system without owners and modes has one answer for all files.
            let _ = owner.take_over(&file);
        }
        Ok(Box::new(FileDev::new(file)?))
    }

    fn may_create(&self) -> Result<()> {
        self.writable().map_err(|why| Error::Refused {
            what: format!("no file can be made in {:?}: {}", self.path, io::Error::from(why)),
            help: Some("let the journal lie elsewhere with --journal PATH".to_owned()),
        })
    }

    fn room(&self) -> Result<Option<Room>> {
        let failed =
            |source: Errno| Error::File { op: "statfs", path: self.path.clone(), source: source.into() };
        let stat = fs::fstatvfs(&self.dir).map_err(failed)?;
        let device = fs::fstat(&self.dir).map_err(failed)?.st_dev;
        Ok(Some(Room { device, free: Len::new(stat.f_bavail.saturating_mul(stat.f_frsize)) }))
    }

    fn open(&self, name: &OsStr) -> Result<Option<Box<dyn Dev>>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        match fs::openat(&self.dir, name, flags, Mode::empty()) {
            Ok(file) => {
                let dev = FileDev::new(file.into())?;
                if dev.kind() == DevKind::File {
                    Ok(Some(Box::new(dev)))
                } else {
                    Err(Error::Unsupported { what: "the journal is not a regular file" })
                }
            }
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(self.failed("open", name, e)),
        }
    }

    fn unlink(&mut self, name: &OsStr) -> Result<()> {
        self.remove(name)
    }

    fn flush(&mut self) -> Result<()> {
        fs::fsync(&self.dir).map_err(|source| Error::File {
            op: "flush",
            path: self.path.clone(),
            source: source.into(),
        })
    }
}
