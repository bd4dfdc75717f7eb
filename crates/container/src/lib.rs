//! A virtual disk in a file: raw, VHD, qcow2.
