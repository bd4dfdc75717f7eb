//! `measure SRC`: how large the file of a conversion would be. Nothing but the map of the source is looked at.

use super::make::{self, Stands};
use crate::args::Measure;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of};
use crate::output::Output;
use crate::sandbox::Needs;
use container::write::{self, Layer};
use disk::ReadAt;
use ondisk::Len;
use ondisk::size::Human;
use serde_json::json;
use std::path::Path;

/// Runs it.
///
/// # Errors
/// Where the source cannot be read, or the format cannot have that size.
pub fn run(args: &Measure, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let spec = |len: Len, out: &Output| {
        let len = make::whole_sectors(len, out)?;
        make::spec(args.output_format, len, (args.layout, None), Stands::Alone, session)
    };
    let measured = match (&args.src, args.size) {
        (Some(src), _) => {
            let opened = session.open_reading(src, session.globals.format)?;
            session.confine(&Needs::nothing(), out);
            opened.with_disk(session, out, |disk| {
                write::measure(Some(Layer::flat(disk)), &spec(disk.len(), out)?).of(src)
            })?
        }
        (None, size) => {
            session.confine(&Needs::nothing(), out);
            write::measure(None, &spec(size.unwrap_or_default(), out)?).of(Path::new("--size"))?
        }
    };
    out.line(format!("required size: {} ({})", measured.required, Human(measured.required)));
    out.line(format!(
        "fully allocated size: {} ({})",
        measured.fully_allocated,
        Human(measured.fully_allocated)
    ));
    out.document(&json!({
        "required": measured.required.get(),
        "fully-allocated": measured.fully_allocated.get(),
    }))?;
    Ok(Exit::Done)
}
