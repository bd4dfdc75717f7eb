//! The difference of two disks.
//!
//! ```text
//! format    the patch as a file: layout, digest, op, frame, codec, section  docs/delta-format.md
//! create    index of the bases ─► match ─► again ─► pack ─► write           a disk and its bases in, a patch out
//! compose   two patches, one after the other ─► one                         a patch out, no disk needed
//! signature enough of a disk to stand upon             docs/delta-format.md   a disk in, a signature out
//! patched   a patch and its bases as a disk                                 a disk out
//! vcdiff    the same in the format of xdelta3: RFC 3284
//! ```
//!
//! 1. Both sides are disks: bytes at positions, and a map of what is stored. No container or filesystem is known here.
//! 2. Every part of a patch is decoded by itself, so that it can be read at any place and by all threads at once.
//! 3. The bytes of a patch depend on the disks and on what was asked for, not on the number of threads.
//! 4. A patch is hostile: each number is compared with what there is before it is used, and nothing that was decoded
//!    is handed out before its digest was.

mod compose;
mod create;
mod digest;
mod error;
mod format;
#[cfg(test)]
mod hostile;
mod patched;
mod pool;
mod signature;
pub mod vcdiff;

pub use compose::compose;
pub use create::{
    Indexed, Literal, Literals, Options, Pairs, Piece, Stats, create, create_indexed, create_upon, is_index,
};
pub use digest::{Digest, Leaves, WINDOW, survey};
pub use error::{Error, Result};
pub use format::codec::Codec;
pub use format::patch::{BaseFacts, Facts, Patch};
pub use format::seal::{PublicKey, SecretKey, Signature, Signing, prove};
pub use patched::{Against, Patched};
pub use signature::{Signature as DiskSignature, signature};
