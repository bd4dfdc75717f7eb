//! VCDIFF: the format of `xdelta3`, read and written.
//!
//! ```text
//! layout code number cache      what RFC 3284 says                 secondary   compressed sections
//! read ─► decode ─► disk        a patch and its base in, a disk out
//! create ─► write               a disk and its base in, a patch out
//! ```
//!
//! 1. What is written is read by xdelta3 3.0: its code table and caches, windows of 8 MiB with a checksum each, one
//!    segment of less than 2 GiB each, sections compressed by LZMA.
//! 2. What is read may be anything that xdelta3 writes. Nothing is known of base and target but the checksum of each
//!    window, which may be missing.

mod adler;
mod cache;
mod code;
mod create;
mod decode;
mod disk;
mod layout;
mod number;
mod read;
mod secondary;
#[cfg(test)]
mod tests;
mod write;

pub use create::{create, create_indexed};
pub use disk::Decoded;
pub use read::{Facts, LARGEST, Vcdiff, Window, is_vcdiff};
pub use secondary::Secondary;
