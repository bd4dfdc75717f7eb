//! Reads and maps volume groups.
#![no_main]

fuzz::target!(fuzz::volumes::bases, fuzz::targets::volumes::read);
