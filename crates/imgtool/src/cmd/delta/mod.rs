//! `delta`: ship the difference between images, not the images.
//!
//! 1. Both sides are compared by their virtual content: formats and chains do not matter.
//! 2. What is made gets its name when it is whole. Of what was applied every byte has been compared with a digest.

mod apply;
mod as_child;
mod compose;
mod create;
mod in_place;
mod index;
mod info;
mod keys;
mod signature;
mod sink;
mod stats;
mod verify;

use crate::args::Delta;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::known::{Known, Surveyed};
use crate::open::Opened;
use crate::output::Output;
use crate::patch::AnyPatch;
use delta::PublicKey;
use disk::{Draft, FileDev};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Runs it.
///
/// # Errors
/// Those of each command.
pub fn run(command: &Delta, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    match command {
        Delta::Create(args) => create::run(args, session, out),
        Delta::Apply(args) => apply::run(args, session, out),
        Delta::Info(args) => info::run(args, session, out),
        Delta::Verify(args) => verify::run(args, session, out),
        Delta::Compose(args) => compose::run(args, session, out),
        Delta::Signature(args) => signature::run(args, session, out),
    }
}

fn is_stdio(path: &Path) -> bool {
    path == Path::new("-")
}

/// Opens the bases; `with` them, other images are open.
fn open<'a>(
    bases: &'a [PathBuf],
    with: Option<&Opened<'_>>,
    session: &'a Session,
) -> Result<Vec<Opened<'a>>, Failure> {
    let open = |base: &'a PathBuf| session.open_either(base, session.globals.format);
    let opened: Vec<Opened<'a>> = bases.iter().map(open).collect::<Result<_, _>>()?;
    session.refuse_choice(&with.into_iter().chain(&opened).collect::<Vec<_>>())?;
    Ok(opened)
}

/// Refuses to write over one of the images that are read.
fn refuse_over(output: &Path, read: &[&Path], session: &Session) -> Result<(), Failure> {
    let Ok(meta) = output.metadata() else { return Ok(()) };
    let same = |path: &&Path| {
        path.metadata().is_ok_and(|other| (other.dev(), other.ino()) == (meta.dev(), meta.ino()))
    };
    let bases = session.globals.base.iter().map(PathBuf::as_path);
    match read.iter().copied().chain(bases).find(same) {
        Some(path) => Err(super::make::refused(output, format_args!("this is {} itself", show(path)))),
        None => Ok(()),
    }
}

/// Refuses what has changed while it was read.
fn refuse_changed(opened: &[Opened<'_>]) -> Result<(), Failure> {
    opened.iter().try_for_each(Opened::refuse_changed)
}

/// What is known of bases before they are read.
fn known(bases: &[Opened<'_>], no_cache: bool, session: &Session) -> Vec<Known> {
    bases.iter().map(|base| Known::of(base, !no_cache, session)).collect()
}

/// Keeps for next time what was read of bases.
fn keep(bases: &[Opened<'_>], known: &[Known], given: &[Surveyed<'_>], session: &Session) {
    for ((base, known), (_, leaves)) in bases.iter().zip(known).zip(given) {
        known.keep(leaves, base, session);
    }
}

/// Opens the file of a patch.
fn plain(path: &Path) -> Result<File, Failure> {
    let file = File::open(path).map_err(|error| Failure::io(path, &error))?;
    let meta = file.metadata().map_err(|error| Failure::io(path, &error))?;
    if meta.is_file() { Ok(file) } else { Err(super::make::refused(path, "not a regular file")) }
}

/// Opens the file of a patch; none where it comes from standard input.
fn patch_file(path: &Path) -> Result<Option<File>, Failure> {
    if is_stdio(path) { Ok(None) } else { plain(path).map(Some) }
}

/// Opens a patch, which the key must have signed if there is one; what comes from standard input is kept beside `near` until the end.
fn open_patch(
    file: Option<File>,
    trusted: Option<&PublicKey>,
    path: &Path,
    near: &Path,
    session: &Session,
) -> Result<AnyPatch, Failure> {
    let file = file.map_or_else(|| spooled(near, session), Ok)?;
    let file = FileDev::new(file).of(path)?;
    keys::require(trusted, &file, path)?;
    AnyPatch::open(file, path, session)
}

/// A file without a name, with all that comes from standard input.
fn spooled(output: &Path, session: &Session) -> Result<File, Failure> {
    let name = Path::new("standard input");
    let mut kept = output.to_owned().into_os_string();
    kept.push(".stdin");
    let draft = Draft::private(Path::new(&kept)).of(Path::new(&kept))?;
    let mut input = super::convert::Patient::new(&session.cancel);
    let len = container::write::from_stream(&mut input, &draft, &session.cx()).of(name)?;
    draft.set_len(len).of(name)?;
    // Dropped, the draft loses its name; the file stays as long as it is open.
    Ok(draft.as_fd().try_clone_to_owned().map_err(|error| Failure::io(name, &error))?.into())
}
