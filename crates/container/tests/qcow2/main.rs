//! qcow2 against qemu: its images read, written and grown by us, ours judged by it.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic
)]

mod check;
mod create;
mod grow;
mod hostile;
mod kit;
mod read;
mod repair;
mod write;
