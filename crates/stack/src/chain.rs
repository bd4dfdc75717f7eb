//! Moving bytes between the images of a chain, batch by batch, and changing who stands on whom.
//!
//! ```text
//! coalesce   what the child stores goes into its parent            the child shadows it: nobody sees it come
//! flatten    what the parents store goes into the child            the child reads as before
//! rebase     what the parents store and the new parent does not    the child reads as before
//! relink     the name of the parent                                both parents read the same under the child
//! ```
//!
//! 1. Every batch is a change of one file, staged on an overlay and committed by itself. Between batches, and in every
//!    state that recovery ends in, the child reads as it did: to be interrupted costs nothing but time.
//! 2. A batch that was committed before is found to be there and is no change: repeating a command continues it.
//! 3. Memory is bounded by the batch.

use crate::source::Source;
use crate::{Error, Result};
use container::link::{self, Link};
use container::{BlockStatus, Container, Facts, Mapped, Severity};
use disk::{Change, Cx, Disk, ExtentKind, ExtentMap, Overlay, ReadAt};
use ondisk::{Len, Offset, Span};

/// Runs are looked at in windows of this length, and bytes are carried in pieces.
const WINDOW: Len = Len::mib(64);
const PIECE: Len = Len::mib(1);
/// What differs is carried in units of this length.
const UNIT: Len = Len::kib(64);

/// Which bytes of a child are carried.
#[derive(Clone, Copy)]
pub enum Take<'a> {
    /// What the child stores itself, zeros that it states included.
    Own,
    /// What it gets from its parents.
    Inherited,
    /// What it does not store and this disk does not have.
    Missing(&'a dyn ReadAt),
}

/// What happens when the last byte is carried.
#[derive(Clone, Copy, Debug)]
pub enum Then<'a> {
    /// Nothing.
    Nothing,
    /// The target stands alone from then on.
    Alone,
    /// The target stands on that parent from then on.
    On(&'a Link),
}

/// A part of the work, staged.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The change of the target.
    pub change: Change,
    /// Where the next part begins; `None` where this is the last one.
    pub next: Option<Offset>,
    /// Bytes of the disk that were carried.
    pub carried: Len,
}

/// How a part of the work is staged.
#[derive(Clone, Copy)]
pub struct Part {
    /// Where on the disk it begins.
    pub from: Offset,
    /// So much is carried at most.
    pub room: Len,
    /// Whether the target's container is checked before and after.
    pub check: bool,
}

/// Stages a part of carrying bytes that `child` reads as into `target`, which is its parent or itself.
///
/// # Errors
/// Where one of them cannot be read, or the target not be written to.
pub fn carry(
    target: &Source<'_>,
    child: &Source<'_>,
    take: Take<'_>,
    then: Then<'_>,
    part: Part,
    cx: &Cx<'_>,
) -> Result<Batch> {
    let view = child.open(child.file, cx)?;
    let mut overlay = Overlay::new(target.file, &cx.limits);
    if part.check {
        require_sound(&target.open(&mut overlay, cx)?)?;
    }
    // Tapdisk hides parents: nobody but who knows the chain shall write to them.
    let hidden = matches!(take, Take::Own) && link::set_hidden(&mut overlay, target.format, false)?;
    let mut disk = target.open(&mut overlay, cx)?;
    let mut carrier = Carrier { view: &view, take, room: part.room, carried: Len::ZERO };
    let next = carrier.run(&mut disk, part.from, cx)?;
    let carried = carrier.carried;
    if part.check {
        require_sound(&disk)?;
    }
    drop(disk);
    if hidden {
        link::set_hidden(&mut overlay, target.format, true)?;
    }
    match then {
        Then::Alone if next.is_none() => switch(&mut overlay, target, None, cx)?,
        Then::On(link) if next.is_none() => switch(&mut overlay, target, Some(link), cx)?,
        _ => {}
    }
    Ok(Batch { change: overlay.into_change()?, next, carried })
}

struct Carrier<'a, 'd> {
    view: &'a Container<&'d dyn ReadAt>,
    take: Take<'a>,
    room: Len,
    carried: Len,
}

impl Carrier<'_, '_> {
    /// Carries until the room is used up; where to go on.
    fn run(&mut self, disk: &mut dyn Disk, from: Offset, cx: &Cx<'_>) -> Result<Option<Offset>> {
        let rest = Span::between(from, self.view.len().end()).unwrap_or_default();
        let task = cx.progress.task("carry", disk::Total::Bytes(rest.len()));
        let take = self.take;
        for window in rest.chunks(WINDOW) {
            cx.cancel.check()?;
            for run in self.view.status(window)?.into_iter().filter(|run| take.wants(run)) {
                for piece in run.span.chunks(PIECE) {
                    if self.carried >= self.room {
                        return Ok(Some(piece.start()));
                    }
                    self.piece(disk, piece, &run)?;
                }
            }
            task.advance(window.len().get());
        }
        Ok(None)
    }

    fn piece(&mut self, disk: &mut dyn Disk, piece: Span, run: &BlockStatus) -> Result<()> {
        if matches!(self.take, Take::Own) && run.zero {
            return Ok(disk.discard(piece)?);
        }
        let mut bytes = vec![0; piece.len().to_usize()];
        self.view.read_at(piece.start(), &mut bytes)?;
        match self.take {
            Take::Own if bytes.iter().all(|&byte| byte == 0) => disk.discard(piece)?,
            Take::Inherited if bytes.iter().all(|&byte| byte == 0) => {}
            Take::Own | Take::Inherited => {
                disk.write_at(piece.start(), &bytes)?;
                self.count(piece.len());
            }
            Take::Missing(other) => self.differing(disk, piece, &bytes, other)?,
        }
        Ok(())
    }

    /// Writes the units of a piece that `other` reads otherwise.
    fn differing(
        &mut self,
        disk: &mut dyn Disk,
        piece: Span,
        bytes: &[u8],
        other: &dyn ReadAt,
    ) -> Result<()> {
        let mut theirs = vec![0; bytes.len()];
        if let Some(there) = piece.intersect(Span::whole(other.len())) {
            other.read_at(there.start(), theirs.get_mut(..there.len().to_usize()).unwrap_or_default())?;
        }
        let units = bytes.chunks(UNIT.to_usize()).zip(theirs.chunks(UNIT.to_usize()));
        for (span, (mine, their)) in piece.chunks(UNIT).zip(units) {
            if mine != their {
                disk.write_at(span.start(), mine)?;
                self.count(span.len());
            }
        }
        Ok(())
    }

    fn count(&mut self, more: Len) {
        self.carried = Len::new(self.carried.get().saturating_add(more.get()));
    }
}

impl Take<'_> {
    fn wants(self, run: &BlockStatus) -> bool {
        let own = run.present && run.depth == 0;
        match self {
            Self::Own => own,
            Self::Inherited => !own && run.data,
            Self::Missing(_) => !own,
        }
    }
}

/// Stages the growing of a parent to the length of its child, hidden or not.
///
/// # Errors
/// Where it cannot have exactly that length.
pub fn grow(target: &Source<'_>, to: Len, cx: &Cx<'_>) -> Result<(Change, Vec<String>)> {
    let mut overlay = Overlay::new(target.file, &cx.limits);
    let hidden = link::set_hidden(&mut overlay, target.format, false)?;
    let plan = target.open(&mut overlay, cx)?.plan_grow(to)?;
    if plan.new_len() != to {
        let why = format!("the parent would get {} bytes, its child has {to}", plan.new_len());
        return Err(container::Error::Refused { why, help: None }.into());
    }
    let says = plan.sentences();
    plan.apply(&mut overlay)?;
    if hidden {
        link::set_hidden(&mut overlay, target.format, true)?;
    }
    Ok((overlay.into_change()?, says))
}

/// Stages another parent for an image; the result is opened again.
///
/// # Errors
/// Where the image cannot name it.
pub fn relink(child: &Source<'_>, parent: &Link, cx: &Cx<'_>) -> Result<Change> {
    let mut overlay = Overlay::new(child.file, &cx.limits);
    switch(&mut overlay, child, Some(parent), cx)?;
    Ok(overlay.into_change()?)
}

/// Makes the staged image name that parent, or none, and looks whether it does.
fn switch(overlay: &mut Overlay<'_>, child: &Source<'_>, parent: Option<&Link>, cx: &Cx<'_>) -> Result<()> {
    link::relink(overlay, child.format, parent, &cx.limits)?;
    let named = Container::open(&*overlay, child.format, &cx.limits)?.parent_ref();
    let right = match (&named, parent) {
        (None, None) => true,
        (Some(named), Some(link)) => named.id == link.id && named.names.contains(&link.name),
        _ => false,
    };
    let wrong = "the image would not name the parent that it should";
    if right { Ok(()) } else { Err(Error::Result { what: wrong.to_owned() }) }
}

/// Refuses an image whose internal snapshots would read otherwise over another parent.
///
/// # Errors
/// Where it has some.
pub fn refuse_snapshots<D: ReadAt>(image: &Container<D>) -> Result<()> {
    match image.facts() {
        Facts::Qcow2(facts) if !facts.snapshots.is_empty() => Err(container::Error::Refused {
            why: "the image has internal snapshots, which would read otherwise over another parent"
                .to_owned(),
            help: Some("delete them first: qemu-img snapshot -d NAME IMAGE".to_owned()),
        }
        .into()),
        _ => Ok(()),
    }
}

fn require_sound<D: ReadAt>(disk: &Container<D>) -> Result<()> {
    let findings = disk.check()?;
    let count = findings.count(Severity::Damage);
    match findings.iter().find(|finding| finding.severity == Severity::Damage) {
        Some(first) => Err(Error::Damaged { what: first.text.clone(), count }),
        None => Ok(()),
    }
}

/// In the place of a parent that is not to be read: a disk of zeros that nobody stores.
#[derive(Clone, Copy, Debug)]
pub struct Nothing(pub Len);

impl ReadAt for Nothing {
    fn len(&self) -> Len {
        self.0
    }
    fn read_at(&self, at: Offset, buf: &mut [u8]) -> disk::Result<()> {
        disk::traits::bounded(at, buf.len(), self.0)?;
        buf.fill(0);
        Ok(())
    }
    fn extents(&self, within: Span) -> disk::Result<ExtentMap> {
        Ok(ExtentMap::single(within, ExtentKind::Hole))
    }
}

impl Mapped for Nothing {
    fn status(&self, range: Span) -> container::Result<Vec<BlockStatus>> {
        let run =
            BlockStatus { span: range, present: false, zero: true, data: false, offset: None, depth: 0 };
        Ok(vec![run])
    }
}
