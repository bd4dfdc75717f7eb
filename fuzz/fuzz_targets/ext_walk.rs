//! Reads filesystems to the last file.
#![no_main]

fuzz::target!(fuzz::ext::bases, fuzz::targets::ext::walk);
