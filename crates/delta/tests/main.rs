//! Patches made, read, applied and composed, of disks in memory and by other people's programs.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

mod composed;
mod fixtures;
mod support;
mod there_and_back;
mod upon;
mod vcdiff;
