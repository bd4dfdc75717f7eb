//! Spans that must not overlap.

use ondisk::{Finding, Span};

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
