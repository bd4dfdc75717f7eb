//! Looking at an image through an interrupted change.

use super::{Image, Outcome};
use crate::journal::{Journal, What};
use crate::recover::Way;
use crate::{Disk, Limits, Overlay, ReadAt, Result};
use ondisk::Span;
use ondisk::text::Printable;

/// An interrupted change that was found beside an image.
#[derive(Debug)]
pub struct Pending(pub(super) Option<(Journal, Way)>);

impl Pending {
    /// How recovery would end.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self.0 {
            Some((_, Way::Forward)) => Outcome::RolledForward,
            _ => Outcome::RolledBack,
        }
    }

    /// The command that was interrupted, where that is known.
    #[must_use]
    pub fn about(&self) -> Option<String> {
        self.0.as_ref().map(|(journal, _)| Printable(&journal.head.about).to_string())
    }

    /// The image as it will be after recovery.
    ///
    /// # Errors
    /// Where journal or image cannot be read, or the change does not fit into the memory allowed.
    pub fn view<'i>(&'i self, image: &'i Image, limits: &Limits) -> Result<Overlay<'i>> {
        let Some((journal, way)) = &self.0 else { return Ok(Overlay::new(&*image.dev, limits)) };
        let mut view = Overlay::with_beside(&*image.dev, &*journal.dev, limits);
        match way {
            Way::Forward => {
                for record in journal.home() {
                    match record.what {
                        What::HomeZero => view.zero(record.span)?,
                        _ => view.show(record.span, record.bytes.start())?,
                    }
                }
                view.resize(journal.head.new_len)?;
            }
            Way::Back => {
                for record in journal.added() {
                    let old = Span::whole(journal.head.old_len.min(image.len()));
                    record.span.intersect(old).map_or(Ok(()), |span| view.zero(span))?;
                }
                view.resize(journal.head.old_len)?;
            }
        }
        Ok(view)
    }
}
