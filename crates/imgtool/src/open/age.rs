//! Whether a parent may have been written to since its child was made. A hint: no format keeps enough to be sure.
//!
//! 1. A VHD names the time when its parent was last modified. Microsoft's programs refuse any other time, tapdisk marks
//!    the parent after it has noted the time, and ignores it; some programs note the time in the parent's footer.
//! 2. qcow2 notes nothing. A parent that is younger than its child is worth a word.
//! 3. Whoever copies a file gives it another time, so that nothing is refused because of it.

use container::ParentRef;
use disk::Image;

/// So much later, in seconds, a parent may be marked as one.
const SLACK: u64 = 120;

/// Says what is doubtful; `own` is the time in the parent's footer, if it has one.
pub fn doubt(child: &Image, wanted: &ParentRef, parent: &Image, own: Option<u64>) -> Option<&'static str> {
    let written = parent.modified()?;
    match wanted.timestamp {
        Some(named) if own == Some(named) || written <= named.saturating_add(SLACK) => None,
        Some(_) => Some("was last written to later than its child says"),
        None if written <= child.modified()?.saturating_add(SLACK) => None,
        None => Some("was last written to later than its child"),
    }
}

/// What to tell whoever asks about it.
pub const WHY: &str = "a copy can look so, too; if its content was changed, its children read otherwise";
