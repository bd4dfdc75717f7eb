//! qcow2 against qemu: its images read, written and grown by us, ours judged by it.

mod check;
mod create;
mod grow;
mod hostile;
mod kit;
mod read;
mod write;
