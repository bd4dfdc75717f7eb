//! Random damage, with and without checksums made right again: we call damaged what e2fsck calls damaged.
//!
//! `EXTFS_FUZZ=20000` makes so many mutants, `EXTFS_SEED` starts elsewhere.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::print_stderr,
    clippy::expect_used,
    clippy::too_many_lines
)]

mod checking;

use checking::{Base, Theirs, base, seal, theirs, verdict};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use testkit::sim::Rng;
use testkit::small::SMALL;

/// Where we see more than e2fsck, and a kernel sees it too.
///
/// e2fsck looks at a quarter of the reserved descriptor blocks only, never at the depth in a node below the root, and
/// takes an inner node without entries for a file without blocks.
///
/// Its picture of a block bitmap always has the metadata of groups without one, where a kernel would give it away.
const STRICTER: &[&str] = &[
    "a backup's block is",
    "a reserved descriptor block is",
    "eh_depth is",
    "eh_entries is 0",
    "0 clusters marked in use that nobody has",
];

/// Changes some bytes of a piece of metadata; says which.
fn mutate(base: &Base, bytes: &mut [u8], rng: &mut Rng) -> String {
    let kind = &base.targets[rng.below(base.targets.len() as u64) as usize];
    let target = kind[rng.below(kind.len() as u64) as usize].clone();
    let mut told = String::new();
    for _ in 0..=rng.below(8) / 6 {
        // The first bytes of most records are where most fields are.
        let span = if rng.below(3) == 0 { target.len } else { target.len.min(160) };
        let within = rng.below(span as u64) as usize;
        let width = [1, 2, 4][rng.below(3) as usize];
        let within = within - within % width;
        let at = target.at as usize + within;
        let mut field = [0; 4];
        field[..width].copy_from_slice(&bytes[at..at + width]);
        let old = u32::from_le_bytes(field);
        let new = match rng.below(9) {
            0 | 1 => old ^ 1 << rng.below(8 * width as u64),
            2 => old.wrapping_add(1),
            3 => old.wrapping_sub(1),
            4 => 0,
            5 => u32::MAX,
            6 => rng.below(300) as u32,
            7 => rng.below(6000) as u32,
            _ => rng.draw() as u32,
        };
        bytes[at..at + width].copy_from_slice(&new.to_le_bytes()[..width]);
        told += &format!(" +{within:#x}/{width}: {old:#x} -> {new:#x}");
    }
    let sealed = rng.below(4) != 0;
    if sealed {
        seal(base, bytes, &target);
    }
    format!(
        "{:?} at {:#x} (block {}){told}{}",
        target.seal,
        target.at,
        target.at / 1024,
        if sealed { " sealed" } else { "" }
    )
}

/// Whether somebody complains about the range of the hashes in a block.
fn hashes(text: &str) -> bool {
    ["bad min hash", "bad max hash", "hash in it is"].iter().any(|complaint| text.contains(complaint))
}

/// How many were damaged, of how many; and where we disagree.
fn campaign(base: &Base, count: u64, seed: u64) -> (u64, Vec<String>) {
    let mut rng = Rng::new(seed);
    let file = File::options().write(true).open(&base.path).unwrap();
    let (mut damaged, mut wrong) = (0, Vec::new());
    for round in 0..count {
        let mut bytes = base.bytes.clone();
        let told = mutate(base, &mut bytes, &mut rng);
        if bytes == base.bytes {
            continue;
        }
        let changed: Vec<usize> = (0..bytes.len())
            .step_by(512)
            .filter(|&at| bytes[at..at + 512] != base.bytes[at..at + 512])
            .collect();
        for &at in &changed {
            file.write_all_at(&bytes[at..at + 512], at as u64).unwrap();
        }
        let (theirs, text) = theirs(&base.path);
        let ours = verdict(&bytes);
        for at in changed {
            file.write_all_at(&base.bytes[at..at + 512], at as u64).unwrap();
        }
        damaged += u64::from(theirs == Theirs::Damaged);
        let agree = match (&theirs, &ours) {
            // For a name that is no text, e2fsck takes the hash of the name before in a directory that ignores case.
            _ if base.name == "four" && [&text, ours.as_ref().unwrap_or(&text)].iter().any(|t| hashes(t)) => {
                true
            }
            (Theirs::Clean, Some(ours)) => STRICTER.iter().any(|known| ours.contains(known)),
            (Theirs::Damaged, None) => false,
            _ => true,
        };
        if !agree {
            wrong.push(format!(
                "{} {seed}/{round}: {told}\n  we: {ours:?}\n  they: {theirs:?}\n{text}",
                base.name
            ));
        }
    }
    (damaged, wrong)
}

#[test]
fn agrees_with_e2fsck_about_random_damage() {
    let number = |name: &str, usual: u64| std::env::var(name).map_or(usual, |text| text.parse().unwrap());
    let (count, seed) = (number("EXTFS_FUZZ", 2100), number("EXTFS_SEED", 1));
    let only = std::env::var("EXTFS_BASE").ok();
    let fast = Path::new("/dev/shm");
    let dir = if fast.is_dir() { tempfile::tempdir_in(fast) } else { tempfile::tempdir() }.unwrap();
    let chosen: Vec<_> =
        SMALL.iter().filter(|small| only.as_deref().is_none_or(|only| only == small.name)).collect();
    let seeds = (seed..).step_by(1000);
    let chosen: Vec<_> = chosen.into_iter().zip(seeds).collect();
    let each = count / chosen.len() as u64;
    let (mut damaged, mut wrong) = (0, Vec::new());
    for pair in chosen.chunks(2) {
        let done: Vec<_> = std::thread::scope(|scope| {
            let workers: Vec<_> = pair
                .iter()
                .map(|&(small, seed)| {
                    let dir = dir.path();
                    scope.spawn(move || campaign(&base(small, dir), each, seed))
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().expect("a campaign")).collect()
        });
        for (some, more) in done {
            damaged += some;
            wrong.extend(more);
        }
    }
    let shown = wrong.iter().take(number("EXTFS_SHOW", 10) as usize).cloned().collect::<Vec<_>>().join("\n");
    assert!(
        wrong.is_empty(),
        "{} disagreements of {count} mutants, {damaged} damaged:\n{shown}",
        wrong.len()
    );
    assert!(damaged * 3 > count, "{damaged} of {count} damaged");
}
