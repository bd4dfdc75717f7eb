//! Parallels' disks, which OpenVZ's ploop keeps containers in: versions 1 and 2, and bundles of one image.
//!
//! ```text
//! header ─► BAT, an entry of 32 bits a cluster ─► clusters        v1: entries count sectors, v2: clusters
//! DiskDescriptor.xml ─► the image beside it
//! ```

mod bundle;
mod layout;

pub(crate) use bundle::Bundle;

use crate::foreign::{
    Blocks, Body, Fact, Facts, Files, Owners, Place, Run, Table, Tables, What, record, stored,
};
use crate::{Error, Findings, Result};
use layout::{Header, IN_USE, MAGIC_V1, MAGIC_V2, VERSION};
use ondisk::num::low32;
use ondisk::size::Human;
use ondisk::{Len, Offset, Severity, Span};

const HEADER: &str = "Parallels header";
const BAT: &str = "Parallels BAT";
const SECTOR: u64 = 512;
const HEADER_LEN: u64 = 64;
/// Sectors of the largest cluster: 1 GiB.
const TRACKS_MAX: u32 = 1 << 21;

/// What is known of an image.
pub(crate) struct Parallels {
    part: usize,
    header: Header,
    blocks: Blocks,
    bat: Table,
    tables: Tables,
}

/// Whether the file is a bundle's description and no image.
pub(crate) fn is_description(files: &Files<'_>) -> Result<bool> {
    let mut head = [0; 5];
    if !files.holds(Place::own(Offset::ZERO), Len::of(&head))? {
        return Ok(false);
    }
    files.read(Place::own(Offset::ZERO), &mut head)?;
    Ok(head == *b"<?xml" || head.starts_with(b"<Par"))
}

impl Parallels {
    /// The image in one of the files.
    pub fn open(files: &Files<'_>, part: usize) -> Result<Self> {
        let bad = |problem: String| Error::corrupt(HEADER, Offset::ZERO, problem);
        let header: Header = record(files, HEADER, Place { part, at: Offset::ZERO })?;
        if header.magic != MAGIC_V1 && header.magic != MAGIC_V2 {
            return Err(bad("it does not begin with WithoutFreeSpace or WithouFreSpacExt".to_owned()));
        }
        if header.version.get() != VERSION {
            let what = format!("version {} of Parallels images is not supported", header.version);
            return Err(Error::unsupported(what));
        }
        let tracks = header.tracks.get();
        if tracks == 0 || tracks > TRACKS_MAX {
            return Err(bad(format!("it has clusters of {tracks} sectors")));
        }
        let stated = header.nb_sectors.get();
        let sectors = if header.magic == MAGIC_V1 { low32(stated).into() } else { stated };
        let disk = sectors.checked_mul(SECTOR).map(Len::new);
        let disk = disk.ok_or_else(|| bad(format!("it states a disk of {sectors} sectors")))?;
        let blocks = Blocks { disk, size: Len::new(u64::from(tracks).saturating_mul(SECTOR)) };
        let place = Place { part, at: Offset::new(HEADER_LEN) };
        let bat = Table { name: BAT, place, entries: header.bat_entries.get().into(), width: 4 };
        bat.check(files)?;
        Ok(Self { part, header, blocks, bat, tables: Tables::default() })
    }

    /// Where the cluster of an entry lies.
    fn place(&self, entry: u64) -> Result<Option<Place>> {
        let unit = if self.header.magic == MAGIC_V1 { SECTOR } else { self.blocks.size.get() };
        let at = Offset::new(entry.saturating_mul(unit));
        if at < self.bat.span().end() {
            let problem = format!("entry {entry} refers to byte {at} of the file, which is the BAT's");
            return Err(Error::corrupt(BAT, at, problem));
        }
        Ok(Some(Place { part: self.part, at }))
    }

    fn in_use(&self) -> bool {
        self.header.in_use.get() == IN_USE
    }
}

impl Body for Parallels {
    fn len(&self) -> Len {
        self.blocks.disk
    }

    fn granule(&self) -> Len {
        self.blocks.size
    }

    fn run(&self, files: &Files<'_>, within: Span) -> Result<Run> {
        let index = self.blocks.index_of(within.start());
        if index >= self.bat.entries {
            // The disk may be longer than its BAT: what was never written there has no entry.
            return Ok(Run { span: within, what: What::Absent });
        }
        let window = self.tables.window(files, self.bat, index)?;
        let entry = window.get(index).unwrap_or_default();
        if entry != 0 {
            return stored(files, BAT, self.blocks.span(index, 1), self.place(entry)?, within);
        }
        let span = self.blocks.span(index, window.same(index, 0)).intersect(within);
        Ok(Run { span: span.unwrap_or(within), what: What::Absent })
    }

    fn facts(&self, _: &Files<'_>) -> Facts {
        let version = if self.header.magic == MAGIC_V1 { 1 } else { 2 };
        let mut lines = vec![format!("clusters of {}", Human(self.blocks.size))];
        if self.in_use() {
            lines.push("in use, or not closed".to_owned());
        }
        Facts {
            title: format!("Parallels image, version {version}"),
            cluster_size: Some(self.blocks.size),
            dirty: self.in_use(),
            lines,
            fields: vec![
                ("version", Fact::Number(version)),
                ("in-use", Fact::Flag(self.in_use())),
                ("extension", Fact::Flag(self.header.ext_off.get() != 0)),
            ],
        }
    }

    fn check(&self, _: &Files<'_>, owners: &mut Owners, findings: &mut Findings) -> Result<()> {
        let head = Span::whole(Len::new(self.bat.span().end().get()));
        owners.structure(self.part, head, "Parallels header and BAT", findings)?;
        if self.in_use() {
            let text = "the image is marked as open: somebody uses it, or it was not closed";
            findings.push(Severity::Note, None, text);
        }
        if self.bat.entries < self.blocks.count() {
            let text =
                format!("the BAT has {} entries for {} clusters", self.bat.entries, self.blocks.count());
            findings.push(Severity::Note, None, text);
        }
        Ok(())
    }
}
