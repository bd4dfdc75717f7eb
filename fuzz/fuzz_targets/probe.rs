//! Tells what a file is.
#![no_main]

fuzz::target!(fuzz::containers::bases, fuzz::targets::containers::probe);
