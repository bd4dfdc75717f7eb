//! A patch as an image: the disk that it makes of its bases.
//!
//! 1. A patch names no files. What it stands on is named by the operator with `--base`, and without that nothing is
//!    taken for a patch: what a guest writes into its disk leads nowhere.
//! 2. The bases are known by their digests, as for `delta apply`; what is kept beside them is used. Looking keeps nothing.
//! 3. Only regular files are patches, and only where neither `-f` nor the name says otherwise.

use super::{Opened, name_of, refuse_pending};
use crate::cx::Session;
use crate::exit::{Failure, Of};
use crate::known::{Known, surveyed};
use crate::output::Output;
use crate::patch::AnyPatch;
use container::{Container, Error, Format, probe};
use delta::Patched;
use delta::vcdiff::Decoded;
use disk::{DevKind, Image, OpenOptions, ReadAt};
use std::path::Path;

/// What a patch stands on.
pub(super) struct Upon<'p> {
    pub(super) bases: Vec<Opened<'p>>,
    known: Vec<Known>,
}

/// What is done with one virtual disk.
type LookOne<'a, T> = Box<dyn FnOnce(&Container<&dyn ReadAt>) -> Result<T, Failure> + 'a>;

/// What is done with several virtual disks.
pub type Look<'a, T> = Box<dyn FnOnce(&[&dyn ReadAt]) -> Result<T, Failure> + 'a>;

/// Looks at the virtual disks of all images at once, `disks` first.
///
/// # Errors
/// As [`Opened::with_disk`].
pub fn with_disks<T>(
    opened: &[Opened<'_>],
    disks: Vec<&dyn ReadAt>,
    session: &Session,
    out: &Output,
    look: Look<'_, T>,
) -> Result<T, Failure> {
    let Some((first, rest)) = opened.split_first() else { return look(&disks) };
    first.with_disk(session, out, |disk| {
        let mut disks: Vec<&dyn ReadAt> = disks;
        disks.push(disk);
        with_disks(rest, disks, session, out, look)
    })
}

impl Session {
    /// Whether the file is a patch, and there is something that it can stand on.
    pub(super) fn is_patch(&self, image: &Image, path: &Path, told: Option<Format>) -> bool {
        let may = told.is_none() && !self.globals.base.is_empty() && image.kind() == DevKind::File;
        may && matches!(probe::probe(image, name_of(path)), Err(Error::Patch))
    }

    /// Opens a patch to look at the disk that it makes.
    pub(super) fn open_patch<'p>(&'p self, path: &'p Path, image: Image) -> Result<Opened<'p>, Failure> {
        refuse_pending(&image, path, self)?;
        let open = |base: &'p std::path::PathBuf| self.open_base(base);
        let bases: Vec<Opened<'p>> = self.globals.base.iter().map(open).collect::<Result<_, _>>()?;
        let known = bases.iter().map(|base| Known::of(base, true, self)).collect();
        Ok(Opened { upon: Some(Upon { bases, known }), ..Opened::new(path, image, Format::Raw) })
    }

    /// Opens what a patch stands on; that is no patch.
    fn open_base<'p>(&self, path: &'p Path) -> Result<Opened<'p>, Failure> {
        match self.vdi_in(path) {
            Some(vdi) => self.open_vdi(path, vdi),
            None => self.open_container(path, Image::open(path, &OpenOptions::default()).of(path)?, None),
        }
    }
}

impl Upon<'_> {
    /// Looks at the disk that the `patch` makes.
    pub(super) fn with_disk<T>(
        &self,
        patch: &Opened<'_>,
        session: &Session,
        out: &Output,
        look: LookOne<'_, T>,
    ) -> Result<T, Failure> {
        let path = patch.path;
        let read = AnyPatch::open(&patch.image, path, session)?;
        read.refuse_more(path, self.bases.len())?;
        read.warn(out);
        let look = |disk: &dyn ReadAt| look(&Container::open(disk, Format::Raw, &session.limits).of(path)?);
        let with_bases = |disks: &[&dyn ReadAt]| match read {
            AnyPatch::Native(read) => {
                let cx = session.cx();
                let given = session.on_threads(|| surveyed(disks, &self.known, &cx))?.of(path)?;
                look(&session.on_threads(|| Patched::new(read, given, &cx))?.of(path)?)
            }
            AnyPatch::Vcdiff(read) => {
                look(&Decoded::new(read, disks.first().copied(), session.limits).of(path)?)
            }
        };
        with_disks(&self.bases, Vec::new(), session, out, Box::new(with_bases))
    }
}
