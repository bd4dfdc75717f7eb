//! Opening storage repositories, and the virtual disks in them.

use super::{Opened, refuse_pending};
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::output::Output;
use crate::sandbox::Needs;
use disk::{Cx, Image, OpenOptions};
use ondisk::Len;
use ondisk::guid::Uuid;
use sr::{Bytes, Entry, Kind, OnDevice, Repository, Role, Store, Title};
use stack::Place;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files that the folder of a repository has at most: ten times what a host manages.
const FILES_MAX: usize = 1 << 16;

/// A repository that is open, and what it holds.
pub type Held = (Box<dyn Store>, Repository);

impl Session {
    /// Opens a repository to look at it, and gives up everything but what the command `needs` besides.
    ///
    /// # Errors
    /// Where there is none, or its storage cannot be read.
    pub fn open_repository(
        &self,
        path: &Path,
        place: &Place,
        needs: Needs,
        out: &Output,
    ) -> Result<Held, Failure> {
        let store: Box<dyn Store> = if path.is_dir() {
            let folder = InFolder::list(path)?;
            self.confine(&needs.reading(path), out);
            Box::new(folder)
        } else {
            let image = Image::open(path, &OpenOptions::default()).of(path)?;
            refuse_pending(&image, path, self)?;
            self.confine(&needs, out);
            Box::new(OnDevice::find(Arc::new(image), place, &self.cx()).of(path)?)
        };
        let repository = Repository::read(&*store, &self.cx()).of(path)?;
        Ok((store, repository))
    }
}

/// The files of a file-based repository.
struct InFolder {
    path: PathBuf,
    title: Title,
    entries: Vec<Entry>,
}

impl InFolder {
    fn list(path: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::io(path, &error);
        let mut entries = Vec::new();
        for (number, entry) in std::fs::read_dir(path).map_err(failed)?.enumerate() {
            if number >= FILES_MAX {
                let why = format!("{}: more than {FILES_MAX} files, which no repository has", show(path));
                return Err(Failure::new(Exit::Refused, "refused", why));
            }
            let entry = entry.map_err(failed)?;
            let (meta, name) = (entry.metadata().map_err(failed)?, entry.file_name());
            let Some(name) = name.to_str().filter(|_| meta.is_file()) else { continue };
            let (role, len) = (Role::of_file(name), Len::new(meta.len()));
            entries.push(Entry { name: name.to_owned(), role, len, hidden: false });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let stat = rustix::fs::statvfs(path).map_err(|error| failed(error.into()))?;
        let bytes = |blocks: u64| Len::new(blocks.saturating_mul(stat.f_frsize));
        let uuid = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        let (size, free) = (bytes(stat.f_blocks), bytes(stat.f_bfree));
        let title = Title { kind: Kind::File, uuid, size, free, metadata: None, findings: Vec::new() };
        Ok(Self { path: path.to_owned(), title, entries })
    }
}

impl Store for InFolder {
    fn title(&self) -> &Title {
        &self.title
    }

    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn open(&self, entry: &Entry, _: &Cx<'_>) -> sr::Result<Bytes> {
        Ok(Box::new(Image::open(&self.path.join(&entry.name), &OpenOptions::default())?))
    }
}

impl Session {
    /// Whether a repository is there, whatever state it is in.
    pub(super) fn is_repository(&self, path: &Path) -> bool {
        let found = |image| OnDevice::find(Arc::new(image), &Place::Auto, &self.cx());
        path.is_dir()
            || Image::open(path, &OpenOptions::default())
                .is_ok_and(|image| !matches!(found(image), Err(sr::Error::None(_))))
    }

    /// Opens a virtual disk of a repository to look at it, with all that it stands on.
    ///
    /// # Errors
    /// As [`Session::open_repository`], and where it has no such disk.
    pub(super) fn open_vdi<'p>(&self, path: &'p Path, vdi: Uuid) -> Result<Opened<'p>, Failure> {
        let cx = self.cx();
        let open = |path: &Path| {
            let image = Image::open(path, &OpenOptions::default()).of(path)?;
            refuse_pending(&image, path, self)?;
            Ok::<_, Failure>(image)
        };
        let folder = path.is_dir();
        let store: Box<dyn Store> = if folder {
            Box::new(InFolder::list(path)?)
        } else {
            Box::new(OnDevice::find(Arc::new(open(path)?), &Place::Auto, &cx).of(path)?)
        };
        let repository = Repository::read(&*store, &cx).of(path)?;
        let disk = repository.named(&*store, vdi).of(path)?;
        let below = repository.chain(&*store, disk, &cx).of(path)?;
        let image = open(&if folder { path.join(&disk.entry.name) } else { path.to_owned() })?;
        let mut opened = Opened::new(path, image, disk.format);
        for parent in below.iter().filter(|_| folder) {
            opened.read.extend(open(&path.join(&parent.entry.name))?.named());
        }
        opened.within = Some(store.open(&disk.entry, &cx).of(path)?);
        opened.parents = sr::open_chain(&*store, &below, &cx).of(path)?;
        opened.parent = opened.parents.last().cloned();
        Ok(opened)
    }
}
