//! `create IMAGE SIZE`: an empty image, or with `--backing` a child that holds only what differs from its parent.
//!
//! 1. Nothing is overwritten. The image gets its name when it is whole and on the disk, and not before.
//! 2. The format of the parent is told or proven: what a guest could have written into a raw disk is not believed.
//! 3. A child names its parent by the way from its own folder.

use super::make::{self, Stands};
use crate::args::{Create, OutFormat};
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::open::Opened;
use crate::output::Output;
use crate::sandbox::{Needs, folder_of};
use container::{Format, probe, qcow2, vhd};
use disk::draft::refuse_existing;
use disk::{Draft, MemDisk, Overlay, ReadAt};
use ondisk::Len;
use ondisk::guid::Uuid;
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
    let format = make::format(args.output_format, &args.image)?;
    if matches!(format, OutFormat::Raw | OutFormat::VhdFixed) && args.backing.is_some() {
        return Err(make::no_parent(format));
    }
    let len = size(args, base.as_ref(), out)?;
    let stands = base.as_ref().map_or(Ok(Stands::Alone), |base| stands(&args.image, format, base))?;
    let spec = make::spec(format, len, (args.layout, None), stands, session)?;
    let plan = spec.plan().of(&args.image)?;
    let empty = MemDisk::from_bytes(&[]);
    let mut overlay = Overlay::new(&empty, &session.limits);
    plan.apply(&mut overlay).of(&args.image)?;
    let change = overlay.into_change().of(&args.image)?;
    if session.globals.dry_run {
        Draft::foresee(&args.image).of(&args.image)?;
    } else {
        session.cancel.check().of(&args.image)?;
        let draft = Draft::create(&args.image).of(&args.image)?;
        draft.fill(&change).and_then(|()| draft.publish()).of(&args.image)?;
    }
    let done = if session.globals.dry_run { "would be " } else { "" };
    let what =
        format!("{}: {done}an empty {} image of {}", show(&args.image), make::name_of(format), Human(len));
    if session.globals.dry_run {
        out.line(what)
    } else {
        out.report(what)
    }
    out.document(&json!({
        "changed": !session.globals.dry_run,
        "dry-run": session.globals.dry_run,
        "format": make::name_of(format),
        "virtual-size": len.get(),
        "file-size": change.new_len.get(),
        "backing-filename": base.map(|base| base.path.to_string_lossy().into_owned()),
    }))?;
    Ok(Exit::Done)
}

/// The parent of the new image.
pub(super) struct Base {
    path: PathBuf,
    format: Format,
    len: Len,
    id: Option<Uuid>,
    /// When it was last modified, in seconds since 1970.
    timestamp: u64,
}

impl Base {
    fn open(path: &Path, session: &Session, out: &Output) -> Result<Self, Failure> {
        Self::of(&session.open_reading(path, session.globals.format)?, session, out)
    }

    /// An image that is open, as a parent.
    pub(super) fn of(opened: &Opened<'_>, session: &Session, out: &Output) -> Result<Self, Failure> {
        let (path, told) = (opened.path, session.globals.format);
        if opened.within().is_some() {
            let why = format!("{}: what stands on a disk of a repository lies in it, too", show(path));
            return Err(Failure::new(Exit::Refused, "refused", why));
        }
        let format =
            probe::certain(&opened.image, path.file_name().and_then(OsStr::to_str), told).of(path)?;
        if format == Format::Xva {
            return Err(Failure::new(
                Exit::Refused,
                "refused",
                format!("{}: an archive is no parent", show(path)),
            ));
        }
        let timestamp = opened.image.modified().unwrap_or_default().min(session.cx().now);
        opened.with_disk(session, out, |disk| {
            Ok(Self { path: path.to_owned(), format, len: disk.len(), id: disk.uuid(), timestamp })
        })
    }
}

/// The size of the disk: as asked for, in whole sectors, else that of the parent.
fn size(args: &Create, base: Option<&Base>, out: &Output) -> Result<Len, Failure> {
    let want = args.size.or(base.map(|base| base.len)).unwrap_or_default();
    let len = make::whole_sectors(want, out)?;
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

/// How the new image names its parent.
pub(super) fn stands(image: &Path, format: OutFormat, base: &Base) -> Result<Stands, Failure> {
    let name = relative(image, &base.path)?;
    if format != OutFormat::Vhd {
        return Ok(Stands::Qcow2(qcow2::Backing { name: make::plain(name), format: base.format }));
    }
    let Some(id) = base.id else {
        let what = format!("the parent of a VHD is a VHD, not {}", base.format);
        return Err(make::refused(&base.path, what).with_help("make the child -O qcow2"));
    };
    Ok(Stands::Vhd(vhd::create::ParentSpec { name, id, timestamp: base.timestamp }))
}

/// The way from the folder of `child` to `base`.
pub(super) fn relative(child: &Path, base: &Path) -> Result<String, Failure> {
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
}
