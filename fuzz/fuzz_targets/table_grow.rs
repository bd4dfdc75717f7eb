//! Grows disks with tables, and their partitions.
#![no_main]

fuzz::target!(fuzz::tables::bases, fuzz::targets::tables::grow);
