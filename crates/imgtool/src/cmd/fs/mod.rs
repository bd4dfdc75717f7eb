//! `fs …`: files out of the guest's ext2, ext3 or ext4.
//!
//! ```text
//! image ─ container ─ volume ─ journal replayed in memory ─ Guest ─┬─ walk     a tree, name by name
//!                                                                  └─ stream   a file, piece by piece
//! ```
//!
//! 1. A path is resolved inside the filesystem; no link of the guest leads out of it (threat model, attack 14).
//! 2. All files together have no more data than the filesystem has blocks: what maps its blocks twice is damaged, and
//!    a small image does not fill the disk it is copied to.
//! 3. Damage of one file does not hide the others: it is told, the rest is done, and the exit code is that of damage.

mod acl;
mod cat;
mod copy_out;
mod find;
mod host;
mod ls;
mod replay;
mod show;
mod stat;
mod stream;
mod tar;
mod tar_out;
mod walk;

use crate::args::{Fs, Where};
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of};
use crate::output::Output;
use crate::sandbox::Needs;
use extfs::{Inode, InodeNo};
use stack::view::{self, Filesystem};
use std::cell::Cell;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Runs one of them.
///
/// # Errors
/// Where it did not do what it was asked.
pub fn run(args: &Fs, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    match args {
        Fs::Ls(args) => ls::run(args, session, out),
        Fs::Cat(args) => cat::run(args, session, out),
        Fs::Stat(args) => stat::run(args, session, out),
        Fs::Find(args) => find::run(args, session, out),
        Fs::CopyOut(args) => copy_out::run(args, session, out),
        Fs::TarOut(args) => tar_out::run(args, session, out),
        Fs::Replay(args) => replay::run(args, session, out),
    }
}

/// A guest's filesystem under the eyes of a command.
struct Guest<'a> {
    fs: &'a Filesystem<'a>,
    image: &'a Path,
    session: &'a Session,
    /// Blocks that files may still have (invariant 2).
    blocks_left: Cell<u64>,
}

/// Lets `look` see the filesystem that `at` means. `needs` is what it will open besides.
fn with_guest<T>(
    image: &Path,
    at: &Where,
    needs: &Needs,
    session: &Session,
    look: impl FnOnce(&Guest<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let opened = session.open_reading(image, session.globals.format)?;
    let warnings = Output::new(&session.globals);
    session.confine(needs, &warnings);
    opened.with_disk(session, &warnings, |disk| {
        let cx = session.cx();
        let layout = stack::discover(disk, &cx).of(image)?;
        let volume = view::filesystem(&layout, &at.place()).of(image)?;
        let seen = view::with_filesystem(disk, volume, &cx, |fs| {
            let blocks_left = Cell::new(fs.geom().blocks.0);
            look(&Guest { fs, image, session, blocks_left })
        });
        seen.of(image)?
    })
}

impl Guest<'_> {
    /// The file that a path leads to, links followed.
    fn resolve(&self, path: &Path) -> Result<Inode, Failure> {
        self.fs.resolve(path.as_os_str().as_bytes()).of(self.image)
    }

    /// The file that a path leads to; a link at its end stays a link.
    fn resolve_no_follow(&self, path: &Path) -> Result<Inode, Failure> {
        self.fs.resolve_no_follow(path.as_os_str().as_bytes()).of(self.image)
    }

    fn inode(&self, ino: InodeNo) -> Result<Inode, Failure> {
        self.fs.inode(ino).of(self.image)
    }

    /// Where a symbolic link points.
    fn read_link(&self, inode: &Inode) -> Result<Vec<u8>, Failure> {
        self.fs.read_link(inode).of(self.image)
    }

    /// A failure in our own words about what is in the image.
    fn failure(&self, exit: Exit, kind: &'static str, what: impl std::fmt::Display) -> Failure {
        Failure::new(exit, kind, format!("{}: {what}", crate::exit::show(self.image)))
    }

    /// The operator has not interrupted.
    fn go_on(&self) -> Result<(), Failure> {
        self.session.cancel.check().of(self.image)
    }
}

/// Damage that was met and gone past (invariant 3).
#[derive(Default)]
struct Damage {
    first: Option<Failure>,
    count: u64,
}

impl Damage {
    /// Notes a failure that concerns one file of the image, damage or content that we cannot read; gives back any other.
    fn take<T>(&mut self, result: Result<T, Failure>, out: &Output) -> Result<Option<T>, Failure> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(failure) if failure.exit() == Exit::Corrupt || failure.kind() == "unsupported" => {
                out.warn(failure.message());
                self.count = self.count.saturating_add(1);
                self.first.get_or_insert(failure);
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Adds what somebody else has noted.
    fn join(&mut self, other: Self) {
        self.first = self.first.take().or(other.first);
        self.count = self.count.saturating_add(other.count);
    }

    /// How the command ends.
    fn end(self) -> Result<Exit, Failure> {
        match self.first {
            None => Ok(Exit::Done),
            Some(first) if self.count == 1 => Err(first),
            Some(first) => {
                let more = self.count.saturating_sub(1);
                Err(Failure::new(
                    first.exit(),
                    first.kind(),
                    format!("{} (and {more} more)", first.message()),
                ))
            }
        }
    }
}
