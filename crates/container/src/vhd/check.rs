//! Is the image what it says it is?

use super::batmap::Batmap;
use super::bits::Bits;
use super::footer::Twin;
use super::locator;
use super::size::{Geometry, virtual_len};
use super::{Body, Sparse, Vhd};
use crate::{Findings, Result, Severity};
use disk::ReadAt;
use ondisk::size::Human;
use ondisk::{Len, Span};

/// So much before the end footer that nothing refers to is more than alignment.
pub fn idle_gap(block: Len) -> Len {
    block.max(Len::kib(8))
}

impl<D: ReadAt> Vhd<D> {
    /// Checks footers, header, table, blocks, batmap and locators.
    ///
    /// # Errors
    /// Where the file cannot be read, or its map does not fit into the memory allowed.
    pub fn check(&self) -> Result<Findings> {
        let mut findings = Findings::default();
        self.check_footers(&mut findings);
        self.check_size(&mut findings);
        match &self.body {
            Body::Fixed => self.check_fixed(&mut findings),
            Body::Sparse(sparse) => self.check_sparse(sparse, &mut findings)?,
        }
        Ok(findings)
    }

    fn check_footers(&self, findings: &mut Findings) {
        let end = self.footers.end;
        if let Twin::Bad(why) = &self.footers.end_state {
            let text = format!("the end footer is missing or damaged ({why}), the copy at byte 0 is right");
            findings.push(Severity::Damage, Some(end), text);
        }
        let copy = Some(Span::whole(super::footer::FOOTER_LEN));
        match &self.footers.copy_state {
            Twin::Equal => {}
            Twin::Differs => {
                findings.push(Severity::Damage, copy, "the copy at byte 0 differs from the end footer");
            }
            Twin::Bad(why) => {
                let text = format!("the copy at byte 0 is damaged ({why}), the end footer is right");
                findings.push(Severity::Damage, copy, text);
            }
        }
        let raw = &self.footers.footer;
        if raw.hidden != 0 {
            findings.push(Severity::Note, None, "the image is hidden: it is the parent of others");
        }
        if raw.saved_state != 0 {
            findings.push(Severity::Note, None, "a saved state of a virtual machine refers to the image");
        }
        if end.len().get() == 511 {
            findings.push(
                Severity::Note,
                Some(end),
                "the end footer has 511 bytes, as early Virtual PC wrote it",
            );
        }
    }

    fn check_size(&self, findings: &mut Findings) {
        let raw = &self.footers.footer;
        let geometry = Geometry::of(raw);
        if geometry == Geometry::LARGEST || geometry.is_empty() || geometry.len() == self.current_size() {
            return;
        }
        if geometry.len() > self.current_size() {
            let text =
                format!("the geometry {geometry} says more than the size of {} bytes", self.current_size());
            findings.push(Severity::Note, None, text);
        } else if virtual_len(raw) != self.current_size() {
            let text = format!(
                "the disk has {} bytes by its geometry {geometry}, as its creator reads it, and {} by its size",
                self.len,
                self.current_size()
            );
            findings.push(Severity::Note, None, text);
        }
    }

    fn check_fixed(&self, findings: &mut Findings) {
        let data = self.current_size().end();
        if let Some(more) = Span::between(data, self.footers.end.start()).filter(|more| !more.is_empty()) {
            self.push_room(findings, more, "bytes lie between the end of the disk and the footer");
        }
    }

    /// Unused bytes before the footer, which on a device are what it has to spare.
    fn push_room(&self, findings: &mut Findings, room: Span, leak: &str) {
        if self.fixed_len {
            let text = format!("{} before the footer at the device's end are free", Human(room.len()));
            findings.push(Severity::Note, Some(room), text);
        } else {
            findings.push(Severity::Leak, Some(room), leak);
        }
    }

    fn check_sparse(&self, sparse: &Sparse, findings: &mut Findings) -> Result<()> {
        let survey = self.survey(sparse, findings)?;
        if let Some(gap) = Span::between(survey.end, self.footers.end.start())
            && gap.len() >= idle_gap(sparse.header.shape.data())
        {
            self.push_room(findings, gap, "nothing refers to the bytes before the end footer");
        }
        for locator in &sparse.header.raw.parent_locators {
            let Some(space) = locator::space(locator) else { continue };
            let known = [b"W2ru", b"W2ku", b"MacX", b"Wi2r", b"Wi2k", b"Mac "];
            if !known.contains(&&locator.platform_code) {
                findings.push(Severity::Note, Some(space), "a parent locator is of an unknown kind");
            }
        }
        self.check_batmap(sparse, findings)
    }

    /// A bit of the batmap for a block that is not complete is silent corruption.
    fn check_batmap(&self, sparse: &Sparse, findings: &mut Findings) -> Result<()> {
        let map = match &sparse.batmap {
            Batmap::None => return Ok(()),
            Batmap::Bad { at, why } => {
                let place = Span::new(*at, Len::new(512));
                findings.push(Severity::Damage, place, format!("the batmap is not right: {why}"));
                return Ok(());
            }
            Batmap::Good(map) => map,
        };
        let shape = sparse.header.shape;
        let inside = Span::whole(self.file.len());
        self.each_block(sparse, |index, entry| {
            if !map.has(&self.file, index)? {
                return Ok(());
            }
            let Some(place) = sparse.place(entry).filter(|place| inside.contains(place.bitmap)) else {
                return Ok(());
            };
            let mut bytes = vec![0; shape.bitmap_bytes()];
            self.file.read_at(place.bitmap.start(), &mut bytes)?;
            if Bits::of(bytes, shape) != Bits::All {
                let text = format!("the batmap calls block {index} complete, its bitmap does not");
                findings.push(Severity::Damage, Some(place.bitmap), text);
            }
            Ok(())
        })
    }
}
