//! The common face: a file of whichever format, and the disk in it.

use crate::foreign::{self, Foreign, OpenWith};
use crate::qcow2::{self, Qcow2};
use crate::vhd::size::Geometry;
use crate::vhd::{self, Vhd};
use crate::{BlockStatus, Error, Findings, Format, Mapped, Parent, ParentRef, Result, chain, raw};
use disk::{Disk, ExtentMap, Limits, PourInto, ReadAt};
use ondisk::guid::Uuid;
use ondisk::{Len, Offset, Span};

/// An opened image.
pub enum Container<D> {
    /// The file is the disk.
    Raw(D),
    /// A VHD of any kind.
    Vhd(Box<Vhd<D>>),
    /// A qcow2 image.
    Qcow2(Box<Qcow2<D>>),
    /// An image of a format that is only read.
    Foreign(Box<Foreign<D>>),
}

/// What an image says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Facts {
    /// Nothing more than that it is there.
    Raw,
    /// As a VHD.
    Vhd(VhdFacts),
    /// As qcow2.
    Qcow2(Box<qcow2::Facts>),
    /// As a format that is only read.
    Foreign(Box<foreign::Facts>),
}

/// What a VHD says about itself. All text is safe to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VhdFacts {
    /// Fixed, dynamic, differencing.
    pub kind: vhd::Kind,
    /// The creator's four letters.
    pub creator: String,
    /// The creator's version, major and minor.
    pub creator_version: (u32, u32),
    /// Its identity.
    pub uuid: Uuid,
    /// The size of a block.
    pub block_size: Option<Len>,
    /// The size that the footer names.
    pub current_size: Len,
    /// The geometry that the footer names.
    pub geometry: Geometry,
    /// The size by the rule that does not hold for this creator, where the two differ.
    pub other_size: Option<Len>,
    /// Seconds since 1970.
    pub timestamp: u64,
    /// It is a parent in a chain of tapdisk's.
    pub hidden: bool,
}

impl<D: ReadAt> Container<D> {
    /// Opens the image in `file`. A parent, where it has one, comes with [`Container::set_parent`].
    ///
    /// # Errors
    /// Where the file is not of that format, is damaged, or uses what is not supported.
    pub fn open(file: D, format: Format, limits: &Limits) -> Result<Self> {
        Self::open_with(file, format, &OpenWith::default(), limits)
    }

    /// Opens the image in `file` with what else it needs: see [`Container::parts`].
    ///
    /// # Errors
    /// As [`Container::open`], and where an archive does not hold the disk that is asked for.
    pub fn open_with(file: D, format: Format, with: &OpenWith, limits: &Limits) -> Result<Self> {
        Ok(match format {
            Format::Raw => Self::Raw(file),
            Format::Vhd => Self::Vhd(Box::new(Vhd::open(file, limits)?)),
            Format::Qcow2 => Self::Qcow2(Box::new(Qcow2::open(file, limits)?)),
            other => Self::Foreign(Box::new(Foreign::open(file, other, with, limits)?)),
        })
    }

    /// Says that the file is a device: its length is not ours to change, and what the image leaves of it is no leak.
    pub fn set_fixed_len(&mut self) {
        if let Self::Vhd(vhd) = self {
            vhd.set_fixed_len();
        }
    }

    /// The names of the files that hold parts of the disk, as the image gives them: where there are any, the image is
    /// opened with these files, in this order. Who opens them decides which names he trusts (threat model, G2).
    #[must_use]
    pub fn parts(&self) -> Vec<String> {
        match self {
            Self::Foreign(image) => image.part_names(),
            _ => Vec::new(),
        }
    }

    /// Its format.
    #[must_use]
    pub const fn format(&self) -> Format {
        match self {
            Self::Raw(_) => Format::Raw,
            Self::Vhd(_) => Format::Vhd,
            Self::Qcow2(_) => Format::Qcow2,
            Self::Foreign(image) => image.format(),
        }
    }

    /// The size of the disk.
    #[must_use]
    pub fn virtual_len(&self) -> Len {
        self.len()
    }

    /// The identity by which children know the image, where the format has one.
    #[must_use]
    pub const fn uuid(&self) -> Option<Uuid> {
        match self {
            Self::Vhd(vhd) => Some(vhd.uuid()),
            Self::Raw(_) | Self::Qcow2(_) | Self::Foreign(_) => None,
        }
    }

    /// What the image says about its parent.
    #[must_use]
    pub fn parent_ref(&self) -> Option<ParentRef> {
        match self {
            Self::Raw(_) => None,
            Self::Vhd(vhd) => vhd.parent_ref().cloned(),
            Self::Qcow2(qcow2) => qcow2.parent_ref(),
            Self::Foreign(image) => image.parent_ref(),
        }
    }

    /// Gives the image its parent, whose own identity is `id`.
    ///
    /// # Errors
    /// Where this is not the parent, or the image has none.
    pub fn set_parent(&mut self, parent: Parent, id: Option<Uuid>) -> Result<()> {
        match self {
            Self::Raw(_) => Err(Error::Usage { what: "a raw image has no parent".to_owned() }),
            Self::Vhd(vhd) => vhd.set_parent(parent, id),
            Self::Qcow2(qcow2) => {
                qcow2.set_parent(parent);
                Ok(())
            }
            Self::Foreign(image) => image.set_parent(parent),
        }
    }

    /// What the image says about itself.
    #[must_use]
    pub fn facts(&self) -> Facts {
        match self {
            Self::Raw(_) => Facts::Raw,
            Self::Vhd(vhd) => Facts::Vhd(vhd_facts(vhd)),
            Self::Qcow2(qcow2) => Facts::Qcow2(Box::new(qcow2.facts())),
            Self::Foreign(image) => Facts::Foreign(Box::new(image.facts())),
        }
    }

    /// The runs of the disk in order, equal neighbours joined.
    pub const fn map(&self) -> Map<'_, D> {
        Map { container: self, at: Offset::ZERO, window: Vec::new(), ready: None }
    }

    /// Checks the container's own structures.
    ///
    /// # Errors
    /// Where the file cannot be read, or its map does not fit into the memory allowed.
    pub fn check(&self) -> Result<Findings> {
        match self {
            Self::Raw(_) => Ok(Findings::default()),
            Self::Vhd(vhd) => vhd.check(),
            Self::Qcow2(qcow2) => qcow2.check(),
            Self::Foreign(image) => image.check(),
        }
    }

    /// Plans to make the disk at least `to` bytes long. See [`GrowPlan::new_len`] for what it becomes.
    ///
    /// # Errors
    /// Where it is larger already, would be too large for the format, or the image may not be written to.
    pub fn plan_grow(&self, to: Len) -> Result<GrowPlan> {
        Ok(match self {
            Self::Raw(file) => GrowPlan::Raw(raw::plan_grow(file, to)?),
            Self::Vhd(vhd) => GrowPlan::Vhd(vhd.plan_grow(to)?),
            Self::Qcow2(qcow2) => GrowPlan::Qcow2(Box::new(qcow2.plan_grow(to)?)),
            Self::Foreign(image) => return Err(Error::read_only(image.format())),
        })
    }

    /// The file below.
    pub fn file(&self) -> &D {
        match self {
            Self::Raw(file) => file,
            Self::Vhd(vhd) => vhd.file(),
            Self::Qcow2(qcow2) => qcow2.file(),
            Self::Foreign(image) => image.file(),
        }
    }

    /// The file below, given back.
    pub fn into_file(self) -> D {
        match self {
            Self::Raw(file) => file,
            Self::Vhd(vhd) => vhd.into_file(),
            Self::Qcow2(qcow2) => qcow2.into_file(),
            Self::Foreign(image) => image.into_file(),
        }
    }
}

impl<D: ReadAt> Mapped for Container<D> {
    fn status(&self, range: Span) -> Result<Vec<BlockStatus>> {
        match self {
            Self::Raw(file) => Ok(raw::status(file, range)?),
            Self::Vhd(vhd) => vhd.status(range),
            Self::Qcow2(qcow2) => qcow2.status(range),
            Self::Foreign(image) => image.status(range),
        }
    }

    fn first(&self, range: Span) -> Result<BlockStatus> {
        match self {
            Self::Raw(file) => {
                let near = chain::near(range);
                Ok(raw::status(file, near)?.first().copied().unwrap_or(BlockStatus::hole(near)))
            }
            Self::Vhd(vhd) => vhd.first(range),
            Self::Qcow2(qcow2) => qcow2.first(range),
            Self::Foreign(image) => image.first(range),
        }
    }
}

fn vhd_facts<D: ReadAt>(vhd: &Vhd<D>) -> VhdFacts {
    let sizes = [vhd.current_size(), vhd.geometry().len()];
    let says_something = vhd.geometry() != Geometry::LARGEST && !vhd.geometry().is_empty();
    VhdFacts {
        kind: vhd.kind(),
        creator: ondisk::text::Printable(ondisk::text::until_nul(&vhd.creator())).to_string(),
        creator_version: vhd.creator_version(),
        uuid: vhd.uuid(),
        block_size: vhd.block_size(),
        current_size: vhd.current_size(),
        geometry: vhd.geometry(),
        other_size: sizes.into_iter().find(|size| *size != vhd.len()).filter(|_| says_something),
        timestamp: vhd.timestamp(),
        hidden: vhd.is_hidden(),
    }
}

/// The runs of a disk, computed window by window.
pub struct Map<'a, D> {
    container: &'a Container<D>,
    at: Offset,
    /// Runs that are known already, the next one last.
    window: Vec<BlockStatus>,
    /// The run that is being joined.
    ready: Option<BlockStatus>,
}

/// So much of the disk is looked at at once: a block can have as many runs as it has sectors.
const WINDOW: Len = Len::mib(64);

impl<D: ReadAt> Map<'_, D> {
    fn next_run(&mut self) -> Option<Result<BlockStatus>> {
        if self.window.is_empty() {
            let rest = Span::between(self.at, self.container.len().end()).filter(|rest| !rest.is_empty())?;
            match self.look(rest) {
                Ok(runs) => self.window = runs.into_iter().rev().collect(),
                Err(error) => {
                    self.at = rest.end();
                    return Some(Err(error));
                }
            }
        }
        let run = self.window.pop()?;
        self.at = run.span.end();
        Some(Ok(run))
    }

    /// The next runs: one that reaches beyond a window, or all of a window.
    fn look(&self, rest: Span) -> Result<Vec<BlockStatus>> {
        let first = self.container.first(rest)?;
        if first.span.len() >= WINDOW {
            return Ok(vec![first]);
        }
        self.container.status(rest.chunks(WINDOW).next().unwrap_or(rest))
    }
}

impl<D: ReadAt> Iterator for Map<'_, D> {
    type Item = Result<BlockStatus>;

    fn next(&mut self) -> Option<Result<BlockStatus>> {
        loop {
            let next = match self.next_run() {
                Some(Ok(next)) => next,
                Some(Err(error)) => return Some(Err(error)),
                None => return self.ready.take().map(Ok),
            };
            match self.ready.take() {
                None => self.ready = Some(next),
                Some(before) => match before.joined(next) {
                    Some(joined) => self.ready = Some(joined),
                    None => {
                        self.ready = Some(next);
                        return Some(Ok(before));
                    }
                },
            }
        }
    }
}

/// The change that makes a disk larger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrowPlan {
    /// The file gets longer.
    Raw(raw::GrowPlan),
    /// As a VHD grows.
    Vhd(vhd::grow::GrowPlan),
    /// As qcow2 grows.
    Qcow2(Box<qcow2::GrowPlan>),
}

impl GrowPlan {
    /// The size of the disk afterwards: what was asked for, or the next size that the format can have.
    #[must_use]
    pub const fn new_len(&self) -> Len {
        match self {
            Self::Raw(plan) => plan.new_len(),
            Self::Vhd(plan) => plan.new_len(),
            Self::Qcow2(plan) => plan.new_len(),
        }
    }

    /// What happens.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        match self {
            Self::Raw(plan) => plan.sentences(),
            Self::Vhd(plan) => plan.sentences(),
            Self::Qcow2(plan) => plan.sentences(),
        }
    }

    /// Does it to the file below the container, which must then be opened anew.
    ///
    /// # Errors
    /// Where the file cannot be changed.
    pub fn apply(self, file: &mut dyn Disk) -> disk::Result<()> {
        match self {
            Self::Raw(plan) => plan.apply(file),
            Self::Vhd(plan) => plan.apply(file),
            Self::Qcow2(plan) => plan.apply(file),
        }
    }
}

/// Passes a call on to whichever disk it is.
macro_rules! inner {
    ($container:expr, $disk:ident => $call:expr) => {
        match $container {
            Container::Raw($disk) => $call,
            Container::Vhd($disk) => $call,
            Container::Qcow2($disk) => $call,
            Container::Foreign($disk) => $call,
        }
    };
}

impl<D: ReadAt> ReadAt for Container<D> {
    fn len(&self) -> Len {
        inner!(self, disk => disk.len())
    }
    fn read_at(&self, at: Offset, buf: &mut [u8]) -> disk::Result<()> {
        inner!(self, disk => disk.read_at(at, buf))
    }
    fn extents(&self, within: Span) -> disk::Result<ExtentMap> {
        inner!(self, disk => disk.extents(within))
    }
}

impl<D: Disk> Disk for Container<D> {
    fn write_at(&mut self, at: Offset, buf: &[u8]) -> disk::Result<()> {
        inner!(self, disk => disk.write_at(at, buf))
    }
    fn zero(&mut self, span: Span) -> disk::Result<()> {
        inner!(self, disk => disk.zero(span))
    }
    fn discard(&mut self, span: Span) -> disk::Result<()> {
        inner!(self, disk => disk.discard(span))
    }
    fn copy(&mut self, from: Span, to: Offset) -> disk::Result<()> {
        inner!(self, disk => disk.copy(from, to))
    }
    fn resize(&mut self, len: Len) -> disk::Result<()> {
        inner!(self, disk => disk.resize(len))
    }
    fn mark_fresh(&mut self, span: Span) -> disk::Result<()> {
        inner!(self, disk => disk.mark_fresh(span))
    }
}

impl<D: PourInto> PourInto for Container<D> {
    fn pour(&mut self, span: Span, from: Offset) -> disk::Result<()> {
        match self {
            Self::Raw(file) => file.pour(span, from),
            Self::Vhd(vhd) => vhd.pour(span, from),
            Self::Qcow2(qcow2) => qcow2.pour(span, from),
            Self::Foreign(image) => Err(Error::read_only(image.format()).into()),
        }
    }
}
