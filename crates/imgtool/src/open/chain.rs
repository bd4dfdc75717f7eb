//! Opening the images of a chain one by one: to change a parent, and to find who else stands on it.

use super::{Found, Opened, chain, name_of, real_folder, refuse_pending};
use crate::args::Change;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::output::Output;
use container::{Container, Format, ParentRef, probe};
use disk::{Identity, OpenOptions, ReadAt};
use ondisk::guid::Uuid;
use std::path::{Path, PathBuf};

/// In folders with more files than this nobody looks for children.
const FILES_MAX: usize = 100_000;

impl Session {
    /// Opens an image without its parents: what it is, and which parent it names. With `change`, nobody else uses it.
    ///
    /// # Errors
    /// Where it cannot be opened, only its bytes say what it is, or a change of it was interrupted.
    pub fn open_member<'p>(
        &self,
        path: &'p Path,
        told: Option<Format>,
        change: Option<&Change>,
    ) -> Result<(Opened<'p>, Option<ParentRef>), Failure> {
        self.open_found(&Found::Told(path.to_owned()), path, told, change)
    }

    /// As [`Session::open_member`], of what was found at `path`.
    ///
    /// # Errors
    /// As [`Session::open_member`].
    pub fn open_found<'p>(
        &self,
        found: &Found,
        path: &'p Path,
        told: Option<Format>,
        change: Option<&Change>,
    ) -> Result<(Opened<'p>, Option<ParentRef>), Failure> {
        let how = OpenOptions {
            write: change.is_some(),
            force: change.is_some_and(|change| change.force),
            ..OpenOptions::default()
        };
        let image = found.open(&how).of(path)?;
        refuse_pending(&image, path, self)?;
        let format = probe::certain(&image, name_of(path), told).of(path)?;
        let opened = Opened::new(path, image, format);
        let (wanted, _) = opened.outward(self)?;
        Ok((opened, wanted))
    }

    /// Where the parent that `child` names lies; `nth` counts from the image that the operator named.
    ///
    /// # Errors
    /// Where it is not to be found by the rules.
    pub fn parent_of(&self, child: &Path, wanted: &ParentRef, nth: usize) -> Result<Found, Failure> {
        match self.globals.parent.get(nth) {
            Some(path) => Ok(Found::Told(path.clone())),
            None => self.find_parent(child, &real_folder(child)?, wanted),
        }
    }

    /// Opens the parent of the image that the operator named, found at `path`, to change it, with parents of its own
    /// below it.
    ///
    /// # Errors
    /// As [`Session::open_writing`].
    pub fn open_parent_writing<'p>(
        &self,
        found: &Found,
        path: &'p Path,
        told: Option<Format>,
        change: &Change,
    ) -> Result<Opened<'p>, Failure> {
        let mut opened = self.open_told(path, change, told, |how| found.open(how))?;
        let (wanted, _) = opened.outward(self)?;
        self.follow(&mut opened, wanted, 1)?;
        Ok(opened)
    }

    /// Refuses to change what an image reads as, or its format, while another one beside it, or in the folders of
    /// `--parent-dir`, stands on it. Files that cannot be read stand on nothing.
    ///
    /// # Errors
    /// Where one is found, and the change is not forced.
    pub fn refuse_parent(&self, opened: &Opened<'_>, change: &Change, out: &Output) -> Result<(), Failure> {
        let Some(child) = self.child_of(opened) else { return Ok(()) };
        let why = format!("{}: {} stands on it", show(opened.path), show(&child));
        if change.force {
            out.warn(format!("{why}, and may read otherwise from now on"));
            return Ok(());
        }
        let help = "change the image at the end of the chain instead, or flatten or rebase that one first";
        Err(Failure::new(Exit::Refused, "in-use", why).with_help(help))
    }

    /// The first image that stands on this one, where any can be found; of one that cannot be read, by its name alone.
    #[must_use]
    pub fn child_of(&self, opened: &Opened<'_>) -> Option<PathBuf> {
        if opened.is_device() {
            return None;
        }
        let file: &dyn ReadAt = &opened.image;
        let id = opened.source(file).open(file, &self.cx()).ok().and_then(|disk| disk.uuid());
        let children = self.children_where(opened, |found| {
            Ok(self.stands_on(found, opened.image.identity(), id).unwrap_or(false))
        });
        children.ok()?.into_iter().next()
    }

    /// The images beside `parent` and in the folders of `--parent-dir` that stand on it, in the order of their names.
    ///
    /// # Errors
    /// Where a folder cannot be read, or has too many files to look at.
    pub fn children_of(&self, parent: &Opened<'_>, id: Option<Uuid>) -> Result<Vec<PathBuf>, Failure> {
        self.children_where(parent, |found| self.stands_on(found, parent.image.identity(), id))
    }

    /// The files in these folders that `stand` on it. Links are left alone, and so is what does not begin or end as an
    /// image that can have a parent.
    fn children_where(
        &self,
        parent: &Opened<'_>,
        stand: impl Fn(&Found) -> Result<bool, Failure>,
    ) -> Result<Vec<PathBuf>, Failure> {
        let mut folders = vec![real_folder(parent.path)?];
        folders.extend(self.globals.parent_dir.iter().filter_map(|dir| std::fs::canonicalize(dir).ok()));
        folders.sort();
        folders.dedup();
        let mut found = Vec::new();
        let mut looked_at = 0_usize;
        for root in folders {
            let failed = |error: std::io::Error| Failure::io(&root, &error);
            for entry in std::fs::read_dir(&root).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                looked_at = looked_at.saturating_add(1);
                if looked_at > FILES_MAX {
                    let why = format!("lies among more than {FILES_MAX} files, which may be its children");
                    return Err(chain(parent.path, why));
                }
                let one = Found::Beneath { root: root.clone(), name: entry.file_name().into() };
                if entry.file_type().is_ok_and(|kind| kind.is_file()) && stand(&one)? {
                    found.push(one.path());
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Whether the image in a file names that parent. What is no image of ours names nobody.
    fn stands_on(&self, found: &Found, parent: Identity, id: Option<Uuid>) -> Result<bool, Failure> {
        let path = &found.path();
        let named = name_of(path).and_then(Format::of_name);
        let image = match found.open(&OpenOptions::default()) {
            Ok(image) => image,
            // Who cannot be asked may be a child.
            Err(error) if matches!(named, Some(Format::Vhd | Format::Qcow2)) => {
                return Err(Failure::of(path, &error));
            }
            Err(_) => return Ok(false),
        };
        if image.identity() == parent || !probe::may_have_parent(&image) {
            return Ok(false);
        }
        let Ok(probed) = probe::probe(&image, name_of(path)) else { return Ok(false) };
        if !matches!(probed.format, Format::Vhd | Format::Qcow2) {
            return Ok(false);
        }
        let Ok(container) = Container::open(&image, probed.format, &self.limits) else { return Ok(false) };
        let Some(wanted) = container.parent_ref() else { return Ok(false) };
        Ok(match self.find_parent(path, &real_folder(path)?, &wanted) {
            Ok(found) => found.open(&OpenOptions::default()).is_ok_and(|image| image.identity() == parent),
            Err(_) => wanted.id.is_some() && wanted.id == id,
        })
    }
}
