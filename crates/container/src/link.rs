//! What an image says about its parent, changed: another one, or none.
//!
//! 1. Only what names the parent changes. That the disk reads the same over the new parent, the caller has seen to.
//! 2. Of all spellings that an image has of its parent's name, each is made to say the same or is taken out.

use crate::{Error, Format, Result, qcow2, vhd};
use disk::{Disk, Limits};
use ondisk::guid::Uuid;

/// The parent that an image shall name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name as seen from the child's folder, with `/` between folders.
    pub name: String,
    /// Its format.
    pub format: Format,
    /// Its identity, where its format has one.
    pub id: Option<Uuid>,
    /// Its own timestamp, in seconds since 1970.
    pub timestamp: u64,
}

/// Makes the image in `file` name that parent, or stand alone.
///
/// # Errors
/// Where it has no parent, cannot name this one, or is damaged.
pub fn relink(file: &mut dyn Disk, format: Format, link: Option<&Link>, limits: &Limits) -> Result<()> {
    match format {
        Format::Vhd => vhd::link::relink(file, link, limits),
        Format::Qcow2 => qcow2::link::relink(file, link, limits),
        other => Err(Error::Usage { what: format!("{} has no parent", other.described()) }),
    }
}

/// Marks a VHD as the parent of others, as tapdisk does, or takes the mark away. Whether it was marked before; other
/// formats know no such mark.
///
/// # Errors
/// Where the image is damaged.
pub fn set_hidden(file: &mut dyn Disk, format: Format, hidden: bool) -> Result<bool> {
    match format {
        Format::Vhd => vhd::link::set_hidden(file, hidden),
        _ => Ok(false),
    }
}

/// In which places an image names its parent: a VHD's locators and its header, a qcow2 image's header.
#[must_use]
pub fn spellings<D: disk::ReadAt>(image: &crate::Container<D>) -> Vec<String> {
    match image {
        crate::Container::Vhd(vhd) => vhd.spellings(),
        crate::Container::Qcow2(qcow2) if qcow2.facts().backing_file.is_some() => {
            let format = qcow2.facts().backing_format.map(|name| format!("format {name}"));
            std::iter::once("backing file".to_owned()).chain(format).collect()
        }
        _ => Vec::new(),
    }
}
