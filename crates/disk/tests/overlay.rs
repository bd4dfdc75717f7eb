//! The overlay against a vector of bytes: random operations, everything read back, the change applied.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

use disk::{Change, Disk, Limits, MemDisk, Overlay, ReadAt, Sparse};
use ondisk::{Len, Offset, Span, SpanSet};
use testkit::sim::Rng;

fn span(start: usize, len: usize) -> Span {
    Span::new(Offset::new(start as u64), Len::new(len as u64)).unwrap()
}

/// The truth: bytes, and which of them were promised to be unused.
struct Model {
    bytes: Vec<u8>,
    fresh: SpanSet,
}

fn base(rng: &mut Rng) -> (Sparse, Vec<u8>) {
    let len = 5000 + rng.below(40_000) as usize;
    let mut bytes: Vec<u8> = (0..len).map(|_| rng.draw() as u8).collect();
    let hole = rng.below(len as u64) as usize;
    let hole = hole..(hole + rng.below(20_000) as usize).min(len);
    bytes[hole.clone()].fill(0);
    let mut base = Sparse::new(Len::new(len as u64));
    base.put(Offset::ZERO, &bytes);
    base.clear(span(hole.start, hole.len()));
    (base, bytes)
}

fn step(rng: &mut Rng, overlay: &mut Overlay<'_>, model: &mut Model) {
    let len = model.bytes.len();
    let start = rng.below(len as u64 - 1) as usize;
    let size = if rng.below(3) == 0 { len } else { 1500 };
    let size = 1 + rng.below((len - start).min(size) as u64) as usize;
    // Whole sectors half of the time.
    let (start, size) = match rng.below(2) {
        0 if start + size >= 1024 && size > 512 => {
            let aligned = start.next_multiple_of(512);
            (aligned, (start + size - aligned).next_multiple_of(512).min(len - aligned))
        }
        _ => (start, size),
    };
    match rng.below(10) {
        0..4 => {
            let bytes: Vec<u8> = (0..size).map(|_| rng.draw() as u8).collect();
            overlay.write_at(Offset::new(start as u64), &bytes).unwrap();
            model.bytes[start..start + size].copy_from_slice(&bytes);
        }
        4 => {
            overlay.zero(span(start, size)).unwrap();
            model.bytes[start..start + size].fill(0);
        }
        5 | 6 => {
            let to = rng.below((len - size + 1) as u64) as usize;
            let overlap = span(start, size).intersect(span(to, size)).is_some();
            assert_eq!(overlay.copy(span(start, size), Offset::new(to as u64)).is_err(), overlap);
            if !overlap {
                model.bytes.copy_within(start..start + size, to);
                overlay.mark_fresh(span(to, size)).unwrap();
                model.fresh.insert(span(to, size));
            }
        }
        7 if rng.below(2) == 0 => {
            // Up to here source and target may overlap.
            let by = rng.below((len - start - size + 1) as u64) as usize / 512 * 512;
            disk::copy_up(overlay, span(start, size), Len::new(by as u64)).unwrap();
            model.bytes.copy_within(start..start + size, start + by);
        }
        7 => {
            let new = 2000 + rng.below(60_000) as usize;
            overlay.resize(Len::new(new as u64)).unwrap();
            model.bytes.resize(new, 0);
        }
        _ => {
            overlay.mark_fresh(span(start, size)).unwrap();
            model.fresh.insert(span(start, size));
        }
    }
}

fn compare(overlay: &Overlay<'_>, model: &Model, rng: &mut Rng) {
    let mut all = vec![0xee; model.bytes.len()];
    assert_eq!(overlay.len().get(), all.len() as u64);
    overlay.read_at(Offset::ZERO, &mut all).unwrap();
    assert!(all == model.bytes);
    let start = rng.below(all.len() as u64) as usize;
    let size = rng.below((all.len() - start) as u64 + 1) as usize;
    let mut part = vec![0xee; size];
    overlay.read_at(Offset::new(start as u64), &mut part).unwrap();
    assert!(part == model.bytes[start..start + size]);
    let mut at = start as u64;
    for extent in overlay.extents(span(start, size)).unwrap().iter() {
        assert_eq!(extent.span.start().get(), at);
        at = extent.span.end().get();
        let (from, to) = (extent.span.start().get() as usize, at as usize);
        assert!(!extent.kind.reads_zero() || model.bytes[from..to].iter().all(|&byte| byte == 0));
    }
    assert_eq!(at as usize, start + size);
}

fn check_change(change: &Change, base: &Sparse, model: &Model) {
    let mut disk = MemDisk::from(base.clone());
    disk.apply(change).unwrap();
    assert!(disk.to_vec() == model.bytes, "the change does not make the overlay's bytes");
    let mut promised = model.fresh.clone();
    promised.extend(Span::between(change.old_len.end(), change.new_len.end()));
    let mut targets = SpanSet::new();
    let mut early = SpanSet::new();
    let moved = change.moves.iter().map(|one| Span::new(one.to, one.from.len()).unwrap());
    for target in change.fresh.iter().map(disk::Write::span).chain(moved) {
        assert!(promised.contains(target), "{target} is written early, but nobody promised it to be unused");
        assert!(!targets.overlaps(target), "{target} is written twice");
        targets.insert(target);
        early.insert(target);
    }
    let carried = change.carried.iter().map(disk::Move::target);
    for target in change.home.iter().map(disk::Write::span).chain(carried) {
        assert!(!targets.overlaps(target), "{target} is written twice");
        assert!(Span::whole(change.old_len).contains(target), "{target} is home but beyond the old end");
        targets.insert(target);
    }
    for one in &change.moves {
        assert!(!early.overlaps(one.from), "{} is overwritten before it is moved", one.from);
    }
    assert!(Span::whole(change.new_len).contains(targets.iter().last().unwrap_or_default()));
}

#[test]
fn overlay_agrees_with_bytes() {
    let (mut moves, mut carried, mut over_itself) = (0, 0, 0);
    for seed in 0..3000 {
        let mut rng = Rng::new(seed);
        let (base, bytes) = base(&mut rng);
        let mut model = Model { bytes, fresh: SpanSet::new() };
        let mut overlay = Overlay::new(&base, &Limits::default());
        for _ in 0..1 + rng.below(30) {
            step(&mut rng, &mut overlay, &mut model);
            compare(&overlay, &model, &mut rng);
        }
        let change = overlay.into_change().unwrap();
        moves += change.moves.len();
        carried += change.carried.len();
        over_itself += change.carried.iter().filter(|one| one.from.intersect(one.target()).is_some()).count();
        check_change(&change, &base, &model);
    }
    assert!(moves > 100 && carried > 100 && over_itself > 20, "{moves} {carried} {over_itself}");
}

#[test]
fn nothing_changed_is_no_change() {
    let (base, bytes) = base(&mut Rng::new(7));
    let mut overlay = Overlay::new(&base, &Limits::default());
    overlay.write_at(Offset::new(700), &bytes[700..3000]).unwrap();
    assert!(overlay.into_change().unwrap().is_empty());
}

#[test]
fn a_terabyte_of_zeros_is_one_write() {
    let base = Sparse::new(Len::gib(1024));
    let mut overlay = Overlay::new(&base, &Limits::default());
    overlay.resize(Len::gib(2048)).unwrap();
    overlay.zero(Span::whole(Len::gib(2048))).unwrap();
    overlay.copy(Span::whole(Len::gib(512)), Len::gib(1024).end()).unwrap();
    let change = overlay.into_change().unwrap();
    assert_eq!((change.fresh_len(), change.home_len()), (Len::ZERO, Len::ZERO));
}

#[test]
fn memory_is_bounded() {
    let base = Sparse::new(Len::mib(8));
    let limits = Limits { memory: Len::mib(1), ..Limits::default() };
    let mut overlay = Overlay::new(&base, &limits);
    let full = (0..8).try_for_each(|n| overlay.write_at(Len::mib(n).end(), &[1; 512 * 1024]));
    assert!(matches!(full, Err(disk::Error::Memory { .. })));
}
