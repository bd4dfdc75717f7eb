//! Patches in the format of xdelta3.

use super::blames_the_image;
use crate::{Case, LIMITS};
use delta::vcdiff::{Decoded, Vcdiff};
use disk::{MemDisk, ReadAt};
use ondisk::{Len, Offset, Span};

/// So much of what a patch makes is read.
const READ: Len = Len::mib(1);

/// Opens and applies a patch.
pub fn read(case: Case<'_>) {
    let patch = match Vcdiff::open(&case.disk, &LIMITS) {
        Ok(patch) => patch,
        Err(error) => return blames_the_image(&error),
    };
    assert!(patch.facts().text.len() <= case.disk.len().to_usize(), "text that is nowhere");
    let base = MemDisk::from_bytes(&crate::vcdiff::base());
    let made = match Decoded::new(patch, Some(base), LIMITS) {
        Ok(made) => made,
        Err(error) => return blames_the_image(&error),
    };
    let len = made.len().min(READ);
    let mut bytes = vec![0; len.to_usize()];
    // The end before the beginning: what goes on from window to window begins anew.
    let (head, tail) = bytes.split_at_mut(len.to_usize() / 2);
    for (at, part) in [(head.len() as u64, tail), (0, head)] {
        if let Err(error) = made.read_at(Offset::new(at), part) {
            return blames_the_image(&error);
        }
    }
    let map = made.extents(Span::whole(len)).expect("what was read has a map");
    for zeros in map.iter().filter(|extent| extent.kind.reads_zero()) {
        let range = zeros.span.start().get() as usize..zeros.span.end().get() as usize;
        assert!(bytes[range].iter().all(|byte| *byte == 0), "zeros that are none");
    }
}
