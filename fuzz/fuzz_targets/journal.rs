//! Recovers from our own journals.
#![no_main]

fuzz::target!(fuzz::journal::bases, fuzz::targets::journal::recover);
