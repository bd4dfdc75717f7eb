//! `fs copy-out IMAGE PATH DEST`: a file or folder onto this machine.
//!
//! As `cp -r` does it: into DEST where that is a folder, else under that name. Links stay links, further names of one
//! file stay further names; devices, pipes and sockets are left out.

use super::host::{Folder, exists};
use super::walk::{Place, Step};
use super::{Damage, Guest, with_guest};
use crate::args::CopyOut;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of};
use crate::output::Output;
use crate::sandbox::{Needs, folder_of};
use disk::{Budget, Progress, Task, Total};
use extfs::{Inode, InodeNo, Kind};
use ondisk::Len;
use ondisk::num::to_u64;
use ondisk::size::Human;
use serde_json::json;
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Runs it.
///
/// # Errors
/// Where there is no such file, DEST is in the way, or something cannot be read or written.
pub(super) fn run(args: &CopyOut, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let into = args.dest.is_dir();
    if !into && args.dest.symlink_metadata().is_ok() {
        return Err(exists(&args.dest));
    }
    let folder = if into { args.dest.as_path() } else { folder_of(&args.dest) };
    let base = Folder::named(folder)?;
    let needs = Needs::nothing().writing(folder);
    with_guest(&args.image, &args.at, &needs, session, |guest| {
        let start = guest.resolve(&args.path)?;
        let name = if into { args.path.file_name() } else { args.dest.file_name() };
        let task = session.meter.task("copy", Total::Unknown);
        let mut copy = Copy {
            guest,
            task: &*task,
            base: &base,
            name: name.map(OsStrExt::as_bytes),
            down: Vec::new(),
            names: HashMap::new(),
            budget: session.limits.budget("the files with several names"),
            count: Count::default(),
        };
        let mut damage = Damage::default();
        if session.globals.dry_run {
            guest.walk(&start, &mut damage, out, |step, out| copy.plan(step, out))?;
        } else {
            guest.walk(&start, &mut damage, out, |step, out| copy.step(step, out))?;
        }
        copy.count.show(session, &args.dest, out)?;
        damage.end()
    })
}

/// A tree on its way.
struct Copy<'a> {
    guest: &'a Guest<'a>,
    task: &'a dyn Task,
    base: &'a Folder,
    /// What the start is called here; the root of a filesystem has no name, so that its files go into the base itself.
    name: Option<&'a [u8]>,
    /// The folders on the way down.
    down: Vec<Folder>,
    /// Files with several names: the first one, from the base on.
    names: HashMap<InodeNo, Vec<u8>>,
    budget: Budget,
    count: Count,
}

/// What was copied.
#[derive(Default)]
struct Count {
    files: u64,
    bytes: u64,
    left_out: u64,
}

impl Copy<'_> {
    fn step(&mut self, step: &Step<'_>, out: &Output) -> Result<(), Failure> {
        match step {
            Step::Enter(place) => match self.name_here(place) {
                Some(name) => {
                    let made = self.down.last().unwrap_or(self.base).folder(name)?;
                    self.down.push(made);
                    self.count.files = self.count.files.saturating_add(1);
                    Ok(())
                }
                None => Ok(()),
            },
            Step::Leave(inode) => self.down.pop().map_or(Ok(()), |folder| folder.finish(inode)),
            Step::File(place) => self.file(place, out),
        }
    }

    /// What a dry run says instead.
    fn plan(&mut self, step: &Step<'_>, out: &mut Output) -> Result<(), Failure> {
        if let Step::File(place) | Step::Enter(place) = step {
            out.line(ondisk::text::Printable(&self.path_here(place)));
        }
        Ok(())
    }

    fn file(&mut self, place: &Place<'_>, out: &Output) -> Result<(), Failure> {
        let Place { inode, .. } = *place;
        let name = self.name_here(place).unwrap_or_default();
        let folder = self.down.last().unwrap_or(self.base);
        match inode.kind() {
            Some(Kind::File) => {
                if let Some(first) = self.names.get(&inode.ino()) {
                    folder.further_name(self.base, first, name)?;
                } else {
                    let bytes = content(self.guest, self.task, folder, name, inode)?;
                    self.count.bytes = self.count.bytes.saturating_add(bytes.get());
                    self.remember(place)?;
                }
            }
            Some(Kind::Symlink) => folder.link(name, &self.guest.read_link(inode)?, inode)?,
            _ => {
                let what = super::show::kind_name(inode.kind());
                out.note(format!("{}: left out: {what}", ondisk::text::Printable(&self.path_here(place))));
                self.count.left_out = self.count.left_out.saturating_add(1);
                return Ok(());
            }
        }
        self.count.files = self.count.files.saturating_add(1);
        Ok(())
    }

    fn remember(&mut self, place: &Place<'_>) -> Result<(), Failure> {
        if place.inode.links() > 1 {
            let path = self.path_here(place);
            self.budget.take(Len::new(to_u64(path.len()).saturating_add(96))).of(self.guest.image)?;
            self.names.insert(place.inode.ino(), path);
        }
        Ok(())
    }

    /// What a file is called in its new folder.
    fn name_here<'s>(&'s self, place: &'s Place<'_>) -> Option<&'s [u8]> {
        if place.path.is_empty() { self.name } else { Some(place.name) }
    }

    /// Its path from the base on.
    fn path_here(&self, place: &Place<'_>) -> Vec<u8> {
        match self.name {
            Some(name) => super::ls::joined(name, place.path),
            None => place.path.to_vec(),
        }
    }
}

/// Copies one file; how much data it has.
fn content(
    guest: &Guest<'_>,
    task: &dyn Task,
    folder: &Folder,
    name: &[u8],
    inode: &Inode,
) -> Result<Len, Failure> {
    let pieces = guest.pieces(inode)?;
    let file = folder.file(name)?;
    let mut done = 0_u64;
    guest.stream(&pieces, task, |at, bytes| {
        done = done.saturating_add(to_u64(bytes.len()));
        file.write(at, bytes)
    })?;
    file.set_len(pieces.len)?;
    file.finish(inode)?;
    Ok(Len::new(done))
}

impl Count {
    fn show(&self, session: &Session, dest: &Path, out: &mut Output) -> Result<(), Failure> {
        let Self { files, bytes, left_out } = *self;
        if !session.globals.dry_run {
            let left = if left_out == 0 { String::new() } else { format!(", {left_out} left out (see -v)") };
            out.report(format!("{files} files and folders, {}{left}", Human(Len::new(bytes))));
        }
        out.document(&json!({
            "changed": files > 0,
            "dry-run": session.globals.dry_run,
            "destination": dest.to_string_lossy(),
            "files": files,
            "bytes": bytes,
            "left-out": left_out,
        }))
    }
}
