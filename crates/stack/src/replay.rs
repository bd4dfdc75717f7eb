//! Replay a journal for good: what a mount does first, as one change of the file.

use crate::layout::{VolumeId, discover};
use crate::source::Source;
use crate::{Place, Result, check, view};
use disk::{Change, Cx, Overlay};

/// A replay that is staged and checked, ready to be committed.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// The change of the file; empty where the filesystem was unmounted properly.
    pub change: Change,
    /// Where the filesystem lies.
    pub volume: VolumeId,
    /// What happens, a sentence a step.
    pub steps: Vec<String>,
}

/// Plans, stages and checks the replay of a filesystem's journal. Nothing is written.
///
/// # Errors
/// Where there is no such filesystem, its journal is damaged, or the result is.
pub fn stage(source: &Source<'_>, place: &Place, full_check: bool, cx: &Cx<'_>) -> Result<Replayed> {
    let mut overlay = Overlay::new(source.file, &cx.limits);
    let mut disk = source.open(&mut overlay, cx)?;
    let layout = discover(&disk, cx)?;
    let volume = view::filesystem(&layout, place)?;
    let steps = view::replay(&mut *volume.region.writer(&mut disk)?, &volume.id, cx)?;
    let scope = if full_check { check::Scope::Full } else { check::Scope::Touched };
    check::volume(&disk, &layout, &volume.id, scope, cx)?;
    let volume = volume.id.clone();
    drop(disk);
    Ok(Replayed { change: overlay.into_change()?, volume, steps })
}
