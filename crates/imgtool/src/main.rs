//! Talking to people and scripts.

fn main() {}
