//! What a copy of a repository in files is made of: an image for each VDI, parents before those that stand on them.
//!
//! ```text
//! VHD-UUID    UUID.vhd      its blocks, its identity, its mark; the parent's name is that of a file
//! LV-UUID     UUID.raw      where others stand on it: UUID.vhd, which can be hidden
//! QCOW2-UUID  UUID.qcow2
//! ```
//!
//! 1. The same repository gives the same copies, whenever it is asked: what was begun can be gone on with.
//! 2. Nothing is copied of a repository that is damaged, or at which the host has not finished something.
//! 3. Names, and which is whose snapshot, are the host's: files have no place for them.

use crate::repository::{Image, Parent, Repository, Vdi};
use crate::{Error, Result};
use container::{Create, Format, qcow2, vhd};
use ondisk::Len;
use ondisk::guid::Uuid;
use std::collections::BTreeSet;

/// The time of an image that was made of what has none: 2000-01-01, at which VHDs begin to count.
const EPOCH: u64 = 946_684_800;

/// The copy of a VDI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Which.
    pub uuid: Uuid,
    /// What its file is called.
    pub name: String,
    /// What the image is.
    pub create: Create,
    /// What it stands on: then it holds only what its source holds itself.
    pub parent: Option<Uuid>,
}

/// Plans the copies of all VDIs, in an order in which they can be made.
///
/// # Errors
/// Where the repository is damaged, the host has not finished something, or files cannot hold what it has.
pub fn plan_copies(repository: &Repository) -> Result<Vec<Copy>> {
    let left = repository.leftovers.iter().filter(|name| !name.ends_with("_trim_lv"));
    let busy: Vec<&str> =
        repository.pending.iter().map(|(name, _)| name).chain(left).map(String::as_str).collect();
    if !busy.is_empty() {
        return Err(Error::Busy { what: busy.join(", ") });
    }
    if let Some(damage) = repository.findings.iter().find(|finding| finding.is_damage()) {
        return Err(Error::Damaged { what: damage.text.clone() });
    }
    let (mut copies, mut done) = (Vec::new(), BTreeSet::new());
    let mut waiting: Vec<&Vdi> = repository.vdis.iter().filter(|vdi| vdi.parent == Parent::None).collect();
    waiting.reverse();
    while let Some(vdi) = waiting.pop() {
        if done.insert(vdi.uuid) {
            copies.push(copy(repository, vdi)?);
            waiting.extend(repository.children(vdi.uuid));
        }
    }
    if copies.len() < repository.vdis.len() {
        return Err(Error::Damaged { what: "parents come back to themselves".to_owned() });
    }
    Ok(copies)
}

fn copy(repository: &Repository, vdi: &Vdi) -> Result<Copy> {
    let kept = |why| Error::Kept { vdi: vdi.uuid, why };
    let image = vdi.image.as_ref().ok_or_else(|| kept("its image cannot be read"))?;
    let below = vdi.parent().and_then(|uuid| repository.vdi(uuid));
    let format = format_of(repository, vdi);
    let create = match format {
        Format::Raw => Create::Raw(image.virtual_len),
        Format::Vhd => {
            let (uuid, now) = identity(vdi.uuid, image);
            let kind = match below.map(|below| (below, &below.image)) {
                None => vhd::create::New::Dynamic,
                Some((below, Some(under))) if format_of(repository, below) == Format::Vhd => {
                    let (id, timestamp) = identity(below.uuid, under);
                    let name = name(below.uuid, Format::Vhd);
                    vhd::create::New::Differencing(vhd::create::ParentSpec { name, id, timestamp })
                }
                Some(_) => return Err(kept("a VHD stands on VHDs only")),
            };
            let hidden = vdi.is_hidden();
            Create::Vhd(vhd::create::Spec { len: whole(image.virtual_len), uuid, now, kind, hidden })
        }
        Format::Qcow2 => Create::Qcow2(qcow2::Create {
            backing: below.map(|below| {
                let format = format_of(repository, below);
                qcow2::Backing { name: name(below.uuid, format), format }
            }),
            hidden: vdi.is_hidden(),
            ..qcow2::Create::new(whole(image.virtual_len))
        }),
        _ => return Err(kept("its format is none that a repository has")),
    };
    Ok(Copy { uuid: vdi.uuid, name: name(vdi.uuid, format), create, parent: vdi.parent() })
}

/// The format of a copy: among files, a raw image cannot be marked as the parent of others.
fn format_of(repository: &Repository, vdi: &Vdi) -> Format {
    let parent = vdi.is_hidden() || repository.children(vdi.uuid).next().is_some();
    if vdi.format == Format::Raw && parent { Format::Vhd } else { vdi.format }
}

/// The identity and time of a VHD.
fn identity(vdi: Uuid, image: &Image) -> (Uuid, u64) {
    (image.id.unwrap_or(vdi), image.timestamp.unwrap_or(EPOCH))
}

/// What the file of a VDI is called.
fn name(vdi: Uuid, format: Format) -> String {
    format!("{vdi}.{}", format.name())
}

/// In whole sectors.
fn whole(len: Len) -> Len {
    Len::new(ondisk::num::round_up(len.get(), 512).unwrap_or(u64::MAX))
}
