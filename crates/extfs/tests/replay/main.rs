//! Recovery of crashed filesystems, held against the kernel's.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a mistake here must stop the test"
)]

mod crashed;
mod formats;
mod judge;
mod orphans;
