//! `create IMAGE SIZE`: an empty image, or with `--backing` a child that holds only what differs from its parent.
//!
//! 1. Nothing is overwritten. The image gets its name when it is whole and on the disk, and not before.
//! 2. The format of the parent is told or proven: what a guest could have written into a raw disk is not believed.
//! 3. A child names its parent by the way from its own folder.

use crate::args::{Create, OutFormat};
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::output::Output;
use crate::sandbox::{Needs, folder_of};
use container::{Container, Create as Spec, Format, probe, qcow2, vhd};
use disk::draft::refuse_existing;
use disk::{Draft, MemDisk, Overlay, ReadAt};
use ondisk::Len;
use ondisk::guid::Uuid;
use ondisk::num::round_up;
use ondisk::size::Human;
use serde_json::json;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

/// Runs it.
///
/// # Errors
/// Where IMAGE exists, the format cannot have that size, BASE is no parent for it, or the system fails.
pub fn run(args: &Create, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let base = args.backing.as_deref().map(|path| Base::open(path, session, out)).transpose()?;
    refuse_existing(&args.image).of(&args.image)?;
    session.confine(&Needs::nothing().writing(folder_of(&args.image)), out);
    let format = format(args)?;
    let len = size(args, base.as_ref(), out)?;
    let spec = spec(args, format, len, base.as_ref(), session)?;
    let plan = spec.plan().of(&args.image)?;
    let empty = MemDisk::from_bytes(&[]);
    let mut overlay = Overlay::new(&empty, &session.limits);
    plan.apply(&mut overlay).of(&args.image)?;
    let change = overlay.into_change().of(&args.image)?;
    if !session.globals.dry_run {
        session.cancel.check().of(&args.image)?;
        let draft = Draft::create(&args.image).of(&args.image)?;
        draft.fill(&change).and_then(|()| draft.publish()).of(&args.image)?;
    }
    let done = if session.globals.dry_run { "would be " } else { "" };
    let what = format!("{}: {done}an empty {} image of {}", show(&args.image), name_of(format), Human(len));
    if session.globals.dry_run {
        out.line(what)
    } else {
        out.report(what)
    }
    out.document(&json!({
        "changed": !session.globals.dry_run,
        "dry-run": session.globals.dry_run,
        "format": name_of(format),
        "virtual-size": len.get(),
        "file-size": change.new_len.get(),
        "backing-filename": base.map(|base| base.path.to_string_lossy().into_owned()),
    }))?;
    Ok(Exit::Done)
}

/// The parent of the new image.
struct Base {
    path: PathBuf,
    format: Format,
    len: Len,
    id: Option<Uuid>,
    /// Seconds since 1970.
    timestamp: u64,
}

impl Base {
    fn open(path: &Path, session: &Session, out: &Output) -> Result<Self, Failure> {
        let told = session.globals.format;
        let opened = session.open_reading(path, told)?;
        let format =
            probe::certain(&opened.image, path.file_name().and_then(OsStr::to_str), told).of(path)?;
        if format == Format::Xva {
            return Err(Failure::new(
                Exit::Refused,
                "refused",
                format!("{}: an archive is no parent", show(path)),
            ));
        }
        opened.with_disk(session, out, |disk| {
            let timestamp = match disk {
                Container::Vhd(vhd) => vhd.timestamp(),
                _ => 0,
            };
            Ok(Self { path: path.to_owned(), format, len: disk.len(), id: disk.uuid(), timestamp })
        })
    }
}

/// As `-O` says, else the name's ending, else raw.
fn format(args: &Create) -> Result<OutFormat, Failure> {
    let by_name = args.image.to_str().and_then(Format::of_name);
    let format = match (args.output_format, by_name) {
        (Some(told), _) => told,
        (None, Some(Format::Vhd)) => OutFormat::Vhd,
        (None, Some(Format::Qcow2)) => OutFormat::Qcow2,
        (None, Some(Format::Raw) | None) => OutFormat::Raw,
        (None, Some(other)) => {
            let why = format!("{} is only read, never made", other.described());
            return Err(Failure::usage(why).with_help("say what to make: -O raw, vhd, vhd-fixed or qcow2"));
        }
    };
    match format {
        OutFormat::Raw | OutFormat::VhdFixed if args.backing.is_some() => {
            Err(Failure::usage(format!("a {} image has no parent", name_of(format)))
                .with_help("make it -O qcow2, or over a VHD -O vhd"))
        }
        format => Ok(format),
    }
}

const fn name_of(format: OutFormat) -> &'static str {
    match format {
        OutFormat::Raw => "raw",
        OutFormat::Vhd => "vhd",
        OutFormat::VhdFixed => "vhd-fixed",
        OutFormat::Qcow2 => "qcow2",
    }
}

/// The size of the disk: as asked for, in whole sectors, else that of the parent.
fn size(args: &Create, base: Option<&Base>, out: &Output) -> Result<Len, Failure> {
    let want = args.size.or(base.map(|base| base.len)).unwrap_or_default();
    let too_large = || Failure::usage(format!("{want} bytes are more than a disk can have"));
    let len = round_up(want.get(), 512).map(Len::new).ok_or_else(too_large)?;
    if len != want {
        out.warn(format!("{want} bytes are no whole sectors; the disk gets {len}"));
    }
    match base {
        Some(base) if len < base.len => Err(Failure::new(
            Exit::Refused,
            "refused",
            format!(
                "{}: {len} bytes are less than the {} of {}",
                show(&args.image),
                base.len,
                show(&base.path)
            ),
        )
        .with_help("leave SIZE out for a child of the same size")),
        _ => Ok(len),
    }
}

fn spec(
    args: &Create,
    format: OutFormat,
    len: Len,
    base: Option<&Base>,
    session: &Session,
) -> Result<Spec, Failure> {
    let now = session.cx().now;
    let vhd =
        |kind| Spec::Vhd(vhd::create::Spec { len, uuid: Uuid(*uuid::Uuid::new_v4().as_bytes()), now, kind });
    Ok(match (format, base) {
        (OutFormat::Raw, _) => Spec::Raw(len),
        (OutFormat::VhdFixed, _) => vhd(vhd::create::New::Fixed),
        (OutFormat::Vhd, None) => vhd(vhd::create::New::Dynamic),
        (OutFormat::Vhd, Some(base)) => {
            let Some(id) = base.id else {
                let what = format!("{}: the parent of a VHD is a VHD, not {}", show(&base.path), base.format);
                return Err(Failure::new(Exit::Refused, "refused", what).with_help("make the child -O qcow2"));
            };
            let name = relative(&args.image, &base.path)?;
            vhd(vhd::create::New::Differencing(vhd::create::ParentSpec {
                name,
                id,
                timestamp: base.timestamp,
            }))
        }
        (OutFormat::Qcow2, base) => {
            let backing = base.map(|base| {
                let name = plain(relative(&args.image, &base.path)?);
                Ok(qcow2::Backing { name, format: base.format })
            });
            Spec::Qcow2(qcow2::Create { backing: backing.transpose()?, ..qcow2::Create::new(len) })
        }
    })
}

/// A name that nobody takes for a protocol.
fn plain(name: String) -> String {
    let first = name.split('/').next().unwrap_or_default();
    if first.contains(':') { format!("./{name}") } else { name }
}

/// The way from the folder of `child` to `base`.
fn relative(child: &Path, base: &Path) -> Result<String, Failure> {
    let real = |path: &Path| std::fs::canonicalize(path).map_err(|error| Failure::io(path, &error));
    let (folder, base) = (real(folder_of(child))?, real(base)?);
    let way = way(&folder, &base);
    let text = way.to_str().map(str::to_owned);
    text.ok_or_else(|| {
        Failure::new(Exit::Refused, "refused", format!("{}: a parent's name must be text", show(&base)))
    })
}

/// The same, for absolute paths without links.
fn way(folder: &Path, file: &Path) -> PathBuf {
    let shared = folder.components().zip(file.components()).take_while(|(a, b)| a == b).count();
    let up = folder.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(file.components().skip(shared)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways() {
        for (folder, file, want) in [
            ("/a/b", "/a/b/c.vhd", "c.vhd"),
            ("/a/b", "/a/b/c/d.vhd", "c/d.vhd"),
            ("/a/b", "/a/x/c.vhd", "../x/c.vhd"),
            ("/a/b", "/c.vhd", "../../c.vhd"),
            ("/", "/c.vhd", "c.vhd"),
        ] {
            assert_eq!(way(Path::new(folder), Path::new(file)), Path::new(want), "{folder} {file}");
        }
    }

    #[test]
    fn names_that_look_like_protocols() {
        assert_eq!(plain("a:b.raw".to_owned()), "./a:b.raw");
        assert_eq!(plain("c/a:b.raw".to_owned()), "c/a:b.raw");
        assert_eq!(plain("b.raw".to_owned()), "b.raw");
    }
}
