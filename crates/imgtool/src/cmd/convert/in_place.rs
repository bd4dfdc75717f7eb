//! `convert IMAGE --in-place -O FORMAT`: another format around the same bytes, as one change.
//!
//! 1. The file keeps its name; where that says another format than the file then has, this is told.
//! 2. A disk that becomes the beginning of its file must not look like a container: whoever opens it later would have to
//!    be told what it is. Such a disk is only laid bare where the name says so.

use crate::args::{Convert, Layout, OutFormat};
use crate::cmd::make::{self, Stands};
use crate::cmd::{Committed, commit};
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::open::Opened;
use crate::output::Output;
use container::probe::{Certainty, Probe, probe};
use container::{Container, Create as Spec, Format, Severity, in_place};
use disk::{Change, Move, Overlay, ReadAt};
use ondisk::Len;
use ondisk::size::Human;
use serde_json::json;

/// Runs it.
pub(super) fn run(
    args: &Convert,
    format: OutFormat,
    session: &Session,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let mut opened = session.open_writing(&args.src, &args.change)?;
    session.refuse_parent(&opened, &args.change, out)?;
    session.confine_change(&args.src, &args.change, out);
    let (len, change) = plan(args, format, &opened, session, out)?;
    let committed = commit(&mut opened.image, &args.src, &change, &args.change, session)?;
    let sum =
        |all: &[Move]| all.iter().fold(Len::ZERO, |sum, one| sum.checked_add(one.from.len()).unwrap_or(sum));
    let carried = sum(&change.carried);
    let moved = sum(&change.moves).checked_add(carried).unwrap_or(carried);
    let done = if session.globals.dry_run { "would be" } else { "is now" };
    let (name, word) = (show(&args.src), make::name_of(format));
    if change.is_empty() && args.layout != Layout::default() {
        return Err(Failure::usage(format!(
            "{name} is a qcow2 image already, and its clusters stay as they are"
        ))
        .with_help("make a new image: imgtool convert IMAGE NEW -O qcow2"));
    }
    if change.is_empty() {
        out.report(format!("{name}: nothing to do: it is a {word} image already"));
    } else {
        let moving = Some(moved).filter(|moved| !moved.is_zero());
        let moving = moving.map_or_else(String::new, |moved| format!("; {} of it move", Human(moved)));
        let told = format!("{name}: {done} a {word} image of {}, in the same file{moving}", Human(len));
        if session.globals.dry_run {
            out.line(told)
        } else {
            out.report(told)
        }
        misnamed(&opened, format, out);
    }
    out.document(&json!({
        "changed": matches!(committed, Committed::Done(_)),
        "dry-run": session.globals.dry_run,
        "format": word,
        "virtual-size": len.get(),
        "file-size": change.new_len.get(),
        "fresh-bytes": change.fresh_len().get(),
        "home-bytes": change.home_len().get(),
        "moved-bytes": moved.get(),
        "carried-bytes": carried.get(),
        "journal-bytes": committed.journal().map(Len::get),
    }))?;
    Ok(Exit::Done)
}

/// The change, seen from both sides.
fn plan(
    args: &Convert,
    format: OutFormat,
    opened: &Opened<'_>,
    session: &Session,
    out: &Output,
) -> Result<(Len, Change), Failure> {
    let cx = session.change_cx();
    let file: &dyn ReadAt = &opened.image;
    let disk = opened.source(file).open(file, &cx).of(&args.src)?;
    let len = make::whole_sectors(disk.len(), out)?;
    let spec = make::spec(format, len, (args.layout, None), Stands::Alone, session)?;
    if args.change.check {
        refuse_damage(&disk, opened, session)?;
    }
    refuse_bare(&disk, opened, &spec)?;
    let change = in_place::plan(&disk, &spec, &cx.limits).of(&args.src)?;
    let staged = Overlay::after(file, &change, &cx.limits).of(&args.src)?;
    let staged: &dyn ReadAt = &staged;
    let result = Container::open(staged, spec.format(), &cx.limits).of(&args.src)?;
    let findings = result.check().of(&args.src)?;
    if let Some(damage) = findings.iter().find(|finding| finding.severity == Severity::Damage) {
        let why = format!("the staged result is wrong and was thrown away: {}", damage.text);
        return Err(Failure::new(Exit::Io, "internal", format!("{}: {why}", show(&args.src))));
    }
    if args.change.check {
        refuse_damage(&result, opened, session)?;
    }
    Ok((len, change))
}

/// A check of everything, container and disk.
fn refuse_damage(
    disk: &Container<&dyn ReadAt>,
    opened: &Opened<'_>,
    session: &Session,
) -> Result<(), Failure> {
    let checked = stack::check::all(disk, &session.change_cx()).of(opened.path)?;
    if checked.is_clean() {
        return Ok(());
    }
    let first = checked.findings.iter().find(|finding| finding.severity != Severity::Note);
    let what = first.map_or_else(|| "it cannot be read".to_owned(), |finding| finding.text.clone());
    let why = format!("{}: {what}", show(opened.path));
    Err(Failure::new(Exit::Corrupt, "corrupt", why).with_help("see `imgtool check` for all findings"))
}

/// Invariant 2.
fn refuse_bare(disk: &Container<&dyn ReadAt>, opened: &Opened<'_>, spec: &Spec) -> Result<(), Failure> {
    let bare = match spec {
        Spec::Raw(_) => true,
        Spec::Vhd(vhd) => matches!(vhd.kind, container::vhd::create::New::Fixed),
        Spec::Qcow2(_) => false,
    };
    let named = by_name(opened) == Some(spec.format());
    let plain = matches!(probe(disk, None), Ok(Probe { certainty: Certainty::Nothing, .. }));
    if !bare || named || plain || matches!(disk, Container::Raw(_)) {
        return Ok(());
    }
    let why = "the disk itself begins or ends like an image; the file would be taken for that";
    let help = format!("give the file a name that ends as {} first", spec.format());
    Err(make::refused(opened.path, why).with_help(help))
}

fn by_name(opened: &Opened<'_>) -> Option<Format> {
    opened.path.file_name().and_then(|name| name.to_str()).and_then(Format::of_name)
}

/// Says where the name leads astray.
fn misnamed(opened: &Opened<'_>, format: OutFormat, out: &Output) {
    let now = match format {
        OutFormat::Raw => Format::Raw,
        OutFormat::Vhd | OutFormat::VhdFixed => Format::Vhd,
        OutFormat::Qcow2 => Format::Qcow2,
    };
    if let Some(named) = by_name(opened).filter(|named| *named != now) {
        out.warn(format!(
            "{}: the name still ends as {named}: rename the file, or say -f {now} from now on",
            show(opened.path)
        ));
    }
}
