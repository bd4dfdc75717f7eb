//! Where patches and signatures are written to.

use super::is_stdio;
use crate::cx::Session;
use crate::exit::{Failure, Of};
use disk::Draft;
use ondisk::num::to_u64;
use ondisk::{Len, Offset};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Bytes that are written at once.
const WRITE: usize = 1 << 20;

/// The file of a draft, written from its beginning on.
struct Target<'a> {
    draft: &'a Draft,
    at: u64,
}

impl Write for Target<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.draft.write_at(Offset::new(self.at), buf).map_err(io::Error::other)?;
        self.at = self.at.saturating_add(to_u64(buf.len()));
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.draft.set_len(Len::new(self.at)).map_err(io::Error::other)
    }
}

/// Lets `work` write the file `output`, which gets its name when it is whole; or standard output; or in a dry run nothing.
pub(super) fn written<T>(
    output: &Path,
    session: &Session,
    work: impl FnOnce(&mut (dyn Write + Send)) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if session.globals.dry_run {
        if !is_stdio(output) {
            Draft::foresee(output).of(output)?;
        }
        return work(&mut io::sink());
    }
    if is_stdio(output) {
        return work(&mut BufWriter::with_capacity(WRITE, io::stdout()));
    }
    let draft = Draft::private(output).of(output)?;
    let made = work(&mut BufWriter::with_capacity(WRITE, Target { draft: &draft, at: 0 }))?;
    session.cancel.check().of(output)?;
    draft.publish().of(output)?;
    Ok(made)
}
