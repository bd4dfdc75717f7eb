//! `map IMAGE`: which parts of the virtual disk are stored, and where in the file.
//!
//! The runs are written as they are found: a map of any size takes no memory.

use crate::args::Map;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of};
use crate::output::Output;
use crate::sandbox::Needs;
use container::BlockStatus;
use serde_json::json;

/// Runs it.
///
/// # Errors
/// Where the image or its tables cannot be read.
pub fn run(args: &Map, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let opened = session.open_reading(&args.image, session.globals.format)?;
    session.confine(&Needs::nothing(), out);
    let warnings = Output::new(&session.globals);
    opened.with_disk(session, &warnings, |disk| {
        let mut sink = Sink { out, first: true, placed: !opened.is_patch() };
        for run in disk.map() {
            session.cancel.check().of(&args.image)?;
            sink.put(&run.of(&args.image)?)?;
        }
        sink.end()
    })?;
    Ok(Exit::Done)
}

/// Where the runs go.
struct Sink<'o> {
    out: &'o mut Output,
    first: bool,
    /// Whether the bytes of the disk have places in the file.
    placed: bool,
}

impl Sink<'_> {
    fn put(&mut self, run: &BlockStatus) -> Result<(), Failure> {
        let first = std::mem::replace(&mut self.first, false);
        if self.out.is_json() {
            let begin = if first { "[" } else { ",\n" };
            return self.write(&format!("{begin}{}", document(run, self.placed)));
        }
        if first {
            self.out.line(format!("{:>16} {:>16} {:>16} STATE", "OFFSET", "LENGTH", "MAPPED TO"));
        }
        let (at, len) = (run.span.start(), run.span.len());
        let place =
            run.offset.filter(|_| self.placed).map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        self.out.line(format!("{at:>16} {len:>16} {place:>16} {}", state(run)));
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failure> {
        match (self.out.is_json(), self.first) {
            (true, true) => self.write("[]\n"),
            (true, false) => self.write("]\n"),
            (false, _) => Ok(()),
        }
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        self.out.bytes().write_all(text.as_bytes()).map_err(|error| Failure::stdout(&error))
    }
}

/// A run as `qemu-img map --output=json` tells it.
fn document(run: &BlockStatus, placed: bool) -> String {
    let mut object = json!({
        "start": run.span.start().get(),
        "length": run.span.len().get(),
        "depth": run.depth,
        "present": run.present,
        "zero": run.zero,
        "data": run.data,
        "compressed": is_compressed(run),
    });
    if let (Some(offset), Some(object)) = (run.offset.filter(|_| placed), object.as_object_mut()) {
        object.insert("offset".to_owned(), offset.get().into());
    }
    object.to_string()
}

/// What is stored, but not byte by byte.
const fn is_compressed(run: &BlockStatus) -> bool {
    run.data && run.offset.is_none()
}

/// The same in words.
fn state(run: &BlockStatus) -> String {
    let what = match (run.present, run.data) {
        (false, _) => "hole",
        (true, true) if is_compressed(run) => "compressed",
        (true, true) => "data",
        (true, false) => "zero",
    };
    match run.depth {
        0 => what.to_owned(),
        1 => format!("{what}, of the parent"),
        depth => format!("{what}, {depth} images down"),
    }
}
