//! VHD: Virtual PC, Hyper-V of the first generation, XenServer.
//!
//! A fixed image is the disk with a footer behind it. A dynamic image has a table (BAT) of blocks, each a bitmap and
//! its data; a differencing image is a dynamic one that asks its parent where a bit is clear. See `header` for the
//! picture.
//!
//! 1. The end footer decides; the copy at byte 0 stands in where there is none. Nothing is written unless both agree.
//! 2. The bitmap is honoured in dynamic images as well: bytes under a clear bit are stale and are never shown.
//! 3. Before the first write it is known who owns which byte of the file; no byte has two owners.
//! 4. Blocks are only added behind everything else, with their data aligned to 4 KiB.

pub mod check;
pub mod create;
pub(crate) mod fill;
pub mod grow;
pub(crate) mod link;
pub(crate) mod repair;
pub mod size;

mod around;
mod batmap;
mod bits;
mod footer;
mod header;
mod layout;
mod locator;
mod read;
mod rebuild;
mod sparsify;
mod step;
mod survey;
mod write;

use crate::{Error, Parent, ParentRef, Result};
use batmap::Batmap;
use disk::{Limits, ReadAt};
use footer::{Footers, Twin};
use header::Header;
use ondisk::guid::Uuid;
use ondisk::{Len, Offset, Span};
use size::Geometry;
use std::sync::Mutex;

pub(crate) use footer::{begins_sparse, ends_fixed, ends_sparse};

/// An opened VHD over its file.
#[derive(Debug)]
pub struct Vhd<D> {
    file: D,
    footers: Footers,
    len: Len,
    limits: Limits,
    body: Body,
    /// Whether the file is a device: its footer stands at the device's end.
    fixed_len: bool,
}

#[derive(Debug)]
enum Body {
    /// The disk from byte 0 on.
    Fixed,
    /// In blocks.
    Sparse(Box<Sparse>),
}

/// What a dynamic or differencing image has beyond its footer.
struct Sparse {
    header: Header,
    batmap: Batmap,
    /// The places of everything but the blocks and the end footer.
    metadata: Vec<Span>,
    parent_ref: Option<ParentRef>,
    parent: Option<Parent>,
    bitmaps: Mutex<bits::Cache>,
    /// Behind the last block and all metadata; known once the file has been surveyed for writing.
    end: Option<Offset>,
}

impl std::fmt::Debug for Sparse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sparse")
            .field("header", &self.header)
            .field("batmap", &self.batmap)
            .finish_non_exhaustive()
    }
}

/// The three kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The whole disk is there.
    Fixed,
    /// Blocks are there once they are written.
    Dynamic,
    /// As dynamic, over a parent.
    Differencing,
}

impl Kind {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Dynamic => "dynamic",
            Self::Differencing => "differencing",
        }
    }
}

impl<D: ReadAt> Vhd<D> {
    /// Opens the image in `file`; the parent of a differencing image comes with [`Vhd::set_parent`].
    ///
    /// # Errors
    /// Where the file is not a VHD, is damaged in its head, or uses what we do not support.
    pub fn open(file: D, limits: &Limits) -> Result<Self> {
        let footers = footer::find(&file)?;
        let raw = &footers.footer;
        if !raw.current_size.get().is_multiple_of(header::SECTOR) {
            let problem =
                format!("the disk has {} bytes, which are not whole sectors", raw.current_size.get());
            return Err(Error::corrupt("VHD footer", footers.end.start(), problem));
        }
        let body = match raw.disk_type.get() {
            layout::FIXED => Body::Fixed,
            _ => Body::Sparse(Box::new(Sparse::open(&file, &footers)?)),
        };
        let len = size::virtual_len(raw);
        Ok(Self { file, footers, len, limits: *limits, body, fixed_len: false })
    }

    /// The kind of image.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match (&self.body, self.footers.footer.disk_type.get()) {
            (Body::Fixed, _) => Kind::Fixed,
            (_, layout::DIFFERENCING) => Kind::Differencing,
            _ => Kind::Dynamic,
        }
    }

    /// The unique identity, by which children know it.
    #[must_use]
    pub const fn uuid(&self) -> Uuid {
        Uuid(self.footers.footer.unique_id)
    }

    /// Who wrote it first: four characters.
    #[must_use]
    pub const fn creator(&self) -> [u8; 4] {
        self.footers.footer.creator_application
    }

    /// The version of the creator, major and minor.
    #[must_use]
    pub const fn creator_version(&self) -> (u32, u32) {
        let version = self.footers.footer.creator_version.get();
        (version >> 16, version & 0xffff)
    }

    /// The geometry that the footer names.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        Geometry::of(&self.footers.footer)
    }

    /// The size that the footer names, whether or not it is the disk's.
    #[must_use]
    pub const fn current_size(&self) -> Len {
        Len::new(self.footers.footer.current_size.get())
    }

    /// The timestamp, in seconds since 1970.
    #[must_use]
    pub fn timestamp(&self) -> u64 {
        unix_time(self.footers.footer.timestamp.get())
    }

    /// Whether it is the parent in a chain of tapdisk's.
    #[must_use]
    pub const fn is_hidden(&self) -> bool {
        self.footers.footer.hidden != 0
    }

    /// The size of its blocks; a fixed image has none.
    #[must_use]
    pub fn block_size(&self) -> Option<Len> {
        self.sparse().map(|sparse| sparse.header.shape.data())
    }

    /// What a differencing image says about its parent.
    #[must_use]
    pub fn parent_ref(&self) -> Option<&ParentRef> {
        self.sparse()?.parent_ref.as_ref()
    }

    /// Whether reading may need a parent that has not been given yet.
    #[must_use]
    pub fn lacks_parent(&self) -> bool {
        self.sparse().is_some_and(|sparse| sparse.parent_ref.is_some() && sparse.parent.is_none())
    }

    /// Gives a differencing image its parent, whose own identity is `id`.
    ///
    /// # Errors
    /// Where this is not the parent, or the image has none.
    pub fn set_parent(&mut self, parent: Parent, id: Option<Uuid>) -> Result<()> {
        let current = self.current_size();
        let Body::Sparse(sparse) = &mut self.body else { return Err(not_a_child()) };
        let Some(named) = &sparse.parent_ref else { return Err(not_a_child()) };
        if let Some(want) = named.id
            && Some(want) != id
        {
            let found = id.map_or_else(|| "none".to_owned(), |id| id.to_string());
            let problem = format!("the parent's identity is {found}, the image was made over {want}");
            return Err(Error::WrongParent { problem });
        }
        if parent.len() > current {
            let problem = format!("the parent has {} bytes, its child only {current}", parent.len());
            return Err(Error::WrongParent { problem });
        }
        sparse.parent = Some(parent);
        Ok(())
    }

    /// Says that the file is a device, whose length is not the image's to choose: what lies before its footer is room.
    pub(crate) const fn set_fixed_len(&mut self) {
        self.fixed_len = true;
    }

    /// The file below.
    pub const fn file(&self) -> &D {
        &self.file
    }

    /// The file below, given back.
    pub fn into_file(self) -> D {
        self.file
    }

    fn sparse(&self) -> Option<&Sparse> {
        match &self.body {
            Body::Fixed => None,
            Body::Sparse(sparse) => Some(sparse),
        }
    }

    /// Refuses what may not be written to for reasons that stand in its own head.
    fn writable(&self) -> Result<()> {
        let raw = &self.footers.footer;
        if raw.hidden != 0 {
            return Err(Error::refused(
                "the VHD is hidden: it is the parent of other images",
                Some("change the child at the end of the chain instead"),
            ));
        }
        if raw.saved_state != 0 {
            return Err(Error::refused(
                "a saved state of a virtual machine refers to the VHD",
                Some("resume and shut down the machine, or discard its saved state"),
            ));
        }
        self.require_twins()?;
        match self.sparse().map(|sparse| &sparse.batmap) {
            Some(Batmap::Bad { at, why }) => Err(Error::corrupt("VHD batmap", *at, why.clone())),
            _ => Ok(()),
        }
    }

    /// Refuses where one of the footers is not the other.
    fn require_twins(&self) -> Result<()> {
        let twins = [
            (&self.footers.end_state, self.footers.end.start(), "VHD footer"),
            (&self.footers.copy_state, Offset::ZERO, "VHD footer copy"),
        ];
        for (twin, at, structure) in twins {
            match twin {
                Twin::Equal => {}
                Twin::Differs => return Err(Error::corrupt(structure, at, "it differs from the end footer")),
                Twin::Bad(why) => return Err(Error::corrupt(structure, at, why.clone())),
            }
        }
        Ok(())
    }
}

/// 2000-01-01T00:00:00Z in seconds since 1970.
const EPOCH: u64 = 946_684_800;

/// Seconds since 2000 of seconds since 1970.
fn seconds(unix: u64) -> u32 {
    ondisk::num::low32(unix.saturating_sub(EPOCH))
}

/// Seconds since 1970 of seconds since 2000.
fn unix_time(seconds: u32) -> u64 {
    u64::from(seconds).saturating_add(EPOCH)
}

fn not_a_child() -> Error {
    Error::Usage { what: "the VHD has no parent".to_owned() }
}

impl Sparse {
    fn open(file: &dyn ReadAt, footers: &Footers) -> Result<Self> {
        let raw = &footers.footer;
        let header = Header::read(file, raw)?;
        let batmap = Batmap::read(file, raw, &header)?;
        let child = raw.disk_type.get() == layout::DIFFERENCING;
        let parent_ref = child.then(|| locator::parent_ref(file, &header.raw));
        let mut metadata = vec![Span::whole(footer::FOOTER_LEN), header.span(), header.bat];
        metadata.extend(batmap.spans());
        metadata.extend(header.raw.parent_locators.iter().filter_map(locator::space));
        Ok(Self { header, batmap, metadata, parent_ref, parent: None, bitmaps: Mutex::default(), end: None })
    }
}
