//! `fs cat IMAGE PATH`: the content of a file on standard output, holes as zeros.

use super::with_guest;
use crate::args::Cat;
use crate::cx::Session;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::sandbox::Needs;
use disk::{Progress, Total};
use ondisk::{Len, Offset, Span};
use std::io::Write;

/// So many zeros are written at once.
const ZEROS: Len = Len::kib(256);

/// Runs it.
///
/// # Errors
/// Where there is no such file, or it cannot be read.
pub(super) fn run(args: &Cat, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    with_guest(&args.image, &args.at, &Needs::nothing(), session, |guest| {
        let inode = guest.resolve(&args.path)?;
        let pieces = guest.pieces(&inode)?;
        let task = session.meter.task("read", Total::Bytes(pieces.len));
        let to = out.bytes();
        let mut done = Offset::ZERO;
        guest.stream(&pieces, &*task, |at, bytes| {
            zeros(to, done, at, || guest.go_on())?;
            done = at.checked_add(Len::of(bytes)).unwrap_or(at);
            to.write_all(bytes).map_err(|error| Failure::stdout(&error))
        })?;
        zeros(to, done, pieces.len.end(), || guest.go_on())?;
        Ok(Exit::Done)
    })
}

/// Writes the zeros of a hole.
fn zeros(
    to: &mut dyn Write,
    from: Offset,
    until: Offset,
    go_on: impl Fn() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let hole = Span::between(from, until).unwrap_or_default();
    let buf = vec![0; hole.len().min(ZEROS).to_usize()];
    for piece in hole.chunks(ZEROS) {
        go_on()?;
        let buf = buf.get(..piece.len().to_usize()).unwrap_or_default();
        to.write_all(buf).map_err(|error| Failure::stdout(&error))?;
    }
    Ok(())
}
