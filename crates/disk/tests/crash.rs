//! The proof of the commit protocol: crash sweeps, failing calls, and each flush removed in turn.
//!
//! `SWEEP=20 cargo test -p disk --test crash --release -- --nocapture` tries twenty times as many random states.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used
)]

use disk::{Change, Data, Disk, Limits, Move, Over, Overlay, Pour, Sparse, Write};
use ondisk::{Len, Offset, Span};
use testkit::sim::sample::{bytes, span, write};
use testkit::sim::{Knobs, Report, Rng, after_return, sweep, sweep_poured};

const KIB: u64 = 1024;

/// An image of `len` bytes with data everywhere but in `hole`.
fn base(len: u64, hole: Span) -> Sparse {
    let mut base = Sparse::new(Len::new(len));
    base.put(Offset::ZERO, &bytes(99, len));
    base.clear(hole);
    base
}

fn change(old: u64, new: u64) -> Change {
    Change { old_len: Len::new(old), new_len: Len::new(new), ..Change::default() }
}

/// The kinds of change that commands make, small.
fn scenarios() -> Vec<(&'static str, Sparse, Change)> {
    let len = 64 * KIB;
    let hole = span(16 * KIB, 16 * KIB);
    let grow = Change {
        fresh: vec![write(1, len, 4 * KIB), write(2, 100 * KIB, 3 * KIB), write(3, 127 * KIB, KIB)],
        home: vec![write(4, 0, 512), write(5, 4 * KIB, 4 * KIB), write(6, 40 * KIB, 1536)],
        ..change(len, 128 * KIB)
    };
    let inside = Change {
        fresh: vec![write(1, 16 * KIB, 2 * KIB), write(2, 20 * KIB, 512)],
        moves: vec![Move { from: span(48 * KIB, 3 * KIB), to: Offset::new(24 * KIB) }],
        home: vec![
            write(3, 512, 1024),
            Write { at: Offset::new(48 * KIB), data: Data::Zero(Len::new(3 * KIB)) },
        ],
        ..change(len, len)
    };
    let shrink = Change {
        fresh: vec![write(1, 17 * KIB, KIB)],
        home: vec![write(2, 0, 1024), write(3, 30 * KIB, 2 * KIB)],
        ..change(len, 33 * KIB)
    };
    // What was promised to be unused holds garbage.
    let garbage = Change {
        fresh: vec![
            write(1, 8 * KIB, 2 * KIB),
            Write { at: Offset::new(12 * KIB), data: Data::Zero(Len::new(2 * KIB)) },
            write(2, len - 1024, 2048),
        ],
        moves: vec![Move { from: span(0, KIB), to: Offset::new(50 * KIB) }],
        home: vec![write(3, 0, 512)],
        ..change(len, 70 * KIB)
    };
    // A partition that moves by less than its length, and one in front of it that moves along.
    let shift = {
        let base = base(len, hole);
        let mut overlay = Overlay::new(&base, &Limits::default());
        overlay.resize(Len::new(75 * KIB)).unwrap();
        disk::copy_up(&mut overlay, span(36 * KIB, 28 * KIB), Len::new(11 * KIB)).unwrap();
        disk::copy_up(&mut overlay, span(10 * KIB, 24 * KIB), Len::new(11 * KIB)).unwrap();
        overlay.discard(span(10 * KIB, 11 * KIB)).unwrap();
        overlay.mark_fresh(span(12 * KIB, 8 * KIB)).unwrap();
        overlay.write_at(Offset::new(13 * KIB), &bytes(7, 3 * KIB)).unwrap();
        let change = overlay.into_change().unwrap();
        assert!(!change.carried.is_empty() && !change.moves.is_empty());
        change
    };
    let odd = Change {
        fresh: vec![write(1, 10_100, 1000)],
        home: vec![write(2, 9728, 372), write(3, 512, 512)],
        ..change(10_100, 20_001)
    };
    vec![
        ("length only, longer", base(len, hole), change(len, 100 * KIB)),
        ("length only, shorter", base(len, hole), change(len, 10 * KIB)),
        ("home only", base(len, hole), Change { home: grow.home.clone(), ..change(len, len) }),
        ("fresh only", base(len, hole), Change { fresh: grow.fresh.clone(), ..change(len, 128 * KIB) }),
        ("grow", base(len, hole), grow),
        ("inside, with a move", base(len, hole), inside),
        ("shrink", base(len, hole), shrink),
        ("over garbage", base(len, hole), garbage),
        ("overlapping moves", base(len, hole), shift),
        ("odd lengths", base(10_100, span(2048, 2048)), odd),
    ]
}

/// From the environment: how many times as many random states.
fn times() -> Option<usize> {
    std::env::var("SWEEP").ok().map(|times| times.parse().expect("SWEEP is a number"))
}

fn knobs() -> Knobs {
    times().map_or(Knobs::quick(), Knobs::thorough)
}

fn run(name: &str, base: &Sparse, change: &Change, knobs: &Knobs) -> Report {
    let start = std::time::Instant::now();
    let report = sweep(base, change, knobs, &mut |image| assert!(!image.is_empty()));
    let each = start.elapsed().as_micros() as usize / report.tried().max(1);
    println!(
        "{name}: {} states, {} distinct, {} nested, {} faults; {} before, {} after; {each} µs each; {:?}",
        report.states,
        report.distinct,
        report.nested,
        report.faults,
        report.before,
        report.after,
        report.receipt
    );
    report
}

#[test]
fn every_crash_state_recovers() {
    let mut all = Report::default();
    for (name, base, change) in scenarios() {
        let report = run(name, &base, &change, &knobs());
        assert!(report.receipt.flushes <= 5, "{name}");
        assert!(report.failed == 0, "{name}: {} fail: {:#?}", report.failed, report.failures);
        assert!(report.before > 0 && report.after > 0, "{name}: both outcomes must occur");
        all.add(report);
    }
    println!("in all {} tried", all.tried());
}

#[test]
fn an_undo_file_does_not_disturb() {
    let knobs = Knobs { undo: true, pairs: 50, random: 20, mixes: 20, nested_every: 0, ..Knobs::quick() };
    for (name, base, change) in scenarios() {
        let report = run(name, &base, &change, &knobs);
        assert!(report.failed == 0, "{name}: {:#?}", report.failures);
    }
}

/// A change that pours into a hole, behind the end, over bytes that nobody refers to, over shadowed ones, and over such
/// as it may be made of; and the disk that it pours from.
fn poured() -> (Sparse, Change, Sparse) {
    let pour = |from, len, to, over| Pour { from: span(from, len), to: Offset::new(to), over };
    let pours = vec![
        pour(0, 1024, 4 * KIB, Over::Shadowed),
        pour(2 * KIB, 1024, 6 * KIB, Over::Unused),
        pour(3 * KIB, 2 * KIB, 17 * KIB, Over::Unused),
        pour(8 * KIB, 4 * KIB, 62 * KIB, Over::Shadowed),
        pour(14 * KIB, 1024, 30 * KIB, Over::Read),
        pour(12 * KIB, 2 * KIB, 66 * KIB, Over::Unused),
    ];
    let home = vec![write(4, 0, 512), write(5, 40 * KIB, 1024)];
    let change = Change { pours, home, fresh: vec![write(6, 70 * KIB, 512)], ..change(64 * KIB, 72 * KIB) };
    let mut beside = Sparse::new(Len::new(16 * KIB));
    beside.put(Offset::ZERO, &bytes(7, 16 * KIB));
    (base(64 * KIB, span(16 * KIB, 16 * KIB)), change, beside)
}

#[test]
fn what_is_poured_is_whole_or_does_not_matter() {
    let (base, change, beside) = poured();
    for undo in [false, true] {
        let knobs = Knobs { undo, ..knobs() };
        let report = sweep_poured(&base, &change, &beside, &knobs, &mut |image| assert!(!image.is_empty()));
        println!("{} states tried; {} before, {} after", report.tried(), report.before, report.after);
        report.assert_clean();
        assert!(report.before > 0 && report.after > 0);
    }
    let without = Change { pours: Vec::new(), ..change.clone() };
    let teeth = |change: &Change, flush| {
        let knobs = Knobs { lazy_flush: Some(flush), faults: false, nested_every: 0, ..Knobs::quick() };
        sweep_poured(&base, change, &beside, &knobs, &mut |_| {}).failed
    };
    assert!(teeth(&change, 2) > teeth(&without, 2), "nobody misses the flush of what is poured");
}

/// Changes as the overlay makes them, at random.
#[test]
fn random_overlays_recover() {
    let mut all = Report::default();
    for seed in 0..times().map_or(6, |times| 4 * times as u64) {
        let mut rng = Rng::new(seed);
        let len = 8 * KIB + rng.below(80) * 512;
        let base = base(len, span(4 * KIB, rng.below(len - 4 * KIB)));
        let mut overlay = Overlay::new(&base, &Limits::default());
        let new_len = if rng.below(4) == 0 { len - 2048 } else { len + rng.below(40 * KIB) };
        overlay.resize(Len::new(new_len)).unwrap();
        for n in 0..12 {
            let start = rng.below(new_len - 600);
            let size = 1 + rng.below((new_len - start).min(5 * KIB) - 1);
            match rng.below(6) {
                0 => overlay.zero(span(start, size)).unwrap(),
                1 => overlay.mark_fresh(span(start, size)).unwrap(),
                2 => {
                    let to = rng.below(new_len - size);
                    if span(start, size).intersect(span(to, size)).is_none() {
                        overlay.copy(span(start, size), Offset::new(to)).unwrap();
                    }
                }
                _ => overlay.write_at(Offset::new(start), &bytes(n, size)).unwrap(),
            }
        }
        let expected = Sparse::load(&overlay).unwrap();
        let change = overlay.into_change().unwrap();
        let mut results = 0;
        let report = sweep(&base, &change, &Knobs { seed, ..knobs() }, &mut |image| {
            results += 1;
            let expected = if results == 1 { &base } else { &expected };
            assert_eq!(Sparse::load(image).unwrap(), *expected, "seed {seed}");
        });
        assert!(report.failed == 0, "seed {seed}: {:#?}", report.failures);
        all.add(report);
    }
    println!("in all {} tried", all.tried());
}

/// Teeth: with any of the flushes missing, some state must fail.
#[test]
fn each_flush_is_missed() {
    let (_, base, change) = scenarios().into_iter().find(|(name, ..)| *name == "grow").unwrap();
    let names = ["journal", "folder", "fresh", "home", "folder after the unlink"];
    for (flush, name) in names.iter().enumerate() {
        let knobs = Knobs { lazy_flush: Some(flush), faults: false, nested_every: 0, ..Knobs::quick() };
        let report = sweep(&base, &change, &knobs, &mut |_| {});
        let after = after_return(&base, &change, Some(flush));
        println!("without the flush of {name}: {} states fail; afterwards {after:?}", report.failed);
        assert!(report.failed > 0 || after.is_err(), "nobody misses the flush of {name}");
    }
    after_return(&base, &change, None).unwrap();
}
