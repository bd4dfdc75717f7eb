//! Mending a VHD from what survives of it.
//!
//! 1. The footer by which the image reads makes both: the copy at byte 0 is made from the end footer, or the end footer
//!    from the copy, behind the last block.
//! 2. A fixed image whose footer is not the last thing in the file gets rid of what follows it, if that is nothing.
//! 3. The header is rebuilt where its checksum proves the result, the batmap from the bitmaps: see `rebuild`.
//! 4. Where blocks overlap or lie outside the file, nothing is touched: whose bytes are where cannot be told then.

use super::batmap::Batmap;
use super::footer::{self, FOOTER_LEN, Misplaced, Twin};
use super::header::Header;
use super::layout;
use super::step::{Step, run};
use super::{Body, Sparse, Vhd, rebuild};
use crate::{Error, Findings, Result, Severity};
use disk::{Disk, Limits, Overlay, ReadAt};
use ondisk::{Len, Offset, Span};
use zerocopy::IntoBytes;

/// What is to be done: steps, and sentences about them.
#[derive(Default)]
struct Mending {
    steps: Vec<Step>,
    says: Vec<String>,
}

/// Mends the image in `file`; says what was done.
pub fn mend(file: &mut dyn Disk, is_device: bool, limits: &Limits) -> Result<Vec<String>> {
    let mut says = Vec::new();
    if let Err(Error::Corrupt { .. }) = footer::find(file)
        && !is_device
        && let Some(Misplaced { footer, len }) = footer::misplaced(file)?
    {
        says.push(format!("the footer is at byte {}: what follows it is cut off", footer.start()));
        file.resize(len)?;
    }
    let raw = footer::find(file)?.footer;
    if raw.disk_type.get() != layout::FIXED
        && matches!(Header::read(file, &raw), Err(Error::Corrupt { .. }))
        && let Some(step) = header(file, limits)?
    {
        says.push("the dynamic header is put together again".to_owned());
        run(vec![step], file)?;
    }
    let mending = Vhd::open(&*file, limits)?.mending(is_device)?;
    says.extend(mending.says);
    run(mending.steps, file)?;
    Ok(says)
}

/// The header as it must have been, if the whole image fits it.
fn header(file: &dyn ReadAt, limits: &Limits) -> Result<Option<Step>> {
    let raw = footer::find(file)?.footer;
    for header in rebuild::headers(file, &raw)? {
        let step = Step::Write(Offset::new(raw.data_offset.get()), header.as_bytes().to_vec());
        let mut trial = Overlay::new(file, limits);
        run(vec![step.clone()], &mut trial)?;
        let Ok(mut vhd) = Vhd::open(&trial, limits) else { continue };
        if vhd.survey_for_repair(false)?.is_some() {
            return Ok(Some(step));
        }
    }
    Ok(None)
}

impl<D: ReadAt> Vhd<D> {
    fn mending(mut self, is_device: bool) -> Result<Mending> {
        let stray = match &self.body {
            Body::Fixed => return self.mend_fixed(is_device),
            Body::Sparse(_) => self.survey_for_repair(is_device)?,
        };
        let (Some(stray), Some(sparse)) = (stray, self.sparse()) else { return Ok(Mending::default()) };
        // A size of which nobody can say that it is right must not cost a block.
        if stray > 0 && self.footers.copy_state == Twin::Differs {
            return Ok(Mending::default());
        }
        let mut mending = Mending::default();
        if stray > 0 {
            let needed = sparse.header.shape.count(self.current_size());
            let from = sparse.entry_span(needed).start();
            let to = sparse.entry_span(sparse.header.entries).start();
            mending.steps.extend(Span::between(from, to).map(Step::Unallocated));
            mending.says.push(format!("{stray} blocks behind the end of the disk are given up"));
        }
        let end = self.mend_batmap(sparse, stray > 0, &mut mending)?;
        self.mend_footers(end, is_device, &mut mending);
        Ok(mending)
    }

    /// How many blocks lie behind the end of the disk; `None` where something is wrong that cannot be mended.
    fn survey_for_repair(&mut self, is_device: bool) -> Result<Option<u64>> {
        if matches!(self.footers.end_state, Twin::Bad(_)) && !is_device {
            // What would be the end footer may be a part of the last block.
            self.footers.end = Span::new(self.file.len().end(), Len::ZERO).unwrap_or_default();
        }
        let Some(sparse) = self.sparse() else { return Ok(None) };
        let mut findings = Findings::default();
        self.survey(sparse, &mut findings)?;
        let sound = findings.count(Severity::Damage) == 0;
        Ok(sound.then_some(findings.count(Severity::Leak)))
    }

    /// Makes the batmap right, and says where everything but the end footer ends.
    fn mend_batmap(&self, sparse: &Sparse, again: bool, mending: &mut Mending) -> Result<Offset> {
        let needed = sparse.header.shape.count(self.current_size());
        let mut end = sparse.metadata.iter().map(|span| span.end()).max().unwrap_or_default();
        self.each_block(sparse, |index, entry| {
            if index < needed {
                end = sparse.block_span(entry).map_or(end, |span| span.end().max(end));
            }
            Ok(())
        })?;
        let at = match &sparse.batmap {
            Batmap::Bad { at, .. } => *at,
            Batmap::Good(map) if again => map.at,
            Batmap::None | Batmap::Good(_) => return Ok(end),
        };
        let Some(map) = rebuild::batmap(self, sparse, at)? else {
            // Its place must not become that of the footer.
            return Ok(end.max(self.footers.end.start()));
        };
        mending.steps.push(Step::Write(map.at, map.header.as_bytes().to_vec()));
        mending.steps.push(Step::Write(map.place.start(), map.bits));
        mending.says.push("the batmap is made anew from the bitmaps".to_owned());
        Ok(end.max(map.place.end()))
    }

    fn mend_footers(&self, end: Offset, is_device: bool, mending: &mut Mending) {
        let lost = matches!(self.footers.end_state, Twin::Bad(_));
        let now = self.footers.end.start();
        let shape = self.sparse().map(|sparse| sparse.header.shape.data()).unwrap_or_default();
        let gap = now.since(end).unwrap_or_default();
        let idle = gap >= super::check::idle_gap(shape) && !is_device;
        let at = if idle || (lost && !is_device) { end } else { now };
        let bytes = || self.footers.footer.as_bytes().to_vec();
        if let (true, Some(len)) = (lost || idle, at.checked_add(FOOTER_LEN)) {
            if !is_device {
                mending.steps.push(Step::Resize(Len::new(len.get())));
            }
            mending.steps.push(Step::Write(at, bytes()));
            let from = if lost { ", made from its copy" } else { "" };
            mending.says.push(format!("the end footer is at byte {at}{from}"));
        }
        if self.footers.copy_state != Twin::Equal {
            mending.steps.push(Step::Write(Offset::ZERO, bytes()));
            mending.says.push("the copy of the footer at byte 0 is made from the end footer".to_owned());
        }
    }

    /// The footer of a fixed image comes directly behind the disk, if there are only zeros between.
    fn mend_fixed(&self, is_device: bool) -> Result<Mending> {
        let mut mending = Mending::default();
        let at = self.current_size().end();
        let gap = Span::between(at, self.footers.end.start()).unwrap_or_default();
        if is_device || gap.is_empty() || !reads_zero(&self.file, gap)? {
            return Ok(mending);
        }
        let len = at.checked_add(FOOTER_LEN).unwrap_or(at);
        mending.steps.push(Step::Resize(Len::new(len.get())));
        mending.steps.push(Step::Write(at, self.footers.footer.as_bytes().to_vec()));
        mending.says.push(format!("the footer moves down to the end of the disk at byte {at}"));
        Ok(mending)
    }
}

/// Whether there are only zeros.
fn reads_zero(file: &dyn ReadAt, span: Span) -> Result<bool> {
    const PIECE: Len = Len::kib(256);
    for stored in file.extents(span)?.data() {
        for part in stored.chunks(PIECE) {
            let mut bytes = vec![0; part.len().to_usize()];
            file.read_at(part.start(), &mut bytes)?;
            if bytes.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
