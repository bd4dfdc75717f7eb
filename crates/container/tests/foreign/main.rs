//! Formats that are only read: as qemu makes them, and as the products do where qemu does not.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic
)]

mod blocks;
mod bundle;
mod hostile;
mod kit;
mod vhdx;
mod vmdk;
mod xva;
