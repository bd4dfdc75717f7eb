//! Durable bytes: what commit and recovery write to, and nobody else.
//!
//! 1. A [`Dev`] is one file or device, a [`Store`] the folder of the files beside it. The simulator implements both.
//! 2. Nothing is durable before [`Dev::flush`] of the file has succeeded; a name not before [`Store::flush`].
//! 3. A failure is final: after a failed flush the state of the bytes since the last good one is unknown, and calling
//!    it again proves nothing.

mod beneath;
mod file;
mod folder;
mod named;
mod past;
mod space;
mod target;

pub use file::{FileDev, Owner};
pub use folder::Folder;
pub(crate) use folder::Make;
pub use named::{Named, Settled};
pub use past::{PAGE, Pages, PastCache};
pub use space::Space;
pub use target::Target;

use crate::{ReadAt, Result};
use ondisk::{Len, Offset, Span};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{FileType, Stat};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

/// What kind of thing carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DevKind {
    /// A file: its length can change, and a journal may lie beside it.
    File,
    /// A block device.
    Block,
}

/// Which file it is. Only for people: a copied image recovers as well as the original.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The device that it lies on, or that it is.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

impl Identity {
    /// Of a file with such a status; `None` where it is neither a regular file nor a block device.
    fn of(stat: &Stat) -> Option<(DevKind, Self)> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Some((DevKind::File, Self { device: stat.st_dev, inode: stat.st_ino })),
            FileType::BlockDevice => Some((DevKind::Block, Self { device: stat.st_rdev, inode: 0 })),
            _ => None,
        }
    }
}

/// When a file was last written to, in seconds since 1970; `None` where nobody knows.
pub(crate) fn modified(file: impl AsFd) -> Option<u64> {
    u64::try_from(rustix::fs::fstat(file).ok()?.st_mtime).ok()
}

/// Bytes with durability.
pub trait Dev: ReadAt + Send {
    /// Replaces the bytes from `at`; grows a file where they reach beyond its end.
    ///
    /// # Errors
    /// Where the system fails; some of the bytes may be written then.
    fn write_at(&mut self, at: Offset, buf: &[u8]) -> Result<()>;

    /// Makes `span`, which lies inside, read as zero; gives its space back where that is possible.
    ///
    /// # Errors
    /// Where the system fails.
    fn zero(&mut self, span: Span) -> Result<()>;

    /// Gives the space of `span`, which lies inside, back; it reads as zero then.
    ///
    /// # Errors
    /// Where that is not possible, and nothing has been written; where the system fails.
    fn punch(&mut self, span: Span) -> Result<()>;

    /// How much space the bytes take where they lie; `None` where nobody knows.
    ///
    /// # Errors
    /// Where the system fails.
    fn allocated(&self) -> Result<Option<Len>>;

    /// Changes the length; new bytes read as zero.
    ///
    /// # Errors
    /// Where the system fails, or the device has a fixed length.
    fn set_len(&mut self, len: Len) -> Result<()>;

    /// Refuses an end that the bytes could never reach where they lie, and finds out without touching them.
    ///
    /// # Errors
    /// Where they could not.
    fn may_reach(&self, end: Offset) -> Result<()>;

    /// How much space is left for new bytes; `None` where bytes take no space, or nobody knows.
    ///
    /// # Errors
    /// Where the system fails.
    fn free(&self) -> Result<Option<Len>>;

    /// Reserves the space for writing `span`, which may lie beyond the end. Neither bytes nor length change. Where the
    /// system cannot reserve, checks that at least as much space is free.
    ///
    /// # Errors
    /// Where there is not enough space.
    fn reserve(&mut self, span: Span) -> Result<()>;

    /// Makes everything written durable, the length included.
    ///
    /// # Errors
    /// Where the system fails: final.
    fn flush(&mut self) -> Result<()>;

    /// Forgets cached bytes of `span`, so that the next read comes from the medium. A hint.
    ///
    /// # Errors
    /// Where the system fails.
    fn forget(&mut self, span: Span) -> Result<()>;

    /// A way past the system's cache, for several threads at once, for what lies inside; nothing else is done with the
    /// bytes before it is dropped. `None` where there is none.
    fn past_cache(&mut self) -> Option<PastCache<'_>> {
        None
    }

    /// File or block device.
    fn kind(&self) -> DevKind;

    /// Which one it is.
    fn identity(&self) -> Identity;

    /// The open file, where there is a real one.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}

/// Space for files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The device that it is on.
    pub device: u64,
    /// What is free there.
    pub free: Len,
}

/// A folder with side files.
pub trait Store: Send + Sync {
    /// Creates a file that nobody can read but who can read the image.
    ///
    /// # Errors
    /// Where there is one of that name already, or the system fails.
    fn create(&mut self, name: &OsStr) -> Result<Box<dyn Dev>>;

    /// Refuses where no file could be created.
    ///
    /// # Errors
    /// Where the folder may not be written to.
    fn may_create(&self) -> Result<()>;

    /// How much space new files have; `None` where nobody knows.
    ///
    /// # Errors
    /// Where the system fails.
    fn room(&self) -> Result<Option<Room>>;

    /// Opens a file for reading; `None` where there is none.
    ///
    /// # Errors
    /// Where it is no regular file, or the system fails.
    fn open(&self, name: &OsStr) -> Result<Option<Box<dyn Dev>>>;

    /// Takes a name away.
    ///
    /// # Errors
    /// Where the system fails.
    fn unlink(&mut self, name: &OsStr) -> Result<()>;

    /// Makes the names durable.
    ///
    /// # Errors
    /// Where the system fails: final.
    fn flush(&mut self) -> Result<()>;
}

/// A name in a folder: where a journal or an undo file lies.
pub struct Place {
    /// The folder.
    pub store: Box<dyn Store>,
    /// The name in it.
    pub name: OsString,
    /// The same for people.
    pub path: PathBuf,
}

impl Place {
    /// The place that `path` names; its folder must exist.
    ///
    /// # Errors
    /// Where there is no such folder, or `path` names none of its files.
    pub fn at(path: &Path) -> Result<Self> {
        Self::owned(path, None)
    }

    /// As [`Place::at`]; what is created there belongs to `owner`.
    pub(crate) fn owned(path: &Path, owner: Option<Owner>) -> Result<Self> {
        let (folder, name) = Folder::of(path)?;
        Ok(Self { store: Box::new(folder.owned(owner)), name, path: path.to_owned() })
    }

    /// Opens what lies there for reading.
    pub(crate) fn open(&self) -> Result<Option<Box<dyn Dev>>> {
        self.store.open(&self.name)
    }

    /// Creates it.
    pub(crate) fn create(&mut self) -> Result<Box<dyn Dev>> {
        self.store.create(&self.name)
    }

    /// Takes it away for good.
    pub(crate) fn remove(&mut self) -> Result<()> {
        self.store.unlink(&self.name)?;
        self.store.flush()
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.path).finish()
    }
}

impl fmt::Debug for dyn Dev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}, {} bytes", self.kind(), self.identity(), self.len())
    }
}
