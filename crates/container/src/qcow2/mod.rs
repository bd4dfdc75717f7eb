//! The copy-on-write format of QEMU.
