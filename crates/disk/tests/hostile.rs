//! Journals that an enemy has written: refused, and nothing is touched.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

use disk::{Cancel, Error, Outcome, Sparse};
use ondisk::{Class, Classified, Len, Offset};
use std::sync::{Arc, Mutex};
use testkit::sim::sample::{base, bytes, change, journal};
use testkit::sim::{JOURNAL, Rng, Snapshot, World, cx, image};

/// What recovery says, whether the image is untouched, and whether the journal is still there.
struct Seen {
    result: disk::Result<Outcome>,
    untouched: bool,
    kept: bool,
}

fn recover(base: &Sparse, journal: &[u8]) -> Seen {
    let mut file = Sparse::new(Len::of(journal));
    file.put(Offset::ZERO, journal);
    let mut start = Snapshot::of(base.clone());
    start.files.push(file);
    start.names.insert(JOURNAL.into(), 1);
    let world = Arc::new(Mutex::new(World::boot(&start)));
    let cancel = Cancel::new();
    let limits = disk::Limits::default();
    let image_view = image(&world);
    if let Ok(Some(pending)) = image_view.pending(&limits) {
        drop(pending.view(&image_view, &limits).unwrap());
    }
    let result = image(&world).recover(&cx(&cancel));
    let shown = world.lock().unwrap().shown();
    let untouched = shown.image() == base;
    Seen { result, untouched, kept: shown.names.contains_key(std::ffi::OsStr::new(JOURNAL)) }
}

/// Makes the commit record fit again.
fn seal(journal: &mut [u8]) {
    let at = journal.len() - 512;
    let digest = blake3::hash(&journal[..at + 24]);
    journal[at + 24..at + 56].copy_from_slice(digest.as_bytes());
}

fn put(journal: &mut [u8], at: usize, value: u64, len: usize) {
    journal[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
}

#[test]
fn a_damaged_journal_is_void() {
    let (base, good) = (base(), journal(&base(), &change()));
    let mut void = 0;
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        let seen = recover(&base, &bad);
        match seen.result {
            // Nothing covers the padding behind the digest; then the fresh bytes are missing, which means back too.
            Ok(outcome) => {
                void += 1;
                assert_eq!(outcome, Outcome::RolledBack, "byte {at}");
                assert!(!seen.kept);
            }
            Err(e) => {
                assert!(at < 16, "byte {at}: {e}");
                assert!(seen.kept);
            }
        }
        assert!(seen.untouched, "byte {at}");
    }
    assert!(void > 1000);
    for len in (0..20).chain((20..good.len()).step_by(97)) {
        let seen = recover(&base, &good[..len]);
        assert!(seen.untouched && matches!(seen.result, Ok(Outcome::RolledBack)), "cut to {len}");
    }
}

/// Sealed lies: each names what is wrong, and touches nothing.
#[test]
fn lies_are_refused() {
    let (base, good) = (base(), journal(&base(), &change()));
    let commit = good.len() - 512;
    let table = u64::from_le_bytes(good[commit + 16..commit + 24].try_into().unwrap()) as usize;
    let entry = |n: usize| table + n * 64;
    // The change's records, ascending: home 0, home 4096, fresh 20480, home zeros 40960, fresh 65536, fresh 130048.
    let lies: &[(&str, usize, u64, usize, Class)] = &[
        ("another magic", 0, 0x3132_3334, 4, Class::Corrupt),
        ("a newer version", 8, 2, 4, Class::Unsupported),
        ("an unknown flag", 12, 1, 4, Class::Unsupported),
        ("no records where bytes are", commit + 8, 0, 8, Class::Corrupt),
        ("too many records", commit + 8, u64::MAX, 8, Class::Corrupt),
        ("more records than the table has", commit + 8, 1 << 20, 8, Class::Corrupt),
        ("a table beyond the end", commit + 16, u64::MAX - 100, 8, Class::Corrupt),
        ("a table in the header", commit + 16, 0, 8, Class::Corrupt),
        ("an unknown kind", entry(0), 9, 4, Class::Corrupt),
        ("a tail, which only undo files have", entry(0), 4, 4, Class::Corrupt),
        ("an empty record", entry(0) + 16, 0, 8, Class::Corrupt),
        ("an endless record", entry(0) + 16, u64::MAX, 8, Class::Corrupt),
        ("a record of more than 1 MiB", entry(5) + 16, (1 << 20) + 1, 8, Class::Corrupt),
        ("a record at the end of numbers", entry(5) + 8, u64::MAX - 5, 8, Class::Corrupt),
        ("home beyond the old end", entry(1) + 8, 65536 - 512, 8, Class::Corrupt),
        ("fresh beyond the new end", entry(5) + 8, 131_072, 8, Class::Corrupt),
        ("fresh across the old end", entry(2) + 8, 65536 - 512, 8, Class::Corrupt),
        ("records out of order", entry(1) + 8, 30_000, 8, Class::Corrupt),
        ("overlapping records", entry(1) + 8, 256, 8, Class::Corrupt),
        ("payload that reaches into the table", entry(0) + 16, 4096, 8, Class::Corrupt),
        ("another old length", 16, 60_000, 8, Class::Foreign),
    ];
    for &(name, at, value, len, class) in lies {
        let mut bad = good.clone();
        put(&mut bad, at, value, len);
        seal(&mut bad);
        let seen = recover(&base, &bad);
        let error = seen.result.expect_err(name);
        assert_eq!(error.class(), class, "{name}: {error}");
        assert!(seen.untouched && seen.kept, "{name}");
    }
    assert!(matches!(recover(&base, &good).result, Ok(Outcome::RolledBack)));
}

/// Anything sealed: no panic, no endless work. What it does to the image is what it says.
#[test]
fn sealed_noise() {
    let (base, good) = (base(), journal(&base(), &change()));
    let (mut refused, mut done) = (0, 0);
    for seed in 0..3000 {
        let mut rng = Rng::new(seed);
        let mut bad = good.clone();
        for _ in 0..1 + rng.below(3) {
            let table = bad.len() - 1024;
            let at = match rng.below(3) {
                0 => rng.below(64) as usize,
                1 => table + rng.below(384) as usize,
                _ => bad.len() - 512 + rng.below(24) as usize,
            };
            bad[at] = rng.draw() as u8;
        }
        seal(&mut bad);
        match recover(&base, &bad) {
            Seen { result: Err(Error::Io { .. }), .. } => panic!("seed {seed}: an I/O error without any"),
            Seen { result: Err(_), untouched, .. } => {
                assert!(untouched, "seed {seed}");
                refused += 1;
            }
            Seen { result: Ok(_), .. } => done += 1,
        }
    }
    assert!(refused > 500 && done > 50, "{refused} refused, {done} done");
}

#[test]
fn foreign_changes_are_refused_and_listed() {
    let (base, good) = (base(), journal(&base(), &change()));
    let mut touched = base.clone();
    touched.put(Offset::new(4096 + 1024), &[7; 512]);
    let seen = recover(&touched, &good);
    let error = seen.result.unwrap_err();
    assert_eq!(error.class(), Class::Foreign);
    assert!(error.to_string().contains("5120+512"), "{error}");
    assert!(seen.untouched && seen.kept);
    // A guest that has used what the change took for unused.
    let mut used = base.clone();
    used.put(Offset::new(20480), &[7; 512]);
    let seen = recover(&used, &good);
    assert!(
        matches!(&seen.result, Err(Error::Foreign { spans, .. }) if spans.len() == 1),
        "{:?}",
        seen.result
    );
    assert!(seen.untouched && seen.kept);
    // New home bytes without the fresh ones that came before them: going back would destroy what was done.
    let mut begun = base.clone();
    begun.set_len(Len::kib(128));
    begun.put(Offset::ZERO, &bytes(4, 512));
    let seen = recover(&begun, &good);
    assert!(
        matches!(&seen.result, Err(Error::Foreign { spans, .. }) if spans.len() == 3),
        "{:?}",
        seen.result
    );
    assert!(seen.untouched && seen.kept);
    // Elsewhere it may write.
    let mut elsewhere = base.clone();
    elsewhere.put(Offset::new(50_000), &[7; 512]);
    assert!(matches!(recover(&elsewhere, &good).result, Ok(Outcome::RolledBack)));
}
