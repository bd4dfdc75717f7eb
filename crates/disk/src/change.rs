//! A change to an image, as a value: what the overlay becomes, the journal carries and the simulator replays.
//!
//! 1. `fresh` and `moves` go to bytes that no valid structure of the old state refers to. They may happen before the
//!    commit point.
//! 2. `home` and `carried` overwrite bytes that the old state refers to. That happens behind the commit point only, and
//!    the journal carries it whole: `home` comes from memory, `carried` goes from the old image into the journal, so that
//!    it may be larger than memory.
//! 3. No two of all these targets overlap, and no move reads what a fresh write or another move writes. What is carried
//!    is read before anything is written: its sources may lie anywhere in the old image.
//! 4. What is poured comes from another disk, piece by piece, before the commit point: over bytes that the old state does
//!    not refer to, or over *shadowed* ones, which everybody who is to see the image reads elsewhere. Those are lost when
//!    the change is taken back. Where the disk beside is itself made of the old image, the journal carries what is poured.
//! 5. All spans lie within the larger of the two lengths; writes are whole sectors of 512 bytes, except at an odd end.

use crate::{Error, Result};
use ondisk::{Len, Offset, Span};

/// Bytes to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// These.
    Bytes(Vec<u8>),
    /// So many zeros.
    Zero(Len),
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where.
    pub at: Offset,
    /// What.
    pub data: Data,
}

/// A copy of bytes of the old state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// What is copied.
    pub from: Span,
    /// Where to.
    pub to: Offset,
}

/// Bytes of the disk beside the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pour {
    /// Which of them.
    pub from: Span,
    /// Where to.
    pub to: Offset,
    /// Over what.
    pub over: Over,
}

/// What a pour goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Bytes that the old state does not refer to.
    Unused,
    /// Bytes that the old state refers to, and nobody cares for.
    Shadowed,
    /// Bytes of the old state that the disk beside may itself be read from: they stay until all of it was read.
    Read,
}

/// Everything that turns the old image into the new one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The length of the file before.
    pub old_len: Len,
    /// The length of the file after.
    pub new_len: Len,
    /// Writes to unreferenced bytes, ascending.
    pub fresh: Vec<Write>,
    /// Copies to unreferenced bytes, ascending by target.
    pub moves: Vec<Move>,
    /// What comes from the disk beside, ascending by target.
    pub pours: Vec<Pour>,
    /// Copies over referenced bytes, ascending by target.
    pub carried: Vec<Move>,
    /// Writes to referenced bytes, ascending.
    pub home: Vec<Write>,
}

impl Data {
    /// How many bytes.
    #[must_use]
    pub const fn len(&self) -> Len {
        match self {
            Self::Bytes(bytes) => Len::of(bytes.as_slice()),
            Self::Zero(len) => *len,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len().is_zero()
    }
}

impl Write {
    /// The bytes it replaces.
    #[must_use]
    pub fn span(&self) -> Span {
        Span::new(self.at, self.data.len()).unwrap_or_default()
    }
}

impl Move {
    /// The bytes it replaces.
    #[must_use]
    pub fn target(&self) -> Span {
        Span::new(self.to, self.from.len()).unwrap_or_default()
    }
}

impl Pour {
    /// The bytes it replaces.
    #[must_use]
    pub fn target(&self) -> Span {
        Span::new(self.to, self.from.len()).unwrap_or_default()
    }
}

impl Change {
    /// Whether nothing would happen.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.old_len.get() == self.new_len.get()
            && self.fresh.is_empty()
            && self.moves.is_empty()
            && self.pours.is_empty()
            && self.carried.is_empty()
            && self.home.is_empty()
    }

    /// Refuses a change that cannot be had without the disk beside.
    ///
    /// # Errors
    /// Where it pours.
    pub(crate) fn refuse_pours(&self) -> Result<()> {
        match self.pours.first() {
            Some(pour) => {
                Err(Error::BadChange { what: "pours from a disk that is not there", span: pour.target() })
            }
            None => Ok(()),
        }
    }

    /// Bytes written to unreferenced places, zeros, moved and poured bytes included.
    #[must_use]
    pub fn fresh_len(&self) -> Len {
        let moved = self.moves.iter().map(|m| m.from.len().get());
        let poured = self.pours.iter().map(|pour| pour.from.len().get());
        total(self.fresh.iter().map(|w| w.data.len().get()).chain(moved).chain(poured))
    }

    /// The end of what is written, and of the file where its length changes.
    #[must_use]
    pub fn reach(&self) -> Offset {
        let writes = self.fresh.iter().chain(&self.home).map(|write| write.span().end());
        let copies = self.moves.iter().chain(&self.carried).map(|one| one.target().end());
        let pours = self.pours.iter().map(|pour| pour.target().end());
        let end = writes.chain(copies).chain(pours).max().unwrap_or_default();
        if self.new_len == self.old_len { end } else { end.max(self.new_len.end()) }
    }

    /// Bytes behind the old end that take space: zeros take none.
    #[must_use]
    pub fn added(&self) -> Len {
        let stored = self.fresh.iter().filter(|write| matches!(write.data, Data::Bytes(_))).map(Write::span);
        let moved = self.moves.iter().map(Move::target).chain(self.pours.iter().map(Pour::target));
        let behind = |span: Span| span.end().since(span.start().max(self.old_len.end()));
        total(stored.chain(moved).filter_map(behind).map(Len::get))
    }

    /// Bytes written over referenced places, copies included.
    #[must_use]
    pub fn home_len(&self) -> Len {
        let carried = self.carried.iter().map(|one| one.from.len().get());
        total(self.home.iter().map(|w| w.data.len().get()).chain(carried))
    }
}

fn total(lens: impl Iterator<Item = u64>) -> Len {
    Len::new(lens.fold(0, u64::saturating_add))
}
