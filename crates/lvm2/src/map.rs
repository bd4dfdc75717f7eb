//! Where the bytes of a logical volume lie.

use crate::model::{Area, Lv, Mapping, Vg};
use crate::{Error, Result};
use ondisk::{Len, Span};

/// Bytes of a logical volume that lie on one span, or in turns on several of equal length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// How many bytes before it is the next span's turn; zero where there is only one.
    pub stripe: Len,
    /// The spans, each with the place of its device among the disks that were read.
    pub spans: Vec<(usize, Span)>,
}

impl Vg {
    /// The parts of a logical volume, in order.
    ///
    /// # Errors
    /// Where it has segments of other types than `striped`, is a part of another one, or lies on physical volumes that
    /// are missing or too short.
    pub fn map(&self, lv: &Lv) -> Result<Vec<Part>> {
        let refused = |why: String| Error::NotMapped { lv: format!("{}/{}", self.name, lv.name), why };
        if let Some(user) = lv.user() {
            // Who reads an origin reads its own bytes; everything else has bytes that only its user understands.
            let own = matches!(
                (user.kind.as_str(), user.role.as_str()),
                ("snapshot", "origin") | ("thin", "external_origin")
            );
            if !own {
                return Err(refused(format!("it is the {} of {} ({})", user.role, user.lv, user.kind)));
            }
        }
        let mut parts = Vec::with_capacity(lv.segments.len());
        let mut next = 0;
        for segment in &lv.segments {
            let Mapping::Striped { stripe, areas } = &segment.mapping else {
                return Err(refused(format!("its type is {}", lv.kind())));
            };
            if segment.extents.first.0 != next {
                return Err(refused(format!("its segments leave a gap at extent {next}")));
            }
            next = segment.extents.end().0;
            let spans = areas.iter().map(|area| self.place(*area).map_err(refused));
            parts.push(Part { stripe: *stripe, spans: spans.collect::<Result<_>>()? });
        }
        Ok(parts)
    }

    /// The device of an area, and the span on it.
    fn place(&self, area: Area) -> std::result::Result<(usize, Span), String> {
        let pv = self.pvs.get(area.pv).ok_or("it names a physical volume that there is not")?;
        let device = pv
            .device
            .as_ref()
            .ok_or_else(|| format!("physical volume {} ({}) is not here", pv.name, pv.uuid))?;
        let span = self.span_of(area).filter(|span| Span::whole(device.len).contains(*span));
        let outside = || format!("extents {} lie outside of physical volume {}", area.extents, pv.name);
        Ok((device.index, span.ok_or_else(outside)?))
    }
}
