//! Taking a finished change back.

use super::Image;
use crate::journal::{Found, Journal, Role, What, sectors, sum};
use crate::recover::load;
use crate::{Change, Data, Error, Limits, Place, ReadAt, Result, Write};
use ondisk::SpanSet;

impl Image {
    /// The change that takes a finished change back, from the undo file that was kept.
    ///
    /// # Errors
    /// Where the file is damaged, or the image is not as the change left it.
    pub fn undo(&self, undo: &Place, limits: &Limits) -> Result<Change> {
        let file = undo.open()?.ok_or_else(|| Error::File {
            op: "open",
            path: undo.path.clone(),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
        let Found::Whole(journal) = Journal::open(file, Role::Undo, limits)? else {
            return Err(Error::Journal { what: "is not complete" });
        };
        self.check_undo(&journal)?;
        let mut change =
            Change { old_len: journal.head.old_len, new_len: journal.head.new_len, ..Change::default() };
        let memory = limits.budget("the change that takes the change back");
        for record in &journal.records {
            let data = if record.what == What::HomeZero {
                Data::Zero(record.span.len())
            } else {
                memory.take(record.span.len())?;
                Data::Bytes(journal.bytes(record)?)
            };
            let into = if record.what == What::Tail { &mut change.fresh } else { &mut change.home };
            into.push(Write { at: record.span.start(), data });
        }
        Ok(change)
    }

    fn check_undo(&self, journal: &Journal) -> Result<()> {
        let what = "the image is not as the change left it";
        if self.len() != journal.head.old_len {
            return Err(Error::Foreign { what, spans: vec![] });
        }
        let mut foreign = SpanSet::new();
        for record in journal.home() {
            let now = load(&*self.dev, record.span)?;
            for ((part, is), after) in sectors(record.span, &now).zip(journal.sums(record)?) {
                if sum(is) != after {
                    foreign.insert(part);
                }
            }
        }
        if foreign.is_empty() {
            Ok(())
        } else {
            Err(Error::Foreign { what, spans: foreign.iter().collect() })
        }
    }
}
