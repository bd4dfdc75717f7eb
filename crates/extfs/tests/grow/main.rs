//! Growing filesystems, judged by e2fsck, the kernel and resize2fs.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

mod cost;
mod flavors;
mod kit;
mod legacy;
mod refused;
