//! Reads and follows boot loaders.
#![no_main]

fuzz::target!(fuzz::loaders::bases, fuzz::targets::loaders::read);
