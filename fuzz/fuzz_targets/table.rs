//! Reads and checks partition tables.
#![no_main]

fuzz::target!(fuzz::tables::bases, fuzz::targets::tables::read);
