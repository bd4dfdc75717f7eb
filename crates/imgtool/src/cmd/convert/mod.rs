//! `convert SRC DST`: the content of an image in a new one; `convert SRC --in-place` around the same bytes.
//!
//! 1. Nothing is overwritten but a device that the operator has confirmed. A file gets its name when it is whole.
//! 2. A chain is followed; it is flattened, or with `--keep-chain` each of its images becomes one.
//! 3. Whoever changes the source, or one of its parents, meanwhile makes the conversion fail.

mod chain;
mod device;
mod in_place;
mod space;
mod stdio;

pub(super) use stdio::{Patient, pour};

use super::make::{self, Stands};
use crate::args::{Convert, OutFormat};
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::open::Opened;
use crate::output::Output;
use crate::sandbox::{Needs, folder_of};
use container::write::{self, Layer};
use container::{Container, Create as Spec, Mapped};
use disk::draft::refuse_existing;
use disk::{Draft, FileDev, ReadAt};
use ondisk::Len;
use ondisk::size::Human;
use serde_json::json;
use std::fs::Metadata;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Runs it.
///
/// # Errors
/// Where SRC cannot be read, DST exists, the format cannot hold the disk, or the system fails.
pub fn run(args: &Convert, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    if args.keep_chain && (is_stdio(&args.src) || is_stdio(&args.dst)) {
        return Err(Failure::usage("--keep-chain makes files of files"));
    }
    if is_stdio(&args.dst) {
        return stdio::to_stdout(args, session, out);
    }
    let format = make::format(args.output_format, &args.dst)?;
    if args.in_place {
        return in_place::run(args, format, session, out);
    }
    if args.dst.metadata().is_ok_and(|meta| meta.file_type().is_block_device()) {
        return device::run(args, format, session, out);
    }
    refuse_existing(&args.dst).of(&args.dst)?;
    if is_stdio(&args.src) {
        return stdio::from_stdin(args, format, session, out);
    }
    let opened = session.open_reading(&args.src, session.globals.format)?;
    session.confine(&Needs::nothing().writing(folder_of(&args.dst)), out);
    if args.keep_chain && opened.within().is_some() {
        return Err(Failure::usage("--keep-chain goes by files, and a repository's disks are none"));
    }
    if args.keep_chain && !opened.parents.is_empty() {
        return chain::run(args, format, &opened, session, out);
    }
    let made = opened
        .with_disk(session, out, |disk| make(args, format, disk, sharable(&opened, disk), session, out))?;
    opened.refuse_changed()?;
    made.tell(format, session, out)
}

fn is_stdio(path: &Path) -> bool {
    path == Path::new("-")
}

/// An image that is whole and has no name yet; none where nothing shall be written.
pub(super) struct Made {
    draft: Option<Draft>,
    path: PathBuf,
    len: Len,
    file_len: Len,
}

/// Fills a file with the content of a disk.
fn make(
    args: &Convert,
    format: OutFormat,
    disk: &dyn Mapped,
    share: Option<BorrowedFd<'_>>,
    session: &Session,
    out: &Output,
) -> Result<Made, Failure> {
    let len = make::whole_sectors(disk.len(), out)?;
    let spec = make::spec(format, len, (args.layout, args.compress), Stands::Alone, session)?;
    fill(Begin::New(&args.dst), Layer::flat(disk), &spec, args.compress.is_some(), share, session)
}

/// What the new file may be in place of.
#[derive(Clone, Copy)]
pub(super) enum Begin<'a> {
    /// Nothing has its name.
    New(&'a Path),
    /// A file may have it until the new one is whole.
    Replacing(&'a Path),
}

/// As `make`, for any layer and description.
pub(super) fn fill(
    begin: Begin<'_>,
    layer: Layer<'_>,
    spec: &Spec,
    packed: bool,
    share: Option<BorrowedFd<'_>>,
    session: &Session,
) -> Result<Made, Failure> {
    let (Begin::New(path) | Begin::Replacing(path)) = begin;
    let path = path.to_owned();
    let len = layer.len();
    // What the format cannot hold is refused before anything is made.
    write::measure(None, spec).of(&path)?;
    let fits = || if packed { Ok(()) } else { space::refuse_full(&path, &[layer], share.is_some(), session) };
    if session.globals.dry_run {
        Draft::foresee(&path).of(&path)?;
        fits()?;
        let file_len = write::measure(Some(layer), spec).of(&path)?.required;
        return Ok(Made { draft: None, path, len, file_len });
    }
    let draft = match begin {
        Begin::New(path) => Draft::create(path),
        Begin::Replacing(path) => Draft::replacing(path),
    }
    .of(&path)?;
    let shared = share.map_or(Ok(None), |source| write::share(source, spec, &draft)).of(&path)?;
    let file_len = match shared {
        Some(len) => len,
        None => fits().and_then(|()| write::write(layer, spec, packed, &draft, &session.cx()).of(&path))?,
    };
    Ok(Made { draft: Some(draft), path, len, file_len })
}

impl Made {
    /// Makes its bytes durable. Yields when they were written, in seconds since 1970: to give it its name changes that no
    /// more.
    pub(super) fn written(&self, session: &Session) -> Result<u64, Failure> {
        let now = session.cx().now;
        let Some(draft) = &self.draft else { return Ok(now) };
        draft.flush().of(&self.path)?;
        Ok(draft.modified().unwrap_or(now))
    }

    /// Its file as it is before it has its name; none where nothing is written.
    pub(super) fn file(&self) -> Result<Option<FileDev>, Failure> {
        let Some(draft) = &self.draft else { return Ok(None) };
        let file = draft.as_fd().try_clone_to_owned().map_err(|error| Failure::io(&self.path, &error))?;
        FileDev::new(file.into()).of(&self.path).map(Some)
    }

    /// Gives the file its name. Yields its length.
    pub(super) fn publish(self, session: &Session) -> Result<Len, Failure> {
        if let Some(draft) = self.draft {
            session.cancel.check().of(&self.path)?;
            draft.publish().of(&self.path)?;
        }
        Ok(self.file_len)
    }

    /// Gives the file its name, and says so.
    pub(super) fn tell(
        self,
        format: OutFormat,
        session: &Session,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let (path, len, written) = (self.path.clone(), self.len, self.draft.is_some());
        let file_len = self.publish(session)?;
        tell(&Told { path: &path, format, len, file_len, written }, out)?;
        Ok(Exit::Done)
    }
}

/// What is said in the end.
struct Told<'a> {
    path: &'a Path,
    format: OutFormat,
    len: Len,
    file_len: Len,
    written: bool,
}

fn tell(told: &Told<'_>, out: &mut Output) -> Result<(), Failure> {
    let stored = told
        .path
        .metadata()
        .ok()
        .filter(Metadata::is_file)
        .map(|meta| Len::new(meta.blocks().saturating_mul(512)));
    let stored = stored.filter(|_| told.written && !is_stdio(told.path));
    let (name, format) = (show(told.path), make::name_of(told.format));
    match stored {
        Some(stored) => {
            out.report(format!("{name}: a {format} image of {}, {} stored", Human(told.len), Human(stored)))
        }
        None if told.written => out.report(format!("{name}: a {format} image of {}", Human(told.len))),
        None => out.line(format!(
            "{name}: would be a {format} image of {} in a file of up to {}",
            Human(told.len),
            Human(told.file_len)
        )),
    }
    out.document(&json!({
        "changed": told.written,
        "dry-run": !told.written,
        "format": format,
        "virtual-size": told.len.get(),
        "file-size": told.file_len.get(),
        "actual-size": stored.map(Len::get),
    }))
}

/// The file of an image that begins with its disk, as it will stay: its blocks can be shared.
fn sharable<'a>(opened: &'a Opened<'_>, disk: &Container<&dyn ReadAt>) -> Option<BorrowedFd<'a>> {
    let begins = match disk {
        Container::Raw(_) => true,
        Container::Vhd(vhd) => vhd.kind() == container::vhd::Kind::Fixed,
        _ => false,
    };
    let own = opened.within().is_none() && !opened.is_patch();
    opened.image.descriptor().filter(|_| begins && own && !opened.is_device() && !opened.is_pending())
}
