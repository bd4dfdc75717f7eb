//! Opening images and the parents that they stand on.
//!
//! 1. The operator names an image; an image names nothing on this machine but a plain neighbour (threat model, G2): a
//!    parent must lie in the child's own folder or below it, in a `--parent-dir`, or be given with `--parent`. Nothing
//!    that is put there between looking and opening leads elsewhere: see [`Found`].
//! 2. A container that was only recognised by its bytes is not followed to a parent: a guest could have written it.
//! 3. The same holds for the files that hold parts of a disk (VMDK extents, the image of a Parallels bundle).
//! 4. A patch is an image only where somebody has named what it stands on: see `patched`.
//! 5. An interrupted change beside an image is looked through when reading, and refuses writing.

pub mod age;
mod chain;
mod found;
mod patched;
mod repository;

pub use found::Found;
pub use patched::with_disks;

use crate::args::Change;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::output::Output;
use crate::sandbox::{Needs, folder_of};
use container::foreign::Choice;
use container::probe::{self, Certainty};
use container::{Container, Error, Format, OpenWith, ParentRef, Part};
use disk::{DevKind, Identity, Image, Named, OpenOptions, Overlay, Pending, ReadAt};
use ondisk::Len;
use ondisk::guid::Uuid;
use ondisk::text::Printable;
use patched::Upon;
use stack::source::{Parent, Source};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A disk consists of at most so many files: each of them stays open.
const PARTS: usize = 512;

/// An image that is open, with its parents.
pub struct Opened<'p> {
    /// Its name, for messages.
    pub path: &'p Path,
    /// Its file.
    pub image: Image,
    /// The container.
    pub format: Format,
    /// What its container is opened with besides its file.
    pub with: OpenWith,
    /// What it stands on: its parent, with that one's parent below it.
    pub parent: Option<Parent>,
    /// All of its parents, the lowest first.
    pub parents: Vec<Parent>,
    /// The files of its parents, nearest first.
    pub chain: Vec<PathBuf>,
    /// What each of these is read as.
    pub formats: Vec<Format>,
    /// Parents that may have been written to since their children were made, and what shows it.
    pub doubts: Vec<(PathBuf, &'static str)>,
    /// Why its parent was not followed, where it has one.
    pub unfollowed: Option<String>,
    /// Its bytes, where it lies within a repository and is no file by itself.
    within: Option<sr::Bytes>,
    /// The interrupted change beside it.
    pending: Option<Pending>,
    /// The files that it is read from besides its own.
    read: Vec<Named>,
    /// What it stands on, where it is a patch.
    upon: Option<Upon<'p>>,
}

impl Session {
    /// Opens an image to look at it.
    ///
    /// # Errors
    /// Where it cannot be opened, is not what it is said to be, or its parent is not to be found.
    pub fn open_reading<'p>(&'p self, path: &'p Path, told: Option<Format>) -> Result<Opened<'p>, Failure> {
        let opened = match self.globals.vdi.filter(|_| self.globals.base.is_empty()) {
            Some(vdi) => self.open_vdi(path, vdi)?,
            None => self.open_either(path, told)?,
        };
        self.refuse_choice(&[&opened])?;
        Ok(opened)
    }

    /// As [`Session::open_reading`], of several images: `--disk` is for those that are archives, `--vdi` for those that
    /// are repositories, `--base` for those that are patches. [`Session::refuse_choice`] is for whoever has all of them.
    ///
    /// # Errors
    /// As [`Session::open_reading`].
    pub fn open_either<'p>(&'p self, path: &'p Path, told: Option<Format>) -> Result<Opened<'p>, Failure> {
        if let Some(vdi) = self.vdi_in(path) {
            return self.open_vdi(path, vdi);
        }
        let image = Image::open(path, &OpenOptions::default()).of(path)?;
        if self.is_patch(&image, path, told) {
            return self.open_patch(path, image);
        }
        self.open_container(path, image, told)
    }

    /// The virtual disk that is meant, where a repository is there.
    fn vdi_in(&self, path: &Path) -> Option<Uuid> {
        self.globals.vdi.filter(|_| self.is_repository(path))
    }

    fn open_container<'p>(
        &self,
        path: &'p Path,
        image: Image,
        told: Option<Format>,
    ) -> Result<Opened<'p>, Failure> {
        // The journal is opened now: the sandbox lets nothing be opened later.
        let pending = image.pending(&self.limits).of(path)?;
        let probed = match told {
            Some(format) => probe::Probe { format, certainty: Certainty::Named },
            None => {
                let view = pending.as_ref().map(|pending| pending.view(&image, &self.limits)).transpose();
                let view = view.of(path)?;
                let file: &dyn ReadAt = view.as_ref().map_or(&image, |view| view);
                probe::probe(file, name_of(path)).of(path)?
            }
        };
        let mut opened = Opened { pending, ..Opened::new(path, image, probed.format) };
        opened.with.disk = self.globals.disk.clone().filter(|_| probed.format == Format::Xva);
        let (parent, parts) = opened.outward(self)?;
        if probed.certainty == Certainty::Proven && (parent.is_some() || !parts.is_empty()) {
            opened.unfollowed = Some(format!(
                "that it is {} is only told by its bytes, which a guest could have written",
                probed.format
            ));
            return Ok(opened);
        }
        opened.with.parts = self.open_parts(path, &parts, &mut opened.read)?;
        self.follow(&mut opened, parent, 0)?;
        Ok(opened)
    }

    /// Refuses `--disk` where none of the images is an archive, `--vdi` where none is a repository, and `--base` where
    /// none is a patch.
    ///
    /// # Errors
    /// Of the command line.
    pub fn refuse_choice(&self, images: &[&Opened<'_>]) -> Result<(), Failure> {
        let bases = images.iter().filter_map(|image| image.upon.as_ref()).flat_map(|upon| &upon.bases);
        let all: Vec<&Opened<'_>> = images.iter().copied().chain(bases).collect();
        let has = |what: fn(&Opened<'_>) -> bool| all.iter().any(|image| what(image));
        if self.globals.disk.is_some() && !has(|image| image.format == Format::Xva) {
            return Err(Failure::usage("--disk chooses among the disks of an archive, and there is none"));
        }
        if self.globals.vdi.is_some() && !has(|image| image.within.is_some()) {
            return Err(Failure::usage("--vdi names a disk of a storage repository, and there is none"));
        }
        if !self.globals.base.is_empty() && !has(|image| image.upon.is_some()) {
            return Err(Failure::usage("--base names what a patch stands on, and there is none"));
        }
        Ok(())
    }

    /// Opens the files that hold parts of a disk.
    fn open_parts(&self, path: &Path, names: &[String], read: &mut Vec<Named>) -> Result<Vec<Part>, Failure> {
        if names.len() > PARTS {
            return Err(chain(path, format!("consists of more than {PARTS} files")));
        }
        let folder = real_folder(path)?;
        let mut open = |name: &String| {
            let found = self.find(&folder, name).ok_or_else(|| {
                let name = Printable(name.as_bytes());
                chain(path, format!("'{name}', which holds a part of it, is not in the image's folder"))
                    .with_help("name its folder with --parent-dir DIR")
            })?;
            let path = found.path();
            let image = found.open(&OpenOptions::default()).of(&path)?;
            refuse_pending(&image, &path, self)?;
            read.extend(image.named());
            let part: Part = Arc::new(image);
            Ok(part)
        };
        names.iter().map(&mut open).collect()
    }

    /// Opens an image to change it.
    ///
    /// # Errors
    /// As [`Session::open_reading`], and where it is in use or a change of it was interrupted.
    pub fn open_writing<'p>(&self, path: &'p Path, change: &Change) -> Result<Opened<'p>, Failure> {
        let mut opened = self.open_alone(path, change, self.globals.format)?;
        let (wanted, _) = opened.outward(self)?;
        self.follow(&mut opened, wanted, 0)?;
        Ok(opened)
    }

    /// Opens an image to mend it. Where it is damaged, its parent is that of the mended image.
    ///
    /// # Errors
    /// As [`Session::open_writing`], and where the image is beyond repair.
    pub fn open_repairing<'p>(&self, path: &'p Path, change: &Change) -> Result<Opened<'p>, Failure> {
        let mut opened = self.open_alone(path, change, self.globals.format)?;
        let wanted = match opened.outward(self) {
            Ok((wanted, _)) => wanted,
            Err(_) => {
                let mut overlay = Overlay::new(&opened.image, &self.limits);
                let is_device = opened.is_device();
                container::repair::mend(&mut overlay, opened.format, is_device, &self.limits).of(path)?;
                Container::open(&overlay, opened.format, &self.limits).of(path)?.parent_ref()
            }
        };
        self.follow(&mut opened, wanted, 0)?;
        Ok(opened)
    }

    /// Opens an image to change it, without its parents.
    ///
    /// # Errors
    /// As [`Session::open_writing`], parents aside.
    pub fn open_alone<'p>(
        &self,
        path: &'p Path,
        change: &Change,
        told: Option<Format>,
    ) -> Result<Opened<'p>, Failure> {
        self.open_told(path, change, told, |how| Image::open(path, how))
    }

    /// As [`Session::open_alone`], in the way that `open` does it.
    fn open_told<'p>(
        &self,
        path: &'p Path,
        change: &Change,
        told: Option<Format>,
        open: impl FnOnce(&OpenOptions) -> disk::Result<Image>,
    ) -> Result<Opened<'p>, Failure> {
        // A dry run opens as the change would: it is refused where the change would be.
        let how = OpenOptions {
            write: true,
            force: change.force,
            journal: change.journal.clone(),
            ..OpenOptions::default()
        };
        let image = open(&how).of(path)?;
        let format = probe::for_writing(&image, name_of(path), told).of(path)?;
        Ok(Opened::new(path, image, format))
    }

    /// What a change of an image still has to open: its journal and its undo file.
    pub fn confine_change(&self, path: &Path, change: &Change, out: &Output) {
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut needs = Needs::nothing();
        for place in
            [Some(change.journal.as_deref().unwrap_or(&real)), change.undo.as_deref()].into_iter().flatten()
        {
            needs = needs.writing(folder_of(place));
        }
        self.confine(&needs, out);
    }

    /// Opens the parents, one below the other, from the one that is `wanted` on. The operator may have named them; the
    /// first `skip` of these stand higher in the chain.
    fn follow(
        &self,
        child: &mut Opened<'_>,
        mut wanted: Option<ParentRef>,
        skip: usize,
    ) -> Result<(), Failure> {
        let mut seen = vec![child.image.identity()];
        let mut links: Vec<(Image, Format, OpenWith)> = Vec::new();
        let mut told = self.globals.parent.iter().skip(skip);
        let mut folder = real_folder(child.path)?;
        while let Some(reference) = wanted {
            if seen.len() > self.limits.chain_depth {
                return Err(chain(child.path, format!("has more than {} parents", self.limits.chain_depth)));
            }
            let found = match told.next() {
                Some(path) => Found::Told(path.clone()),
                None => self.find_parent(child.path, &folder, &reference)?,
            };
            let path = found.path();
            let image = found.open(&OpenOptions::default()).of(&path)?;
            refuse_pending(&image, &path, self)?;
            note_seen(&mut seen, image.identity(), child.path, &path)?;
            let format = match reference.format {
                Some(format) => format,
                None => probe::certain(&image, name_of(&path), None).of(&path)?,
            };
            let parent = Container::open(&image, format, &self.limits).of(&path)?;
            let parts = self.open_parts(&path, &parent.parts(), &mut child.read)?;
            let with = OpenWith { parts, ..OpenWith::default() };
            wanted = parent.parent_ref();
            folder = real_folder(&path)?;
            let above = links.last().map_or(&child.image, |(image, ..)| image);
            let doubt = age::doubt(above, &reference, &image, timestamp(&parent));
            drop(parent);
            child.doubts.extend(doubt.map(|doubt| (path.clone(), doubt)));
            child.read.extend(image.named());
            child.chain.push(path);
            child.formats.push(format);
            links.push((image, format, with));
        }
        let mut below: Option<Parent> = None;
        for ((image, format, with), path) in links.into_iter().zip(&child.chain).rev() {
            let mut container = Container::open_with(image, format, &with, &self.limits).of(path)?;
            if let Some(parent) = below.take() {
                container.set_parent(Box::new(parent.disk), parent.id).of(path)?;
            }
            let parent = Parent { id: container.uuid(), disk: Arc::new(container) };
            child.parents.push(parent.clone());
            below = Some(parent);
        }
        child.parent = below;
        Ok(())
    }

    /// The file that a reference means.
    fn find_parent(&self, child: &Path, folder: &Path, reference: &ParentRef) -> Result<Found, Failure> {
        let found = reference.names.iter().find_map(|name| self.find(folder, name));
        found.ok_or_else(|| {
            chain(child, format!("its parent {reference} is not in the image's folder"))
                .with_help("name it with --parent PATH, or its folder with --parent-dir DIR")
        })
    }

    /// The file that a name in an image means.
    fn find(&self, folder: &Path, name: &str) -> Option<Found> {
        let elsewhere = || self.globals.parent_dir.iter().find_map(|dir| Found::in_folder(dir, name));
        Found::beneath(folder, name).or_else(elsewhere)
    }
}

impl<'p> Opened<'p> {
    const fn new(path: &'p Path, image: Image, format: Format) -> Self {
        let with = OpenWith { disk: None, parts: Vec::new() };
        Self {
            path,
            image,
            format,
            with,
            parent: None,
            parents: Vec::new(),
            chain: Vec::new(),
            formats: Vec::new(),
            doubts: Vec::new(),
            unfollowed: None,
            within: None,
            pending: None,
            read: Vec::new(),
            upon: None,
        }
    }

    /// What the image names beside itself: its parent, and the files that hold parts of it.
    fn outward(&self, session: &Session) -> Result<(Option<ParentRef>, Vec<String>), Failure> {
        let view = self.view(session)?;
        let file = self.bytes(view.as_ref());
        match Container::open_with(file, self.format, &self.with, &session.limits) {
            Ok(container) => Ok((container.parent_ref(), container.parts())),
            // An archive names nothing; that its disk is not chosen is said by whoever wants to look at one.
            Err(Error::Choose { .. }) => Ok((None, Vec::new())),
            Err(error) => Err(error).of(self.path),
        }
    }

    /// The disks of an archive of which none is chosen.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn choices(&self, session: &Session) -> Result<Option<Vec<Choice>>, Failure> {
        let view = self.view(session)?;
        let file = self.bytes(view.as_ref());
        match Container::open_with(file, self.format, &self.with, &session.limits) {
            Err(Error::Choose { disks }) => Ok(Some(disks)),
            Err(error) => Err(error).of(self.path),
            Ok(_) => Ok(None),
        }
    }

    /// The bytes of the image: as they will be after recovery, within a repository, or of its file.
    fn bytes<'s>(&'s self, view: Option<&'s Overlay<'s>>) -> &'s dyn ReadAt {
        let own = self.within().unwrap_or(&self.image);
        view.map_or(own, |view| view)
    }

    /// The file as it will be after recovery, where a change of it was interrupted.
    fn view(&self, session: &Session) -> Result<Option<Overlay<'_>>, Failure> {
        let view = self.pending.as_ref().map(|pending| pending.view(&self.image, &session.limits));
        view.transpose().of(self.path)
    }

    /// All files that the disk is read from; none where one of them has no name, or it is made by a patch.
    #[must_use]
    pub fn files(&self) -> Option<Vec<Named>> {
        if self.is_patch() {
            return None;
        }
        let own = self.image.named()?;
        Some(std::iter::once(own).chain(self.read.iter().cloned()).collect())
    }

    /// Whether a change of it was interrupted.
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Refuses where somebody has replaced one of the files that the disk is read from, or written to one.
    ///
    /// # Errors
    /// Where that is so.
    pub fn refuse_changed(&self) -> Result<(), Failure> {
        self.image.refuse_changed().of(self.path)?;
        self.upon.iter().flat_map(|upon| &upon.bases).try_for_each(Opened::refuse_changed)?;
        self.read.iter().try_for_each(|named| named.refuse_changed().of(named.path()))
    }

    /// Whether its disk is made by a patch.
    #[must_use]
    pub const fn is_patch(&self) -> bool {
        self.upon.is_some()
    }

    /// What a patch stands on.
    pub fn bases(&self) -> impl Iterator<Item = &Path> {
        self.upon.iter().flat_map(|upon| &upon.bases).map(|base| base.path)
    }

    /// What it is called that the image is.
    #[must_use]
    pub fn format_name(&self) -> &'static str {
        if self.is_patch() { "patch" } else { self.format.name() }
    }

    /// Whether the image is a device.
    #[must_use]
    pub fn is_device(&self) -> bool {
        self.image.kind() == DevKind::Block
    }

    /// The image as the stack wants it, seen through `file`.
    #[must_use]
    pub fn source<'a>(&self, file: &'a dyn ReadAt) -> Source<'a> {
        let (with, parent) = (self.with.clone(), self.parent.clone());
        Source {
            file,
            format: self.format,
            with,
            parent,
            fixed_len: self.is_device() || self.within.is_some(),
        }
    }

    /// How long the file is, or what takes its place within a repository.
    #[must_use]
    pub fn file_len(&self) -> Len {
        self.within().unwrap_or(&self.image).len()
    }

    /// The bytes of the image, where it lies within a repository.
    #[must_use]
    pub fn within(&self) -> Option<&dyn ReadAt> {
        self.within.as_deref().map(|bytes| -> &dyn ReadAt { bytes })
    }

    /// Looks at the virtual disk, as it will be after an interrupted change is recovered.
    ///
    /// # Errors
    /// Where it cannot be opened, and those of `look`.
    pub fn with_disk<T>(
        &self,
        session: &Session,
        out: &Output,
        look: impl FnOnce(&Container<&dyn ReadAt>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if let Some(upon) = &self.upon {
            return upon.with_disk(self, session, out, Box::new(look));
        }
        let view = self.view(session)?;
        if view.is_some() {
            let name = show(self.path);
            out.warn(format!(
                "{name}: an interrupted change lies beside it; shown is what `imgtool recover` makes of it"
            ));
        }
        let file = self.bytes(view.as_ref());
        let disk = self.source(file).open(file, &session.cx()).of(self.path)?;
        look(&disk)
    }
}

/// The file name, where it is text.
fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn real_folder(path: &Path) -> Result<PathBuf, Failure> {
    let real = std::fs::canonicalize(path).map_err(|error| Failure::io(path, &error))?;
    Ok(folder_of(&real).to_owned())
}

fn chain(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::refused(path, why)
}

fn refuse_pending(image: &Image, path: &Path, session: &Session) -> Result<(), Failure> {
    if image.pending(&session.limits).of(path)?.is_none() {
        return Ok(());
    }
    let why = format!("{}: an interrupted change lies beside this parent", show(path));
    Err(Failure::new(Exit::Pending, "pending", why).with_help(format!("imgtool recover {}", show(path))))
}

fn note_seen(seen: &mut Vec<Identity>, new: Identity, child: &Path, parent: &Path) -> Result<(), Failure> {
    if seen.contains(&new) {
        let name = Printable(parent.as_os_str().as_encoded_bytes()).to_string();
        return Err(Failure::new(
            Exit::Corrupt,
            "corrupt",
            format!("{}: its chain of parents comes back to {name}", show(child)),
        ));
    }
    seen.push(new);
    Ok(())
}

/// The time in the footer of a VHD, in seconds since 1970.
pub fn timestamp<D: ReadAt>(disk: &Container<D>) -> Option<u64> {
    match disk {
        Container::Vhd(vhd) => Some(vhd.timestamp()),
        _ => None,
    }
}
