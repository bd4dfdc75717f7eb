//! An image: bytes, where their journal lies, and the locks that keep others away.
//!
//! 1. The file is opened once and never again by name; everything happens to that one file.
//! 2. Reading opens for reading only. A journal beside it is looked at, never acted on.
//! 3. Writing waits for nobody: an image in use or with a journal beside it is refused.

use crate::commit::{Job, Step, commit, journal_len, refuse_taken, steps};
use crate::dev::Named;
use crate::journal::{Found, Journal, Role, What, sectors, sum};
use crate::lock::{self, Guard, Held, Survey};
use crate::recover::{Way, find, home_state, load, recover, way};
use crate::{
    Change, Cx, Data, Dev, DevKind, Disk, Error, ExtentMap, FileDev, Folder, Identity, Limits, Overlay,
    Owner, Place, ReadAt, Result, Write,
};
use ondisk::size::Human;
use ondisk::text::Printable;
use ondisk::{Len, Offset, Span, SpanSet};
use rustix::fd::BorrowedFd;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What the journal beside `NAME` is called: `NAME` and this.
pub const JOURNAL_SUFFIX: &str = ".imgtool-journal";

/// How to open an image.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// To change it.
    pub write: bool,
    /// To finish or take back an interrupted change, which else refuses opening for writing.
    pub recover: bool,
    /// Although it is in use.
    pub force: bool,
    /// Where its journal lies; else beside it.
    pub journal: Option<PathBuf>,
}

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
    /// Opens an image.
    ///
    /// # Errors
    /// Where it is neither a regular file nor a block device, is in use or has a journal (for writing), or where the
    /// system fails.
    pub fn open(path: &Path, how: &OpenOptions) -> Result<Self> {
        let at = |source| Error::File { op: "open", path: path.to_owned(), source };
        let real = std::fs::canonicalize(path).map_err(at)?;
        let (folder, name) = Folder::of(&real)?;
        let write = how.write || how.recover;
        let dev = FileDev::new(folder.open_image(&name, write, write && !how.force).map_err(lock::busy)?)?;
        let locked = lock::lock_bytes_held(&dev);
        let guard = if write {
            lock::exclusive(&dev, how.force)?;
            Some(Guard::new(&dev, how.force)?)
        } else {
            lock::shared(&dev, locked);
            None
        };
        // Behind the locks: from here on others stay away, if they mind locks.
        let named = Some(Named::new(path, dev.identity())?);
        let owner = dev.owner();
        let journal = match &how.journal {
            Some(path) => Some(Place::owned(path, owner)?),
            None if dev.kind() == DevKind::File => Some(beside(folder.owned(owner), &name, &real)),
            None => None,
        };
        let image = Self { dev: Box::new(dev), journal, write, locked, named, owner, guard };
        if how.write && !how.recover {
            image.refuse_pending()?;
        }
        Ok(image)
    }

    /// Puts an image together from its parts, writable.
    #[must_use]
    pub fn from_parts(dev: Box<dyn Dev>, journal: Place) -> Self {
        let (named, owner, guard) = (None, None, None);
        Self { dev, journal: Some(journal), write: true, locked: false, named, owner, guard }
    }

    fn refuse_pending(&self) -> Result<()> {
        match &self.journal {
            Some(place) if place.open()?.is_some() => Err(Error::Pending { journal: place.path.clone() }),
            _ => Ok(()),
        }
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
        if self.dev.free()?.is_some_and(|free| free < added) {
            return Err(no_space("reserve", Span::new(change.old_len.end(), added).unwrap_or_default()));
        }
        let steps = steps(&*self.dev, change)?;
        self.refuse_crowded(journal, journal_len(&steps, change.old_len), added)?;
        Ok(steps)
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
        let why = format!(
            "No space left: the journal needs {} and the image {} more, {} are free",
            Human(need),
            Human(if shared { added } else { Len::ZERO }),
            Human(room.free)
        );
        let source = std::io::Error::new(std::io::ErrorKind::StorageFull, why);
        Err(Error::File { op: "reserve", path: place.path.clone(), source })
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

    /// The change that takes a finished change back, from the undo file that was kept.
    ///
    /// # Errors
    /// Where the file is damaged, or the image is not as the change left it.
    pub fn undo(&self, undo: &Place, limits: &Limits) -> Result<Change> {
        let file = undo.open()?.ok_or_else(|| Error::File {
            op: "open",
            path: undo.path.clone(),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
        let Found::Whole(journal) = Journal::open(file, Role::Undo, limits)? else {
            return Err(Error::Journal { what: "is not complete" });
        };
        self.check_undo(&journal)?;
        let mut change =
            Change { old_len: journal.head.old_len, new_len: journal.head.new_len, ..Change::default() };
        let memory = limits.budget("the change that takes the change back");
        for record in &journal.records {
            let data = if record.what == What::HomeZero {
                Data::Zero(record.span.len())
            } else {
                memory.take(record.span.len())?;
                Data::Bytes(journal.bytes(record)?)
            };
            let into = if record.what == What::Tail { &mut change.fresh } else { &mut change.home };
            into.push(Write { at: record.span.start(), data });
        }
        Ok(change)
    }

    fn check_undo(&self, journal: &Journal) -> Result<()> {
        let what = "the image is not as the change left it";
        if self.len() != journal.head.old_len {
            return Err(Error::Foreign { what, spans: vec![] });
        }
        let mut foreign = SpanSet::new();
        for record in journal.home() {
            let now = load(&*self.dev, record.span)?;
            for ((part, is), after) in sectors(record.span, &now).zip(journal.sums(record)?) {
                if sum(is) != after {
                    foreign.insert(part);
                }
            }
        }
        if foreign.is_empty() {
            Ok(())
        } else {
            Err(Error::Foreign { what, spans: foreign.iter().collect() })
        }
    }
}

fn no_space(op: &'static str, span: Span) -> Error {
    Error::Io { op, span, source: rustix::io::Errno::NOSPC.into() }
}

fn no_place() -> Error {
    Error::Refused {
        what: "a block device has no place beside it for the journal".to_owned(),
        help: Some("name one on another disk with --journal PATH".to_owned()),
    }
}

/// The place of the journal beside the image.
fn beside(folder: Folder, name: &OsStr, path: &Path) -> Place {
    let with_suffix = |name: &OsStr| {
        let mut name: OsString = name.to_owned();
        name.push(JOURNAL_SUFFIX);
        name
    };
    Place { store: Box::new(folder), name: with_suffix(name), path: with_suffix(path.as_os_str()).into() }
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

/// An interrupted change that was found beside an image.
#[derive(Debug)]
pub struct Pending(Option<(Journal, Way)>);

impl Pending {
    /// How recovery would end.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self.0 {
            Some((_, Way::Forward)) => Outcome::RolledForward,
            _ => Outcome::RolledBack,
        }
    }

    /// The command that was interrupted, where that is known.
    #[must_use]
    pub fn about(&self) -> Option<String> {
        self.0.as_ref().map(|(journal, _)| Printable(&journal.head.about).to_string())
    }

    /// The image as it will be after recovery.
    ///
    /// # Errors
    /// Where journal or image cannot be read, or the change does not fit into the memory allowed.
    pub fn view<'i>(&'i self, image: &'i Image, limits: &Limits) -> Result<Overlay<'i>> {
        let Some((journal, way)) = &self.0 else { return Ok(Overlay::new(&*image.dev, limits)) };
        let mut view = Overlay::with_beside(&*image.dev, &*journal.dev, limits);
        match way {
            Way::Forward => {
                for record in journal.home() {
                    match record.what {
                        What::HomeZero => view.zero(record.span)?,
                        _ => view.show(record.span, record.bytes.start())?,
                    }
                }
                view.resize(journal.head.new_len)?;
            }
            Way::Back => {
                for record in journal.added() {
                    let old = Span::whole(journal.head.old_len.min(image.len()));
                    record.span.intersect(old).map_or(Ok(()), |span| view.zero(span))?;
                }
                view.resize(journal.head.old_len)?;
            }
        }
        Ok(view)
    }
}
