//! What is done with an image: read everything, or plan, apply and check.

pub mod containers;
pub mod ext;
pub mod journal;
pub mod loaders;
pub mod patch;
pub mod stacked;
pub mod tables;
pub mod vcdiff;
pub mod volumes;

use disk::{Change, Disk, MemDisk, Overlay};
use ondisk::{Class, Classified};

/// A result of an apply: what can be refused was refused in planning, but for memory.
fn applied<T, E: Classified>(result: Result<T, E>) -> Option<T> {
    match result {
        Ok(done) => Some(done),
        Err(error) => {
            assert!(error.to_string().contains("bytes of memory"), "a plan could not be applied: {error}");
            None
        }
    }
}

/// As [`states`], of what is staged.
fn states_of(old: &MemDisk, overlay: Overlay<'_>) -> Option<(MemDisk, MemDisk)> {
    Some(states(old, &applied(overlay.into_change())?))
}

/// What is there when only a change's fresh bytes were written and the length was taken back, and what it makes of the disk in the end.
fn states(old: &MemDisk, change: &Change) -> (MemDisk, MemDisk) {
    let mut new = old.clone();
    new.apply(change).expect("a change fits its disk");
    let longest = change.old_len.max(change.new_len);
    let fresh = Change { home: vec![], carried: vec![], new_len: longest, ..change.clone() };
    let mut half = old.clone();
    half.apply(&fresh).expect("a change fits its disk");
    half.resize(change.old_len).expect("a disk in memory");
    (half, new)
}

/// Nothing that an image says is a mistake of ours or of the machine.
fn blames_the_image(error: &dyn Classified) {
    let memory = error.to_string().contains("bytes of memory");
    assert!(memory || error.class() != Class::Io, "the image is not to blame: {error}");
    assert!(!error.to_string().chars().any(char::is_control), "control characters: {error}");
}
