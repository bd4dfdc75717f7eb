//! What the fuzz targets share.
//!
//! ```text
//! input   which base image, and patches of its metadata          a few dozen bytes
//! base    small images of other people's tools, their metadata by kind, and how each piece is sealed
//! run     one input: patched image, bounds of time, then the target
//! ```
//!
//! 1. An input is a list of small changes of a sound image. Any bytes are an input, so that the fuzzer may do with them
//!    whatever it likes; our own mutator knows where the fields are.
//! 2. Where the input says so, the checksums of everything patched are made right again: else hardly anything behind
//!    them is ever reached.
//! 3. No input takes longer than a second of processor time, or more memory than its limits and a base image.
//! 4. What was refused has changed nothing, what was granted leaves something that its own checker finds sound.
#![allow(clippy::missing_panics_doc)]

pub mod base;
pub mod containers;
pub mod ext;
pub mod foreign;
pub mod input;
pub mod jbd2;
pub mod journal;
pub mod loaders;
pub mod patch;
pub mod stacked;
pub mod tables;
pub mod targets;
pub mod vcdiff;
pub mod volumes;

use base::Base;
use disk::{Cancel, Cx, Limits, MemDisk, Quiet};
use input::Input;
use ondisk::Len;
use rustix::time::{ClockId, clock_gettime};

/// What every target has to get by with.
pub const LIMITS: Limits = Limits { memory: Len::mib(64), threads: 1, chain_depth: 8, partitions: 256 };

/// A second of processor time, in nanoseconds.
const BOUND: i64 = 1_000_000_000;

/// Carries nothing but the limits.
#[must_use]
pub fn cx(cancel: &Cancel) -> Cx<'_> {
    Cx { progress: &Quiet, cancel, limits: LIMITS, now: 1_700_000_000 }
}

/// Runs a target on one input.
pub fn run(data: &[u8], bases: &[Base], target: impl FnOnce(Case<'_>)) {
    let input = Input::decode(data);
    let base = base::of(bases, &input);
    let disk = base.patched(&input);
    if let Some(path) = std::env::var_os("FUZZ_IMAGE") {
        eprintln!("{}: {}", base.name, base.describe(&input));
        std::fs::write(path, disk.to_vec()).expect("the image of the input can be written");
    }
    let start = now();
    target(Case { base, disk, knob: input.knob });
    let took = now() - start;
    assert!(took < BOUND, "{}: {} ms of processor time", base.name, took / 1_000_000);
}

/// One input, made real.
pub struct Case<'a> {
    /// What it was made of.
    pub base: &'a Base,
    /// The patched image.
    pub disk: MemDisk,
    /// A choice that is the target's.
    pub knob: u8,
}

fn now() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// A fuzz target: the bases it starts from, and what it does with each input.
#[macro_export]
macro_rules! target {
    ($bases:expr, $target:expr) => {
        static BASES: std::sync::LazyLock<Vec<$crate::base::Base>> = std::sync::LazyLock::new($bases);

        libfuzzer_sys::fuzz_target!(init: std::sync::LazyLock::force(&BASES), |data: &[u8]| {
            $crate::run(data, &BASES, $target);
        });

        libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
            $crate::input::mutate(data, size, max_size, seed, &BASES)
        });
    };
}
