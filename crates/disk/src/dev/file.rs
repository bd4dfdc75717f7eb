//! Real files and block devices.

use super::{Dev, DevKind, Identity, PastCache};
use crate::traits::{bounded, within};
use crate::{Error, ExtentKind, ExtentMap, ReadAt, Result};
use ondisk::num::{round_down, round_up};
use ondisk::{Len, Offset, Span};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{self, Advice, FallocateFlags, SeekFrom};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::fs::{File, Permissions};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, PermissionsExt, fchown};

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
    pub(super) fn take_over(self, file: &File) -> io::Result<()> {
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

fn sys(op: &'static str, span: Span, source: Errno) -> Error {
    Error::Io { op, span, source: source.into() }
}
