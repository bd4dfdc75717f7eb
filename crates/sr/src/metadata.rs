//! The volume `MGT` of an LVHD repository: what the host knows of it and of its VDIs, kept on the storage itself.
//!
//! ```text
//! sector 0       XSSM:LENGTH    :1:2
//! sector 1 2 3   <uuid> <allocation>, <name_label>, <name_description> of the repository
//! sector 4 5     <vdi> <name_label> <name_description>   <uuid> <snapshot_of> … </vdi>
//! sector 6 7     …
//! ```
//!
//! Text in sectors of 512 bytes, filled up with spaces. Format: `xen-storage-repositories`, section 2; LENGTH is in
//! bytes, from the start of the volume.

use disk::{Limits, ReadAt};
use ondisk::guid::Uuid;
use ondisk::num::to_u64;
use ondisk::text::Printable;
use ondisk::{Finding, Len, Offset};

const SECTOR: usize = 512;
/// Sectors before the first VDI.
const HEAD: usize = 4;
/// So much of the volume is read: ten times what the storage manager makes it.
const MOST: Len = Len::mib(40);

/// What MGT says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The repository's identifier.
    pub uuid: Option<Uuid>,
    /// `thick` or `thin`.
    pub allocation: Option<String>,
    /// The repository's name.
    pub name_label: String,
    /// What people say of it.
    pub name_description: String,
    /// The VDIs that are not deleted.
    pub vdis: Vec<Record>,
    /// What is wrong or strange about it.
    pub findings: Vec<Finding>,
}

/// What MGT says about a VDI. Text is as it was found: it is not safe to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its identifier.
    pub uuid: Uuid,
    /// Its name.
    pub name_label: String,
    /// What people say of it.
    pub name_description: String,
    /// Whether it is a snapshot.
    pub is_a_snapshot: bool,
    /// Whose, where it is one.
    pub snapshot_of: Option<Uuid>,
    /// When it was made: `20260102T03:04:05Z`.
    pub snapshot_time: String,
    /// What it is for: `user`, `system`, …
    pub kind: String,
    /// Its format: `vhd`, `aio` (raw), `qcow2`.
    pub vdi_type: String,
    /// Whether nobody may write to it.
    pub read_only: bool,
    /// Whether people see it; base copies are not managed.
    pub managed: bool,
}

impl Metadata {
    /// Reads the volume.
    ///
    /// # Errors
    /// Where it cannot be read. Damage is told in the findings.
    pub fn read(volume: &dyn ReadAt, limits: &Limits) -> disk::Result<Self> {
        let mut metadata = Self::default();
        let len = volume.len().min(MOST);
        let head = len.min(Len::new(to_u64(HEAD.saturating_mul(SECTOR))));
        let mut bytes = limits.buffer("the metadata volume", head)?;
        volume.read_at(Offset::ZERO, &mut bytes)?;
        let mut sectors = bytes.chunks_exact(SECTOR);
        let Some(used) = sectors.next().and_then(used) else {
            metadata.damaged("it does not begin with XSSM and a length");
            return Ok(metadata);
        };
        if used > len {
            metadata.damaged(format!("it says it is {used} bytes long, and has {len}"));
        }
        let mut texts = sectors.map(text);
        let first = texts.next().unwrap_or_default();
        metadata.uuid = field(&first, "uuid").and_then(|uuid| uuid.parse().ok());
        metadata.allocation = field(&first, "allocation");
        metadata.name_label = field(&texts.next().unwrap_or_default(), "name_label").unwrap_or_default();
        let description = field(&texts.next().unwrap_or_default(), "name_description");
        metadata.name_description = description.unwrap_or_default();
        if metadata.uuid.is_none() {
            metadata.damaged("it has no identifier of the repository");
        }
        let rest = used.min(len).checked_sub(head).unwrap_or_default();
        let mut bytes = limits.buffer("the metadata volume", rest)?;
        volume.read_at(head.end(), &mut bytes)?;
        let blank = |pair: &[u8]| pair.iter().all(|byte| matches!(byte, 0 | b' '));
        for (number, pair) in bytes.chunks_exact(2 * SECTOR).enumerate() {
            // Where the length is wrong, what is behind the last record is none.
            if used > len && blank(pair) {
                break;
            }
            metadata.take(number, pair);
        }
        Ok(metadata)
    }

    /// Takes the two sectors of a VDI.
    fn take(&mut self, number: usize, pair: &[u8]) {
        let (names, rest) = pair.split_at(SECTOR.min(pair.len()));
        let (names, rest) = (text(names), text(rest));
        let flag = |name: &str| field(&rest, name).is_some_and(|value| matches!(value.trim(), "1" | "True"));
        if flag("deleted") {
            return;
        }
        let uuid = |name: &str| field(&rest, name).and_then(|uuid| uuid.trim().parse().ok());
        let word = |name: &str| field(&rest, name).unwrap_or_default();
        let Some(id) = uuid("uuid") else {
            return self.damaged(format!("record {number} has no identifier of a VDI"));
        };
        if self.vdis.iter().any(|vdi| vdi.uuid == id) {
            return self.damaged(format!("two records are about VDI {id}"));
        }
        self.vdis.push(Record {
            uuid: id,
            name_label: field(&names, "name_label").unwrap_or_default(),
            name_description: field(&names, "name_description").unwrap_or_default(),
            is_a_snapshot: flag("is_a_snapshot"),
            snapshot_of: uuid("snapshot_of"),
            snapshot_time: word("snapshot_time"),
            kind: word("type"),
            vdi_type: word("vdi_type"),
            read_only: flag("read_only"),
            managed: flag("managed"),
        });
    }

    fn damaged(&mut self, why: impl Into<String>) {
        self.findings.push(Finding::damage(format!("MGT: {}", why.into())));
    }
}

/// Bytes in use, by the first sector.
fn used(sector: &[u8]) -> Option<Len> {
    let text = text(sector);
    let mut parts = text.split(':');
    let number = parts.next().filter(|magic| *magic == "XSSM").and_then(|_| parts.next())?;
    number.trim().parse().ok().map(Len::new)
}

/// A sector as text. Old ones may be filled up with zeros.
fn text(sector: &[u8]) -> String {
    let bytes: Vec<u8> = sector.iter().copied().filter(|byte| *byte != 0).collect();
    String::from_utf8(bytes).unwrap_or_else(|bad| Printable(bad.as_bytes()).to_string())
}

/// What the element of that name holds. Elements have no attributes, and their values no `<`.
fn field(text: &str, name: &str) -> Option<String> {
    let (_, behind) = text.split_once(&format!("<{name}>"))?;
    let (value, _) = behind.split_once(&format!("</{name}>"))?;
    Some(value.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use disk::{Disk, MemDisk, Sparse};

    const SR: &str = "b1a3f8a5-5d2e-4f7c-9a10-5d0f7ce2b001";
    const VDI: &str = "4e5a5d1c-2a3b-4c5d-8e9f-0123456789ab";
    const SNAPSHOT: &str = "7f1c9a55-3a0b-4b9d-9d59-3c1d6a7e0c02";

    fn disk(bytes: &[u8]) -> MemDisk {
        let mut disk = MemDisk::from(Sparse::new(Len::of(bytes)));
        disk.write_at(Offset::ZERO, bytes).unwrap();
        disk
    }

    fn volume(sectors: &[&str], length: u64) -> MemDisk {
        let mut bytes = format!("{:<512}", format!("XSSM:{length:<10}:1:2")).into_bytes();
        for sector in sectors {
            bytes.extend(format!("{sector:<512}").into_bytes());
        }
        bytes.resize(4 << 20, 0);
        disk(&bytes)
    }

    fn whole() -> Vec<String> {
        vec![
            format!("<?xml version=\"1.0\" ?><uuid>{SR}</uuid><allocation>thick</allocation>"),
            "<name_label>Local &amp; fast</name_label>".to_owned(),
            "<name_description></name_description>".to_owned(),
            "<vdi><name_label>web&lt;1&gt;</name_label><name_description>ü</name_description>".to_owned(),
            format!(
                "<uuid>{VDI}</uuid><vdi_type>vhd</vdi_type><managed>1</managed><read_only>0</read_only></vdi>"
            ),
            "<vdi><name_label>gone</name_label><name_description></name_description>".to_owned(),
            format!("<deleted>1</deleted><uuid>{SR}</uuid></vdi>"),
            "<vdi><name_label>snap</name_label><name_description></name_description>".to_owned(),
            format!(
                "<uuid>{SNAPSHOT}</uuid><is_a_snapshot>True</is_a_snapshot><snapshot_of>{VDI}</snapshot_of></vdi>"
            ),
        ]
    }

    fn read(sectors: &[String], length: u64) -> Metadata {
        let sectors: Vec<&str> = sectors.iter().map(String::as_str).collect();
        Metadata::read(&volume(&sectors, length), &Limits::default()).unwrap()
    }

    #[test]
    fn what_a_host_wrote_is_read() {
        let metadata = read(&whole(), 10 * 512);
        assert_eq!(metadata.findings, []);
        assert_eq!(metadata.uuid, SR.parse().ok());
        assert_eq!(
            (metadata.allocation.as_deref(), metadata.name_label.as_str()),
            (Some("thick"), "Local & fast")
        );
        let names: Vec<&str> = metadata.vdis.iter().map(|vdi| vdi.name_label.as_str()).collect();
        assert_eq!(names, ["web<1>", "snap"]);
        let snapshot = metadata.vdis.last().unwrap();
        assert_eq!((snapshot.is_a_snapshot, snapshot.snapshot_of), (true, VDI.parse().ok()));
    }

    #[test]
    fn what_is_behind_the_length_does_not_count() {
        assert_eq!(read(&whole(), 8 * 512).vdis.len(), 1);
        assert_eq!(read(&whole(), 2048).vdis, []);
    }

    #[test]
    fn damage_is_told_and_the_rest_is_read() {
        let mut twice = whole();
        twice[8] = twice[4].clone();
        let metadata = read(&twice, 10 * 512);
        assert_eq!((metadata.vdis.len(), metadata.findings.len()), (1, 1));
        assert_eq!(read(&whole(), 1 << 40).findings.len(), 1);
        let empty = Metadata::read(&disk(&[0; 4 << 20]), &Limits::default()).unwrap();
        assert_eq!(empty.findings.len(), 1);
        let short = Metadata::read(&disk(&[0; 100]), &Limits::default()).unwrap();
        assert_eq!(short.findings.len(), 1);
    }
}
