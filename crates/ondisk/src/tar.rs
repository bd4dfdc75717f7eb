//! The header of tar archives, which carry a guest's files out and virtual machines in.

mod layout;

pub use layout::{Header, number};
