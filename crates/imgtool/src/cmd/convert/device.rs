//! `convert SRC DEVICE`: over what a block device holds.
//!
//! No draft, no new name: from the first byte to the last the device holds neither the old content nor the new. What
//! lies behind the image stays; a VHD has its footer at the end of the device, as XenServer's volumes have it.

use super::{Told, tell};
use crate::args::{Convert, OutFormat};
use crate::cmd::make::{self, Stands};
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::output::Output;
use crate::sandbox::Needs;
use container::write::{self, Layer};
use disk::{ReadAt, Target};
use ondisk::size::Human;
use ondisk::{Len, Span};

/// So much is made zero at once.
const PIECE: Len = Len::gib(1);

/// Runs it.
pub(super) fn run(
    args: &Convert,
    format: OutFormat,
    session: &Session,
    out: &mut Output,
) -> Result<Exit, Failure> {
    if args.keep_chain {
        return Err(make::refused(&args.dst, "a device holds one image, and --keep-chain makes several")
            .with_help("name a file, whose folder takes the others, or leave --keep-chain out"));
    }
    if super::is_stdio(&args.src) {
        return Err(make::refused(
            &args.dst,
            "how long standard input is cannot be known before it is written",
        )
        .with_help("convert to a file first"));
    }
    let opened = session.open_reading(&args.src, session.globals.format)?;
    let target = Target::device(&args.dst).of(&args.dst)?;
    session.confirm(&format!("{}: everything on this device will be lost; go on?", show(&args.dst)))?;
    session.confine(&Needs::nothing(), out);
    let (len, file_len) = opened.with_disk(session, out, |disk| {
        let len = make::whole_sectors(disk.len(), out)?;
        let spec = make::spec(format, len, (args.layout, args.compress), Stands::Alone, session)?;
        let layer = Layer::flat(disk);
        let most = write::measure(Some(layer), &spec).of(&args.src)?.required;
        let room = target.fixed_len().unwrap_or_default();
        if most > room {
            let why = format!("the image takes {}, the device has {}", Human(most), Human(room));
            return Err(make::refused(&args.dst, why));
        }
        if session.globals.dry_run {
            return Ok((len, most));
        }
        if format == OutFormat::VhdFixed && most < room {
            out.note("the device is larger than the fixed VHD, which is found with -f vhd alone");
        }
        out.note("the device is written in place: an interruption leaves it incomplete");
        for part in Span::whole(most).chunks(PIECE) {
            session.cancel.check().and_then(|()| target.zero(part)).of(&args.dst)?;
        }
        let packed = args.compress.is_some();
        let file_len = write::write(layer, &spec, packed, &target, &session.cx()).of(&args.dst)?;
        target.flush().of(&args.dst)?;
        Ok((len, file_len))
    })?;
    opened.refuse_changed()?;
    let written = !session.globals.dry_run;
    tell(&Told { path: &args.dst, format, len, file_len, written }, out)?;
    Ok(Exit::Done)
}
