//! VirtualBox's VDI, dynamic and fixed.
//!
//! ```text
//! header ─► block map, an entry of 32 bits a block ─► data area: blocks in the order of their first write
//! ```
//!
//! 1. An entry is an index into the data area, not a position.
//! 2. What is not there is zero: there is no parent, images with one are refused by name.

mod layout;

use crate::foreign::{
    Blocks, Body, Fact, Facts, Files, Owners, Place, Run, Table, Tables, What, record, stored, text,
};
use crate::{Error, Findings, Result};
use layout::{DIFFERENCING, DYNAMIC, FIXED, FREE, Header, SIGNATURE, UNDO, VERSION_1_1, ZERO};
use ondisk::guid::MixedGuid;
use ondisk::size::Human;
use ondisk::{Len, Offset, Severity, Span};

const HEADER: &str = "VDI header";
const MAP: &str = "VDI block map";
/// Blocks are 1 MiB by default; VirtualBox makes none that are larger than this.
const BLOCK_MAX: u32 = 256 << 20;

/// What is known of an image.
pub(crate) struct Vdi {
    header: Header,
    blocks: Blocks,
    map: Table,
    tables: Tables,
}

impl Vdi {
    pub fn open(files: &Files<'_>) -> Result<Self> {
        let bad = |problem: String| Error::corrupt(HEADER, Offset::ZERO, problem);
        let header: Header = record(files, HEADER, Place::own(Offset::ZERO))?;
        if header.signature.get() != SIGNATURE {
            return Err(bad(format!("its signature is {:#x}, not {SIGNATURE:#x}", header.signature)));
        }
        if header.version.get() != VERSION_1_1 {
            let version = header.version.get();
            let what = format!("VDI version {}.{} is not supported", version >> 16, version & 0xffff);
            return Err(Error::unsupported(what));
        }
        match header.image_type.get() {
            DYNAMIC | FIXED => {}
            DIFFERENCING => return Err(with_parent(&header)),
            UNDO => return Err(Error::unsupported("VDI undo images are not supported")),
            other => return Err(bad(format!("it has the unknown type {other}"))),
        }
        let (size, disk) = (header.block_size.get(), Len::new(header.disk_size.get()));
        if !size.is_power_of_two() || !(512..=BLOCK_MAX).contains(&size) {
            return Err(bad(format!("it has blocks of {size} bytes")));
        }
        if header.block_extra.get() > size {
            return Err(bad(format!("there are {} bytes before each block", header.block_extra)));
        }
        let blocks = Blocks { disk, size: Len::new(size.into()) };
        let entries = u64::from(header.blocks_in_image.get());
        if entries < blocks.count() {
            return Err(bad(format!("{entries} blocks of {size} bytes do not make a disk of {disk} bytes")));
        }
        let at = Offset::new(header.offset_blocks.get().into());
        let map = Table { name: MAP, place: Place::own(at), entries, width: 4 };
        map.check(files)?;
        Ok(Self { header, blocks, map, tables: Tables::default() })
    }

    /// Where the data of the block with that entry begin.
    fn place(&self, entry: u64) -> Option<Place> {
        let extra = u64::from(self.header.block_extra.get());
        let stride = self.blocks.size.get().checked_add(extra)?;
        let ahead = entry.checked_mul(stride)?.checked_add(extra)?;
        Place::own(Offset::new(self.header.offset_data.get().into())).ahead(Len::new(ahead))
    }
}

fn with_parent(header: &Header) -> Error {
    let parent = MixedGuid(header.uuid_parent);
    let what = format!("VDI differencing images are not supported: this one stands on {parent}");
    Error::refused(what, Some("merge it with its parents in VirtualBox: VBoxManage clonemedium"))
}

impl Body for Vdi {
    fn len(&self) -> Len {
        self.blocks.disk
    }

    fn granule(&self) -> Len {
        self.blocks.size
    }

    fn run(&self, files: &Files<'_>, within: Span) -> Result<Run> {
        let index = self.blocks.index_of(within.start());
        let window = self.tables.window(files, self.map, index)?;
        let entry = window.get(index).unwrap_or(FREE);
        let what = match entry {
            FREE => What::Absent,
            ZERO => What::Zero,
            _ => return stored(files, MAP, self.blocks.span(index, 1), self.place(entry), within),
        };
        let span = self.blocks.span(index, window.same(index, entry)).intersect(within).unwrap_or(within);
        Ok(Run { span, what })
    }

    fn facts(&self, _: &Files<'_>) -> Facts {
        let header = &self.header;
        let kind = if header.image_type.get() == FIXED { "fixed" } else { "dynamic" };
        let (uuid, creator) = (MixedGuid(header.uuid_image), text(&header.text));
        let (creator, description) = (creator.trim_end_matches("\\x0a"), text(&header.description));
        let mut lines = vec![
            format!("created by '{creator}', id {uuid}"),
            format!("blocks of {}, {} allocated", Human(self.blocks.size), header.blocks_allocated),
        ];
        if !description.is_empty() {
            lines.push(format!("described as '{description}'"));
        }
        Facts {
            title: format!("{kind} VDI"),
            cluster_size: Some(self.blocks.size),
            dirty: false,
            lines,
            fields: vec![
                ("subformat", Fact::Text(kind.to_owned())),
                ("creator", Fact::Text(creator.to_owned())),
                ("description", Fact::Text(description)),
                ("uuid", Fact::Text(uuid.to_string())),
                ("blocks-allocated", Fact::Number(header.blocks_allocated.get().into())),
            ],
        }
    }

    fn check(&self, files: &Files<'_>, owners: &mut Owners, findings: &mut Findings) -> Result<()> {
        owners.structure(0, Span::whole(Len::new(512)), HEADER, findings)?;
        owners.structure(0, self.map.span(), MAP, findings)?;
        let (mut index, mut used) = (0, 0_u64);
        while index < self.map.entries {
            let window = self.tables.window(files, self.map, index)?;
            while let Some(entry) = window.get(index) {
                used = used.saturating_add(u64::from(entry < ZERO));
                index = index.saturating_add(1);
            }
        }
        let said = u64::from(self.header.blocks_allocated.get());
        if said != used {
            let text = format!("the header counts {said} blocks that are allocated, the map {used}");
            findings.push(Severity::Note, Some(self.map.span()), text);
        }
        Ok(())
    }
}
