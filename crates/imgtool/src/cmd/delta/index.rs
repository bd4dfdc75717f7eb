//! `delta create --index FILE`: the index of the bases, kept for the next time.
//!
//! 1. The file is a hint: see [`Indexed`]. What the bases are is known by the values of their windows, which are read, or
//!    lie beside them by the rules of [`crate::known`].
//! 2. It is replaced where it is of other bases, or was made otherwise; but nothing is replaced that is no index.

use super::sink::written;
use super::{keep, refuse_over};
use crate::cx::Session;
use crate::exit::{Failure, Of, show};
use crate::known::{Known, surveyed};
use crate::open::Opened;
use crate::output::Output;
use crate::sandbox::{Needs, folder_of};
use delta::{Indexed, is_index};
use disk::{FileDev, ReadAt};
use std::path::Path;

/// Where the index of the bases is kept, and what is there.
pub(super) struct Kept<'a> {
    path: &'a Path,
    file: Option<FileDev>,
    bases: &'a [Opened<'a>],
    known: Vec<Known>,
}

impl<'a> Kept<'a> {
    /// Looks at the file. The sandbox lets nothing be opened later.
    pub(super) fn open(
        path: &'a Path,
        bases: &'a [Opened<'a>],
        read: &[&Path],
        session: &Session,
    ) -> Result<Self, Failure> {
        refuse_over(path, read, session)?;
        let file = if path.exists() { Some(FileDev::new(super::plain(path)?).of(path)?) } else { None };
        if let Some(file) = &file
            && !is_index(file).of(path)?
        {
            let why = "no index, and it would be replaced";
            return Err(Failure::refused(path, why).with_help("name a file that does not exist"));
        }
        let known = super::known(bases, false, session);
        Ok(Self { path, file, bases, known })
    }

    /// Adds where something will be written.
    pub(super) fn needs(&self, needs: Needs) -> Needs {
        self.known.iter().fold(needs.writing(folder_of(self.path)), |needs, known| known.needs(needs))
    }

    /// The index of the bases, and whether it was kept; else it is made, and kept for the next time.
    pub(super) fn index(
        &self,
        disks: &[&dyn ReadAt],
        session: &Session,
        out: &Output,
    ) -> Result<(Indexed, bool), Failure> {
        let (path, cx) = (self.path, session.cx());
        if let Some(file) = &self.file {
            let given = session.on_threads(|| surveyed(disks, &self.known, &cx))?.of(path)?;
            keep(self.bases, &self.known, &given, session);
            let leaves = given.into_iter().map(|(_, leaves)| leaves).collect();
            let kept = session.on_threads(|| Indexed::kept(file, disks, leaves, &cx))?.of(path)?;
            if let Some(kept) = kept {
                return Ok((kept, true));
            }
            let name = show(path);
            out.warn(format!(
                "{name}: the index is of other bases, damaged, or made with other memory: made anew"
            ));
        }
        let made = session.on_threads(|| Indexed::of(disks, &cx))?.of(path)?;
        let given: Vec<_> = disks.iter().copied().zip(made.leaves().iter().cloned()).collect();
        keep(self.bases, &self.known, &given, session);
        if !session.globals.dry_run {
            written(path, session, |to| made.write(to).map_err(|error| Failure::io(path, &error)))?;
        }
        Ok((made, false))
    }
}
