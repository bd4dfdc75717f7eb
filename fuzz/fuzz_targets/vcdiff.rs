//! Opens and applies patches in the format of xdelta3.
#![no_main]

fuzz::target!(fuzz::vcdiff::bases, fuzz::targets::vcdiff::read);
