//! QED, QEMU's enhanced disk: two levels of tables and no refcounts.
//!
//! ```text
//! header ─► L1 table ─► L2 table ─► cluster        an entry: a position in the file, 0 nothing, 1 zeros
//! ```

mod layout;

use crate::foreign::{
    Blocks, Body, Fact, Facts, Files, Owners, Place, Run, Table, Tables, What, record, stored,
};
use crate::{Error, Findings, Format, ParentRef, Result, qcow2};
use disk::Limits;
use layout::{Header, MAGIC, features};
use ondisk::size::Human;
use ondisk::text::Printable;
use ondisk::{Len, Offset, Severity, Span};

const HEADER: &str = "QED header";
const L1: &str = "QED L1 table";
const L2: &str = "QED L2 table";
/// No backing file's name is longer.
const NAME_MAX: u32 = 1023;

/// What is known of an image.
pub(crate) struct Qed {
    header: Header,
    blocks: Blocks,
    l1: Table,
    backing: Option<Vec<u8>>,
    tables: Tables,
}

impl Qed {
    pub fn open(files: &Files<'_>, limits: &Limits) -> Result<Self> {
        let bad = |problem: String| Error::corrupt(HEADER, Offset::ZERO, problem);
        let header: Header = record(files, HEADER, Place::own(Offset::ZERO))?;
        if header.magic != MAGIC {
            return Err(bad(format!("it begins with {:02x?}, not with QED", header.magic)));
        }
        let (cluster, tables, size) =
            (header.cluster_size.get(), header.table_size.get(), header.image_size.get());
        if !cluster.is_power_of_two() || !(4096..=64 << 20).contains(&cluster) {
            return Err(bad(format!("it has clusters of {cluster} bytes")));
        }
        if !tables.is_power_of_two() || !(1..=16).contains(&tables) {
            return Err(bad(format!("it has tables of {tables} clusters")));
        }
        let known = features::BACKING | features::NEED_CHECK | features::BACKING_RAW;
        let unknown = header.features.get() & !known;
        if unknown != 0 {
            return Err(Error::unsupported(format!("the QED features {unknown:#x} are not supported")));
        }
        let entries = u64::from(cluster).saturating_mul(tables.into()) / 8;
        let reach = u128::from(entries).saturating_mul(entries.into()).saturating_mul(cluster.into());
        if u128::from(size) > reach || !size.is_multiple_of(512) {
            return Err(bad(format!("a disk of {size} bytes is not possible with such tables")));
        }
        let place = Place::own(Offset::new(header.l1_table_offset.get()));
        let l1 = Table { name: L1, place, entries, width: 8 };
        l1.check(files)?;
        let backing = backing(files, &header, limits)?;
        let blocks = Blocks { disk: Len::new(size), size: Len::new(cluster.into()) };
        Ok(Self { header, blocks, l1, backing, tables: Tables::default() })
    }

    fn dirty(&self) -> bool {
        self.header.features.get() & features::NEED_CHECK != 0
    }

    /// Whether a cluster may lie there at all.
    fn checked(&self, structure: &'static str, entry: u64) -> Result<Option<Place>> {
        let header = u64::from(self.header.header_size.get()).saturating_mul(self.blocks.size.get());
        if entry < header.max(1) || !entry.is_multiple_of(self.blocks.size.get()) {
            let problem = format!("it refers to {entry}, where no cluster can be");
            return Err(Error::corrupt(structure, Offset::new(entry), problem));
        }
        Ok(Some(Place::own(Offset::new(entry))))
    }

    /// The L2 table of an entry of L1.
    fn l2(&self, files: &Files<'_>, entry: u64) -> Result<Table> {
        let place = self.checked(L1, entry)?.unwrap_or(self.l1.place);
        let table = Table { name: L2, place, ..self.l1 };
        table.check(files)?;
        Ok(table)
    }
}

/// The name of the backing file.
fn backing(files: &Files<'_>, header: &Header, limits: &Limits) -> Result<Option<Vec<u8>>> {
    if header.features.get() & features::BACKING == 0 {
        return Ok(None);
    }
    let at = Offset::new(header.backing_filename_offset.get().into());
    let span = Span::new(at, Len::new(header.backing_filename_size.get().into())).unwrap_or_default();
    if header.backing_filename_size.get() > NAME_MAX || !files.holds(Place::own(at), span.len())? {
        let problem = format!("the backing file's name at {span} lies outside the file, or is too long");
        return Err(Error::corrupt(HEADER, Offset::new(56), problem));
    }
    let mut name = limits.buffer("the backing file's name", span.len())?;
    files.read(Place::own(at), &mut name)?;
    Ok(Some(name))
}

impl Body for Qed {
    fn len(&self) -> Len {
        self.blocks.disk
    }

    fn granule(&self) -> Len {
        self.blocks.size
    }

    fn run(&self, files: &Files<'_>, within: Span) -> Result<Run> {
        let index = self.blocks.index_of(within.start());
        let per_table = self.l1.entries.max(1);
        let (upper, lower) = (
            index.checked_div(per_table).unwrap_or_default(),
            index.checked_rem(per_table).unwrap_or_default(),
        );
        let window = self.tables.window(files, self.l1, upper)?;
        let entry = window.get(upper).unwrap_or_default();
        if entry == 0 {
            let count = window.same(upper, 0).saturating_mul(per_table);
            let span = self.blocks.span(upper.saturating_mul(per_table), count).intersect(within);
            return Ok(Run { span: span.unwrap_or(within), what: What::Absent });
        }
        let table = self.l2(files, entry)?;
        let window = self.tables.window(files, table, lower)?;
        let entry = window.get(lower).unwrap_or_default();
        let what = match entry {
            0 => What::Absent,
            1 => What::Zero,
            _ => {
                let place = self.checked(L2, entry)?;
                return stored(files, L2, self.blocks.span(index, 1), place, within);
            }
        };
        let span = self.blocks.span(index, window.same(lower, entry)).intersect(within);
        Ok(Run { span: span.unwrap_or(within), what })
    }

    fn facts(&self, _: &Files<'_>) -> Facts {
        let table = Len::new(self.l1.entries.saturating_mul(8));
        let mut lines = vec![format!("clusters of {}, tables of {}", Human(self.blocks.size), Human(table))];
        if self.dirty() {
            lines.push("not closed: its last clusters may belong to nobody".to_owned());
        }
        if let Some(name) = &self.backing {
            lines.push(format!("stands on '{}'", Printable(name)));
        }
        Facts {
            title: "QED".to_owned(),
            cluster_size: Some(self.blocks.size),
            dirty: self.dirty(),
            lines,
            fields: vec![("table-size", Fact::Number(self.header.table_size.get().into()))],
        }
    }

    fn check(&self, files: &Files<'_>, owners: &mut Owners, findings: &mut Findings) -> Result<()> {
        let header = u64::from(self.header.header_size.get()).saturating_mul(self.blocks.size.get());
        owners.structure(0, Span::whole(Len::new(header)), HEADER, findings)?;
        owners.structure(0, self.l1.span(), L1, findings)?;
        let needed = ondisk::num::div_up(self.blocks.count(), self.l1.entries).unwrap_or_default();
        for index in 0..needed.min(self.l1.entries) {
            let window = self.tables.window(files, self.l1, index)?;
            // What is wrong with an entry is told when its clusters are looked at.
            if let Some(entry) = window.get(index).filter(|entry| *entry != 0)
                && let Ok(table) = self.l2(files, entry)
            {
                owners.structure(0, table.span(), L2, findings)?;
            }
        }
        if self.dirty() {
            findings.push(Severity::Note, None, "the image was not closed");
        }
        Ok(())
    }

    fn parent_ref(&self) -> Option<ParentRef> {
        let name = self.backing.as_ref()?;
        let mut parent = ParentRef::default();
        if let Some(name) = qcow2::plain_name(name) {
            parent.push(name.to_owned());
        }
        if self.header.features.get() & features::BACKING_RAW != 0 {
            parent.format = Some(Format::Raw);
        }
        Some(parent)
    }
}
