//! `delta apply --base BASE PATCH -o OUT`.

use super::{is_stdio, on_threads, open, plain, refuse_changed, refuse_over, spooled, surveyed, with_disks};
use crate::args::{DeltaApply, OutFormat};
use crate::cmd::convert::{Begin, fill, pour};
use crate::cmd::make::{self, Stands};
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of};
use crate::output::Output;
use crate::sandbox::{Needs, folder_of};
use container::write::Layer;
use container::{Container, Create, Format, Mapped};
use delta::{Patch, Patched};
use disk::{FileDev, ReadAt, Slice};
use ondisk::Span;
use std::path::Path;

/// Runs it.
pub(super) fn run(args: &DeltaApply, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let stdout = is_stdio(&args.output);
    let format = if stdout { OutFormat::Raw } else { make::format(args.output_format, &args.output)? };
    if stdout
        && (session.globals.dry_run || args.output_format.is_some_and(|format| format != OutFormat::Raw))
    {
        return Err(Failure::usage("standard output carries a raw disk only"));
    }
    let bases = open(&args.from.bases, session)?;
    let mut read: Vec<&Path> = args.from.bases.iter().map(std::path::PathBuf::as_path).collect();
    read.push(&args.patch);
    refuse_over(&args.output, &read)?;
    let file = if is_stdio(&args.patch) { None } else { Some(plain(&args.patch)?) };
    if stdout && file.is_none() {
        return Err(
            Failure::usage("patch and result cannot both be streams").with_help("give one of them a name")
        );
    }
    let needs = Needs::nothing();
    session.confine(&if stdout { needs } else { needs.writing(folder_of(&args.output)) }, out);
    let file = file.map_or_else(|| spooled(&args.output, session), Ok)?;
    let patch = Patch::open(FileDev::new(file).of(&args.patch)?, &session.limits).of(&args.patch)?;
    if patch.facts().drop_free {
        out.warn("blocks that no filesystem used read as zero: the patch was made with --drop-free");
    }
    let made = with_disks(
        &bases,
        Vec::new(),
        session,
        out,
        Box::new(|disks: &[&dyn ReadAt]| {
            let cx = session.cx();
            let whole =
                on_threads(session, || Patched::new(patch, surveyed(disks, &cx)?, &cx))?.of(&args.patch)?;
            let all = Span::whole(whole.len());
            let span = args.range.unwrap_or(all);
            if !all.contains(span) {
                let why = format!("bytes {span} lie outside the disk of {} bytes", whole.len());
                return Err(make::refused(&args.patch, why));
            }
            let part = Slice::new(&whole, span).of(&args.patch)?;
            let disk = Container::open(&part, Format::Raw, &session.limits).of(&args.patch)?;
            if stdout {
                pour(&disk, disk.len(), &args.patch, session).map(|()| None)
            } else {
                image(&disk, format, args, session).map(Some)
            }
        }),
    )?;
    refuse_changed(&bases)?;
    match made {
        Some(made) => made.tell(format, session, out),
        None => Ok(Exit::Done),
    }
}

fn image(
    disk: &dyn Mapped,
    format: OutFormat,
    args: &DeltaApply,
    session: &Session,
) -> Result<crate::cmd::convert::Made, Failure> {
    let layout = (crate::args::Layout::default(), None);
    // A raw disk may have any length; the result is what the target was, to the byte.
    let spec = match format {
        OutFormat::Raw => Create::Raw(disk.len()),
        _ if disk.len().is_aligned(512) => make::spec(format, disk.len(), layout, Stands::Alone, session)?,
        _ => {
            let why = format!(
                "{} bytes are no whole sectors, which a {} image has",
                disk.len(),
                make::name_of(format)
            );
            return Err(make::refused(&args.output, why).with_help("make it -O raw"));
        }
    };
    fill(Begin::Replacing(&args.output), Layer::flat(disk), &spec, false, None, session)
}
