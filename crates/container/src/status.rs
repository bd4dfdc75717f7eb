//! What a container says about itself: its map and its findings.

use ondisk::{Offset, Severity, Span};

/// A run of the virtual disk and where it comes from; the words are those of `qemu-img map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockStatus {
    /// The run on the virtual disk.
    pub span: Span,
    /// Whether some image of the chain has it.
    pub present: bool,
    /// Whether it reads as zero without being looked at.
    pub zero: bool,
    /// Whether bytes are stored for it.
    pub data: bool,
    /// Where these bytes are in the file, if they are there one by one.
    pub offset: Option<Offset>,
    /// How many images down the chain: 0 is the image itself, 1 its parent. What no image has counts to the last that
    /// is long enough.
    pub depth: u32,
}

impl BlockStatus {
    /// A run that no image has.
    pub(crate) const fn hole(span: Span) -> Self {
        Self { span, present: false, zero: true, data: false, offset: None, depth: 0 }
    }

    /// Adds the run to a list, as one with the last where it only goes on.
    pub(crate) fn append_to(self, list: &mut Vec<Self>) {
        match list.last_mut().and_then(|last| last.joined(self).map(|joined| (last, joined))) {
            Some((last, joined)) => *last = joined,
            None => list.push(self),
        }
    }

    /// The two runs as one, if `next` only goes on.
    #[must_use]
    pub fn joined(self, next: Self) -> Option<Self> {
        let goes_on = match (self.offset, next.offset) {
            (None, None) => true,
            (Some(here), Some(there)) => here.checked_add(self.span.len()) == Some(there),
            _ => false,
        };
        let same = Self { span: self.span, offset: self.offset, ..next } == self;
        if !goes_on || !same || self.span.end() != next.span.start() {
            return None;
        }
        Some(Self { span: Span::between(self.span.start(), next.span.end())?, ..self })
    }
}

/// Something that a check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is, safe to print.
    pub text: String,
    /// Where in the file.
    pub place: Option<Span>,
}

/// Findings, bounded in number but counted in full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    list: Vec<Finding>,
    damages: u64,
    leaks: u64,
    notes: u64,
}

impl Findings {
    /// So many of each severity are kept with their text.
    const KEPT: u64 = 200;

    /// Adds one.
    pub fn push(&mut self, severity: Severity, place: Option<Span>, text: impl Into<String>) {
        let count = match severity {
            Severity::Damage => &mut self.damages,
            Severity::Leak => &mut self.leaks,
            Severity::Note => &mut self.notes,
        };
        if *count < Self::KEPT {
            self.list.push(Finding { severity, text: text.into(), place });
        }
        *count = count.saturating_add(1);
    }

    /// Those that are kept, in the order in which they were found.
    pub fn iter(&self) -> std::slice::Iter<'_, Finding> {
        self.list.iter()
    }

    /// How many of that severity there are in all.
    #[must_use]
    pub const fn count(&self, severity: Severity) -> u64 {
        match severity {
            Severity::Damage => self.damages,
            Severity::Leak => self.leaks,
            Severity::Note => self.notes,
        }
    }

    /// Whether nothing is damaged and nothing leaks.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.damages == 0 && self.leaks == 0
    }
}

impl<'a> IntoIterator for &'a Findings {
    type Item = &'a Finding;
    type IntoIter = std::slice::Iter<'a, Finding>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
