//! Opening an image: which file it is, its locks, and where its journal lies.

use super::{Image, JOURNAL_SUFFIX};
use crate::dev::Named;
use crate::lock::{self, Guard};
use crate::{Dev, DevKind, Error, FileDev, Folder, Place, Result};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// How to open an image.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// To change it.
    pub write: bool,
    /// To finish or take back an interrupted change, which else refuses opening for writing.
    pub recover: bool,
    /// Although it is in use.
    pub force: bool,
    /// Where its journal lies; else beside it.
    pub journal: Option<PathBuf>,
}

impl Image {
    /// Opens an image.
    ///
    /// # Errors
    /// Where it is neither a regular file nor a block device, is in use or has a journal (for writing), or where the
    /// system fails.
    pub fn open(path: &Path, how: &OpenOptions) -> Result<Self> {
        let at = |source| Error::File { op: "open", path: path.to_owned(), source };
        let real = std::fs::canonicalize(path).map_err(at)?;
        let (folder, name) = Folder::of(&real)?;
        Self::open_in(folder, &name, (path, &real), how)
    }

    /// Opens the image that is called `name` from `root` on, and lies below it: a name without links, by which nothing
    /// else is ever opened, whoever changes it meanwhile.
    ///
    /// # Errors
    /// As [`Image::open`], and where the name leads elsewhere, or through a link.
    pub fn open_beneath(root: &Path, name: &Path, how: &OpenOptions) -> Result<Self> {
        let (folder, last) = Folder::beneath(root, name)?;
        let path = root.join(name);
        Self::open_in(folder, &last, (&path, &path), how)
    }

    /// Opens what has that name in a folder, which is no link. `path` is for messages and to see it again, `real` leads
    /// to the same without links.
    fn open_in(
        folder: Folder,
        name: &OsStr,
        (path, real): (&Path, &Path),
        how: &OpenOptions,
    ) -> Result<Self> {
        let write = how.write || how.recover;
        let dev = FileDev::new(folder.open_image(name, write, write && !how.force).map_err(lock::busy)?)?;
        let locked = lock::lock_bytes_held(&dev);
        let guard = if write {
            lock::exclusive(&dev, how.force)?;
            Some(Guard::new(&dev, how.force)?)
        } else {
            lock::shared(&dev, locked);
            None
        };
        // Behind the locks: from here on others stay away, if they mind locks.
        let named = Some(Named::new(path, dev.identity())?);
        let owner = dev.owner();
        let journal = match &how.journal {
            Some(path) => Some(Place::owned(path, owner)?),
            None if dev.kind() == DevKind::File => Some(beside(folder.owned(owner), name, real)),
            None => None,
        };
        let image = Self { dev: Box::new(dev), journal, write, locked, named, owner, guard };
        if how.write && !how.recover {
            image.refuse_pending()?;
        }
        Ok(image)
    }

    fn refuse_pending(&self) -> Result<()> {
        match &self.journal {
            Some(place) if place.open()?.is_some() => Err(Error::Pending { journal: place.path.clone() }),
            _ => Ok(()),
        }
    }
}

/// The place of the journal beside the image.
fn beside(folder: Folder, name: &OsStr, path: &Path) -> Place {
    let with_suffix = |name: &OsStr| {
        let mut name: OsString = name.to_owned();
        name.push(JOURNAL_SUFFIX);
        name
    };
    Place { store: Box::new(folder), name: with_suffix(name), path: with_suffix(path.as_os_str()).into() }
}
