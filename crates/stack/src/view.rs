//! A filesystem as a mount would show it: through its journal, which is replayed in memory.

use crate::content::Content;
use crate::layout::{Layout, Volume, VolumeId};
use crate::{Error, Place, Result, select};
use disk::{Cx, Disk, Overlay, ReadAt};
use extfs::Ext;

/// A filesystem that is looked at.
pub type Filesystem<'a> = Ext<&'a dyn ReadAt>;

/// The volume of a disk whose ext filesystem a place means.
///
/// # Errors
/// Where nothing is so named, several could be meant, or it holds something else.
pub fn filesystem<'l>(layout: &'l Layout, place: &Place) -> Result<&'l Volume> {
    let id = select::filesystem(layout, place)?;
    let volume =
        layout.volume(&id).ok_or_else(|| Error::None { why: format!("{id} holds other partitions") })?;
    match volume.content {
        Content::Ext => Ok(volume),
        content => Err(Error::Refused {
            volume: id,
            why: format!("holds {content}, and no ext2, ext3 or ext4 filesystem"),
            help: Some("name another place with -p".to_owned()),
        }),
    }
}

/// Lets `look` see the filesystem of a volume as it will be after its journal is replayed.
///
/// # Errors
/// Where it cannot be read, or its journal not be replayed.
pub fn with_filesystem<T>(
    disk: &dyn ReadAt,
    volume: &Volume,
    cx: &Cx<'_>,
    look: impl FnOnce(&Filesystem<'_>) -> T,
) -> Result<T> {
    let stored = volume.region.reader(disk)?;
    let mut overlay = Overlay::new(&*stored, &cx.limits);
    replay(&mut overlay, &volume.id, cx)?;
    let replayed: &dyn ReadAt = &overlay;
    let fs = Ext::open(replayed, &cx.limits).map_err(Error::ext(&volume.id))?;
    Ok(look(&fs))
}

/// Replays the journal of a volume and clears its orphans; says what that was, a sentence a step.
pub(crate) fn replay(volume: &mut dyn Disk, id: &VolumeId, cx: &Cx<'_>) -> Result<Vec<String>> {
    let replay = |source| Error::Replay { volume: id.clone(), source };
    let done = extfs::recovered(volume, cx).map_err(replay)?;
    Ok(done.sentences().into_iter().map(|sentence| format!("{id}: {sentence}")).collect())
}
