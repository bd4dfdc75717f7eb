//! What lies at the end of a volume or of the disk, and would not be found again behind a new end.

use crate::content::{Content, behind};
use crate::layout::{Layout, Volume, VolumeId};
use crate::{Error, Result};
use disk::ReadAt;

/// Refuses to move the end of a volume that keeps something there.
pub(super) fn refuse_volume(volume: &Volume) -> Result<()> {
    let sealed = volume.facts().is_some_and(|facts| facts.is_sealed);
    let why = match volume.content {
        Content::Member(member) => member.at_its_end(),
        _ if sealed => Some("is verified by dm-verity, whose hashes lie behind the filesystem"),
        _ => None,
    };
    why.map_or(Ok(()), |why| Err(refused(&volume.id, why)))
}

/// Refuses to move the end of a disk that keeps something there: what a volume keeps at its own end belongs to that.
pub(super) fn refuse_disk(disk: &dyn ReadAt, layout: &Layout) -> Result<()> {
    let Some(table) = &layout.table else {
        return layout.volume(&VolumeId::Whole).map_or(Ok(()), refuse_volume);
    };
    let Some((member, at)) = behind(disk)? else { return Ok(()) };
    let inside = table.partitions().iter().any(|part| part.span.start() <= at && at < part.span.end());
    match member.at_its_end() {
        Some(why) if !inside => Err(refused(&VolumeId::Whole, why)),
        _ => Ok(()),
    }
}

fn refused(volume: &VolumeId, why: &str) -> Error {
    Error::Refused { volume: volume.clone(), why: why.to_owned(), help: None }
}
