//! Grows whole disks, as a command does.
#![no_main]

fuzz::target!(fuzz::stacked::bases, fuzz::targets::stacked::grow);
