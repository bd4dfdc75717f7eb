//! A new file that gets its name when it is whole and durable, and not before.
//!
//! 1. Nothing is overwritten: neither the name nor the draft may exist. Only [`Draft::replacing`] takes the place of a
//!    file, and only when the new one is whole.
//! 2. Until [`Draft::publish`] the file is called `NAME.imgtool-new`; dropped before, it vanishes. A process that is
//!    killed leaves the draft at most, and the next one that wants the name removes it: see `draft::left`.
//! 3. Bytes first, then the name: both are durable when `publish` returns.

mod left;

use crate::dev::Make;
use crate::{Change, Data, Error, Folder, Result, Store, Target};
use rustix::fs::FileType;
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// What is added to the name of a file that is not whole yet.
pub const DRAFT_SUFFIX: &str = ".imgtool-new";

/// A file that is being made.
#[derive(Debug)]
pub struct Draft {
    folder: Folder,
    name: OsString,
    draft: OsString,
    path: PathBuf,
    target: Target,
    published: bool,
    replaces: bool,
}

impl Draft {
    /// Begins the file that will be called `path`.
    ///
    /// # Errors
    /// Where there is something of that name, or a draft of it, or the system fails.
    pub fn create(path: &Path) -> Result<Self> {
        refuse_existing(path)?;
        Self::begin(path, false, Folder::create_new)
    }

    /// Begins the file that will be called `path`, and take the place of a file that is called so.
    ///
    /// # Errors
    /// Where something else than a file has the name, there is a draft of it, or the system fails.
    pub fn replacing(path: &Path) -> Result<Self> {
        Self::replace(path, Folder::create_new)
    }

    /// As [`Draft::replacing`], for what only its owner may read.
    ///
    /// # Errors
    /// As [`Draft::replacing`].
    pub fn private(path: &Path) -> Result<Self> {
        Self::replace(path, Folder::create_private)
    }

    /// Refuses what [`Draft::create`] and [`Draft::replacing`] would, as far as that shows without making anything. What
    /// has the name itself is not looked at.
    ///
    /// # Errors
    /// Where the folder may not be written to, there is a draft at which somebody works, or the system fails.
    pub fn foresee(path: &Path) -> Result<()> {
        let (folder, name) = Folder::of(path)?;
        let draft = with_suffix(&name);
        folder.refuse_read_only(&draft)?;
        if folder.stat(&draft).is_some() && left::given_up(&folder, &draft).is_none() {
            return Err(taken(&draft));
        }
        Ok(())
    }

    fn replace(path: &Path, make: Make) -> Result<Self> {
        match rustix::fs::lstat(path) {
            Ok(stat) if !FileType::from_raw_mode(stat.st_mode).is_file() => refuse_existing(path)?,
            _ => {}
        }
        Self::begin(path, true, make)
    }

    fn begin(path: &Path, replaces: bool, make: Make) -> Result<Self> {
        let (folder, name) = Folder::of(path)?;
        let draft = with_suffix(&name);
        let file = match make(&folder, &draft) {
            Err(error) if is_there(&error) && left::remove(&folder, &draft)? => make(&folder, &draft),
            made => made,
        };
        let file = file.map_err(|error| if is_there(&error) { taken(&draft) } else { error })?;
        left::claim(&file);
        let target = Target::twice(file, folder.open_direct(&draft));
        Ok(Self { folder, name, draft, path: path.to_owned(), target, published: false, replaces })
    }

    /// Writes what a change makes of an empty file: zeros are holes.
    ///
    /// # Errors
    /// Where the system fails.
    pub fn fill(&self, change: &Change) -> Result<()> {
        self.set_len(change.new_len)?;
        for write in change.fresh.iter().chain(&change.home) {
            if let Data::Bytes(bytes) = &write.data {
                self.write_at(write.at, bytes)?;
            }
        }
        Ok(())
    }

    /// Makes the bytes durable, gives the file its name, and makes that durable as well.
    ///
    /// # Errors
    /// Where somebody else has made a file of that name meanwhile, or the system fails.
    pub fn publish(mut self) -> Result<()> {
        self.flush()?;
        let renamed = if self.replaces {
            self.folder.rename(&self.draft, &self.name)
        } else {
            self.folder.rename_new(&self.draft, &self.name)
        };
        renamed.map_err(|error| if is_there(&error) { exists() } else { error })?;
        self.published = true;
        left::release(&self.target);
        self.folder.flush()
    }

    /// The name that it will have.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Deref for Draft {
    type Target = Target;

    fn deref(&self) -> &Target {
        &self.target
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published {
            // Who cannot remove it could not have used it either.
            let _ = self.folder.unlink(&self.draft);
        }
    }
}

/// Refuses a name that something has.
///
/// # Errors
/// Where something has it, or the system fails.
pub fn refuse_existing(path: &Path) -> Result<()> {
    match rustix::fs::lstat(path) {
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::File { op: "stat", path: path.to_owned(), source: errno.into() }),
        Ok(_) => Err(exists()),
    }
}

fn with_suffix(name: &OsStr) -> OsString {
    let mut draft = name.to_owned();
    draft.push(DRAFT_SUFFIX);
    draft
}

fn is_there(error: &Error) -> bool {
    matches!(error, Error::File { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists)
}

fn taken(draft: &OsStr) -> Error {
    Error::Refused {
        what: format!("{draft:?} beside it exists already: somebody makes it, or has left it unfinished"),
        help: Some("remove that if nobody is at work".to_owned()),
    }
}

fn exists() -> Error {
    Error::Refused {
        what: "exists already".to_owned(),
        help: Some("nothing is overwritten: remove it first, or choose another name".to_owned()),
    }
}
