//! XenServer's exports: an archive of a description and of the disks in chunks.
//!
//! ```text
//! ova.xml │ Ref:10/00000000 │ Ref:10/00000000.checksum │ Ref:10/00000007 │ … │ Ref:11/00000000 │ …
//! ```
//!
//! 1. One disk is read. Of several the operator says which; none is taken by chance.
//! 2. The archive is gone through once, when the first byte of the disk is asked for.
//! 3. Every chunk that has a checksum is verified when it is read.

mod index;
mod ova;
mod tar;

use crate::foreign::{Body, Fact, Facts, Files, OpenWith, Owners, Place, Run, Unit, What};
use crate::{Error, Findings, Result, xml};
use disk::Limits;
use index::{Chunk, Index};
use ondisk::size::Human;
use ondisk::text::Printable;
use ondisk::{Len, Offset, Severity, Span};
use ova::{Disk, OVA};
use std::sync::{Arc, Mutex, PoisonError};
use tar::Members;

/// What is known of an archive, and of the disk in it that is read.
pub(crate) struct Xva {
    disk: Disk,
    all: Vec<Disk>,
    /// Where the chunks begin.
    chunks: Offset,
    index: Mutex<Option<Arc<Index>>>,
    limits: Limits,
}

impl Xva {
    pub fn open(files: &Files<'_>, with: &OpenWith, limits: &Limits) -> Result<Self> {
        let mut members = Members::from(files, Offset::ZERO);
        let first = members.next()?.filter(|member| member.name == OVA.as_bytes());
        let bad = |problem: &str| Error::corrupt("XVA archive", Offset::ZERO, problem);
        let description = first.ok_or_else(|| bad("its first member is not ova.xml"))?;
        let text = xml::read(files, OVA, description.data, ova::LEN_MAX, limits)?;
        let all = ova::disks(&text)?;
        let disk = chosen(&all, with.disk.as_deref())?.clone();
        let chunks = description.data.end();
        let chunks = Offset::new(ondisk::num::round_up(chunks.get(), 512).unwrap_or(chunks.get()));
        Ok(Self { disk, all, chunks, index: Mutex::new(None), limits: *limits })
    }

    fn index(&self, files: &Files<'_>) -> Result<Arc<Index>> {
        let mut known = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = &*known {
            return Ok(Arc::clone(index));
        }
        let index = Index::scan(files, self.chunks, &self.disk.folder, self.disk.len, &self.limits)?;
        let index = Arc::new(index);
        *known = Some(Arc::clone(&index));
        Ok(index)
    }

    fn chunk(&self, files: &Files<'_>, unit: Unit) -> Result<Chunk> {
        let index = self.index(files)?;
        let missing = |_| Error::corrupt("XVA chunk", unit.place.at, "it is not there");
        index.find(unit.span.start()).copied().map_err(missing)
    }
}

/// The disk that is meant.
fn chosen<'a>(all: &'a [Disk], name: Option<&str>) -> Result<&'a Disk> {
    let list = |disks: &[&Disk]| disks.iter().map(|disk| disk.choice()).collect();
    let meant: Vec<&Disk> = all.iter().filter(|disk| name.is_none_or(|name| disk.is_called(name))).collect();
    match (meant.as_slice(), name) {
        ([one], _) => Ok(one),
        ([], None) => Err(Error::unsupported("the archive holds no disks")),
        ([], Some(name)) => {
            let names: Vec<String> = all.iter().map(|disk| disk.choice().to_string()).collect();
            let (name, names) = (Printable(name.as_bytes()), names.join("; "));
            Err(Error::Usage { what: format!("the archive holds no disk '{name}', but {names}") })
        }
        (several, _) => Err(Error::Choose { disks: list(several) }),
    }
}

impl Body for Xva {
    fn len(&self) -> Len {
        self.disk.len
    }

    fn granule(&self) -> Len {
        Len::mib(1)
    }

    fn run(&self, files: &Files<'_>, within: Span) -> Result<Run> {
        let index = self.index(files)?;
        let next = match index.find(within.start()) {
            Ok(chunk) => {
                let unit = Unit { span: chunk.span, place: Place::own(chunk.at), plain: true };
                let span = chunk.span.intersect(within).unwrap_or(within);
                return Ok(Run { span, what: What::Unit(unit) });
            }
            Err(next) => next,
        };
        if next.is_none() && !index.ended {
            let end = files.len(0)?.end();
            let problem = format!("the archive is cut off: bytes {within} of the disk are missing");
            return Err(Error::corrupt("XVA archive", end, problem));
        }
        let end = next.unwrap_or(within.end()).min(within.end());
        Ok(Run { span: Span::between(within.start(), end).unwrap_or(within), what: What::Absent })
    }

    fn unit(&self, files: &Files<'_>, unit: Unit) -> Result<Vec<u8>> {
        self.chunk(files, unit)?.read(files, &self.limits)
    }

    fn facts(&self, _: &Files<'_>) -> Facts {
        let disk = |disk: &Disk| {
            let choice = disk.choice();
            vec![
                ("name", Fact::Text(choice.name)),
                ("uuid", Fact::Text(choice.uuid)),
                ("device", Fact::Text(choice.device)),
                ("virtual-size", Fact::Number(choice.len.get())),
            ]
        };
        let others = self.all.iter().filter(|one| **one != self.disk);
        let mut lines = vec![format!("disk {}", self.disk.choice())];
        lines.extend(others.take(16).map(|one| format!("beside it: {}", one.choice())));
        Facts {
            title: "XVA".to_owned(),
            cluster_size: None,
            dirty: false,
            lines,
            fields: vec![
                ("disk", Fact::Text(self.disk.choice().uuid)),
                ("disks", Fact::List(self.all.iter().map(disk).collect())),
            ],
        }
    }

    fn check(&self, files: &Files<'_>, owners: &mut Owners, findings: &mut Findings) -> Result<()> {
        owners.structure(0, Span::whole(Len::new(self.chunks.get())), OVA, findings)?;
        let index = self.index(files)?;
        let bare = index.chunks.iter().filter(|chunk| !chunk.has_sum()).count();
        if bare > 0 {
            let text = format!("{bare} of {} chunks have no checksum", index.chunks.len());
            findings.push(Severity::Note, None, text);
        }
        let end = index.chunks.last().map_or(Offset::ZERO, |chunk| chunk.span.end());
        if index.ended && end < self.disk.len.end() {
            let rest = Len::new(self.disk.len.get().saturating_sub(end.get()));
            let text =
                format!("the last {} of the disk are not in the archive, and read as zero", Human(rest));
            findings.push(Severity::Note, None, text);
        }
        if !index.ended {
            findings.push(Severity::Damage, None, "the archive has no end: it is cut off");
        }
        Ok(())
    }
}
