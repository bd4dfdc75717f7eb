//! Opens, applies and composes patches in our own format; makes them of signatures.
#![no_main]

fuzz::target!(fuzz::patch::bases, fuzz::targets::patch::read);
