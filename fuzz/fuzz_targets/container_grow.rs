//! Grows containers.
#![no_main]

fuzz::target!(fuzz::containers::bases, fuzz::targets::containers::grow);
