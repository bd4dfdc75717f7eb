//! Grows physical and logical volumes.
#![no_main]

fuzz::target!(fuzz::volumes::bases, fuzz::targets::volumes::grow);
