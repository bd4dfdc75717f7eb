//! Opens, reads and checks qcow2 images.
#![no_main]

fuzz::target!(fuzz::containers::qcow2s, fuzz::targets::containers::qcow2);
