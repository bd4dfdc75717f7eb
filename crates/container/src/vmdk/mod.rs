//! VMware's VMDK: one sparse file, a stream, or a descriptor with extents beside it.
//!
//! ```text
//! descriptor ─► extents in order ─┬─ sparse: grain directory ─► grain tables ─► grains
//!                                 ├─ flat: byte by byte
//!                                 └─ zero
//! ```
//!
//! 1. A single file is one extent that fills the disk; its own descriptor names nothing that is opened.
//! 2. The names in a descriptor are text here; who opens these files decides which names he trusts.
//! 3. Nothing is read of an image that stands on a parent: it is refused by the parent's name.

mod descriptor;
mod layout;
mod sparse;

use crate::foreign::{Body, Fact, Facts, Files, Owners, Place, Run, Tables, Unit, What, stored};
use crate::{Error, Findings, Result};
use descriptor::{DESCRIPTOR, Descriptor, Kind, Line};
use disk::Limits;
use ondisk::size::Human;
use ondisk::text::Printable;
use ondisk::{Len, Offset, Span};
use sparse::Sparse;

const SPARSE_SIGNATURE: &[u8] = b"# Disk DescriptorFile";
/// So many extents are told of in words.
const TOLD: usize = 8;

/// What is known of an image.
pub(crate) struct Vmdk {
    disk: Len,
    descriptor: Descriptor,
    extents: Vec<Extent>,
    /// The files beside the image, each once.
    names: Vec<String>,
    tables: Tables,
    limits: Limits,
}

/// A part of the disk.
struct Extent {
    /// Where on the disk.
    span: Span,
    /// Its file; empty where it is the image's own or there is none.
    name: String,
    body: Content,
}

enum Content {
    /// Nobody has opened its file yet.
    Unopened,
    Zero,
    Flat(Place),
    Sparse(Box<Sparse>),
}

impl Vmdk {
    pub fn open(files: &Files<'_>, limits: &Limits) -> Result<Self> {
        if let Some(sparse) = Sparse::open(files, 0)? {
            return Self::single(files, sparse, limits);
        }
        let len = files.len(0)?.min(descriptor::LEN_MAX);
        let text = text(files, Span::whole(len), limits)?;
        if !text.trim_ascii_start().starts_with(SPARSE_SIGNATURE) {
            let help = "an extent alone is opened by its descriptor, or byte by byte with -f raw";
            return Err(Error::refused(
                "the file is no VMDK: it has neither a header nor a descriptor",
                Some(help),
            ));
        }
        let descriptor = Descriptor::parse(&text)?;
        refuse_parent(&descriptor)?;
        if descriptor.extents.is_empty() {
            return Err(Error::corrupt(DESCRIPTOR, Offset::ZERO, "it names no extents"));
        }
        let mut names: Vec<String> = Vec::new();
        let (mut extents, mut at) = (Vec::new(), Offset::ZERO);
        for line in &descriptor.extents {
            let part = match names.iter().position(|name| *name == line.name) {
                Some(index) => index.saturating_add(1),
                None if line.kind == Kind::Zero => 0,
                None => {
                    names.push(line.name.clone());
                    names.len()
                }
            };
            let beyond = || Error::corrupt(DESCRIPTOR, Offset::ZERO, "its extents end behind byte 2^63");
            let span =
                Span::new(at, line.len).filter(|span| span.end().get() < 1 << 63).ok_or_else(beyond)?;
            extents.push(Extent { span, name: line.name.clone(), body: content(files, line, part)? });
            at = span.end();
        }
        let disk = Len::new(at.get());
        Ok(Self { disk, descriptor, extents, names, tables: Tables::default(), limits: *limits })
    }

    /// An image of one file.
    fn single(files: &Files<'_>, sparse: Sparse, limits: &Limits) -> Result<Self> {
        let descriptor = match sparse.descriptor {
            Some(at)
                if at.len() <= descriptor::LEN_MAX && files.holds(Place::own(at.start()), at.len())? =>
            {
                Descriptor::parse(&text(files, at, limits)?)?
            }
            Some(at) => {
                let problem = format!("{} bytes from there are not in the file, or too many", at.len());
                return Err(Error::corrupt(DESCRIPTOR, at.start(), problem));
            }
            None => Descriptor::default(),
        };
        refuse_parent(&descriptor)?;
        let disk = sparse.grains.disk;
        let body = Content::Sparse(Box::new(sparse));
        let extents = vec![Extent { span: Span::whole(disk), name: String::new(), body }];
        let names = Vec::new();
        Ok(Self { disk, descriptor, extents, names, tables: Tables::default(), limits: *limits })
    }

    /// The extent with that byte of the disk.
    fn extent(&self, at: Offset) -> Result<&Extent> {
        let index = self.extents.partition_point(|extent| extent.span.end() <= at);
        let beyond = || Error::corrupt(DESCRIPTOR, Offset::ZERO, format!("no extent has byte {at}"));
        self.extents.get(index).ok_or_else(beyond)
    }

    fn sparse(&self) -> impl Iterator<Item = &Sparse> {
        self.extents.iter().filter_map(|extent| match &extent.body {
            Content::Sparse(sparse) => Some(&**sparse),
            _ => None,
        })
    }

    fn missing(extent: &Extent) -> Error {
        Error::PartMissing { name: Printable(extent.name.as_bytes()).to_string() }
    }
}

fn text(files: &Files<'_>, at: Span, limits: &Limits) -> Result<Vec<u8>> {
    let mut text = limits.buffer(DESCRIPTOR, at.len())?;
    files.read(Place::own(at.start()), &mut text)?;
    Ok(text)
}

fn refuse_parent(descriptor: &Descriptor) -> Result<()> {
    if !descriptor.has_parent() {
        return Ok(());
    }
    let parent = Printable(descriptor.parent_hint.as_bytes());
    let cid = descriptor.parent_cid.unwrap_or_default();
    let why = format!("VMDK snapshots are not supported: this one stands on '{parent}' (CID {cid:08x})");
    Err(Error::refused(
        why,
        Some("merge it with its parents first, for example by deleting the snapshots of the VM"),
    ))
}

/// What the line of a descriptor means.
fn content(files: &Files<'_>, line: &Line, part: usize) -> Result<Content> {
    let sparse = match line.kind {
        Kind::Zero => return Ok(Content::Zero),
        _ if !files.has(part) => return Ok(Content::Unopened),
        Kind::Flat => return Ok(Content::Flat(Place { part, at: line.offset })),
        Kind::Sparse => Sparse::open(files, part)?,
    };
    let name = Printable(line.name.as_bytes());
    let Some(sparse) = sparse else {
        return Err(Error::corrupt(DESCRIPTOR, Offset::ZERO, format!("'{name}' is no sparse extent")));
    };
    if sparse.grains.disk < line.len {
        let problem = format!("'{name}' has {} bytes, the descriptor says {}", sparse.grains.disk, line.len);
        return Err(Error::corrupt(DESCRIPTOR, Offset::ZERO, problem));
    }
    Ok(Content::Sparse(Box::new(sparse)))
}

/// What of the disk an extent knows as its own, moved to where it lies on the disk.
fn placed(run: Run, extent: &Extent) -> Run {
    let by = Len::new(extent.span.start().get());
    let moved = |span: Span| span.shifted(by).unwrap_or_default();
    let what = match run.what {
        What::Unit(unit) => {
            // The last grain of an extent may reach behind it.
            let span = moved(unit.span).intersect(extent.span).unwrap_or_default();
            What::Unit(Unit { span, ..unit })
        }
        other => other,
    };
    Run { span: moved(run.span), what }
}

impl Body for Vmdk {
    fn len(&self) -> Len {
        self.disk
    }

    fn granule(&self) -> Len {
        self.sparse().map(|sparse| sparse.grains.size).min().unwrap_or(Len::mib(1))
    }

    fn run(&self, files: &Files<'_>, within: Span) -> Result<Run> {
        let extent = self.extent(within.start())?;
        let here = extent.span.intersect(within).unwrap_or_default();
        match &extent.body {
            Content::Unopened => Err(Self::missing(extent)),
            Content::Zero => Ok(Run { span: here, what: What::Zero }),
            Content::Flat(place) => stored(files, "VMDK flat extent", extent.span, Some(*place), here),
            Content::Sparse(sparse) => {
                let inside = here.relative_to(extent.span.start()).unwrap_or_default();
                Ok(placed(sparse.run(files, &self.tables, inside)?, extent))
            }
        }
    }

    fn unit(&self, files: &Files<'_>, unit: Unit) -> Result<Vec<u8>> {
        let (sparse, unit) = self.owner(unit)?;
        sparse.unpack(files, unit, &self.limits)
    }

    fn unit_stored(&self, files: &Files<'_>, unit: Unit) -> Result<Span> {
        let (sparse, unit) = self.owner(unit)?;
        sparse.packed(files, unit)
    }

    fn facts(&self, _: &Files<'_>) -> Facts {
        let kind = Printable(self.descriptor.create_type.as_bytes()).to_string();
        let versions = self.sparse().next().map(|sparse| format!(", version {}", sparse.version));
        let dirty = self.sparse().any(|sparse| sparse.unclean);
        let grain = self.sparse().next().map(|sparse| sparse.grains.size);
        let compressed = self.sparse().any(|sparse| sparse.compressed);
        let mut lines = Vec::new();
        if let Some(grain) = grain {
            let how = if compressed { ", compressed with deflate" } else { "" };
            lines.push(format!("grains of {}{how}", Human(grain)));
        }
        if let Some(cid) = self.descriptor.cid {
            lines.push(format!("content id {cid:08x}"));
        }
        if dirty {
            lines.push("not closed".to_owned());
        }
        if !self.names.is_empty() {
            lines.extend(self.extents.iter().take(TOLD).map(Extent::told));
            if let Some(more) = self.extents.len().checked_sub(TOLD).filter(|more| *more > 0) {
                lines.push(format!("{more} extents more"));
            }
        }
        let space = if kind.is_empty() { "" } else { " " };
        let mut fields = vec![("create-type", Fact::Text(kind.clone()))];
        for (name, cid) in [("cid", self.descriptor.cid), ("parent-cid", self.descriptor.parent_cid)] {
            fields.extend(cid.map(|cid| (name, Fact::Number(cid.into()))));
        }
        fields.push(("extents", Fact::List(self.extents.iter().map(Extent::fields).collect())));
        let title = format!("VMDK{space}{kind}{}", versions.unwrap_or_default());
        Facts { title, cluster_size: grain, dirty, lines, fields }
    }

    fn check(&self, files: &Files<'_>, owners: &mut Owners, findings: &mut Findings) -> Result<()> {
        if let Some(unopened) = self.extents.iter().find(|extent| matches!(extent.body, Content::Unopened)) {
            return Err(Self::missing(unopened));
        }
        for sparse in self.sparse() {
            sparse.check(files, &self.tables, owners, findings)?;
            if let Some(at) = sparse.descriptor.filter(|_| self.names.is_empty()) {
                owners.structure(0, at, DESCRIPTOR, findings)?;
            }
        }
        Ok(())
    }

    fn part_names(&self) -> Vec<String> {
        self.names.clone()
    }
}

impl Vmdk {
    /// The extent that a unit lies in, and the unit as seen from there.
    fn owner(&self, unit: Unit) -> Result<(&Sparse, Unit)> {
        let extent = self.extent(unit.span.start())?;
        let span = unit.span.relative_to(extent.span.start()).unwrap_or_default();
        match &extent.body {
            Content::Sparse(sparse) => Ok((sparse, Unit { span, ..unit })),
            _ => Err(Self::missing(extent)),
        }
    }
}

impl Extent {
    const fn kind(&self) -> &'static str {
        match &self.body {
            Content::Unopened => "unopened",
            Content::Zero => "zero",
            Content::Flat(_) => "flat",
            Content::Sparse(_) => "sparse",
        }
    }

    fn told(&self) -> String {
        let name = Printable(self.name.as_bytes());
        format!("{} of the disk in '{name}', {}", Human(self.span.len()), self.kind())
    }

    fn fields(&self) -> Vec<(&'static str, Fact)> {
        let mut fields = vec![
            ("virtual-size", Fact::Number(self.span.len().get())),
            ("filename", Fact::Text(Printable(self.name.as_bytes()).to_string())),
            ("format", Fact::Text(self.kind().to_ascii_uppercase())),
        ];
        if let Content::Sparse(sparse) = &self.body {
            fields.push(("cluster-size", Fact::Number(sparse.grains.size.get())));
            fields.push(("compressed", Fact::Flag(sparse.compressed)));
        }
        fields
    }
}
