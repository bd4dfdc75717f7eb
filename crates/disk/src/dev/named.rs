//! The name by which an image was opened: what it leads to, seen again later.

use super::{DevKind, Identity};
use crate::lock::Survey;
use crate::{Error, Result};
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags, fstat, open, stat};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A name, and what it led to when it was last looked at.
#[derive(Clone, Debug)]
pub struct Named {
    path: PathBuf,
    seen: Seen,
}

/// What shows that a file is another one, or was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    identity: Identity,
    /// Length and time of the last change; a device shows neither.
    state: Option<(i64, (i64, i64))>,
}

impl Seen {
    fn at(path: &Path) -> Result<Self> {
        let failed = |source| Error::File { op: "stat", path: path.to_owned(), source };
        let stat = stat(path).map_err(|errno| failed(errno.into()))?;
        let (kind, identity) = Identity::of(&stat).ok_or_else(replaced)?;
        let modified = (stat.st_mtime, stat.st_mtime_nsec.try_into().unwrap_or_default());
        Ok(Self { identity, state: (kind == DevKind::File).then_some((stat.st_size, modified)) })
    }
}

/// A file that nobody is writing to, in the state in which it was seen: another one shows, whoever makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Device and number.
    pub identity: Identity,
    /// Its length.
    pub len: u64,
    /// When its bytes were last written to: seconds since 1970, and nanoseconds.
    pub modified: (i64, i64),
    /// When anything about it was last changed, which nobody can set back: the same.
    pub changed: (i64, i64),
}

/// Younger changes may go on within the same tick of the clock that files are stamped with: seconds.
const TICK: i64 = 3;

impl Named {
    /// The state of the file at `now`, in seconds since 1970. `None` where it is none, has been written to since it was
    /// opened or only just before, or where somebody writes to it, or may.
    #[must_use]
    pub fn settled(&self, now: u64) -> Option<Settled> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let file = open(&self.path, flags, Mode::empty()).ok()?;
        let stat = fstat(&file).ok()?;
        let (kind, identity) = Identity::of(&stat)?;
        let nanoseconds = |n: u64| n.try_into().unwrap_or_default();
        let modified = (stat.st_mtime, nanoseconds(stat.st_mtime_nsec));
        let changed = (stat.st_ctime, nanoseconds(stat.st_ctime_nsec));
        let same = self.seen == Seen { identity, state: Some((stat.st_size, modified)) };
        let before = i64::try_from(now).ok()?.checked_sub(TICK)?;
        if kind != DevKind::File || !same || modified.0.max(changed.0) > before || is_written(&file, identity)
        {
            return None;
        }
        Some(Settled { identity, len: u64::try_from(stat.st_size).ok()?, modified, changed })
    }

    /// The name of an open file.
    ///
    /// # Errors
    /// Where it leads elsewhere by now.
    pub(crate) fn new(path: &Path, identity: Identity) -> Result<Self> {
        let seen = Seen::at(path)?;
        if seen.identity == identity { Ok(Self { path: path.to_owned(), seen }) } else { Err(replaced()) }
    }

    /// The name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses where the name leads to another file, or somebody has written to it.
    ///
    /// # Errors
    /// Where that is so.
    pub fn refuse_changed(&self) -> Result<()> {
        if self.now()? == self.seen {
            return Ok(());
        }
        Err(Error::Refused {
            what: "somebody has written to the file since it was opened".to_owned(),
            help: Some("stop whoever does, and repeat the command".to_owned()),
        })
    }

    /// What is there now was written by us.
    pub(crate) fn look_again(&mut self) {
        if let Ok(seen) = self.now() {
            self.seen = seen;
        }
    }

    fn now(&self) -> Result<Seen> {
        let now = Seen::at(&self.path).map_err(|_| replaced())?;
        if now.identity == self.seen.identity { Ok(now) } else { Err(replaced()) }
    }
}

fn replaced() -> Error {
    Error::Refused {
        what: "the name leads to another file than the one that was opened".to_owned(),
        help: Some("somebody has replaced it; repeat the command".to_owned()),
    }
}

/// Whether somebody has the file open for writing, or nobody can tell.
fn is_written(file: impl AsFd, identity: Identity) -> bool {
    match lease::take_reading(&file) {
        Ok(()) => {
            let _ = lease::release(&file);
            false
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => true,
        Err(_) => {
            let survey = Survey::of(DevKind::File, identity, false);
            survey.unseen > 0
                || !survey.kernel.is_empty()
                || survey.holders.iter().any(|holder| holder.writes)
        }
    }
}
