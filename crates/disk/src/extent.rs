//! What is stored and what merely reads as zero.

use ondisk::{Len, Offset, Span};

/// How a range is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExtentKind {
    /// Stored bytes, whatever they are.
    Data,
    /// Reads as zero, and takes space or a table entry that says so.
    Zero,
    /// Reads as zero because nothing is stored.
    Hole,
}

impl ExtentKind {
    /// Whether the bytes are known to be zero without reading them.
    #[must_use]
    pub const fn reads_zero(self) -> bool {
        matches!(self, Self::Zero | Self::Hole)
    }
}

/// A range and how it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where.
    pub span: Span,
    /// How.
    pub kind: ExtentKind,
}

/// Extents in order, without gaps; equal neighbours are merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtentMap {
    extents: Vec<Extent>,
}

impl ExtentMap {
    /// An empty map.
    #[must_use]
    pub const fn new() -> Self {
        Self { extents: Vec::new() }
    }

    /// A map of one extent.
    #[must_use]
    pub fn single(span: Span, kind: ExtentKind) -> Self {
        let mut map = Self::new();
        map.push(span, kind);
        map
    }

    /// Adds an extent that begins where the map ends; merges it with an equal neighbour. Empty spans vanish.
    pub fn push(&mut self, span: Span, kind: ExtentKind) {
        if span.is_empty() {
            return;
        }
        if let Some(last) =
            self.extents.last_mut().filter(|last| last.kind == kind && last.span.end() == span.start())
            && let Some(merged) = Span::between(last.span.start(), span.end())
        {
            last.span = merged;
            return;
        }
        self.extents.push(Extent { span, kind });
    }

    /// The extents in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Extent> + '_ {
        self.extents.iter().copied()
    }

    /// The spans whose bytes must be read to know them.
    pub fn data(&self) -> impl Iterator<Item = Span> + '_ {
        self.iter().filter(|extent| !extent.kind.reads_zero()).map(|extent| extent.span)
    }

    /// Whether everything is known to read as zero.
    #[must_use]
    pub fn all_zero(&self) -> bool {
        self.extents.iter().all(|extent| extent.kind.reads_zero())
    }

    /// The map moved so that position `from` becomes `to`; what would lie before the first byte is left out.
    #[must_use]
    pub fn rebased(self, from: Offset, to: Offset) -> Self {
        let mut map = Self::new();
        for extent in self.extents {
            let moved = extent.span.relative_to(from).and_then(|span| span.shifted(Len::new(to.get())));
            if let Some(span) = moved {
                map.push(span, extent.kind);
            }
        }
        map
    }

    /// Adds everything of a map that begins where this one ends.
    pub fn append(&mut self, other: &Self) {
        for extent in other.iter() {
            self.push(extent.span, extent.kind);
        }
    }
}
