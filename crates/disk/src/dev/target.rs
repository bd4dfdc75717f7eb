//! A new file or a device that several threads write at once, each its own bytes.
//!
//! 1. Positions are absolute: there is no cursor, and no order among writers but the one that they keep themselves.
//! 2. Nothing is durable before [`Target::flush`], but the system is kept writing from the beginning: what is large and
//!    well aligned goes past its cache, of the rest it is told now and then.
//! 3. What goes past the cache takes whole pages, so that no page is written in both ways.

use super::file::ZEROS;
use super::past::PAGE;
use super::{Dev, DevKind, FileDev, Folder};
use crate::{Error, ReadAt, Result, lock};
use ondisk::{Len, Offset, Span};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{self, Advice, FallocateFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where bytes go.
#[derive(Debug)]
pub struct Target {
    file: File,
    /// The length of a device, which is what it is.
    fixed: Option<Len>,
    /// How many bytes went through the cache.
    written: AtomicU64,
    /// The same file past the cache, and its length.
    direct: Option<(File, Mutex<Length>)>,
}

/// The length of a file that is made longer ahead of what is written.
#[derive(Debug, Default)]
struct Length {
    /// As it will be.
    wanted: u64,
    /// As it is for now: not less.
    ahead: u64,
}

impl Target {
    /// Takes an open file.
    #[must_use]
    pub const fn new(file: File) -> Self {
        Self { file, fixed: None, written: AtomicU64::new(0), direct: None }
    }

    /// Takes an empty file that is open twice, the second time past the cache.
    #[must_use]
    pub(crate) fn twice(file: File, direct: Option<File>) -> Self {
        let direct = direct.filter(|_| rustix::param::page_size() == PAGE);
        Self { direct: direct.map(|direct| (direct, Mutex::default())), ..Self::new(file) }
    }

    /// Takes a block device for writing, of which nobody else has anything.
    ///
    /// # Errors
    /// Where it is none, is in use, or the system refuses.
    pub fn device(path: &Path) -> Result<Self> {
        let at = |source| Error::File { op: "open", path: path.to_owned(), source };
        let (folder, name) = Folder::of(&std::fs::canonicalize(path).map_err(at)?)?;
        let file = folder.open_image(&name, true, true).map_err(lock::busy)?;
        let dev = FileDev::new(file)?;
        if dev.kind() != DevKind::Block {
            return Err(Error::Unsupported { what: "not a block device" });
        }
        lock::exclusive(&dev, false)?;
        Ok(Self { fixed: Some(dev.len()), ..Self::new(dev.into_file()) })
    }

    /// The length of a device.
    #[must_use]
    pub const fn fixed_len(&self) -> Option<Len> {
        self.fixed
    }

    /// Replaces the bytes from `at`; a file grows where they reach beyond its end.
    ///
    /// # Errors
    /// Where the system fails; some of the bytes may be written then.
    pub fn write_at(&self, at: Offset, buf: &[u8]) -> Result<()> {
        let span = Span::new(at, Len::of(buf)).unwrap_or_default();
        let failed = |source| Error::Io { op: "write", span, source };
        if let Some((file, length)) = &self.direct {
            lengthen(file, length, span.end());
            if suits(span, buf) {
                match file.write_all_at(buf, at.get()) {
                    // Not past the cache of this file system: nothing was written.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                    done => return done.map_err(failed),
                }
            }
        }
        self.file.write_all_at(buf, at.get()).map_err(failed)?;
        let len = span.len().get();
        let before = self.written.fetch_add(len, Ordering::Relaxed);
        if before >> BEHIND_LOG < before.saturating_add(len) >> BEHIND_LOG {
            self.start_writing(span.end());
        }
        Ok(())
    }

    fn length(&self) -> Option<MutexGuard<'_, Length>> {
        self.direct.as_ref().map(|(_, length)| length.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets the system begin to write what has been collected up to `end`, instead of all of it at the flush.
    fn start_writing(&self, end: Offset) {
        let start = end.get().saturating_sub(BACK.get());
        // A hint: the flush writes whatever is left.
        let _ = fs::fadvise(
            &self.file,
            start,
            NonZeroU64::new(end.get().saturating_sub(start)),
            Advice::DontNeed,
        );
    }

    /// Gives a file that length; new bytes read as zero and take no space. A device stays as it is.
    ///
    /// # Errors
    /// Where the system fails, a file cannot be that long, or a device is not.
    pub fn set_len(&self, len: Len) -> Result<()> {
        if let Some(fixed) = self.fixed {
            return if len <= fixed {
                Ok(())
            } else {
                Err(Error::OutOfBounds { span: Span::whole(len), len: fixed })
            };
        }
        let mut length = self.length();
        fs::ftruncate(&self.file, len.get()).map_err(|errno| sys("resize", Span::whole(len), errno))?;
        if let Some(length) = &mut length {
            **length = Length { wanted: len.get(), ahead: len.get() };
        }
        Ok(())
    }

    /// Makes `span` read as zero and gives its space back where that is possible.
    ///
    /// # Errors
    /// Where the system fails.
    pub fn zero(&self, span: Span) -> Result<()> {
        if span.is_empty() {
            return Ok(());
        }
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fs::fallocate(&self.file, how, span.start().get(), span.len().get()) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                span.chunks(Len::of(&ZEROS)).try_for_each(|part| {
                    self.write_at(part.start(), ZEROS.get(..part.len().to_usize()).unwrap_or_default())
                })
            }
            Err(errno) => Err(sys("zero", span, errno)),
        }
    }

    /// Becomes what `source` is, length and holes included, without copying a byte: both share their blocks until one
    /// of them is written. Yields whether the file system can do that; where it cannot, nothing has happened.
    ///
    /// # Errors
    /// Where the system fails otherwise.
    pub fn clone_of(&self, source: impl AsFd) -> Result<bool> {
        match fs::ioctl_ficlone(&self.file, source) {
            Ok(()) => {
                let stat = fs::fstat(&self.file).map_err(|errno| sys("stat", Span::default(), errno))?;
                self.set_len(Len::new(u64::try_from(stat.st_size).unwrap_or_default()))?;
                Ok(true)
            }
            Err(Errno::IO | Errno::NOSPC | Errno::DQUOT) => Err(sys("clone", Span::default(), Errno::IO)),
            Err(_) => Ok(false),
        }
    }

    /// When it was last written to, in seconds since 1970; `None` where nobody knows. A flush may still change that, if it
    /// is the first since.
    #[must_use]
    pub fn modified(&self) -> Option<u64> {
        super::modified(&self.file)
    }

    /// Makes everything durable.
    ///
    /// # Errors
    /// Where the system fails: final.
    pub fn flush(&self) -> Result<()> {
        let wanted = self.length().filter(|length| length.ahead > length.wanted).map(|length| length.wanted);
        wanted.map_or(Ok(()), |wanted| self.set_len(Len::new(wanted)))?;
        fs::fsync(&self.file).map_err(|errno| sys("flush", Span::default(), errno))
    }
}

/// Writing begins when so much has been collected: 16 MiB.
const BEHIND_LOG: u32 = 24;
/// So far back something may lie that is not under way yet: several threads write, each at its own place.
const BACK: Len = Len::mib(64);

/// Less than this does not pay to be waited for.
pub(super) const DIRECT: Len = Len::kib(64);
/// So much longer than needed a file is made at a time.
const AHEAD: Len = Len::mib(64);

/// Makes a file longer before it is written: the system lets several write at once only within its length.
fn lengthen(file: &File, length: &Mutex<Length>, end: Offset) {
    let mut length = length.lock().unwrap_or_else(PoisonError::into_inner);
    length.wanted = length.wanted.max(end.get());
    if end.get() > length.ahead {
        let ahead = end.get().saturating_add(AHEAD.get());
        // Where it cannot be so long, writing tells whether it can be as long as it must.
        length.ahead = if fs::ftruncate(file, ahead).is_ok() { ahead } else { end.get() };
    }
}

/// Whether bytes can go past the cache, and are worth it.
pub(super) fn suits(span: Span, buf: &[u8]) -> bool {
    let page = ondisk::num::to_u64(PAGE);
    span.len() >= DIRECT
        && span.start().is_aligned(page)
        && span.len().is_aligned(page)
        && buf.as_ptr().align_offset(PAGE) == 0
}

impl AsFd for Target {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn sys(op: &'static str, span: Span, source: Errno) -> Error {
    Error::Io { op, span, source: source.into() }
}
