//! Opens, reads and checks VHDs.
#![no_main]

fuzz::target!(fuzz::containers::vhds, fuzz::targets::containers::vhd);
