//! Whole disks, as a command sees them.

use super::{blames_the_image, states};
use crate::stacked::format_of;
use crate::{Case, cx};
use disk::{Cancel, Cx, MemDisk};
use ondisk::Len;
use ondisk::size::SizeSpec;
use stack::grow::{BootNeeds, Depth, Request, stage};
use stack::source::Source;
use stack::{Place, check};

/// Grows a disk as a command does. Where everything was sound, everything is afterwards, and when only the fresh bytes
/// have been written.
pub fn grow(case: Case<'_>) {
    let cancel = Cancel::new();
    let cx = cx(&cancel);
    let source = Source { file: &case.disk, format: format_of(case.base), with: container::OpenWith::default(), parent: None, fixed_len: false };
    let more = [512, 1 << 20, 9 << 20, 300 << 20];
    let request = Request {
        move_behind: case.knob & 8 != 0,
        size: SizeSpec::Plus(Len::new(more[usize::from(case.knob & 3)])),
        place: Place::Auto,
        depth: if case.knob & 0xc0 == 0xc0 { Depth::Partition } else { Depth::Filesystem },
        full_check: case.knob & 4 != 0,
        boot: BootNeeds { classic_descriptors: case.knob & 8 != 0, pinned: Vec::new() },
    };
    let before = damage(&source, &case.disk, &cx);
    let grown = match stage(&source, &request, &cx) {
        Ok(grown) => grown,
        Err(error) => return blames_the_image(&error),
    };
    assert!(grown.after.disk > grown.before.disk);
    let (half, new) = states(&case.disk, &grown.change);
    if before == Some(0) {
        assert_eq!(damage(&source, &half, &cx), Some(0), "fresh bytes have damaged the old state");
        assert_eq!(damage(&source, &new, &cx), Some(0), "was sound, and is not when grown");
    }
}

/// How much is wrong with a disk; `None` where it cannot even be looked at.
fn damage(source: &Source<'_>, disk: &MemDisk, cx: &Cx<'_>) -> Option<u64> {
    let checked = check::all(&source.open(disk, cx).ok()?, cx).ok()?;
    checked.unreadable.is_empty().then_some(checked.damage)
}
