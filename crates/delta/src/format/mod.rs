//! A patch as a file; docs/delta-format.md is its specification.
//!
//! ```text
//! header    bases, length of the target           frames    literal bytes, compressed, each by itself
//! sections  what windows are made of              trailer   where all of these are, and the target's digest
//! ```
//!
//! 1. A patch is written from beginning to end, and read from its end.
//! 2. The target is cut into windows. A window that has no entry is the same as in the first base, and zero behind its
//!    end.
//! 3. Literal bytes of all windows form one stream, which is cut into frames. Any window may take bytes from anywhere in
//!    the stream: what occurs twice in the target is stored once, and no window needs another.

pub mod codec;
pub mod frame;
pub mod gather;
pub mod kinds;
pub mod layout;
pub mod limits;
mod noted;
pub mod op;
pub mod patch;
pub mod seal;
pub mod section;
pub mod varint;
pub mod writer;
pub mod x86;
