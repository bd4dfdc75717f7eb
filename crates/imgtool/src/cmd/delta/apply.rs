//! `delta apply --base BASE PATCH -o OUT`.

use super::keys::trusted;
use super::{
    as_child, in_place, is_stdio, keep, known, open, open_patch, patch_file, refuse_changed, refuse_over,
};
use crate::args::{DeltaApply, OutFormat};
use crate::cmd::convert::{Begin, Made, fill, pour};
use crate::cmd::make::{self, Stands};
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of};
use crate::known::{Surveyed, surveyed};
use crate::open::{Opened, with_disks};
use crate::output::Output;
use crate::patch::AnyPatch;
use crate::sandbox::{Needs, folder_of};
use container::write::Layer;
use container::{Container, Create, Format, Mapped};
use delta::vcdiff::Decoded;
use delta::{Patch, Patched, WINDOW};
use disk::{FileDev, ReadAt, Slice};
use ondisk::Span;
use std::path::Path;

/// Runs it.
pub(super) fn run(args: &DeltaApply, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let Some(output) = args.output.as_deref() else { return in_place::run(args, session, out) };
    let stdout = is_stdio(output);
    let format = if stdout { OutFormat::Raw } else { make::format(args.output_format, output)? };
    if stdout
        && (session.globals.dry_run
            || args.as_child
            || args.output_format.is_some_and(|format| format != OutFormat::Raw))
    {
        return Err(Failure::usage("standard output carries a raw disk only"));
    }
    let trusted = trusted(&args.trust)?;
    let bases = open(&args.from.bases, None, session)?;
    let mut read: Vec<&Path> = args.from.bases.iter().map(std::path::PathBuf::as_path).collect();
    read.push(&args.patch);
    refuse_over(output, &read, session)?;
    let file = patch_file(&args.patch)?;
    if stdout && file.is_none() {
        return Err(
            Failure::usage("patch and result cannot both be streams").with_help("give one of them a name")
        );
    }
    let needs = Needs::nothing();
    let needs = if stdout { needs } else { needs.writing(folder_of(output)) };
    let known = known(&bases, args.no_cache, session);
    session.confine(&known.iter().fold(needs, |needs, known| known.needs(needs)), out);
    let patch = open_patch(file, trusted.as_ref(), &args.patch, output, session)?;
    patch.refuse_more(&args.patch, bases.len())?;
    patch.warn(out);
    let patch =
        if args.as_child { AnyPatch::Native(patch.native(&args.patch, "--as-child")?) } else { patch };
    let to = To { output, format, stdout };
    let (made, says) = with_disks(
        &bases,
        Vec::new(),
        session,
        out,
        Box::new(|disks: &[&dyn ReadAt]| {
            let patch = match patch {
                AnyPatch::Native(patch) => patch,
                AnyPatch::Vcdiff(patch) => {
                    let whole = Decoded::new(patch, disks.first().copied(), session.limits).of(&args.patch)?;
                    return Ok((flat(&whole, &to, args, session)?, None));
                }
            };
            let given = session.on_threads(|| surveyed(disks, &known, &session.cx()))?.of(&args.patch)?;
            keep(&bases, &known, &given, session);
            make_disk(&to, (patch, &bases, given), args, session, out)
        }),
    )?;
    refuse_changed(&bases)?;
    says.iter().for_each(|says| out.report(says));
    match made {
        Some(made) => made.tell(format, session, out),
        None => Ok(Exit::Done),
    }
}

/// Where the result goes, and as what.
struct To<'a> {
    output: &'a Path,
    format: OutFormat,
    stdout: bool,
}

fn make_disk(
    to: &To<'_>,
    (patch, bases, given): (Patch<FileDev>, &[Opened<'_>], Vec<Surveyed<'_>>),
    args: &DeltaApply,
    session: &Session,
    out: &Output,
) -> Result<(Option<Made>, Option<String>), Failure> {
    let cx = session.cx();
    let wanted = patch.facts().bases.first().map(|base| base.digest);
    let first = given.iter().zip(bases).find(|((_, leaves), _)| Some(leaves.digest()) == wanted);
    let first = first.map(|((disk, _), opened)| (opened, *disk));
    let whole = session.on_threads(|| Patched::new(patch, given, &cx))?.of(&args.patch)?;
    if args.as_child {
        let base = first.ok_or_else(|| {
            make::refused(&args.patch, "the patch was made from no base, and a child stands on one")
        })?;
        let (made, says) = as_child::make(&whole, base, (to.format, to.output), session, out)?;
        return Ok((Some(made), Some(says)));
    }
    Ok((flat(&whole, to, args, session)?, None))
}

/// Writes the disk, or the part that is asked for.
fn flat(
    whole: &dyn ReadAt,
    to: &To<'_>,
    args: &DeltaApply,
    session: &Session,
) -> Result<Option<Made>, Failure> {
    let all = Span::whole(whole.len());
    let span = args.range.unwrap_or(all);
    if !all.contains(span) {
        let why = format!("bytes {span} lie outside the disk of {} bytes", whole.len());
        return Err(make::refused(&args.patch, why));
    }
    let part = Slice::new(whole, span).of(&args.patch)?;
    let disk = Container::open(&part, Format::Raw, &session.limits).of(&args.patch)?;
    if to.stdout {
        pour(&disk, disk.len(), &args.patch, session).map(|()| None)
    } else {
        image(&disk, to, session).map(Some)
    }
}

fn image(disk: &dyn Mapped, to: &To<'_>, session: &Session) -> Result<Made, Failure> {
    let layout = (crate::args::Layout::default(), None);
    // A raw disk may have any length; the result is what the target was, to the byte.
    let format = to.format;
    let spec = match format {
        OutFormat::Raw => Create::Raw(disk.len()),
        _ if disk.len().is_aligned(512) => make::spec(format, disk.len(), layout, Stands::Alone, session)?,
        _ => {
            let why = format!(
                "{} bytes are no whole sectors, which a {} image has",
                disk.len(),
                make::name_of(format)
            );
            return Err(make::refused(to.output, why).with_help("make it -O raw"));
        }
    };
    fill(Begin::Replacing(to.output), Layer::flat(disk).made_in(WINDOW), &spec, false, None, session)
}
