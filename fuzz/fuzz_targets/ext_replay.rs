//! Replays journals of filesystems.
#![no_main]

fuzz::target!(fuzz::jbd2::bases, fuzz::targets::ext::replay);
