//! An image: bytes, where their journal lies, and the locks that keep others away.
//!
//! 1. The file is opened once and never again by name; everything happens to that one file. What another image names is
//!    opened below a folder, and no link in that name is followed.
//! 2. Reading opens for reading only. A journal beside it is looked at, never acted on.
//! 3. Writing waits for nobody: an image in use or with a journal beside it is refused.

mod open;
mod pending;
mod undo;

pub use open::OpenOptions;
pub use pending::Pending;

use crate::commit::{Job, Step, commit, journal_len, refuse_taken, steps};
use crate::dev::Named;
use crate::journal::Found;
use crate::lock::{Guard, Held, Survey};
use crate::recover::{find, home_state, recover, way};
use crate::{Change, Cx, Dev, DevKind, Error, ExtentMap, Identity, Limits, Owner, Place, ReadAt, Result};
use ondisk::size::Human;
use ondisk::{Len, Offset, Span};
use rustix::fd::BorrowedFd;
use std::path::PathBuf;

/// What the journal beside `NAME` is called: `NAME` and this.
pub const JOURNAL_SUFFIX: &str = ".imgtool-journal";

/// What goes along with a commit.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// Where to keep what the change overwrites.
    pub undo: Option<PathBuf>,
    /// The command, for people who find the journal.
    pub about: String,
}

/// What a commit did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Bytes written to unreferenced places.
    pub fresh: Len,
    /// Bytes written over referenced places.
    pub home: Len,
    /// The length of the journal.
    pub journal: Len,
    /// How often something was flushed.
    pub flushes: u32,
}

/// What a commit will need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Foreseen {
    /// The length of the journal, or somewhat more.
    pub journal: Len,
}

/// How a recovery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was nothing to do.
    Nothing,
    /// The image is as before the interrupted change.
    RolledBack,
    /// The interrupted change is done.
    RolledForward,
}

/// An open image.
#[derive(Debug)]
pub struct Image {
    dev: Box<dyn Dev>,
    journal: Option<Place>,
    write: bool,
    /// Whether somebody held a lock when it was opened.
    locked: bool,
    /// Its name; none where it has been put together from parts.
    named: Option<Named>,
    /// Whose it is, and what is made for it.
    owner: Option<Owner>,
    /// Keeps openers away while it is written; none where it is no real file.
    guard: Option<Guard>,
}

impl Image {
    /// Puts an image together from its parts, writable.
    #[must_use]
    pub fn from_parts(dev: Box<dyn Dev>, journal: Place) -> Self {
        let (named, owner, guard) = (None, None, None);
        Self { dev, journal: Some(journal), write: true, locked: false, named, owner, guard }
    }

    /// File or block device.
    #[must_use]
    pub fn kind(&self) -> DevKind {
        self.dev.kind()
    }

    /// Which file it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.dev.identity()
    }

    /// Its open file, where it is a real one.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.dev.descriptor()
    }

    /// When it was last written to, in seconds since 1970; `None` where it is no file, or nobody knows.
    #[must_use]
    pub fn modified(&self) -> Option<u64> {
        crate::dev::modified(self.descriptor().filter(|_| self.kind() == DevKind::File)?)
    }

    /// Refuses where somebody has replaced the image or written to it since it was opened.
    ///
    /// # Errors
    /// Where that is so.
    pub fn refuse_changed(&self) -> Result<()> {
        self.named.as_ref().map_or(Ok(()), Named::refuse_changed)
    }

    /// Its name, to see later whether somebody has written to it; none where it has been put together from parts.
    #[must_use]
    pub fn named(&self) -> Option<Named> {
        self.named.clone()
    }

    /// Who else uses it, as far as that can be known.
    #[must_use]
    pub fn survey(&self) -> Survey {
        Survey::of(self.kind(), self.identity(), self.locked)
    }

    /// The interrupted change beside the image, if there is one.
    ///
    /// # Errors
    /// Where the journal is damaged, or somebody has written to the image since.
    pub fn pending(&self, limits: &Limits) -> Result<Option<Pending>> {
        let found = self.journal.as_ref().map(|place| find(place, limits)).transpose()?.flatten();
        Ok(match found {
            None => None,
            Some(Found::Void) => Some(Pending(None)),
            Some(Found::Whole(journal)) => {
                let way = way(&*self.dev, &journal, home_state(&*self.dev, &journal)?)?;
                Some(Pending(Some((journal, way))))
            }
        })
    }

    /// Refuses what [`Image::commit`] would refuse, and writes nothing.
    ///
    /// # Errors
    /// Where the image was replaced or written to since it was opened, cannot become so long or so full where it lies,
    /// or has no place for its journal or for the undo file.
    pub fn foresee(&self, change: &Change, options: &CommitOptions) -> Result<Foreseen> {
        let steps = self.foresee_with(change, self.undo_place(options)?.as_ref())?;
        Ok(Foreseen { journal: journal_len(&steps, change.old_len) })
    }

    fn foresee_with<'c>(&self, change: &'c Change, undo: Option<&Place>) -> Result<Vec<Step<'c>>> {
        if change.is_empty() {
            return Ok(Vec::new());
        }
        self.refuse_changed()?;
        let journal = self.journal.as_ref().ok_or_else(no_place)?;
        journal.store.may_create()?;
        if let Some(place) = undo {
            refuse_taken(place)?;
            place.store.may_create()?;
        }
        self.dev.may_reach(change.reach())?;
        let added = change.added();
        self.refuse_full(added)?;
        let steps = steps(&*self.dev, change)?;
        self.refuse_crowded(journal, journal_len(&steps, change.old_len), added)?;
        Ok(steps)
    }

    /// Refuses where the file system of the image has less than `more` bytes free.
    ///
    /// # Errors
    /// Where that is so.
    pub fn refuse_full(&self, more: Len) -> Result<()> {
        match self.dev.free()? {
            Some(free) if free < more => {
                let path = self.named.as_ref().map(|named| named.path().to_owned());
                let need = format!("the image needs {} more", Human(more));
                Err(Error::full(path.unwrap_or_default(), &need, free))
            }
            _ => Ok(()),
        }
    }

    /// A journal as large as what it carries must fit where it lies, next to the image's own growth where that is the
    /// same place.
    fn refuse_crowded(&self, place: &Place, need: Len, added: Len) -> Result<()> {
        let Some(room) = place.store.room()? else { return Ok(()) };
        let shared = self.kind() == DevKind::File && self.identity().device == room.device;
        let all = if shared { need.get().saturating_add(added.get()) } else { need.get() };
        if room.free.get() >= all {
            return Ok(());
        }
        let image = Human(if shared { added } else { Len::ZERO });
        let need = format!("the journal needs {} and the image {image} more", Human(need));
        Err(Error::full(place.path.clone(), &need, room.free))
    }

    fn undo_place(&self, options: &CommitOptions) -> Result<Option<Place>> {
        options.undo.as_deref().map(|path| Place::owned(path, self.owner)).transpose()
    }

    /// Makes `change` happen wholly or not at all. While it does, others wait in `open`, and `SIGIO` tells of them:
    /// the program must catch that signal.
    ///
    /// # Errors
    /// [`Error::Unfinished`]: recovery is needed. Any other: the image is as before.
    pub fn commit(&mut self, change: &Change, options: &CommitOptions, cx: &Cx<'_>) -> Result<Receipt> {
        let mut undo = self.undo_place(options)?;
        self.commit_with(change, None, undo.as_mut(), &options.about, cx)
    }

    /// As [`Self::commit`], with the disk that the change pours from. `cx.limits.threads` of them read it.
    ///
    /// # Errors
    /// As [`Self::commit`]; but what is poured over shadowed bytes does not come back.
    pub fn pour(
        &mut self,
        change: &Change,
        beside: &dyn ReadAt,
        options: &CommitOptions,
        cx: &Cx<'_>,
    ) -> Result<Receipt> {
        let mut undo = self.undo_place(options)?;
        self.commit_with(change, Some(beside), undo.as_mut(), &options.about, cx)
    }

    /// As [`Self::commit`] or [`Self::pour`], with the undo file in any store.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub fn commit_with(
        &mut self,
        change: &Change,
        beside: Option<&dyn ReadAt>,
        undo: Option<&mut Place>,
        about: &str,
        cx: &Cx<'_>,
    ) -> Result<Receipt> {
        let steps = self.foresee_with(change, undo.as_deref())?;
        let (dev, journal, held) = self.writable()?;
        let done = commit(Job { dev, journal, undo, beside, about }, change, &steps, cx);
        drop(held);
        self.named.iter_mut().for_each(Named::look_again);
        done
    }

    /// How much space the image takes where it lies; `None` where nobody knows.
    ///
    /// # Errors
    /// Where the system fails.
    pub fn allocated(&self) -> Result<Option<Len>> {
        self.dev.allocated()
    }

    /// Gives back the space of bytes that nothing in the image refers to or cares for, and makes that durable. There is
    /// no journal: before, after and in between the bytes mean nothing. Each of the spans lies in the image.
    ///
    /// # Errors
    /// Where the image lies in no file with holes, somebody uses it, or the system fails: some of them may be given back
    /// then.
    pub fn give_back(&mut self, spans: impl IntoIterator<Item = Span>, cx: &Cx<'_>) -> Result<()> {
        let (dev, _, held) = self.writable()?;
        let punched = spans.into_iter().try_for_each(|span| {
            cx.cancel.check()?;
            dev.punch(span)
        });
        let done = punched.and_then(|()| dev.flush());
        drop(held);
        self.named.iter_mut().for_each(Named::look_again);
        done
    }

    /// Finishes or takes back an interrupted change.
    ///
    /// # Errors
    /// Where the journal is damaged, somebody has written to the image since, or the system fails.
    pub fn recover(&mut self, cx: &Cx<'_>) -> Result<Outcome> {
        let (dev, journal, held) = self.writable()?;
        let done = recover(dev, journal, cx);
        drop(held);
        self.named.iter_mut().for_each(Named::look_again);
        done
    }

    /// What a change needs, with openers kept away.
    fn writable(&mut self) -> Result<(&mut dyn Dev, &mut Place, Option<Held<'_>>)> {
        if !self.write {
            return Err(Error::Unsupported { what: "the image is open for reading only" });
        }
        let place = self.journal.as_mut().ok_or_else(no_place)?;
        let held = self.guard.as_ref().map(Guard::hold).transpose()?;
        // Behind the lease: what is seen now stays so.
        self.named.as_ref().map_or(Ok(()), Named::refuse_changed)?;
        Ok((&mut *self.dev, place, held))
    }
}

fn no_place() -> Error {
    Error::Refused {
        what: "a block device has no place beside it for the journal".to_owned(),
        help: Some("name one on another disk with --journal PATH".to_owned()),
    }
}

impl ReadAt for Image {
    fn len(&self) -> Len {
        self.dev.len()
    }
    fn read_at(&self, at: Offset, buf: &mut [u8]) -> Result<()> {
        self.dev.read_at(at, buf)
    }
    fn extents(&self, within: Span) -> Result<ExtentMap> {
        self.dev.extents(within)
    }
}
