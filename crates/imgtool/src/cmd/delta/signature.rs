//! `delta signature BASE -o SIG`, and what is made of it.

use super::sink::written;
use super::{is_stdio, refuse_over};
use crate::args::DeltaSignature;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::output::Output;
use crate::sandbox::{Needs, folder_of};
use delta::DiskSignature;
use disk::FileDev;
use ondisk::size::Human;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Runs it.
pub(super) fn run(args: &DeltaSignature, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let image = session.open_reading(&args.image, session.globals.format)?;
    let needs = Needs::nothing();
    if is_stdio(&args.output) {
        session.confine(&needs, out);
    } else {
        refuse_over(&args.output, &[&args.image], session)?;
        session.confine(&needs.writing(folder_of(&args.output)), out);
    }
    let len = image.with_disk(session, out, |disk| {
        written(&args.output, session, |to| {
            let len = session.on_threads(|| delta::signature(disk, to, &session.cx()))?.of(&args.image)?;
            // What has changed meanwhile has no signature.
            image.refuse_changed().map(|()| len)
        })
    })?;
    let written = !session.globals.dry_run;
    if is_stdio(&args.output) && written {
        out.beside_content();
    }
    let would = if written { "" } else { "would be " };
    out.report(format!("{}: {would}a signature of {} ({len} bytes)", show(&args.output), Human(len)));
    out.document(&json!({ "changed": written, "dry-run": !written, "size": len.get() }))?;
    Ok(Exit::Done)
}

/// The files of signatures, opened.
pub(super) fn files(paths: &[PathBuf]) -> Result<Vec<(&Path, FileDev)>, Failure> {
    let open = |path: &'_ PathBuf| FileDev::new(super::plain(path)?).of(path);
    paths.iter().map(|path| Ok((path.as_path(), open(path)?))).collect()
}

/// The signatures in these files.
pub(super) fn read(
    files: Vec<(&Path, FileDev)>,
    session: &Session,
) -> Result<Vec<DiskSignature<FileDev>>, Failure> {
    files.into_iter().map(|(path, file)| DiskSignature::open(file, &session.cx()).of(path)).collect()
}
