//! `convert - DST` and `convert SRC -`: raw disks as streams.

use super::{Made, make};
use crate::args::{Convert, OutFormat};
use crate::cmd::make::{self as new, whole_sectors};
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of};
use crate::output::Output;
use crate::sandbox::{Needs, folder_of};
use container::write::{self, Layer};
use container::{Container, Format, Mapped};
use disk::{Cancel, Draft, Error, FileDev, ReadAt};
use ondisk::Len;
use ondisk::size::Human;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::io;
use std::path::Path;

/// Writes the disk to standard output.
pub(super) fn to_stdout(args: &Convert, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let raw = args.output_format.is_none_or(|format| format == OutFormat::Raw);
    if !raw || args.compress.is_some() || args.layout != crate::args::Layout::default() {
        return Err(Failure::usage("standard output carries a raw disk only"));
    }
    if super::is_stdio(&args.src) {
        return through(session, out);
    }
    let opened = session.open_reading(&args.src, session.globals.format)?;
    session.confine(&Needs::nothing(), out);
    let len = opened.with_disk(session, out, |disk| {
        let len = whole_sectors(disk.len(), out)?;
        if !session.globals.dry_run {
            pour(disk, len, &args.src, session)?;
        }
        Ok(len)
    })?;
    opened.refuse_changed()?;
    if session.globals.dry_run {
        out.line(format!("standard output would carry a raw disk of {}", Human(len)));
    }
    Ok(Exit::Done)
}

/// Standard input to standard output: whole sectors come out.
fn through(session: &Session, out: &Output) -> Result<Exit, Failure> {
    refuse_unforeseen(session)?;
    session.confine(&Needs::nothing(), out);
    let (mut from, mut to) = (Patient::new(&session.cancel), io::stdout());
    let len = carried(write::through(&mut from, &mut to, &session.cx()), Path::new("-"))?;
    whole_sectors(len, out)?;
    Ok(Exit::Done)
}

/// Refuses what standard input cannot carry, and to tell beforehand what it does.
fn refuse_unforeseen(session: &Session) -> Result<(), Failure> {
    if session.globals.format != Some(Format::Raw) {
        return Err(Failure::usage("standard input carries a raw disk only").with_help("say so with -f raw"));
    }
    if session.globals.dry_run {
        return Err(Failure::usage("what standard input carries cannot be foreseen"));
    }
    Ok(())
}

/// Writes `len` bytes of a disk, which comes of `name`, to standard output.
pub(in crate::cmd) fn pour(
    disk: &dyn Mapped,
    len: Len,
    name: &Path,
    session: &Session,
) -> Result<(), Failure> {
    carried(write::to_stream(Layer::flat(disk), len, &mut io::stdout(), &session.cx()), name)
}

/// What came of writing to standard output.
fn carried<T>(done: container::Result<T>, name: &Path) -> Result<T, Failure> {
    match done {
        // Whoever reads has had enough.
        Err(container::Error::Disk(Error::Io { source, .. }))
            if source.kind() == io::ErrorKind::BrokenPipe =>
        {
            Err(Failure::stdout(&source))
        }
        done => done.of(name),
    }
}

/// Makes an image of what comes from standard input. How much that is, is known at its end only: for other formats than
/// raw it is kept in a draft until then.
pub(super) fn from_stdin(
    args: &Convert,
    format: OutFormat,
    session: &Session,
    out: &mut Output,
) -> Result<Exit, Failure> {
    refuse_unforeseen(session)?;
    session.confine(&Needs::nothing().writing(folder_of(&args.dst)), out);
    // Refused before anything is read.
    new::spec(format, Len::mib(1), (args.layout, args.compress), new::Stands::Alone, session)?;
    let path = if format == OutFormat::Raw { args.dst.clone() } else { kept(args) };
    let draft = Draft::create(&path).of(&path)?;
    let mut input = Patient::new(&session.cancel);
    let len = write::from_stream(&mut input, &draft, &session.cx()).of(&args.src)?;
    if format == OutFormat::Raw {
        let len = whole_sectors(len, out)?;
        draft.set_len(len).of(&path)?;
        return Made { draft: Some(draft), path, len, file_len: len }.tell(format, session, out);
    }
    let copy = draft.as_fd().try_clone_to_owned().map_err(|error| Failure::io(&path, &error))?;
    let file = FileDev::new(copy.into()).of(&path)?;
    let disk = Container::open(&file, Format::Raw, &session.limits).of(&path)?;
    make(args, format, &disk, None, session, out)?.tell(format, session, out)
}

/// Waits for input, and for the operator's wish to stop.
pub(in crate::cmd) struct Patient<'a> {
    from: io::StdinLock<'a>,
    cancel: &'a Cancel,
}

impl<'a> Patient<'a> {
    /// Of standard input.
    pub(in crate::cmd) fn new(cancel: &'a Cancel) -> Self {
        Self { from: io::stdin().lock(), cancel }
    }
}

impl io::Read for Patient<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let wait = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        while !self.cancel.is_cancelled() {
            match poll(&mut [PollFd::new(&self.from, PollFlags::IN)], Some(&wait)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return self.from.read(buf),
                Err(errno) => return Err(errno.into()),
            }
        }
        // The end: whoever reads asks why.
        Ok(0)
    }
}

/// Where the stream is kept.
fn kept(args: &Convert) -> std::path::PathBuf {
    let mut name = args.dst.clone().into_os_string();
    name.push(".stdin");
    name.into()
}
