//! An image over another backing file, or over none: name, format and their place in cluster 0.
//!
//! 1. Header extensions that are not about the backing file are kept, byte for byte and in their order.
//! 2. The name stands behind them, in cluster 0. What stood there before is zero afterwards.

use super::create::backing_format;
use super::file;
use super::header::{self, Header};
use super::layout::{self, autoclear, extension};
use crate::link::Link;
use crate::{Error, Format, Result};
use disk::{Disk, Limits};
use ondisk::Offset;
use ondisk::num::{low32, to_u64, to_usize};
use zerocopy::FromBytes;

/// The longest name that qemu reads.
const NAME_MAX: usize = 1023;

/// Makes the image in `file` name that parent, or stand alone.
pub fn relink(file: &mut dyn Disk, link: Option<&Link>, limits: &Limits) -> Result<()> {
    let header = Header::read(&*file, limits)?;
    if header.is_corrupt() {
        return Err(Error::refused("the image is marked as corrupt and is not written", None));
    }
    let Some(old) = &header.backing else {
        return Err(Error::Usage { what: "the image has no backing file".to_owned() });
    };
    if link.is_some_and(|link| link.name.len() > NAME_MAX) {
        return Err(Error::Usage { what: "the name of a backing file has at most 1023 bytes".to_owned() });
    }
    if link.is_some_and(|link| link.format == Format::Xva) {
        return Err(Error::refused("QEMU cannot read an archive of XenServer as a backing file", None));
    }
    let record: layout::Header = file::record(&*file, Offset::ZERO)?;
    let length = match header.version {
        2 => u64::from(layout::V2_LENGTH),
        _ => u64::from(record.header_length.get()),
    };
    let name_at = record.backing_file_offset.get();
    let mut old_area = vec![0; to_usize(name_at.saturating_sub(length))];
    file::read(&*file, Offset::new(length), &mut old_area)?;
    let mut area = kept(&old_area);
    let mut place = (0, 0);
    match link {
        Some(link) => {
            area.extend(backing_format(link.format));
            place = (length.saturating_add(to_u64(area.len())), low32(to_u64(link.name.len())));
            area.extend(link.name.as_bytes());
        }
        None => area.extend([0; 8]),
    }
    if length.saturating_add(to_u64(area.len())) > header.geo.bytes() {
        let what = "the name of the backing file does not fit into the first cluster";
        return Err(Error::refused(what, Some("give the parent a shorter name")));
    }
    let old_end = name_at.saturating_add(to_u64(old.name.len())).saturating_sub(length);
    area.resize(area.len().max(to_usize(old_end)), 0);
    header::edit(file, |record| {
        record.backing_file_offset.set(place.0);
        record.backing_file_size.set(place.1);
        if header.version >= 3 {
            record.autoclear_features.set(header.autoclear & autoclear::BITMAPS);
        }
    })?;
    let end = length.saturating_add(to_u64(area.len()));
    if file.len().get() < end {
        file.resize(ondisk::Len::new(end))?;
    }
    file.write_at(Offset::new(length), &area)?;
    Ok(())
}

/// The extensions but the backing format's and the end.
fn kept(area: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut rest = area;
    while let Ok((head, behind)) = layout::Extension::read_from_prefix(rest) {
        let len = to_usize(u64::from(head.length.get())).next_multiple_of(8);
        if head.kind.get() == extension::END || behind.len() < len {
            break;
        }
        let (own, next) = rest.split_at_checked(len.saturating_add(8)).unwrap_or((rest, &[]));
        if head.kind.get() != extension::BACKING_FORMAT {
            kept.extend_from_slice(own);
        }
        rest = next;
    }
    kept
}
