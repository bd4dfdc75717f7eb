//! Grows filesystems.
#![no_main]

fuzz::target!(fuzz::ext::bases, fuzz::targets::ext::grow);
