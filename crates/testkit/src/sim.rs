//! A machine that loses its power at every instant, and a disk that tears, drops and lies.
//!
//! ```text
//! World   files and names: what the kernel shows (cache) and what the medium holds; a log of every operation
//! states  from a log: every content that the medium may hold after a crash
//! sample  a small image, a change of it, its journal
//! sweep   one commit, all its crash states, each recovered, each result compared with before and after
//! ```
//!
//! 1. What was not flushed since may be there or not, in any combination, and a write of several sectors may be there
//!    in part: each of its sectors old, new or zero. Lengths and names are operations like any other.
//! 2. After recovery the image equals the one before or the one after, byte for byte; the journal is gone; recovering
//!    again does nothing; and what was to be seen through the journal before is what recovery made.
//! 3. States that have been seen are not tried again.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test equipment: a mistake here must stop the test"
)]

pub mod sample;
mod states;
mod sweep;
mod world;

pub use states::{Rng, crash_states};
pub use sweep::{Knobs, Report, after_return, sweep, sweep_poured};
pub use world::{Fault, FaultKind, Op, SimDev, SimStore, Snapshot, World};

use disk::{Cancel, Cx, Image, Limits, Place, Quiet, Sparse};
use std::sync::{Arc, Mutex};

/// The name of the journal in the simulator.
pub const JOURNAL: &str = "image.imgtool-journal";
/// The name of the undo file in the simulator.
pub const UNDO: &str = "image.undo";

/// A context for tests: silent, at a fixed time.
#[must_use]
pub fn cx(cancel: &Cancel) -> Cx<'_> {
    Cx { progress: &Quiet, cancel, limits: Limits::default(), now: 1_700_000_000 }
}

/// A world that nobody else shares yet.
pub type Shared = Arc<Mutex<World>>;

/// The place of a side file in that world.
#[must_use]
pub fn place(world: &Shared, name: &str) -> Place {
    Place { store: Box::new(SimStore::new(world)), name: name.into(), path: name.into() }
}

/// The image in that world, open for writing.
#[must_use]
pub fn image(world: &Shared) -> Image {
    Image::from_parts(Box::new(SimDev::new(world, 0)), place(world, JOURNAL))
}

/// A world with one image and nothing else.
#[must_use]
pub fn world_of(image: &Sparse) -> Shared {
    Arc::new(Mutex::new(World::boot(&Snapshot::of(image.clone()))))
}
