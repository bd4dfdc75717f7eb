//! `chain rebase IMAGE NEW-PARENT`: another parent under the image.
//!
//! What the image gets from its old parents and the new one does not have is written into the image first, so that it
//! reads as before. With `--content-may-change` only the name is written: for a parent that was moved or copied.

use super::{Carried, Who, carry, container, link_to, refused, same_file, tell};
use crate::args::Rebase;
use crate::cmd::commit;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::open::Opened;
use crate::output::Output;
use container::link::Link;
use container::{Container, Format};
use disk::ReadAt;
use ondisk::size::Human;
use stack::chain::{self, Shared, Take, Then, Under, refuse_snapshots};

/// Runs it.
///
/// # Errors
/// Where the image may not be changed, or cannot stand on that parent; the image reads as before then.
pub(super) fn run(args: &Rebase, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let mut opened = if args.content_may_change {
        session.open_alone(&args.image, &args.change, session.globals.format)?
    } else {
        session.open_writing(&args.image, &args.change)?
    };
    let (new, _) = session.open_member(&args.new_parent, args.format_parent, None)?;
    let format = new.format;
    drop(new);
    let new = session.open_reading(&args.new_parent, Some(format))?;
    if std::iter::once(new.path)
        .chain(new.chain.iter().map(AsRef::as_ref))
        .any(|one| same_file(one, opened.path))
    {
        return Err(refused(&args.new_parent, format!("stands on {} itself", show(&args.image))));
    }
    session.confine_change(&args.image, &args.change, out);
    let who = Who::of(&container(&new, session)?, &new.image, session);
    let link = link_to(&new, who, &opened)?;
    let disk_len = Container::open(&opened.image, opened.format, &session.limits).of(&args.image)?.len();
    if opened.format == Format::Vhd && who.len > disk_len {
        let why = format!("has {} bytes, its child would have only {disk_len}", who.len);
        return Err(refused(&args.new_parent, why));
    }
    // What cannot be named is refused before anything is written.
    let cx = session.change_cx();
    let only_link = chain::relink(&opened.source(&opened.image), &link, &cx).of(&args.image)?;
    let (carried, mut steps) = if args.content_may_change {
        let mut carried = Carried::default();
        carried.note(&only_link);
        commit(&mut opened.image, &args.image, &only_link, &args.change, session)?;
        (carried, Vec::new())
    } else {
        safely(&mut opened, &new, &link, args, session)?
    };
    steps.push(format!("the parent of {} is {}", show(&args.image), show(&args.new_parent)));
    tell(&steps, &carried, carried.commits > 0, session, out)?;
    Ok(Exit::Done)
}

/// Writes what differs into the image, and the name with the last of it.
fn safely(
    opened: &mut Opened<'_>,
    new: &Opened<'_>,
    link: &Link,
    args: &Rebase,
    session: &Session,
) -> Result<(Carried, Vec<String>), Failure> {
    refuse_snapshots(&container(opened, session)?).of(&args.image)?;
    let disk = container(new, session)?;
    let under = Under { disk: &disk, shared: shared(opened, new) };
    let cx = session.change_cx();
    let beside = chain::beside(&opened.source(&opened.image));
    let carried = carry(opened, &beside, &args.change, session, |opened, part| {
        let target = opened.source(&opened.image);
        chain::carry(&target, Take::Missing(under), Then::On(link), part, &cx).of(opened.path)
    })?;
    let written = (!carried.bytes.is_zero()).then(|| {
        let bytes = Human(carried.bytes);
        format!("{bytes} that the new parent does not have are written into {}", show(&args.image))
    });
    Ok((carried, written.into_iter().collect()))
}

/// From where on the image's chain and that of its new parent are the same files, read in the same way.
fn shared(opened: &Opened<'_>, new: &Opened<'_>) -> Option<Shared> {
    let mut old = opened.chain.iter().zip(&opened.formats).rev();
    let lower = new.chain.iter().map(AsRef::as_ref).zip(&new.formats).rev();
    let same = lower
        .chain([(new.path, &new.format)])
        .take_while(|(path, format)| {
            old.next().is_some_and(|(old, is)| is == *format && same_file(old, path))
        })
        .count();
    let old = u32::try_from(opened.chain.len().checked_sub(same)?.checked_add(1)?).ok()?;
    let new = u32::try_from(new.chain.len().checked_add(1)?.checked_sub(same)?).ok()?;
    (same > 0).then_some(Shared { old, new })
}
