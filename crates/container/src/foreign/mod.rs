//! Formats that are only read: one engine over what each of them knows.
//!
//! ```text
//! Body     who answers for a run of the disk: a file, a unit that is had only whole, zeros, nobody
//! Foreign  reads, extents, map and check, made of runs
//! Files    the image's own file, as its log makes it, and the files beside it
//! ```
//!
//! 1. A body is pure knowledge: it holds no file, and whatever it reads arrives as an argument.
//! 2. A run lies wholly in its file, or is refused: what a truncated file does not hold is never taken for zeros.
//! 3. A unit (a compressed grain, a chunk with a checksum) is verified whenever it is read.

mod blocks;
mod check;
mod facts;
mod files;
mod table;

pub(crate) use blocks::{Blocks, stored};
pub(crate) use check::Owners;
pub(crate) use facts::text;
pub use facts::{Choice, Fact, Facts};
pub use files::Part;
pub(crate) use files::{Files, Patches, Place, record};
pub(crate) use table::{Table, Tables};

use crate::parallels::{self, Bundle, Parallels};
use crate::qed::Qed;
use crate::vdi::Vdi;
use crate::vhdx::Vhdx;
use crate::vmdk::Vmdk;
use crate::xva::Xva;
use crate::{BlockStatus, Error, Findings, Format, Mapped, Parent, ParentRef, Result, chain};
use disk::traits::{bounded, within};
use disk::{Disk, ExtentKind, ExtentMap, Limits, ReadAt};
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset, Span};
use std::sync::{Arc, Mutex, PoisonError};

/// What an image is opened with besides its file.
#[derive(Clone, Default)]
pub struct OpenWith {
    /// The disk of an archive, by one of its names.
    pub disk: Option<String>,
    /// The files that hold parts of the disk, in the order of [`crate::Container::parts`].
    pub parts: Vec<Part>,
}

/// Who answers for a run of the virtual disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A file, from there on.
    Stored(Place),
    /// The unit of which the run is a part.
    Unit(Unit),
    /// Zeros, because a table says so.
    Zero,
    /// The parent, or zeros where there is none.
    Absent,
}

/// A piece of the disk that is read and verified as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Where on the disk.
    pub span: Span,
    /// Where in which file it begins.
    pub place: Place,
    /// Whether its bytes lie there one by one.
    pub plain: bool,
}

/// A run of the virtual disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub span: Span,
    pub what: What,
}

/// What a format knows about an image.
pub(crate) trait Body: Send + Sync {
    /// The size of the disk.
    fn len(&self) -> Len;

    /// The first run of `within`, which is not empty and lies on the disk. It may be shorter than possible.
    fn run(&self, files: &Files<'_>, within: Span) -> Result<Run>;

    /// The smallest piece of the disk that has a table entry of its own.
    fn granule(&self) -> Len;

    /// What the image says about itself.
    fn facts(&self, files: &Files<'_>) -> Facts;

    /// The bytes of a unit, as many as its span is long.
    fn unit(&self, _: &Files<'_>, unit: Unit) -> Result<Vec<u8>> {
        Err(Error::corrupt("unit", unit.place.at, "this format has none"))
    }

    /// The bytes of the file that a unit takes.
    fn unit_stored(&self, _: &Files<'_>, unit: Unit) -> Result<Span> {
        Ok(Span::new(unit.place.at, unit.span.len()).unwrap_or_default())
    }

    /// What there is to check besides the runs. Claims what the format's own structures take.
    fn check(&self, files: &Files<'_>, owners: &mut Owners, findings: &mut Findings) -> Result<()>;

    /// What a log that was not replayed makes of the image's own file.
    fn patches(&self) -> Option<&Patches> {
        None
    }

    /// The names of the files beside the image that hold parts of the disk.
    fn part_names(&self) -> Vec<String> {
        Vec::new()
    }

    /// What the image says about its parent.
    fn parent_ref(&self) -> Option<ParentRef> {
        None
    }
}

/// Larger disks exist only in headers: 1 PiB.
const DISK_MAX: Len = Len::new(1 << 50);

/// So many bytes of units are kept.
const KEPT: u64 = 8 << 20;

/// An opened image of a format that is only read.
pub struct Foreign<D> {
    file: D,
    format: Format,
    body: Box<dyn Body>,
    parts: Vec<Part>,
    parent: Option<Parent>,
    limits: Limits,
    /// The units that were read last, the latest at the end.
    units: Mutex<Vec<(Unit, Arc<Vec<u8>>)>>,
}

impl<D: ReadAt> Foreign<D> {
    /// Opens the image in `file`.
    pub(crate) fn open(file: D, format: Format, with: &OpenWith, limits: &Limits) -> Result<Self> {
        if with.disk.is_some() && format != Format::Xva {
            let what = format!("{} holds one disk: there is nothing to choose", format.described());
            return Err(Error::Usage { what });
        }
        let body = open_body(&file, format, with, limits)?;
        if body.len() > DISK_MAX {
            let what = format!("a disk of {} bytes is not supported, only up to {DISK_MAX}", body.len());
            return Err(Error::unsupported(what));
        }
        let units = Mutex::new(Vec::new());
        Ok(Self { file, format, body, parts: with.parts.clone(), parent: None, limits: *limits, units })
    }

    /// Its format.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// The file below.
    #[must_use]
    pub const fn file(&self) -> &D {
        &self.file
    }

    /// Back to the file.
    #[must_use]
    pub fn into_file(self) -> D {
        self.file
    }

    /// What the image says about itself.
    #[must_use]
    pub fn facts(&self) -> Facts {
        self.body.facts(&self.files())
    }

    /// What the image says about its parent.
    #[must_use]
    pub fn parent_ref(&self) -> Option<ParentRef> {
        self.body.parent_ref()
    }

    /// The names of the files beside the image that hold parts of the disk.
    #[must_use]
    pub fn part_names(&self) -> Vec<String> {
        self.body.part_names()
    }

    /// Gives the image its parent.
    ///
    /// # Errors
    /// Where it has none.
    pub fn set_parent(&mut self, parent: Parent) -> Result<()> {
        if self.body.parent_ref().is_none() {
            return Err(Error::Usage { what: format!("{} has no parent here", self.format.described()) });
        }
        self.parent = Some(parent);
        Ok(())
    }

    fn files(&self) -> Files<'_> {
        Files::new(&self.file, &self.parts, self.body.patches())
    }

    /// The parent, where the image names one.
    fn parent(&self) -> Result<Option<&Parent>> {
        match (&self.parent, self.body.parent_ref()) {
            (Some(parent), _) => Ok(Some(parent)),
            (None, None) => Ok(None),
            (None, Some(named)) => Err(Error::ParentMissing { parent: named.to_string() }),
        }
    }

    fn read(&self, range: Span, buf: &mut [u8]) -> Result<()> {
        let files = self.files();
        let mut rest = buf;
        self.each(range, |run| {
            let (head, tail) = std::mem::take(&mut rest).split_at_mut(run.span.len().to_usize());
            rest = tail;
            match run.what {
                What::Stored(place) => files.read(place, head),
                What::Unit(unit) => self.read_unit(&files, unit, run.span, head),
                What::Zero => {
                    head.fill(0);
                    Ok(())
                }
                What::Absent => self.read_absent(run.span, head),
            }
        })
    }

    fn read_absent(&self, span: Span, buf: &mut [u8]) -> Result<()> {
        let Some(parent) = self.parent()? else {
            buf.fill(0);
            return Ok(());
        };
        let there = span.intersect(Span::whole(parent.len())).unwrap_or_default().len().to_usize();
        let (stored, beyond) = buf.split_at_mut(there.min(buf.len()));
        beyond.fill(0);
        if stored.is_empty() { Ok(()) } else { Ok(parent.read_at(span.start(), stored)?) }
    }

    fn read_unit(&self, files: &Files<'_>, unit: Unit, span: Span, buf: &mut [u8]) -> Result<()> {
        let bytes = if span == unit.span {
            // Read as a whole, it is not asked for again.
            Arc::new(self.body.unit(files, unit)?)
        } else {
            self.kept_unit(files, unit)?
        };
        let from = to_usize(span.start().since(unit.span.start()).unwrap_or_default().get());
        let part = bytes.get(from..).and_then(|rest| rest.get(..buf.len()));
        let short = || Error::corrupt("unit", unit.place.at, "it is shorter than it should be");
        buf.copy_from_slice(part.ok_or_else(short)?);
        Ok(())
    }

    fn kept_unit(&self, files: &Files<'_>, unit: Unit) -> Result<Arc<Vec<u8>>> {
        let units = || self.units.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = units().iter().find(|(kept, _)| *kept == unit) {
            return Ok(Arc::clone(bytes));
        }
        let bytes = Arc::new(self.body.unit(files, unit)?);
        let mut kept = units();
        let room = to_usize(KEPT.checked_div(unit.span.len().get().max(1)).unwrap_or_default().clamp(1, 64));
        while kept.len() >= room {
            kept.remove(0);
        }
        kept.push((unit, Arc::clone(&bytes)));
        Ok(bytes)
    }

    /// Calls `each` with the runs of `range` in order.
    fn each(&self, range: Span, mut each: impl FnMut(Run) -> Result<()>) -> Result<()> {
        let files = self.files();
        let mut rest = range;
        while !rest.is_empty() {
            let run = self.body.run(&files, rest)?;
            rest = Span::between(run.span.end(), rest.end()).unwrap_or_default();
            each(run)?;
        }
        Ok(())
    }

    fn extents_of(&self, range: Span) -> Result<ExtentMap> {
        let files = self.files();
        let budget = self.limits.budget("the map of an image");
        let mut map = ExtentMap::new();
        self.each(range, |run| {
            let part = match run.what {
                What::Stored(place) => files.extents(place, run.span)?,
                What::Unit(_) => ExtentMap::single(run.span, ExtentKind::Data),
                What::Zero => ExtentMap::single(run.span, ExtentKind::Zero),
                What::Absent => self.extents_under(run.span)?,
            };
            budget.take(Len::new(to_u64(part.iter().count().saturating_mul(32))))?;
            map.append(&part);
            Ok(())
        })?;
        Ok(map)
    }

    fn extents_under(&self, span: Span) -> Result<ExtentMap> {
        let mut map = ExtentMap::new();
        let mut end = span.start();
        if let Some(parent) = self.parent()?
            && let Some(there) = span.intersect(Span::whole(parent.len()))
        {
            map.append(&parent.extents(there)?);
            end = there.end();
        }
        map.push(Span::between(end, span.end()).unwrap_or_default(), ExtentKind::Hole);
        Ok(map)
    }

    fn run_status(&self, run: Run) -> Result<Vec<BlockStatus>> {
        let here = BlockStatus { present: true, ..BlockStatus::hole(run.span) };
        let stored = BlockStatus { zero: false, data: true, ..here };
        Ok(match run.what {
            What::Stored(place) => vec![BlockStatus { offset: Some(place.at), ..stored }],
            What::Unit(unit) => {
                let ahead = run.span.start().since(unit.span.start()).unwrap_or_default();
                let offset = unit.place.at.checked_add(ahead).filter(|_| unit.plain);
                vec![BlockStatus { offset, ..stored }]
            }
            What::Zero => vec![here],
            What::Absent => match self.parent()? {
                Some(parent) => chain::status_under(&**parent, run.span)?,
                None => vec![BlockStatus::hole(run.span)],
            },
        })
    }
}

/// Reads the head of the image.
fn open_body(file: &dyn ReadAt, format: Format, with: &OpenWith, limits: &Limits) -> Result<Box<dyn Body>> {
    let files = Files::new(file, &with.parts, None);
    Ok(match format {
        Format::Vmdk => Box::new(Vmdk::open(&files, limits)?),
        Format::Vhdx => Box::new(Vhdx::open(file, limits)?),
        Format::Vdi => Box::new(Vdi::open(&files)?),
        Format::Qed => Box::new(Qed::open(&files, limits)?),
        Format::Parallels if parallels::is_description(&files)? => Box::new(Bundle::open(&files, limits)?),
        Format::Parallels => Box::new(Parallels::open(&files, 0)?),
        Format::Xva => Box::new(Xva::open(&files, with, limits)?),
        Format::Raw | Format::Vhd | Format::Qcow2 => {
            return Err(Error::Usage { what: format!("{} is not read here", format.described()) });
        }
    })
}

impl<D: ReadAt> Mapped for Foreign<D> {
    fn status(&self, range: Span) -> Result<Vec<BlockStatus>> {
        within(range, self.body.len())?;
        let budget = self.limits.budget("the map of an image");
        let mut list: Vec<BlockStatus> = Vec::new();
        self.each(range, |run| {
            for next in self.run_status(run)? {
                let before = list.len();
                next.append_to(&mut list);
                if list.len() > before {
                    budget.take(Len::new(to_u64(size_of::<BlockStatus>())))?;
                }
            }
            Ok(())
        })?;
        Ok(list)
    }

    fn first(&self, range: Span) -> Result<BlockStatus> {
        within(range, self.body.len())?;
        let files = self.files();
        chain::first_of(range, |range| {
            let run = self.body.run(&files, range)?;
            match (run.what, self.parent()?) {
                (What::Absent, Some(parent)) => chain::first_under(&**parent, run.span),
                _ => Ok(self.run_status(run)?.first().copied().unwrap_or(BlockStatus::hole(run.span))),
            }
        })
    }
}

impl<D: ReadAt> ReadAt for Foreign<D> {
    fn len(&self) -> Len {
        self.body.len()
    }

    fn read_at(&self, at: Offset, buf: &mut [u8]) -> disk::Result<()> {
        let range = bounded(at, buf.len(), self.body.len())?;
        Ok(self.read(range, buf)?)
    }

    fn extents(&self, span: Span) -> disk::Result<ExtentMap> {
        within(span, self.body.len())?;
        Ok(self.extents_of(span)?)
    }
}

/// Nothing is written: whoever plans a change is refused, and this is the last fence behind that.
impl<D: ReadAt> Disk for Foreign<D> {
    fn write_at(&mut self, _: Offset, _: &[u8]) -> disk::Result<()> {
        Err(Error::read_only(self.format).into())
    }
    fn zero(&mut self, _: Span) -> disk::Result<()> {
        Err(Error::read_only(self.format).into())
    }
    fn discard(&mut self, _: Span) -> disk::Result<()> {
        Err(Error::read_only(self.format).into())
    }
    fn copy(&mut self, _: Span, _: Offset) -> disk::Result<()> {
        Err(Error::read_only(self.format).into())
    }
    fn resize(&mut self, _: Len) -> disk::Result<()> {
        Err(Error::read_only(self.format).into())
    }
    fn mark_fresh(&mut self, _: Span) -> disk::Result<()> {
        Err(Error::read_only(self.format).into())
    }
}
