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
//! 2. What was carried before is found to be there and is not carried again: repeating a command continues it.
//! 3. Data are not staged: they pour from the disk beside when the batch is committed, read once, by several threads.
//!    What `flatten` and `rebase` carry goes to bytes that nothing refers to. What `coalesce` carries goes over bytes of
//!    the parent that the child shadows, whatever they are: it stores the same positions itself. So a crash may leave
//!    any mixture of old and new there, and only there: tables pass the journal as ever.
//! 4. Memory is bounded: a batch ends where its tables and its list of runs have become long.

mod carry;
mod differ;

pub use carry::Take;
pub use differ::{Shared, Under};

use crate::source::Source;
use crate::{Error, Result};
use carry::Carrier;
use container::link::{self, Link};
use container::{BlockStatus, Container, Facts, Mapped, Severity};
use differ::Differ;
use disk::{Change, Cx, ExtentKind, ExtentMap, Overlay, ReadAt};
use ondisk::{Len, Offset, Span};
use std::sync::Arc;

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
    /// Whether later parts can be staged beforehand as well: that reads tables, and next to no data.
    pub foreseeable: bool,
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

/// Stages a part of carrying bytes into `target`. The change pours from the child that is taken, or else from the parent
/// of the target: see [`beside`].
///
/// # Errors
/// Where one of them cannot be read, or the target not be written to.
pub fn carry(target: &Source<'_>, take: Take<'_>, then: Then<'_>, part: Part, cx: &Cx<'_>) -> Result<Batch> {
    let inherited = beside(target);
    let view;
    let (map, beside): (&dyn Mapped, &dyn ReadAt) = match take {
        Take::Own(child) => (child, child),
        Take::Inherited | Take::Missing(_) => {
            view = target.open(target.file, cx)?;
            (&view, &inherited)
        }
    };
    let mut overlay = Overlay::with_beside(target.file, beside, &cx.limits);
    let own = matches!(take, Take::Own(_));
    if own {
        overlay = overlay.over_shadowed();
    }
    if part.check {
        require_sound(&target.open(&mut overlay, cx)?)?;
    }
    // Tapdisk hides parents: nobody but who knows the chain shall write to them.
    let hidden = own && link::set_hidden(&mut overlay, target.format, false)?;
    let mut disk = target.open(&mut overlay, cx)?;
    let mut carrier = Carrier {
        take,
        map,
        beside,
        room: part.room,
        carried: Len::ZERO,
        repeats: true,
        differ: Differ::default(),
    };
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
    let foreseeable = !matches!(take, Take::Missing(_));
    Ok(Batch { change: overlay.into_change()?, next, carried, foreseeable })
}

/// What changes of an image pour from that take what it does not store: its parent, or nothing.
#[must_use]
pub fn beside(image: &Source<'_>) -> Arc<dyn Mapped + Send> {
    match &image.parent {
        Some(parent) => Arc::clone(&parent.disk),
        None => Arc::new(Nothing(Len::ZERO)),
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

/// Refuses an image whose container is damaged.
pub(crate) fn require_sound<D: ReadAt>(disk: &Container<D>) -> Result<()> {
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
