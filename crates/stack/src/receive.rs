//! A base becomes the target of a patch, in the same file and format.
//!
//! 1. What the patch copies may come from any place of the base, also from one that is overwritten. So nothing of the old
//!    image is written before all of the new one was made: what goes over it passes the journal, which is the side file
//!    that other tools would need, and the commit is as every other. Before it the image is the base, after it the target.
//! 2. What the base has at the same place is not touched.
//! 3. The staged disk is opened from the outside, and compared with the patch window by window, before anything happens.

use crate::chain::require_sound;
use crate::source::Source;
use crate::{Error, Result};
use container::Container;
use delta::{Against, Patched};
use disk::{Change, Cx, Disk, Overlay, PourInto, ReadAt};
use ondisk::{Len, Span};

/// The result is looked at in parts of this length.
const PART: Len = Len::mib(64);

/// A base that is to become the target.
#[derive(Clone, Debug)]
pub struct Received {
    /// The change of its file. It pours from the patched disk.
    pub change: Change,
    /// Bytes of the disk that are written.
    pub written: Len,
    /// Bytes of the disk that become zero.
    pub zeroed: Len,
}

/// Stages what makes `target` read as `made`, whose first base it is. Its containers are checked before and after with
/// `check`.
///
/// # Errors
/// Where the image cannot have that size, or one of the two cannot be read.
pub fn stage<D: ReadAt + Send, B: ReadAt + Send>(
    target: &Source<'_>,
    made: &Patched<D, B>,
    check: bool,
    cx: &Cx<'_>,
) -> Result<Received> {
    let mut overlay = Overlay::with_beside(target.file, made, &cx.limits).over_read();
    if check {
        require_sound(&target.open(target.file, cx)?)?;
    }
    resize(&mut overlay, target, made.len(), cx)?;
    let mut disk = target.open(&mut overlay, cx)?;
    let (mut written, mut zeroed) = (Len::ZERO, Len::ZERO);
    for part in Span::whole(made.len()).chunks(PART) {
        cx.cancel.check()?;
        for (span, what) in made.against_first(part)? {
            match what {
                Against::Same => {}
                Against::Zero => {
                    disk.discard(span)?;
                    zeroed = zeroed.checked_add(span.len()).unwrap_or(zeroed);
                }
                Against::Other => {
                    disk.pour(span, span.start())?;
                    written = written.checked_add(span.len()).unwrap_or(written);
                }
            }
        }
    }
    drop(disk);
    let staged = target.open(&overlay, cx)?;
    made.refuse_other(&staged, cx)?;
    if check {
        require_sound(&staged)?;
    }
    drop(staged);
    Ok(Received { change: overlay.into_change()?, written, zeroed })
}

/// Gives the staged image the size of the result.
fn resize(overlay: &mut Overlay<'_>, target: &Source<'_>, to: Len, cx: &Cx<'_>) -> Result<()> {
    let disk = target.open(&*overlay, cx)?;
    let now = disk.len();
    let refused = |why: String| -> Error {
        let help = Some("make a new image: imgtool delta apply -o OUT".to_owned());
        container::Error::Refused { why, help }.into()
    };
    if to == now {
        return Ok(());
    }
    if target.fixed_len {
        return Err(refused(format!("the result has {to} bytes, and the device cannot change its {now}")));
    }
    if matches!(disk, Container::Raw(_)) {
        drop(disk);
        return Ok(overlay.resize(to)?);
    }
    if to < now {
        return Err(refused(format!(
            "the result has {to} bytes, and a {} image does not shrink from {now}",
            target.format
        )));
    }
    let plan = disk.plan_grow(to)?;
    if plan.new_len() != to {
        return Err(refused(format!("the image would get {} bytes, the result has {to}", plan.new_len())));
    }
    drop(disk);
    Ok(plan.apply(overlay)?)
}
