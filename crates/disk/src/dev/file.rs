//! Real files, block devices and folders: the only user of the system's file calls.

use super::{Dev, DevKind, Identity, PastCache, Room, Store};
use crate::traits::{bounded, within};
use crate::{Error, ExtentKind, ExtentMap, ReadAt, Result};
use ondisk::num::{round_down, round_up};
use ondisk::{Len, Offset, Span};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    self, Access, Advice, AtFlags, FallocateFlags, FileType, Mode, OFlags, RenameFlags, SeekFrom, Stat,
};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Zeros are written in pieces of this length where the system cannot punch them.
pub(super) static ZEROS: [u8; 65536] = [0; 65536];

/// Cached bytes are dropped in pieces of this length: the largest group of pages that the kernel makes.
const CACHE: u64 = 2 << 20;

/// A regular file or a block device.
#[derive(Debug)]
pub struct FileDev {
    file: File,
    len: Len,
    kind: DevKind,
    identity: Identity,
    owner: Owner,
}

/// To whom a file belongs, and what everybody may do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    user: u32,
    group: u32,
    mode: u32,
}

impl Owner {
    /// Gives a new file of ours to the same people as far as we may; nobody gets more rights than he has on the image.
    fn take_over(self, file: &File) -> io::Result<()> {
        let whole = fchown(file, Some(self.user), Some(self.group)).is_ok();
        let mode = if whole {
            self.mode & 0o666
        } else if fchown(file, None, Some(self.group)).is_ok() {
            self.mode & 0o066 | 0o600
        } else {
            0o600
        };
        file.set_permissions(Permissions::from_mode(mode))
    }
}

impl FileDev {
    /// Takes an open file.
    ///
    /// # Errors
    /// Where it is neither a regular file nor a block device.
    pub fn new(file: File) -> Result<Self> {
        let stat = fs::fstat(&file).map_err(|e| sys("stat", Span::default(), e))?;
        let (kind, identity) = Identity::of(&stat)
            .ok_or(Error::Unsupported { what: "neither a regular file nor a block device" })?;
        let len = match kind {
            DevKind::File => u64::try_from(stat.st_size).unwrap_or_default(),
            DevKind::Block => {
                fs::seek(&file, SeekFrom::End(0)).map_err(|e| sys("seek", Span::default(), e))?
            }
        };
        let owner = Owner { user: stat.st_uid, group: stat.st_gid, mode: stat.st_mode };
        Ok(Self { file, len: Len::new(len), kind, identity, owner })
    }

    /// The file, given back with the locks that it carries.
    pub(crate) fn into_file(self) -> File {
        self.file
    }

    /// Whose it is; what lies beside a device is not for everybody who may use the device.
    pub(crate) fn owner(&self) -> Option<Owner> {
        (self.kind == DevKind::File).then_some(self.owner)
    }

    fn punch_hole(&self, span: Span) -> rustix::io::Result<()> {
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fs::fallocate(&self.file, how, span.start().get(), span.len().get())
    }

    /// Whether the file could be that long: a seek goes as far as the file system lets the file reach.
    fn reaches(&self, len: u64) -> bool {
        fs::seek(&self.file, SeekFrom::Start(len)).is_ok()
    }

    /// The longest that the file could become where it lies.
    fn len_max(&self) -> Len {
        let (mut most, mut beyond) = (self.len.get(), i64::MAX.unsigned_abs());
        while let middle = most.midpoint(beyond)
            && middle > most
        {
            if self.reaches(middle) {
                most = middle;
            } else {
                beyond = middle;
            }
        }
        Len::new(most)
    }
}

impl AsFd for FileDev {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl ReadAt for FileDev {
    fn len(&self) -> Len {
        self.len
    }

    fn read_at(&self, at: Offset, buf: &mut [u8]) -> Result<()> {
        let span = bounded(at, buf.len(), self.len)?;
        self.file.read_exact_at(buf, at.get()).map_err(|source| Error::Io { op: "read", span, source })
    }

    fn extents(&self, span: Span) -> Result<ExtentMap> {
        within(span, self.len)?;
        if self.kind == DevKind::Block {
            return Ok(ExtentMap::single(span, ExtentKind::Data));
        }
        let mut map = ExtentMap::new();
        let mut at = span.start();
        while at < span.end() {
            let data = match fs::seek(&self.file, SeekFrom::Data(at.get())) {
                Ok(data) => Offset::new(data).min(span.end()),
                Err(Errno::NXIO) => span.end(),
                // A file system without maps of its files: everything is data.
                Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
                Err(e) => return Err(sys("seek", span, e)),
            };
            map.push(Span::between(at, data).unwrap_or_default(), ExtentKind::Hole);
            if data == span.end() {
                break;
            }
            let hole = match fs::seek(&self.file, SeekFrom::Hole(data.get())) {
                Ok(hole) => Offset::new(hole).min(span.end()),
                Err(_) => span.end(),
            };
            // A hole that does not lie behind its data can only come from a change under our hands.
            let hole = if hole > data { hole } else { span.end() };
            map.push(Span::between(data, hole).unwrap_or_default(), ExtentKind::Data);
            at = hole;
        }
        Ok(map)
    }
}

impl Dev for FileDev {
    fn write_at(&mut self, at: Offset, buf: &[u8]) -> Result<()> {
        let span = Span::new(at, Len::of(buf))
            .filter(|span| self.kind == DevKind::File || Span::whole(self.len).contains(*span))
            .ok_or(Error::OutOfBounds { span: Span::default(), len: self.len })?;
        self.file.write_all_at(buf, at.get()).map_err(|source| Error::Io { op: "write", span, source })?;
        self.len = self.len.max(Len::new(span.end().get()));
        Ok(())
    }

    fn zero(&mut self, span: Span) -> Result<()> {
        within(span, self.len)?;
        if span.is_empty() {
            return Ok(());
        }
        match self.punch_hole(span) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                for part in span.chunks(Len::of(&ZEROS)) {
                    let zeros = ZEROS.get(..part.len().to_usize()).unwrap_or_default();
                    Dev::write_at(self, part.start(), zeros)?;
                }
                Ok(())
            }
            Err(e) => Err(sys("zero", span, e)),
        }
    }

    fn punch(&mut self, span: Span) -> Result<()> {
        within(span, self.len)?;
        if span.is_empty() {
            return Ok(());
        }
        self.punch_hole(span).map_err(|e| match e {
            Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL => Error::Refused {
                what: "files cannot have holes where the image lies".to_owned(),
                help: Some("sparsify to a new file on another file system".to_owned()),
            },
            e => sys("punch a hole", span, e),
        })
    }

    fn allocated(&self) -> Result<Option<Len>> {
        if self.kind == DevKind::Block {
            return Ok(None);
        }
        let stat = fs::fstat(&self.file).map_err(|e| sys("stat", Span::default(), e))?;
        Ok(Some(Len::new(u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(512))))
    }

    fn set_len(&mut self, len: Len) -> Result<()> {
        if self.kind == DevKind::Block {
            return if len == self.len {
                Ok(())
            } else {
                Err(Error::Unsupported { what: "a block device cannot change its length" })
            };
        }
        fs::ftruncate(&self.file, len.get()).map_err(|e| sys("resize", Span::whole(len), e))?;
        self.len = len;
        Ok(())
    }

    fn may_reach(&self, end: Offset) -> Result<()> {
        let refused = |what: String, help: &str| Error::Refused { what, help: Some(help.to_owned()) };
        if self.kind == DevKind::Block {
            let what = format!("the device has {} bytes, the change needs {end}", self.len);
            return if end <= self.len.end() {
                Ok(())
            } else {
                Err(refused(what, "extend the device first"))
            };
        }
        if let Some(limit) = getrlimit(Resource::Fsize).current.filter(|limit| end.get() > *limit) {
            let what =
                format!("the file would reach to byte {end}; this process may write up to byte {limit}");
            return Err(refused(what, "raise the limit with `ulimit -f`"));
        }
        // Where not even the present length can be reached, a seek says nothing about lengths.
        if self.reaches(end.get()) || !self.reaches(self.len.get()) {
            return Ok(());
        }
        let most = self.len_max();
        let what = format!("the file would be {end} bytes long; where it lies a file can have {most}");
        Err(refused(what, "grow it less, or move it to a file system with longer files, XFS for example"))
    }

    fn free(&self) -> Result<Option<Len>> {
        if self.kind == DevKind::Block {
            return Ok(None);
        }
        let stat = fs::fstatvfs(&self.file).map_err(|e| sys("statfs", Span::default(), e))?;
        Ok(Some(Len::new(stat.f_bavail.saturating_mul(stat.f_frsize))))
    }

    fn reserve(&mut self, span: Span) -> Result<()> {
        if self.kind == DevKind::Block || span.is_empty() {
            return Ok(());
        }
        match fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, span.start().get(), span.len().get()) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) if self.free()? >= Some(span.len()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Err(sys("reserve", span, Errno::NOSPC)),
            Err(e) => Err(sys("reserve", span, e)),
        }
    }

    fn flush(&mut self) -> Result<()> {
        fs::fsync(&self.file).map_err(|e| sys("flush", Span::whole(self.len), e))
    }

    fn forget(&mut self, span: Span) -> Result<()> {
        // The kernel keeps pages, and groups of them, that the range covers only in part.
        let start = round_down(span.start().get(), CACHE).unwrap_or_default();
        let end = round_up(span.end().get(), CACHE).unwrap_or(u64::MAX);
        let len = NonZeroU64::new(end.saturating_sub(start));
        fs::fadvise(&self.file, start, len, Advice::DontNeed).map_err(|e| sys("forget", span, e))
    }

    fn past_cache(&mut self) -> Option<PastCache<'_>> {
        PastCache::begin(&self.file, self.len)
    }

    fn kind(&self) -> DevKind {
        self.kind
    }

    fn identity(&self) -> Identity {
        self.identity
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

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

    /// The folder, in which new files belong to `owner`.
    #[must_use]
    pub(crate) fn owned(self, owner: Option<Owner>) -> Self {
        Self { owner, ..self }
    }

    /// Opens an image in this folder. A device that is mounted or part of a stack is not opened for writing.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn open_image(&self, name: &OsStr, write: bool, exclusive: bool) -> Result<File> {
        // NONBLOCK: opening a pipe must not hang. EXCL without CREATE speaks to block devices alone.
        let how = if write { OFlags::RDWR } else { OFlags::RDONLY };
        let excl = if exclusive { OFlags::EXCL } else { OFlags::empty() };
        let flags = how | excl | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
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
        let rights = Access::WRITE_OK | Access::EXEC_OK;
        fs::accessat(&self.dir, ".", rights, AtFlags::EACCESS).map_err(|why| Error::Refused {
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
                if dev.kind == DevKind::File {
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

fn sys(op: &'static str, span: Span, source: Errno) -> Error {
    Error::Io { op, span, source: source.into() }
}
