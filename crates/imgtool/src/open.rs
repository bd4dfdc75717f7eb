//! Opening images and the parents that they stand on.
//!
//! 1. The operator names an image; an image names nothing on this machine but a plain neighbour (threat model, G2): a
//!    parent must lie in the child's own folder or below it, in a `--parent-dir`, or be given with `--parent`.
//! 2. A container that was only recognised by its bytes is not followed to a parent: a guest could have written it.
//! 3. An interrupted change beside an image is looked through when reading, and refuses writing.

use crate::args::Change;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::output::Output;
use crate::sandbox::{Needs, folder_of};
use container::probe::{self, Certainty};
use container::{Container, Format, ParentRef};
use disk::{DevKind, Identity, Image, OpenOptions, Overlay, Pending, ReadAt};
use ondisk::text::Printable;
use stack::source::{Parent, Source};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An image that is open, with its parents.
pub struct Opened<'p> {
    /// Its name, for messages.
    pub path: &'p Path,
    /// Its file.
    pub image: Image,
    /// The container.
    pub format: Format,
    /// What it stands on: its parent, with that one's parent below it.
    pub parent: Option<Parent>,
    /// The files of its parents, nearest first.
    pub chain: Vec<PathBuf>,
    /// Why its parent was not followed, where it has one.
    pub unfollowed: Option<String>,
    /// The interrupted change beside it.
    pending: Option<Pending>,
}

impl Session {
    /// Opens an image to look at it.
    ///
    /// # Errors
    /// Where it cannot be opened, is not what it is said to be, or its parent is not to be found.
    pub fn open_reading<'p>(&self, path: &'p Path, told: Option<Format>) -> Result<Opened<'p>, Failure> {
        let image = Image::open(path, &OpenOptions::default()).of(path)?;
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
        if probed.certainty == Certainty::Proven && opened.parent_ref(self)?.is_some() {
            opened.unfollowed = Some(format!(
                "that it is {} is only told by its bytes, which a guest could have written",
                probed.format
            ));
            return Ok(opened);
        }
        self.follow(&mut opened)?;
        Ok(opened)
    }

    /// Opens an image to change it.
    ///
    /// # Errors
    /// As [`Session::open_reading`], and where it is in use or a change of it was interrupted.
    pub fn open_writing<'p>(&self, path: &'p Path, change: &Change) -> Result<Opened<'p>, Failure> {
        // A dry run opens as the change would: it is refused where the change would be.
        let how = OpenOptions {
            write: true,
            force: change.force,
            journal: change.journal.clone(),
            ..OpenOptions::default()
        };
        let image = Image::open(path, &how).of(path)?;
        let format = probe::for_writing(&image, name_of(path), self.globals.format).of(path)?;
        let mut opened = Opened::new(path, image, format);
        self.follow(&mut opened)?;
        Ok(opened)
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

    /// Opens the parents, one below the other.
    fn follow(&self, child: &mut Opened<'_>) -> Result<(), Failure> {
        let mut seen = vec![child.image.identity()];
        let mut links: Vec<(Image, Format)> = Vec::new();
        let mut told = self.globals.parent.iter();
        let mut wanted = child.parent_ref(self)?;
        let mut folder = real_folder(child.path)?;
        while let Some(reference) = wanted {
            if seen.len() > self.limits.chain_depth {
                return Err(chain(child.path, format!("has more than {} parents", self.limits.chain_depth)));
            }
            let path = match told.next() {
                Some(path) => path.clone(),
                None => self.find(child.path, &folder, &reference)?,
            };
            let image = Image::open(&path, &OpenOptions::default()).of(&path)?;
            refuse_pending(&image, &path, self)?;
            note_seen(&mut seen, image.identity(), child.path, &path)?;
            let format = match reference.format {
                Some(format) => format,
                None => probe::for_writing(&image, name_of(&path), None).of(&path)?,
            };
            wanted = Container::open(&image, format, &self.limits).of(&path)?.parent_ref();
            folder = real_folder(&path)?;
            child.chain.push(path);
            links.push((image, format));
        }
        let mut below: Option<Parent> = None;
        for ((image, format), path) in links.into_iter().zip(&child.chain).rev() {
            let mut container = Container::open(image, format, &self.limits).of(path)?;
            if let Some(parent) = below.take() {
                container.set_parent(Box::new(parent.disk), parent.id).of(path)?;
            }
            below = Some(Parent { id: container.uuid(), disk: Arc::new(container) });
        }
        child.parent = below;
        Ok(())
    }

    /// The file that a reference means.
    fn find(&self, child: &Path, folder: &Path, reference: &ParentRef) -> Result<PathBuf, Failure> {
        for name in &reference.names {
            let beneath = neighbour(folder, name);
            let elsewhere = self.globals.parent_dir.iter().filter_map(|dir| neighbour(dir, base_name(name)));
            if let Some(found) = beneath.into_iter().chain(elsewhere).next() {
                return Ok(found);
            }
        }
        Err(chain(child, format!("its parent {reference} is not in the image's folder"))
            .with_help("name it with --parent PATH, or its folder with --parent-dir DIR"))
    }
}

impl<'p> Opened<'p> {
    const fn new(path: &'p Path, image: Image, format: Format) -> Self {
        Self { path, image, format, parent: None, chain: Vec::new(), unfollowed: None, pending: None }
    }

    fn parent_ref(&self, session: &Session) -> Result<Option<ParentRef>, Failure> {
        let view = self.view(session)?;
        let file: &dyn ReadAt = view.as_ref().map_or(&self.image, |view| view);
        Ok(Container::open(file, self.format, &session.limits).of(self.path)?.parent_ref())
    }

    /// The file as it will be after recovery, where a change of it was interrupted.
    fn view(&self, session: &Session) -> Result<Option<Overlay<'_>>, Failure> {
        let view = self.pending.as_ref().map(|pending| pending.view(&self.image, &session.limits));
        view.transpose().of(self.path)
    }

    /// Whether the image is a device.
    #[must_use]
    pub fn is_device(&self) -> bool {
        self.image.kind() == DevKind::Block
    }

    /// The image as the stack wants it, seen through `file`.
    #[must_use]
    pub fn source<'a>(&self, file: &'a dyn ReadAt) -> Source<'a> {
        Source { file, format: self.format, parent: self.parent.clone(), fixed_len: self.is_device() }
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
        let view = self.view(session)?;
        if view.is_some() {
            let name = show(self.path);
            out.warn(format!(
                "{name}: an interrupted change lies beside it; shown is what `imgtool recover` makes of it"
            ));
        }
        let file: &dyn ReadAt = view.as_ref().map_or(&self.image, |view| view);
        let disk = self.source(file).open(file, &session.cx()).of(self.path)?;
        look(&disk)
    }
}

/// The path of `name` in `folder`, where it is a plain relative name of something that really lies below.
fn neighbour(folder: &Path, name: &str) -> Option<PathBuf> {
    let relative = match Path::new(name).strip_prefix(folder) {
        Ok(inside) => inside.to_owned(),
        Err(_) => PathBuf::from(name),
    };
    let plain = relative
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir));
    if !plain || name.contains("://") {
        return None;
    }
    let root = std::fs::canonicalize(folder).ok()?;
    let found = std::fs::canonicalize(root.join(relative)).ok()?;
    (found.starts_with(&root) && found.is_file()).then_some(found)
}

fn base_name(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
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
    Failure::new(Exit::Refused, "refused", format!("{}: {why}", show(path)))
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
