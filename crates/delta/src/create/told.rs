//! Where the literal bytes of a patch stand on the target, for whoever wants to know whose they are.

use disk::Limits;
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Span};
use std::mem::size_of;

/// Literal bytes, and what they take in the patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Literal {
    /// Where on the target.
    pub span: Span,
    /// Their share of the frame that they are packed in.
    pub packed: u64,
}

/// All literal bytes of a patch, in the order of the target.
#[derive(Debug, Default)]
pub struct Literals {
    /// One behind the other.
    pub list: Vec<Literal>,
    /// Bytes for which there was no room, and what they take.
    pub missed: (u64, u64),
    room: usize,
}

impl Literals {
    /// To be filled: a part of the memory is for them.
    #[must_use]
    pub fn within(limits: &Limits) -> Self {
        let each = to_u64(size_of::<Literal>());
        let room = (limits.memory.get() >> 5).checked_div(each).unwrap_or_default();
        Self { room: to_usize(room), ..Self::default() }
    }

    /// To stay empty: nobody wants to know.
    #[must_use]
    pub fn nowhere() -> Self {
        Self::default()
    }

    pub(super) const fn wanted(&self) -> bool {
        self.room > 0
    }

    /// Adds the bytes of a frame, which takes `stored` bytes of the patch.
    pub(super) fn frame(&mut self, places: &[Span], stored: usize) {
        let len = places.iter().fold(0, |sum: u64, place| sum.saturating_add(place.len().get()));
        let up_to = |bytes: u64| {
            let share = u128::from(to_u64(stored)).saturating_mul(bytes.into());
            u64::try_from(share.checked_div(len.into()).unwrap_or_default()).unwrap_or(u64::MAX)
        };
        let mut done = 0_u64;
        for span in places {
            let before = up_to(done);
            done = done.saturating_add(span.len().get());
            let packed = up_to(done).saturating_sub(before);
            if self.list.len() < self.room {
                self.list.push(Literal { span: *span, packed });
            } else {
                self.missed.0 = self.missed.0.saturating_add(span.len().get());
                self.missed.1 = self.missed.1.saturating_add(packed);
            }
        }
    }
}

/// Adds a place behind the others.
pub(super) fn place(places: &mut Vec<Span>, at: ondisk::Offset, len: usize) {
    let Some(span) = Span::new(at, Len::new(to_u64(len))) else { return };
    match places.last_mut() {
        Some(last) if last.end() == at => *last = Span::between(last.start(), span.end()).unwrap_or(*last),
        _ => places.push(span),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ondisk::Offset;

    #[test]
    fn shares_add_up_and_room_ends() {
        let mut places = Vec::new();
        for (at, len) in [(10, 5), (15, 5), (40, 1), (100, 1000)] {
            place(&mut places, Offset::new(at), len);
        }
        assert_eq!(places.len(), 3);
        let mut told = Literals { room: 4, ..Literals::default() };
        told.frame(&places, 777);
        assert_eq!(told.list.iter().map(|literal| literal.packed).sum::<u64>(), 777);
        assert_eq!(told.list[0].span.len(), Len::new(10));
        told.frame(&places, 100);
        assert_eq!((told.list.len(), told.missed), (4, (1001, 100)));
        assert!(!Literals::nowhere().wanted());
    }
}
