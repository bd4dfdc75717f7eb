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
    /// How many of its bytes.
    pub len: u64,
    /// Their share of the frame that they are packed in.
    pub packed: u64,
}

/// All literal bytes of a patch, in the order of the target.
#[derive(Debug, Default)]
pub struct Literals {
    /// One behind the other.
    pub list: Vec<Literal>,
    room: usize,
    /// What lies in the same 2^n bytes is told together.
    coarse: u32,
}

impl Literals {
    /// To be filled: a part of the memory is for them. Where it does not suffice, places are told less exactly.
    #[must_use]
    pub fn within(limits: &Limits) -> Self {
        let each = to_u64(size_of::<Literal>());
        let room = (limits.memory.get() >> 5).checked_div(each).unwrap_or_default();
        Self { room: to_usize(room).max(2), ..Self::default() }
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
            self.add(Literal { span: *span, len: span.len().get(), packed });
        }
    }

    fn add(&mut self, literal: Literal) {
        if let Some(last) = self.list.last_mut().filter(|last| near(last.span, literal.span, self.coarse)) {
            last.join(literal);
            return;
        }
        while self.list.len() >= self.room && self.coarse < u64::BITS {
            self.coarse = self.coarse.saturating_add(1);
            let coarse = self.coarse;
            self.list.dedup_by(|literal, last| {
                let near = near(last.span, literal.span, coarse);
                if near {
                    last.join(*literal);
                }
                near
            });
        }
        self.list.push(literal);
    }
}

impl Literal {
    /// Together with what lies behind it.
    fn join(&mut self, behind: Self) {
        self.span = Span::between(self.span.start(), behind.span.end()).unwrap_or(self.span);
        self.len = self.len.saturating_add(behind.len);
        self.packed = self.packed.saturating_add(behind.packed);
    }
}

/// Whether one ends in the 2^`coarse` bytes in which the next one begins.
fn near(span: Span, behind: Span, coarse: u32) -> bool {
    let unit = |at: u64| at.checked_shr(coarse).unwrap_or_default();
    coarse > 0 && unit(span.end().get().saturating_sub(1)) == unit(behind.start().get())
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
    fn shares_add_up_and_places_grow_coarse() {
        let mut places = Vec::new();
        for (at, len) in [(10, 5), (15, 5), (40, 1), (100, 1000)] {
            place(&mut places, Offset::new(at), len);
        }
        assert_eq!(places.len(), 3);
        let mut told = Literals { room: 4, ..Literals::default() };
        told.frame(&places, 777);
        let packed = |told: &Literals| told.list.iter().map(|literal| literal.packed).sum::<u64>();
        let len = |told: &Literals| told.list.iter().map(|literal| literal.len).sum::<u64>();
        assert_eq!((packed(&told), len(&told)), (777, 1011));
        assert_eq!(told.list[0].span.len(), Len::new(10));
        let later: Vec<Span> =
            (1..1000).map(|at| Span::new(Offset::new(at << 20), Len::new(100)).unwrap()).collect();
        told.frame(&later, 100_000);
        assert!((2..=4).contains(&told.list.len()), "{told:?}");
        assert_eq!((packed(&told), len(&told)), (100_777, 1011 + 99_900));
        assert!(told.list.is_sorted_by(|a, b| a.span.end() <= b.span.start()), "{told:?}");
        assert!(!Literals::nowhere().wanted());
    }
}
