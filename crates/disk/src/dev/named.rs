//! The name by which an image was opened: what it leads to, seen again later.

use super::{DevKind, Identity};
use crate::{Error, Result};
use rustix::fs::stat;
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

impl Named {
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
