//! Opens, reads and checks images of the formats that are only read.
#![no_main]

fuzz::target!(fuzz::foreign::bases, fuzz::targets::containers::foreign);
