//! Judged by LVM2 itself: what its tools made, what they think of our changes, and what damage does.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a mistake here must stop the test"
)]

mod damage;
mod grow;
mod kinds;
mod read;
mod support;
