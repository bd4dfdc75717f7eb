//! `sr convert SR DEST --to file`: each virtual disk as a file of DEST.
//!
//! 1. Parents come first, and a file gets its name when it is whole and reads as its source does. So whatever stops a
//!    conversion, repeating it goes on: what has its name is not made again, but compared, for the source may be another
//!    one since.
//! 2. The source is only read. A file that has the name of a virtual disk, and is not its image, is left alone.

use crate::args::{SrConvert, SrTo};
use crate::cmd::compare::{Side, first_difference};
use crate::cmd::convert::{Begin, fill};
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::output::Output;
use crate::render::Table;
use crate::sandbox::{Needs, folder_of};
use container::write::{self, Layer};
use container::{Container, Create, Mapped, Severity};
use disk::{Error, Image, OpenOptions, Space};
use ondisk::guid::Uuid;
use ondisk::size::Human;
use ondisk::{Len, Offset};
use serde_json::{Value, json};
use sr::{Bytes, Copy, Repository, Store, open_chain, plan_copies};
use std::path::{Path, PathBuf};
use std::sync::Arc;

type Disk = Arc<dyn Mapped + Send>;

/// Runs it.
///
/// # Errors
/// Where the repository is damaged or busy, DEST holds something else, there is no room, or the system fails.
pub(super) fn run(args: &SrConvert, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let SrTo::File = args.to;
    let needs = Needs::nothing().writing(begin(args, session)?);
    let (store, repository) = session.open_repository(&args.of.sr, &args.of.at.place(), needs, out)?;
    let work = Work { store: &*store, repository: &repository, args, session };
    let copies = work.plan()?;
    let mut made = Vec::new();
    for copy in &copies {
        made.push(if work.is_there(copy)? {
            work.keep(copy, &copies)?
        } else {
            Some(work.make(copy, &copies)?)
        });
    }
    tell(&copies, &made, args, session, out)
}

/// Makes the folder where it is missing. Yields what has to be written to.
fn begin<'a>(args: &'a SrConvert, session: &Session) -> Result<&'a Path, Failure> {
    let dest = args.dest.as_path();
    let real = |path: &Path| path.canonicalize().ok();
    let place = real(dest).or_else(|| real(folder_of(dest)));
    if place.is_some_and(|place| real(&args.of.sr).is_some_and(|sr| place.starts_with(sr))) {
        return Err(Failure::refused(dest, "it lies in the repository that is to be copied"));
    }
    if dest.is_dir() {
        return Ok(dest);
    }
    if dest.exists() {
        return Err(Failure::refused(dest, "it is no folder"));
    }
    if session.globals.dry_run {
        return Ok(folder_of(dest));
    }
    std::fs::create_dir(dest).map_err(|error| Failure::io(dest, &error))?;
    Ok(dest)
}

struct Work<'a> {
    store: &'a dyn Store,
    repository: &'a Repository,
    args: &'a SrConvert,
    session: &'a Session,
}

impl Work<'_> {
    fn sr(&self) -> &Path {
        &self.args.of.sr
    }

    fn path(&self, copy: &Copy) -> PathBuf {
        self.args.dest.join(&copy.name)
    }

    /// What is to be made, once all that can be known beforehand is.
    fn plan(&self) -> Result<Vec<Copy>, Failure> {
        let cx = self.session.cx();
        let copies = plan_copies(self.repository).of(self.sr())?;
        let checked = self.repository.check(self.store, &cx).of(self.sr())?;
        if let Some((vdi, one)) = checked.into_iter().find(|(_, one)| one.severity == Severity::Damage) {
            return Err(sr::Error::Damaged { what: format!("{vdi}: {}", one.text) }).of(self.sr());
        }
        let mut need = Len::ZERO;
        for copy in &copies {
            let path = self.path(copy);
            if !self.is_there(copy)? {
                let disk = self.source(copy.uuid)?;
                let file = write::measure(Some(layer(copy, &*disk)), &copy.create).of(&path)?;
                need = need.checked_add(file.required).unwrap_or(Len::new(u64::MAX));
            }
        }
        let first = copies.first().map_or_else(|| self.args.dest.clone(), |copy| self.path(copy));
        let folder = if self.args.dest.is_dir() { first } else { self.args.dest.clone() };
        match Space::of(&folder).of(&folder)? {
            Some(space) if need > space.free => {
                let need = format!("{} would be stored", Human(need));
                Err(Error::full(self.args.dest.clone(), &need, space.free)).of(&self.args.dest)
            }
            _ => Ok(copies),
        }
    }

    /// A virtual disk of the repository.
    fn source(&self, uuid: Uuid) -> Result<Disk, Failure> {
        let cx = self.session.cx();
        let vdi = self.repository.named(self.store, uuid).of(self.sr())?;
        let mut all = vec![vdi];
        all.extend(self.repository.chain(self.store, vdi, &cx).of(self.sr())?);
        let opened = open_chain(self.store, &all, &cx).of(self.sr())?;
        let missing = || Failure::refused(self.sr(), "a virtual disk is gone");
        opened.into_iter().next_back().map(|last| last.disk).ok_or_else(missing)
    }

    /// Whether the file of a copy is there already.
    fn is_there(&self, copy: &Copy) -> Result<bool, Failure> {
        let path = self.path(copy);
        if !path.exists() {
            return Ok(false);
        }
        let wanted = match &copy.create {
            Create::Raw(len) => (*len, None),
            Create::Vhd(spec) => (spec.len, Some(spec.uuid)),
            Create::Qcow2(create) => (create.len, None),
        };
        let image = Container::open(open(&path)?, copy.create.format(), &self.session.limits).of(&path)?;
        if (image.virtual_len(), image.uuid()) == wanted {
            return Ok(true);
        }
        let why = format!("it is there, and is not the image of {}", copy.uuid);
        Err(Failure::refused(&path, why).with_help("choose another folder, or take the file away"))
    }

    /// Makes one. Yields the length of its file.
    fn make(&self, copy: &Copy, copies: &[Copy]) -> Result<Len, Failure> {
        let (path, source) = (self.path(copy), self.source(copy.uuid)?);
        let layer = layer(copy, &*source);
        if self.session.globals.dry_run {
            return Ok(write::measure(Some(layer), &copy.create).of(&path)?.required);
        }
        let made = fill(Begin::New(&path), layer, &copy.create, false, None, self.session)?;
        if let Some(file) = made.file()? {
            let copied = self.opened(copy, Box::new(file), copies)?;
            if let Some(at) = self.difference(&*source, &*copied, &path)? {
                let why = format!("the copy differs from {} at byte {at}", copy.uuid);
                return Err(Failure::new(Exit::Io, "io", format!("{}: {why}", show(&path))));
            }
        }
        made.publish(self.session)
    }

    /// Leaves one that is there: it is made of the same disk as long as nobody has written to that since.
    fn keep(&self, copy: &Copy, copies: &[Copy]) -> Result<Option<Len>, Failure> {
        let (path, source) = (self.path(copy), self.source(copy.uuid)?);
        let copied = self.opened(copy, open(&path)?, copies)?;
        match self.difference(&*source, &*copied, &path)? {
            None => Ok(None),
            Some(at) => {
                let why = format!("it is there, and differs from {} at byte {at}", copy.uuid);
                Err(Failure::refused(&path, why).with_help("take it away to have it made anew"))
            }
        }
    }

    /// The first byte in which the two differ.
    fn difference(
        &self,
        source: &dyn Mapped,
        copied: &dyn Mapped,
        path: &Path,
    ) -> Result<Option<Offset>, Failure> {
        let sides = [Side { disk: source, name: self.sr() }, Side { disk: copied, name: path }];
        first_difference(&sides, &self.session.cx())
    }

    /// The disk of a copy, upon the copies that it stands on.
    fn opened(&self, copy: &Copy, file: Bytes, copies: &[Copy]) -> Result<Disk, Failure> {
        let (path, limits) = (self.path(copy), &self.session.limits);
        let mut image = Container::open(file, copy.create.format(), limits).of(&path)?;
        if let Some(below) = copies.iter().find(|below| Some(below.uuid) == copy.parent) {
            let parent = self.opened(below, open(&self.path(below))?, copies)?;
            let id = match &below.create {
                Create::Vhd(spec) => Some(spec.uuid),
                _ => None,
            };
            image.set_parent(Box::new(parent), id).of(&path)?;
        }
        Ok(Arc::new(image))
    }
}

fn open(path: &Path) -> Result<Bytes, Failure> {
    Ok(Box::new(Image::open(path, &OpenOptions::default()).of(path)?))
}

/// What goes into the image of a copy.
fn layer<'a>(copy: &Copy, disk: &'a dyn Mapped) -> Layer<'a> {
    if copy.parent.is_some() { Layer::own(disk) } else { Layer::flat(disk) }
}

fn tell(
    copies: &[Copy],
    made: &[Option<Len>],
    args: &SrConvert,
    session: &Session,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let written = !session.globals.dry_run;
    let would = if written { "" } else { "would be " };
    let mut table = Table::new().left("file").right("size").left("");
    for (copy, made) in copies.iter().zip(made) {
        let size = made.map(|len| Human(len).to_string()).unwrap_or_default();
        let what = if made.is_some() { format!("{would}made") } else { "is there already".to_owned() };
        table.row([copy.name.clone(), size, what]);
    }
    if !session.globals.quiet {
        out.table(&table);
    }
    let new = made.iter().flatten().count();
    let (name, kept) = (show(&args.dest), made.len().saturating_sub(new));
    out.report(format!("{name}: {new} virtual disks {would}copied, {kept} were there"));
    let vdis: Vec<Value> = copies
        .iter()
        .zip(made)
        .map(|(copy, made)| {
            json!({
                "uuid": copy.uuid.to_string(),
                "filename": copy.name,
                "parent": copy.parent.map(|uuid| uuid.to_string()),
                "file-size": made.map(Len::get),
                "kept": made.is_none(),
            })
        })
        .collect();
    out.document(
        &json!({ "changed": written && new > 0, "dry-run": !written, "type": "file", "vdis": vdis }),
    )?;
    Ok(Exit::Done)
}
