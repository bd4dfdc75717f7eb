//! What of a virtual disk nobody needs.
//!
//! ```text
//! filesystem    blocks that its bitmaps call free         ext2, ext3, ext4 only
//! swap          everything behind its header              unless a system sleeps in it
//! group         extents that no logical volume has
//! anything      what is stored and reads as zero          see `zeros`
//! ```
//!
//! 1. A filesystem is believed only where a full check of it, as it is after its journal is replayed, finds it clean.
//!    Blocks that orphans still have are in use: the guest finds its way through them when it clears them.
//! 2. Space that no partition has is kept: boot loaders lie there, and what nobody has told us of. So is the space
//!    between the end of a filesystem and the end of its partition.
//! 3. Where the table of partitions is damaged, a system sleeps, or hashes cover a volume, nothing is called free.

use crate::content::Content;
use crate::layout::{Layout, Volume, VolumeId};
use crate::{Error, Region, Result, check};
use disk::coarse::PIECE;
use disk::{Coarse, Cx, Linear, Overlay, ReadAt, Total};
use extfs::Ext;
use extfs::check::Scope;
use ondisk::{Len, Offset, Span};

/// Swap's header is one page, and pages are no longer than this.
const SWAP_HEADER: Len = Len::kib(64);
/// So much is read at once.
const READ: Len = Len::mib(1);
/// So much of the disk is looked at at once.
const WINDOW: Len = Len::mib(64);
static ZEROS: [u8; 4096] = [0; 4096];

/// What nobody needs, and how it is known.
#[derive(Debug)]
pub struct Free {
    /// The bytes, on the virtual disk.
    pub map: Coarse,
    /// What has told of free space, and of how much.
    pub told: Vec<(String, Len)>,
    /// Why others have not.
    pub notes: Vec<String>,
    /// How much is stored that reads as zero, besides.
    pub zeros: Len,
}

/// Finds out what the volumes of a disk call free. `keep` names bytes of volumes that something reads by their place.
///
/// # Errors
/// Where the disk cannot be read, or memory does not suffice.
pub fn find(disk: &dyn ReadAt, layout: &Layout, keep: &[(VolumeId, Span)], cx: &Cx<'_>) -> Result<Free> {
    let map = Coarse::new(disk.len(), &cx.limits);
    let mut free = Free { map, told: Vec::new(), notes: Vec::new(), zeros: Len::ZERO };
    if let Some(why) = distrust(layout) {
        free.notes.push(format!("{why}: only zeros are given back"));
        return Ok(free);
    }
    for volume in &layout.volumes {
        free.volume(disk, layout, volume, cx)?;
    }
    free.groups(layout)?;
    for (id, span) in keep {
        let Some(volume) = layout.volume(id) else { continue };
        for span in places(disk, &volume.region, *span)? {
            free.map.remove(span)?;
        }
    }
    Ok(free)
}

/// Why nothing on the disk can be taken for free.
fn distrust(layout: &Layout) -> Option<String> {
    let mut findings = layout.table.iter().flat_map(|table| table.findings());
    if let Some(damage) = findings.find(|finding| finding.is_damage()) {
        return Some(format!("the partition table is damaged ({})", damage.text));
    }
    let sleeps = |volume: &&Volume| volume.content == Content::Swap { hibernated: true };
    let swap = layout.volumes.iter().find(sleeps)?;
    Some(format!("{} holds the memory of a hibernated system", swap.id))
}

/// The bytes of a volume on the disk.
fn places(disk: &dyn ReadAt, region: &Region, span: Span) -> disk::Result<Vec<Span>> {
    match region {
        Region::Span(whole) => Ok(span
            .shifted(Len::new(whole.start().get()))
            .and_then(|span| span.intersect(*whole))
            .into_iter()
            .collect()),
        Region::Logical { parts, .. } => Linear::new(disk, parts.iter().cloned())?.ranges(span),
    }
}

impl Free {
    fn volume(&mut self, disk: &dyn ReadAt, layout: &Layout, volume: &Volume, cx: &Cx<'_>) -> Result<()> {
        if !matches!(volume.content, Content::Ext | Content::Swap { .. }) {
            return Ok(());
        }
        let told = match shared(layout, volume) {
            Some(why) => Err(why),
            None if volume.content == Content::Ext => self.filesystem(disk, volume, cx)?,
            None => Ok(self.swap(disk, volume)?),
        };
        match told {
            Ok(len) => self.told.push((format!("{} ({})", volume.id, volume.content), len)),
            Err(why) => self.notes.push(format!("{}: {why}; nothing in it is taken for free", volume.id)),
        }
        Ok(())
    }

    /// Adds what a filesystem calls free; says how much that is, or why it is not believed.
    fn filesystem(
        &mut self,
        disk: &dyn ReadAt,
        volume: &Volume,
        cx: &Cx<'_>,
    ) -> Result<std::result::Result<Len, String>> {
        if let Some(why) = disbelief(volume) {
            return Ok(Err(why));
        }
        match check::filesystem(disk, volume, Scope::Full, cx) {
            Ok(report) => {
                if let Some(damage) = report.damage().next() {
                    return Ok(Err(format!("the filesystem is damaged ({damage})")));
                }
            }
            Err(error @ (Error::Ext { .. } | Error::Replay { .. })) => return Ok(Err(error.to_string())),
            Err(other) => return Err(other),
        }
        let stored = volume.region.reader(disk)?;
        let mut overlay = Overlay::new(&*stored, &cx.limits);
        extfs::free::replayed(&mut overlay, cx).map_err(Error::ext(&volume.id))?;
        let fs = Ext::open(&overlay, &cx.limits).map_err(Error::ext(&volume.id))?;
        let block = fs.geom().block_size;
        let linear = match &volume.region {
            Region::Span(_) => None,
            Region::Logical { parts, .. } => Some(Linear::new(disk, parts.iter().cloned())?),
        };
        let start = Len::new(volume.region.start().get());
        let mut sum = 0_u64;
        let added = fs.each_free(cx, |first, count| {
            let Some(span) = block.span_of(first, count) else { return Ok(()) };
            sum = sum.saturating_add(span.len().get());
            match &linear {
                None => span.shifted(start).map_or(Ok(()), |span| self.map.insert(span)),
                Some(linear) => linear.ranges(span)?.into_iter().try_for_each(|span| self.map.insert(span)),
            }
        });
        added.map_err(Error::ext(&volume.id))?;
        Ok(Ok(Len::new(sum)))
    }

    fn swap(&mut self, disk: &dyn ReadAt, volume: &Volume) -> Result<Len> {
        let whole = Span::whole(volume.region.len());
        let space = Span::between(SWAP_HEADER.end(), whole.end()).unwrap_or_default();
        for span in places(disk, &volume.region, space)? {
            self.map.insert(span)?;
        }
        Ok(space.len())
    }

    /// Adds the extents that volume groups have not handed out.
    fn groups(&mut self, layout: &Layout) -> Result<()> {
        for vg in layout.groups.all() {
            let spans = match vg.free_spans() {
                Ok(spans) => spans,
                Err(error) => {
                    self.notes.push(format!("{error}; no extent of {} is taken for free", vg.name()));
                    continue;
                }
            };
            let mut sum = 0_u64;
            for (index, span) in spans {
                let Some((_, carrier)) = layout.groups.place(index) else { continue };
                let there =
                    span.shifted(Len::new(carrier.start().get())).and_then(|span| span.intersect(carrier));
                self.map.insert(there.unwrap_or_default())?;
                sum = sum.saturating_add(span.len().get());
            }
            self.told.push((format!("{} (LVM)", vg.name()), Len::new(sum)));
        }
        Ok(())
    }

    /// Adds what the image itself stores although it reads as zero; all of that is read. `own` says what it stores.
    ///
    /// # Errors
    /// Where the disk cannot be read, or memory does not suffice.
    pub fn add_zeros(
        &mut self,
        disk: &dyn ReadAt,
        own: impl Fn(Span) -> container::Result<Vec<Span>>,
        cx: &Cx<'_>,
    ) -> Result<()> {
        let whole = Span::whole(disk.len());
        let task = cx.progress.task("looking for zeros", Total::Bytes(whole.len()));
        let mut buf = cx.limits.buffer("a piece of the disk", READ)?;
        for window in whole.chunks(WINDOW) {
            for run in own(window)? {
                for extent in disk.extents(run)?.iter() {
                    if extent.kind.reads_zero() {
                        self.map.insert(extent.span)?;
                    } else {
                        self.read(disk, extent.span, &mut buf, cx)?;
                    }
                }
            }
            task.advance(window.len().get());
        }
        Ok(())
    }

    fn read(&mut self, disk: &dyn ReadAt, data: Span, buf: &mut [u8], cx: &Cx<'_>) -> Result<()> {
        // Whole pieces: the bytes beside the data are shown as zero, or belong to data as well.
        let start = Offset::new(data.start().get() & !(PIECE - 1));
        let end = Offset::new(data.end().get().next_multiple_of(PIECE)).min(disk.len().end());
        let mut rest = Span::between(start, end).unwrap_or_default();
        while !rest.is_empty() {
            cx.cancel.check()?;
            let part = rest.chunks(READ).next().unwrap_or(rest);
            rest = Span::between(part.end(), rest.end()).unwrap_or_default();
            if self.map.contains(part) {
                continue;
            }
            let bytes = buf.get_mut(..part.len().to_usize()).unwrap_or_default();
            disk.read_at(part.start(), bytes)?;
            for (piece, bytes) in part.chunks(Len::new(PIECE)).zip(bytes.chunks(ZEROS.len())) {
                if ZEROS.starts_with(bytes) && !self.map.contains(piece) {
                    self.map.insert(piece)?;
                    self.zeros = self.zeros.checked_add(piece.len()).unwrap_or(self.zeros);
                }
            }
        }
        Ok(())
    }
}

/// Who else has the bytes of a logical volume.
fn shared(layout: &Layout, volume: &Volume) -> Option<String> {
    let VolumeId::Logical { vg, lv } = &volume.id else { return None };
    let group = layout.groups.named(vg)?;
    match group.free_spans() {
        Err(error) => return Some(error.to_string()),
        Ok(_) if group.lv(lv).is_ok_and(|lv| lv.user().is_none()) => {}
        Ok(_) => return Some("a snapshot of it shares its bytes".to_owned()),
    }
    None
}

/// Why a filesystem is not believed, even before it is checked.
fn disbelief(volume: &Volume) -> Option<String> {
    match &volume.ext {
        Some(Err(error)) => Some(error.to_string()),
        Some(Ok(facts)) if facts.is_sealed => Some("dm-verity verifies it, free blocks included".to_owned()),
        Some(Ok(facts)) if facts.has_errors => Some("the kernel has seen errors in it".to_owned()),
        Some(Ok(facts)) if facts.size > volume.region.len() => {
            Some(format!("it has {} bytes, its volume only {}", facts.size, volume.region.len()))
        }
        Some(Ok(_)) => None,
        None => Some("it cannot be read".to_owned()),
    }
}
