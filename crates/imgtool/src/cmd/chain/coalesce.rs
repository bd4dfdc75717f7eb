//! `chain coalesce IMAGE`: what the image stores goes into its parent, which then reads as the image does.
//!
//! 1. The image shadows what is written below it: whatever instant a crash takes, it reads as before.
//! 2. Other children of the parent would read otherwise: with any of them nothing is written.
//!    So would the image's internal snapshots, and they would go with it.
//! 3. The image's own children are put on the parent when that has everything, one by one; then the image may go.

use super::{Carried, Who, carry, container, link_to, refused, same_file, tell, written};
use crate::args::{Change, Coalesce};
use crate::cmd::commit;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::open::Opened;
use crate::output::Output;
use crate::sandbox::{Needs, folder_of};
use ondisk::size::Human;
use stack::chain::{self, Nothing, Take, Then, refuse_snapshots};
use stack::source::Parent;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Runs it.
///
/// # Errors
/// Where the parent may not be changed or has other children; whatever happens, all images read as before.
pub(super) fn run(args: &Coalesce, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let alone = args.remove.then_some(&args.change);
    let (mut child, wanted) = session.open_member(&args.image, session.globals.format, alone)?;
    let wanted = wanted.ok_or_else(|| refused(&args.image, "has no parent that it could be merged into"))?;
    let found = session.parent_of(&args.image, &wanted, 0)?;
    let path = found.path();
    let cycle = || {
        let why = format!("{}: its chain of parents comes back to it", show(&args.image));
        Failure::new(Exit::Corrupt, "corrupt", why)
    };
    if same_file(&path, &args.image) {
        return Err(cycle());
    }
    let mut parent = session.open_parent_writing(&found, &path, wanted.format, &args.change)?;
    if parent.chain.iter().any(|one| same_file(one, &args.image)) {
        return Err(cycle());
    }
    let who = Who::of(&container(&parent, session)?, &parent.image, session);
    child.parent = Some(Parent { disk: Arc::new(Nothing(who.len)), id: who.id });
    let view = container(&child, session)?;
    refuse_snapshots(&view).of(&args.image)?;
    let this = Who::of(&view, &child.image, session);
    drop(view);
    let siblings = session.children_of(&parent, who.id)?;
    let siblings: Vec<PathBuf> = siblings.into_iter().filter(|one| !same_file(one, &args.image)).collect();
    let paths = session.children_of(&child, this.id)?;
    let mut children = Vec::new();
    for path in &paths {
        // The journal of each lies beside it: the one that was named is the parent's.
        let beside = Change { journal: None, undo: None, ..args.change.clone() };
        children.push(session.open_alone(path, &beside, None)?);
    }
    let real = std::fs::canonicalize(&args.image).unwrap_or_else(|_| args.image.clone());
    confine(args, [&path, &real], &children, session, out);
    if this.len < who.len {
        let why = format!("has {} bytes, its parent {}: the parent would have to shrink", this.len, who.len);
        return Err(refused(&args.image, why));
    }
    if args.change.undo.is_some() && (!children.is_empty() || args.remove || this.len > who.len) {
        return Err(refused(&args.image, "more than one file changes, which an undo file cannot take back"));
    }
    // Children that cannot be put on the parent are told of before anything is written.
    children.iter().try_for_each(|child| relinked(child, &parent, who, session).map(drop))?;
    let mut steps = Vec::new();
    let carried = merge(&child, &mut parent, (this, who), &siblings, args, session, &mut steps)?;
    let mut changed = carried.commits > 0;
    let who = Who { timestamp: written(&parent.image, session), ..who };
    for child in &mut children {
        let change = relinked(child, &parent, who, session)?;
        let how = Change { journal: None, undo: None, ..args.change.clone() };
        commit(&mut child.image, child.path, &change, &how, session)?;
        steps.push(format!("{} stands on {} from now on", show(child.path), show(&path)));
        changed = true;
    }
    if args.remove {
        if !session.globals.dry_run {
            remove(&real)?;
        }
        steps.push(format!("{} is removed", show(&args.image)));
        changed = true;
    }
    tell(&steps, &carried, changed, session, out)?;
    Ok(Exit::Done)
}

fn confine(args: &Coalesce, files: [&Path; 2], children: &[Opened<'_>], session: &Session, out: &Output) {
    let mut needs = Needs::nothing();
    for file in files {
        needs = needs.writing(folder_of(file));
    }
    for place in [args.change.journal.as_deref(), args.change.undo.as_deref()].into_iter().flatten() {
        needs = needs.writing(folder_of(place));
    }
    for child in children {
        needs = needs.writing(folder_of(child.path));
    }
    session.confine(&needs, out);
}

/// The change that puts a child on the parent.
fn relinked(
    child: &Opened<'_>,
    parent: &Opened<'_>,
    who: Who,
    session: &Session,
) -> Result<disk::Change, Failure> {
    let link = link_to(parent, who, child)?;
    chain::relink(&child.source(&child.image), &link, &session.change_cx()).of(child.path)
}

/// Writes into the parent what the child stores.
fn merge(
    child: &Opened<'_>,
    parent: &mut Opened<'_>,
    (this, who): (Who, Who),
    siblings: &[PathBuf],
    args: &Coalesce,
    session: &Session,
    steps: &mut Vec<String>,
) -> Result<Carried, Failure> {
    let cx = session.change_cx();
    let name = parent.path.to_owned();
    let spared = |change: &disk::Change| match siblings.first() {
        Some(other) if !change.is_empty() => {
            let why = format!("is the parent of {} as well, which would read otherwise", show(other));
            Err(refused(&name, why).with_help("flatten or rebase that one first"))
        }
        _ => Ok(()),
    };
    let mut grown = Carried::default();
    if this.len > who.len {
        let (change, says) = chain::grow(&parent.source(&parent.image), this.len, &cx).of(parent.path)?;
        spared(&change)?;
        steps.extend(says);
        grown.note(&change);
        if session.globals.dry_run {
            // What follows goes to places that only the growing makes.
            return Ok(grown);
        }
        commit(&mut parent.image, parent.path, &change, &args.change, session)?;
    }
    let view = container(child, session)?;
    let mut carried = carry(parent, &view, &args.change, session, |parent, part| {
        let (target, take) = (parent.source(&parent.image), Take::Own(&view));
        let batch = chain::carry(&target, take, Then::Nothing, part, &cx).of(parent.path)?;
        spared(&batch.change)?;
        Ok(batch)
    })?;
    if carried.commits > 0 {
        let (bytes, from, to) = (Human(carried.bytes), show(child.path), show(parent.path));
        steps.push(format!("{bytes} of {from} are merged into {to}"));
    }
    carried.commits = carried.commits.saturating_add(grown.commits);
    Ok(carried)
}

fn remove(path: &Path) -> Result<(), Failure> {
    let gone = std::fs::remove_file(path).and_then(|()| File::open(folder_of(path))?.sync_all());
    gone.map_err(|error| Failure::io(path, &error))
}
