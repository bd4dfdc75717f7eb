//! `sparsify IMAGE OUT`: a new image in which what is free reads as zero and is not stored.

use crate::args::Sparsify;
use crate::cmd::convert::{Begin, fill};
use crate::cmd::make::{self, Stands};
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of};
use crate::output::Output;
use crate::sandbox::{Needs, folder_of};
use container::Container;
use container::write::Layer;
use disk::ReadAt;
use disk::draft::refuse_existing;
use stack::free::{Free, find};
use stack::sparsify::Hollow;
use std::path::Path;

/// Runs it.
pub(super) fn run(args: &Sparsify, to: &Path, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let format = make::format(args.output_format, to)?;
    refuse_existing(to).of(to)?;
    let opened = session.open_reading(&args.image, session.globals.format)?;
    session.confine(&Needs::nothing().writing(folder_of(to)), out);
    let made = opened.with_disk(session, out, |disk| {
        let free = free(disk, session).of(&args.image)?;
        for note in &free.notes {
            out.warn(note);
        }
        let hollow = Hollow { disk, free: &free.map };
        let len = make::whole_sectors(disk.len(), out)?;
        let layout = (crate::args::Layout::default(), None);
        let spec = make::spec(format, len, layout, Stands::Alone, session)?;
        fill(Begin::New(to), Layer::flat(&hollow), &spec, false, None, session)
    })?;
    opened.refuse_changed()?;
    made.tell(format, session, out)
}

/// What the volumes of the disk call free; zeros are left out by whoever writes the copy.
pub(in crate::cmd) fn free(disk: &Container<&dyn ReadAt>, session: &Session) -> Result<Free, grub::Error> {
    let cx = session.cx();
    let layout = stack::discover(disk, &cx)?;
    let needs = grub::look(disk, &layout, &cx)?.needs(&layout);
    Ok(find(disk, &layout, &needs.pinned, &cx)?)
}
