//! What a patch may ask of a reader. A writer keeps to the same bounds: docs/delta-format.md tells them.

use super::frame::DICTIONARY;
use ondisk::Len;
use ondisk::num::to_usize;

/// Bytes of a target or a base, at most: larger disks exist only in headers, and to hash their zeros takes days.
pub const DISK: Len = Len::new(1 << 50);
/// Instructions of a window, at most.
pub const OPS: usize = 1 << 19;
/// What is decoded for one frame, or for one window, at most: literal bytes, and [`FRAME_COST`] for each frame that has
/// some of them.
pub const WORK: u64 = 2 << 30;
/// What a frame costs besides its bytes: a dictionary, however long it is.
const FRAME_COST: u64 = DICTIONARY.get();
/// So many dictionaries name each other, at most.
pub const DEPTH: u32 = 8;
/// Frames of so many literal bytes that a writer lets a window take bytes from.
pub fn reach(frame: Len) -> usize {
    to_usize(WORK.checked_div(own_work(frame.get())).unwrap_or_default())
}

/// The work of a frame of so many literal bytes, without the frames that its dictionary names.
pub const fn own_work(literals: u64) -> u64 {
    literals.saturating_add(FRAME_COST)
}
