//! From a log of operations to everything that a crash may leave on the medium.

use super::{Knobs, Op, Snapshot};
use disk::ReadAt;
use ondisk::num::{round_down, round_up};
use ondisk::{Len, Offset, Span};

/// Numbers that only look random.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A sequence of its own for each seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        // SplitMix64: any seed is a good seed.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.draw() % n.max(1)
    }

    /// A place in a list of that many.
    pub fn pick(&mut self, count: usize) -> usize {
        self.below(count as u64) as usize
    }
}

/// What became of an operation that was not flushed.
#[derive(Clone, Debug)]
enum Fate {
    Lost,
    Done,
    /// Sectors before this one are done.
    TornAt(u64),
    /// As above; the others became zero.
    ZeroFrom(u64),
    /// Each sector old, new or zero, by this seed.
    Mixed(u64),
}

/// Calls `visit` with every state that a crash during `log` may leave behind on `base`; stops where it says so.
pub fn crash_states(base: &Snapshot, log: &[Op], knobs: &Knobs, visit: &mut dyn FnMut(Snapshot)) {
    let mut rng = Rng::new(knobs.seed);
    let cuts = (0..=log.len()).filter(|&cut| cut == log.len() || is_flush(&log[cut]));
    for cut in cuts {
        let (durable, open) = divide(&log[..cut]);
        let mut start = base.clone();
        durable.iter().for_each(|op| apply(&mut start, op, &Fate::Done));
        for fates in fates(&open, knobs, &mut rng) {
            let mut state = start.clone();
            open.iter().zip(&fates).for_each(|(op, fate)| apply(&mut state, op, fate));
            visit(state);
        }
    }
}

const fn is_flush(op: &Op) -> bool {
    matches!(op, Op::Flush(_) | Op::FlushDir)
}

/// What has been flushed, and what has not.
fn divide(log: &[Op]) -> (Vec<&Op>, Vec<&Op>) {
    let covers = |flush: &Op, op: &Op| match (flush, op) {
        (Op::Flush(flushed), Op::Write { file, .. } | Op::Zero { file, .. } | Op::SetLen { file, .. }) => {
            flushed == file
        }
        (Op::FlushDir, Op::Create { .. } | Op::Unlink { .. }) => true,
        _ => false,
    };
    let changes = log.iter().enumerate().filter(|(_, op)| !is_flush(op));
    let (durable, open): (Vec<_>, Vec<_>) =
        changes.partition(|(i, op)| log[*i..].iter().any(|later| covers(later, op)));
    let ops = |list: Vec<(usize, _)>| list.into_iter().map(|(_, op)| op).collect();
    (ops(durable), ops(open))
}

/// The combinations to try for the operations of an open epoch.
fn fates(open: &[&Op], knobs: &Knobs, rng: &mut Rng) -> Vec<Vec<Fate>> {
    let n = open.len();
    let pick = |keep: &dyn Fn(usize) -> bool| -> Vec<Fate> {
        (0..n).map(|i| if keep(i) { Fate::Done } else { Fate::Lost }).collect()
    };
    let mut all: Vec<Vec<Fate>> = (0..=n).map(|k| pick(&|i| i < k)).collect();
    if knobs.subsets {
        if n <= 10 {
            all.extend((0..1_u32 << n).map(|bits| pick(&|i| bits >> i & 1 == 1)));
        } else {
            all.extend((0..n).map(|one| pick(&|i| i != one)));
            all.extend((0..n).map(|one| pick(&|i| i == one)));
            let pairs = (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b)));
            all.extend(pairs.take(knobs.pairs).map(|(a, b)| pick(&|i| i != a && i != b)));
        }
        for (torn, op) in open.iter().enumerate() {
            all.extend(tears(op).into_iter().flat_map(|fate| {
                // With all the others, and with none of them.
                [Fate::Done, Fate::Lost].map(|rest| {
                    let mut fates = vec![rest; n];
                    fates[torn] = fate.clone();
                    fates
                })
            }));
        }
    }
    for _ in 0..knobs.random {
        let bits = rng.draw();
        all.push(pick(&|i| bits >> (i % 64) & 1 == 1));
    }
    for _ in 0..if n == 0 { 0 } else { knobs.mixes } {
        // One in four is whole or lost, so that mixes with intact parts occur too.
        let fate = |rng: &mut Rng| match rng.below(8) {
            0 => Fate::Lost,
            1 => Fate::Done,
            _ => Fate::Mixed(rng.draw()),
        };
        all.push((0..n).map(|_| fate(rng)).collect());
    }
    all
}

/// The ways in which one write may be torn at a boundary.
fn tears(op: &Op) -> Vec<Fate> {
    let sectors = match op {
        Op::Write { at, data, .. } => sectors(Span::new(*at, Len::of(data)).unwrap()).count() as u64,
        Op::Zero { span, .. } => span.len().get().div_ceil(512).min(1 << 12),
        _ => 0,
    };
    if sectors < 2 {
        return Vec::new();
    }
    vec![
        Fate::TornAt(1),
        Fate::TornAt(sectors / 2),
        Fate::TornAt(sectors - 1),
        Fate::ZeroFrom(sectors / 2),
        Fate::Mixed(sectors),
    ]
}

/// The sectors that `span` touches, cut to it.
fn sectors(span: Span) -> impl Iterator<Item = Span> {
    let first = round_down(span.start().get(), 512).unwrap();
    let end = round_up(span.end().get(), 512).unwrap();
    (first..end).step_by(512).filter_map(move |at| Span::new(Offset::new(at), Len::new(512))?.intersect(span))
}

fn apply(state: &mut Snapshot, op: &Op, fate: &Fate) {
    if matches!(fate, Fate::Lost) {
        return;
    }
    match op {
        Op::Write { file, at, data, grows } => {
            let span = Span::new(*at, Len::of(data)).unwrap();
            if *grows {
                let len = grown_len(span, fate).max(target(state, *file).len());
                target(state, *file).set_len(len);
            }
            scatter(state, *file, span, Some(data), fate);
        }
        Op::Zero { file, span } => scatter(state, *file, *span, None, fate),
        Op::SetLen { file, len } => target(state, *file).set_len(*len),
        Op::Create { name, file } => {
            target(state, *file);
            state.names.insert(name.clone(), *file);
        }
        Op::Unlink { name } => {
            state.names.remove(name);
        }
        Op::Flush(_) | Op::FlushDir => {}
    }
}

/// A torn write that makes a file longer may make it less long.
fn grown_len(span: Span, fate: &Fate) -> Len {
    let end = span.end().get();
    match fate {
        Fate::TornAt(n) => Len::new(end.min(span.start().get() + n * 512)),
        Fate::Mixed(seed) if seed % 4 == 0 => {
            Len::new(span.start().get() + Rng::new(*seed).below(span.len().get()))
        }
        _ => Len::new(end),
    }
}

fn target(state: &mut Snapshot, file: usize) -> &mut disk::Sparse {
    if state.files.len() <= file {
        state.files.resize_with(file + 1, disk::Sparse::default);
    }
    &mut state.files[file]
}

/// Writes those sectors of `data` (zeros if there are none) that the fate lets through, up to the end of the file.
fn scatter(state: &mut Snapshot, file: usize, whole: Span, data: Option<&[u8]>, fate: &Fate) {
    let target = target(state, file);
    let Some(span) = whole.intersect(Span::whole(target.len())) else { return };
    let part = |span: Span| {
        data.map(|data| {
            let from = span.start().since(whole.start()).unwrap().to_usize();
            &data[from..from + span.len().to_usize()]
        })
    };
    if matches!(fate, Fate::Done) {
        match part(span) {
            Some(bytes) => target.put(span.start(), bytes),
            None => target.clear(span),
        }
        return;
    }
    let mut rng = match fate {
        Fate::Mixed(seed) => Rng::new(*seed),
        _ => Rng::new(0),
    };
    for (i, sector) in (0..).zip(sectors(span)) {
        // 0 old, 1 new, 2 zero
        let outcome = match fate {
            Fate::TornAt(n) => u64::from(i < *n),
            Fate::ZeroFrom(n) => {
                if i < *n {
                    1
                } else {
                    2
                }
            }
            _ => match rng.below(8) {
                0..4 => 1,
                4..7 => 0,
                _ => 2,
            },
        };
        match (outcome, part(sector)) {
            (0, _) => {}
            (1, Some(bytes)) => target.put(sector.start(), bytes),
            _ => target.clear(sector),
        }
    }
}
