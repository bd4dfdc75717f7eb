//! Checking: every run lies in its file, no byte of a file has two owners, every unit is what its checksum says.

use super::{Foreign, Run, What};
use crate::{Error, Findings, Result};
use disk::{Budget, Limits, ReadAt};
use ondisk::size::Human;
use ondisk::{Len, Offset, Severity, Span, SpanSet};
use std::collections::BTreeMap;

/// What one more separate range costs.
const RANGE: Len = Len::new(64);

/// Who has found so much damage looks no further: a table of garbage has millions of bad entries.
const ENOUGH: u64 = 1000;

/// Which bytes of which file belong to somebody.
pub(crate) struct Owners {
    taken: BTreeMap<usize, SpanSet>,
    last: (usize, Span),
    budget: Budget,
}

impl Owners {
    pub fn new(limits: &Limits) -> Self {
        let budget = limits.budget("the map of who owns which byte");
        Self { taken: BTreeMap::new(), last: (0, Span::default()), budget }
    }

    /// Gives the bytes an owner; says whether they had none.
    pub fn claim(&mut self, part: usize, span: Span) -> Result<bool> {
        let taken = self.taken.entry(part).or_default();
        if taken.overlaps(span) {
            return Ok(false);
        }
        if self.last.0 != part || self.last.1.end() != span.start() {
            self.budget.take(RANGE)?;
        }
        self.last = (part, span);
        taken.insert(span);
        Ok(true)
    }

    /// As [`Owners::claim`], of a structure of the format.
    pub fn structure(&mut self, part: usize, span: Span, name: &str, findings: &mut Findings) -> Result<()> {
        if !self.claim(part, span)? {
            findings.push(Severity::Damage, Some(span), format!("{name} at {span} overlaps something else"));
        }
        Ok(())
    }
}

impl<D: ReadAt> Foreign<D> {
    /// Checks the container's own structures.
    ///
    /// # Errors
    /// Where a file cannot be read, or the bookkeeping does not fit into the memory allowed.
    pub fn check(&self) -> Result<Findings> {
        let files = self.files();
        let mut findings = Findings::default();
        let mut owners = Owners::new(&self.limits);
        self.body.check(&files, &mut owners, &mut findings)?;
        let mut rest = Span::whole(self.body.len());
        while !rest.is_empty() {
            if findings.count(Severity::Damage) > ENOUGH {
                let text =
                    format!("so much is damaged that {} of the disk were not looked at", Human(rest.len()));
                findings.push(Severity::Note, None, text);
                break;
            }
            let end = match self.body.run(&files, rest) {
                Ok(run) => {
                    self.check_run(run, &mut owners, &mut findings)?;
                    run.span.end()
                }
                Err(error) => {
                    self.damage(error, &mut findings)?;
                    let granule = self.body.granule().get().max(1);
                    let next = rest.start().get().checked_div(granule).unwrap_or_default().saturating_add(1);
                    Offset::new(next.saturating_mul(granule)).min(rest.end())
                }
            };
            rest = Span::between(end, rest.end()).unwrap_or_default();
        }
        Ok(findings)
    }

    fn check_run(&self, run: Run, owners: &mut Owners, findings: &mut Findings) -> Result<()> {
        let files = self.files();
        let (part, stored) = match run.what {
            What::Stored(place) => (place.part, Span::new(place.at, run.span.len()).unwrap_or_default()),
            What::Unit(unit) => match self.body.unit_stored(&files, unit) {
                Ok(stored) => (unit.place.part, stored),
                Err(error) => return self.damage(error, findings),
            },
            What::Zero | What::Absent => return Ok(()),
        };
        if !owners.claim(part, stored)? {
            let text =
                format!("bytes {stored} of the file, used for {} of the disk, are used twice", run.span);
            findings.push(Severity::Damage, Some(stored), text);
            return Ok(());
        }
        if let What::Unit(unit) = run.what
            && let Err(error) = self.body.unit(&files, unit)
        {
            self.damage(error, findings)?;
        }
        Ok(())
    }

    /// Damage is a finding, everything else stops the check.
    fn damage(&self, error: Error, findings: &mut Findings) -> Result<()> {
        match error {
            Error::Corrupt { at, .. } => {
                findings.push(Severity::Damage, Span::new(at, Len::ZERO), error.to_string());
                Ok(())
            }
            other => Err(other),
        }
    }
}
