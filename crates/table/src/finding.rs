//! What is wrong or strange about a table.

use ondisk::Span;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The table contradicts itself or the disk; it is not changed before it is mended.
    Damage,
    /// Worth knowing; nothing is lost by it.
    Note,
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is: lower case, no full stop, no text from the image.
    pub text: String,
}

impl Finding {
    pub(crate) fn damage(text: impl Into<String>) -> Self {
        Self { severity: Severity::Damage, text: text.into() }
    }

    pub(crate) fn note(text: impl Into<String>) -> Self {
        Self { severity: Severity::Note, text: text.into() }
    }
}

/// The overlaps among named spans, each with the one before it that reaches furthest.
pub(crate) fn overlaps(mut items: Vec<(String, Span)>) -> Vec<Finding> {
    items.retain(|(_, span)| !span.is_empty());
    items.sort_by_key(|(_, span)| *span);
    let mut found = Vec::new();
    let mut furthest: Option<(String, Span)> = None;
    for (name, span) in items {
        match &furthest {
            Some((other, reach)) if span.start() < reach.end() => {
                found.push(Finding::damage(format!(
                    "{name} begins at {}, inside {other}, which ends at {}",
                    span.start(),
                    reach.end()
                )));
                if span.end() > reach.end() {
                    furthest = Some((name, span));
                }
            }
            _ => furthest = Some((name, span)),
        }
    }
    found
}
