//! Talking to people and scripts.
