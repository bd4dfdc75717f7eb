//! `convert --keep-chain`: each image of a chain becomes one, from the lowest up.
//!
//! 1. A new parent is called as the old one, with the ending of its new format, and lies beside its child.
//! 2. All are whole before the first gets its name, and parents get theirs first: no child names what is not there.

use super::{Made, fill, tell};
use crate::args::{Convert, OutFormat};
use crate::cmd::make::{self, Stands};
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of};
use crate::open::Opened;
use crate::output::Output;
use crate::sandbox::folder_of;
use container::write::Layer;
use container::{Create as Spec, Format, Mapped, qcow2, vhd};
use std::path::{Path, PathBuf};

/// Runs it.
pub(super) fn run(
    args: &Convert,
    format: OutFormat,
    opened: &Opened<'_>,
    session: &Session,
    out: &mut Output,
) -> Result<Exit, Failure> {
    if !matches!(format, OutFormat::Vhd | OutFormat::Qcow2) {
        return Err(make::no_parent(format));
    }
    let names = names(args, format, opened)?;
    let made = opened.with_disk(session, out, |top| {
        let mut made: Vec<Made> = Vec::new();
        let mut below: Option<(Spec, &Path, u64)> = None;
        let top: &dyn Mapped = top;
        let disks = opened.parents.iter().map(|parent| -> &dyn Mapped { &*parent.disk }).chain([top]);
        let layers: Vec<Layer<'_>> = disks
            .enumerate()
            .map(|(height, disk)| if height == 0 { Layer::flat(disk) } else { Layer::own(disk) })
            .collect();
        if args.compress.is_none() {
            super::space::refuse_full(&args.dst, &layers, false, session)?;
        }
        for (&layer, path) in layers.iter().zip(&names) {
            let len = make::whole_sectors(layer.len(), out)?;
            let stands = below
                .as_ref()
                .map_or(Ok(Stands::Alone), |(spec, path, timestamp)| stands(spec, path, *timestamp))?;
            let spec = make::spec(format, len, (args.layout, args.compress), stands, session)?;
            let begin = super::Begin::New(path);
            let one = fill(begin, layer, &spec, args.compress.is_some(), None, session)?;
            below = Some((spec, path, one.written(session)?));
            made.push(one);
        }
        Ok(made)
    })?;
    opened.refuse_changed()?;
    publish(made, format, session, out)
}

/// What the new images are called, the lowest first.
fn names(args: &Convert, format: OutFormat, opened: &Opened<'_>) -> Result<Vec<PathBuf>, Failure> {
    let ending = make::name_of(format);
    let folder = folder_of(&args.dst);
    let renamed = |old: &PathBuf| folder.join(old.with_extension(ending).file_name().unwrap_or_default());
    let mut names: Vec<PathBuf> = opened.chain.iter().rev().map(renamed).collect();
    names.push(args.dst.clone());
    for (index, name) in names.iter().enumerate() {
        if names.iter().skip(index.saturating_add(1)).any(|other| other.file_name() == name.file_name()) {
            return Err(make::refused(name, "two images of the chain would get this name")
                .with_help("choose another name for DST, or convert the chain from the lowest image up"));
        }
        disk::draft::refuse_existing(name).of(name)?;
    }
    Ok(names)
}

/// How a new image names the one below it, which lies in the same folder and was last written to at that time.
fn stands(below: &Spec, path: &Path, timestamp: u64) -> Result<Stands, Failure> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| make::refused(path, "a parent's name must be text"))?.to_owned();
    Ok(match below {
        Spec::Vhd(spec) => Stands::Vhd(vhd::create::ParentSpec { name, id: spec.uuid, timestamp }),
        _ => Stands::Qcow2(qcow2::Backing { name: make::plain(name), format: Format::Qcow2 }),
    })
}

/// Gives all of them their names, or none.
fn publish(made: Vec<Made>, format: OutFormat, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let mut published: Vec<PathBuf> = Vec::new();
    let last = made.len().saturating_sub(1);
    for (index, one) in made.into_iter().enumerate() {
        let (path, told) = (one.path.clone(), (one.len, one.file_len, one.draft.is_some()));
        let named = session.cancel.check().and_then(|()| one.draft.map_or(Ok(()), disk::Draft::publish));
        if let Err(error) = named {
            // They are ours, and whole, but nothing stands on them.
            for path in published {
                let _ = std::fs::remove_file(path);
            }
            return Err(error).of(&path);
        }
        if index == last {
            let (len, file_len, written) = told;
            tell(&super::Told { path: &path, format, len, file_len, written }, out)?;
        } else {
            out.note(format!("{}: made as a parent", crate::exit::show(&path)));
        }
        published.extend(told.2.then_some(path));
    }
    Ok(Exit::Done)
}
