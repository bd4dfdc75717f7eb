//! The signature of a disk: enough to make a patch that stands on it, without the disk.
//!
//! 1. Each window has its value, so that what did not change is known for sure.
//! 2. Each whole block that is not zero has a checksum that rolls, so that the block is found wherever the target has it,
//!    and 96 bits of BLAKE3, which decide. Blocks that differ by chance and not in these: one among 2^28 comparisons of
//!    a target of a TiB with a base of a TiB, at every byte, even if the checksum told nothing.
//! 3. What was mistaken all the same makes a patch that is refused when it is applied, and nothing worse.

pub(crate) mod layout;
mod read;
pub(crate) mod rolling;
mod write;

pub use read::Signature;
pub use write::signature;
pub(crate) use write::strong;
