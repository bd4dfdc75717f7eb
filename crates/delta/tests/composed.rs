//! What two patches do one after the other, their composition does at once.

use crate::support::{self, apply, open, with_cx};
use delta::compose;
use testkit::images::noise;
use testkit::sim::Rng;

fn patch(bases: &[&[u8]], target: &[u8]) -> Vec<u8> {
    support::patch(bases, target).0
}

fn composed(first: &[u8], second: &[u8]) -> delta::Result<Vec<u8>> {
    let mut out = Vec::new();
    let (first, second) = (open(first)?, open(second)?);
    let len = with_cx(|cx| compose(&first, &second, &mut out, cx))?;
    assert_eq!(len.get(), out.len() as u64);
    let made = open(&out)?;
    with_cx(|cx| made.check(cx))?;
    made.codecs()?;
    Ok(out)
}

/// A disk after some work on it: text that changes a little, data that comes, goes and moves.
fn later(random: &mut Rng, disk: &[u8]) -> Vec<u8> {
    let mut later = disk.to_vec();
    for _ in 0..=random.pick(6) {
        if later.is_empty() {
            later = noise(random.draw(), random.pick(90_000));
            continue;
        }
        let len = 1 + random.pick(later.len().clamp(1, 700_000));
        let at = random.pick(later.len().saturating_sub(len));
        let seed = random.draw();
        match random.pick(8) {
            0 => later[at..at + len].fill(0),
            1 => later[at..at + len].copy_from_slice(&noise(seed, len)),
            2 => {
                let from = random.pick(later.len() - len);
                later.copy_within(from..from + len, at);
            }
            3 => later.truncate(later.len() - len / 4),
            4 => later.resize(later.len() + 3 * len, 0),
            5 => drop(later.splice(at..at, noise(seed, len / 9))),
            6 => later.rotate_left(len),
            // Dense small changes: literals with a dictionary of what was there.
            _ => (at..at + len).step_by(19).for_each(|at| later[at] = later[at].wrapping_add(1)),
        }
    }
    later
}

#[test]
fn as_one_after_the_other() {
    let mut random = Rng::new(5);
    for round in 0..14 {
        let len = [0, 3, 70_000, (4 << 20) - 1, 4 << 20, 5 << 20, 9 << 20][round % 7];
        let text: Vec<u8> = (0..len).flat_map(|at| (at as u64 * 7919).to_le_bytes()).take(len / 2).collect();
        let start = [text, noise(round as u64, len - len / 2)].concat();
        let mut disks = vec![start];
        for _ in 0..3 {
            let later = later(&mut random, &disks[disks.len() - 1]);
            disks.push(later);
        }
        let steps: Vec<Vec<u8>> = disks.windows(2).map(|pair| patch(&[&pair[0]], &pair[1])).collect();
        let two = composed(&steps[0], &steps[1]).unwrap();
        assert!(apply(&[&disks[0]], &two).unwrap() == disks[2], "round {round}: two");
        let other = composed(&steps[1], &steps[2]).unwrap();
        for three in [composed(&two, &steps[2]).unwrap(), composed(&steps[0], &other).unwrap()] {
            assert!(apply(&[&disks[0]], &three).unwrap() == disks[3], "round {round}: three");
            let sum: usize = steps.iter().map(Vec::len).sum();
            assert!(three.len() < sum + sum / 50 + 1000, "round {round}: {} of {sum}", three.len());
        }
    }
}

#[test]
fn several_bases() {
    let [a, x, y] = [1, 2, 3].map(|seed| noise(seed, 5 << 20));
    let b = [&a[1 << 20..], &y[..1 << 20], &noise(4, 70_000)].concat();
    let first = patch(&[&a, &y], &b);
    let c = [&x[..3 << 20], &b[2 << 20..], &a[..1000], &noise(5, 300)].concat();
    for (bases, what) in [([b.as_slice(), &x, &a], "b first"), ([&x, &b, &a], "x first")] {
        let both = composed(&first, &patch(&bases, &c)).unwrap();
        assert_eq!(open(&both).unwrap().facts().bases.len(), 3, "{what}");
        assert!(apply(&[&x, &a, &y], &both).unwrap() == c, "{what}");
    }
    // What was made from nothing stays so, beside what is needed now.
    let both = composed(&patch(&[], &b[..100_000]), &patch(&[&b[..100_000], &x], &x)).unwrap();
    assert!(apply(&[&x], &both).unwrap() == x);
}

/// Of disks that shrink and grow again, what was gone in between does not come back.
#[test]
fn sizes() {
    let a = noise(6, 21 << 20);
    for (between, behind) in [(5 << 20, 21 << 20), (1000, 21 << 20), (0, 9 << 20), (21 << 20, 4 << 20)] {
        let b = a[..between].to_vec();
        let mut c = b.clone();
        c.resize(behind, 0);
        let both = composed(&patch(&[&a], &b), &patch(&[&b], &c)).unwrap();
        assert!(apply(&[&a], &both).unwrap() == c, "{between}, {behind}");
        assert!(both.len() < 1500, "{}", both.len());
    }
}

/// Literal bytes that the second patch does away with are gone.
#[test]
fn what_nothing_uses_is_dropped() {
    let a = noise(10, 20 << 20);
    let (mut b, mut c) = (a.clone(), a.clone());
    b[1 << 20..9 << 20].copy_from_slice(&noise(11, 8 << 20));
    let first = patch(&[&a], &b);
    c[8 << 20..9 << 20].copy_from_slice(&b[8 << 20..9 << 20]);
    let second = patch(&[&b], &c[..18 << 20]);
    let both = composed(&first, &second).unwrap();
    assert!(apply(&[&a], &both).unwrap() == c[..18 << 20]);
    // The bytes of A that came back are in the second patch; of the first one, a frame is left.
    assert!(both.len() + (3 << 20) < first.len() + second.len(), "{} of {}", both.len(), first.len());
}

#[test]
fn only_in_a_row() {
    let [a, b, c] = [7, 8, 9].map(|seed| noise(seed, 50_000));
    let (first, second) = (patch(&[&a], &b), patch(&[&b], &c));
    assert!(matches!(composed(&second, &first), Err(delta::Error::NotInARow { .. })));
    assert!(composed(&first, &second).is_ok());
    for at in (0..second.len()).step_by(second.len() / 100) {
        let mut bad = second.clone();
        bad[at] ^= 4;
        assert!(composed(&first, &bad).is_err(), "byte {at}");
    }
}
