//! The product from outside: the program, images of every kind, and the programs of others as judges.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    missing_docs,
    reason = "tests"
)]

mod boot;
mod chain;
mod chain_kills;
mod cli;
mod content;
mod convert;
mod crash;
mod delta;
mod devices;
mod disks;
mod foreign;
mod fs;
mod groups;
mod grow;
mod hidden;
mod hostile;
mod huge;
mod in_place;
mod in_use;
mod indexed;
mod kit;
mod layouts;
mod loaders;
mod memory;
mod moves;
mod owners;
mod pairs;
mod passwords;
mod patched;
mod patches;
mod read_only;
mod receive;
mod refused;
mod repair;
mod sparsify;
mod sr;
mod sr_convert;
mod surroundings;
mod vcdiff;
