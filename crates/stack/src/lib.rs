//! Layers on top of each other: discover, select, plan, check.

pub mod place;
