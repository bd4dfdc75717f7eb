//! Whether a new image fits where it is to lie: found out before anything is written.
//!
//! 1. Refused is only what certainly does not fit. What compression saves cannot be known, so that compressed images are
//!    not asked for, nor file systems that compress by themselves.
//! 2. Tables are not counted: they are small beside the data.

use crate::cx::Session;
use crate::exit::{Failure, Of};
use container::write::{self, Layer};
use disk::{Error, Space};
use ondisk::size::Human;
use std::path::Path;

/// Refuses to make images of all of `layers` in the folder of `path` where they do not fit. Where they may come to
/// `share` the blocks of their source, only trying tells.
pub(super) fn refuse_full(
    path: &Path,
    layers: &[Layer<'_>],
    share: bool,
    session: &Session,
) -> Result<(), Failure> {
    let Some(space) = Space::of(path).of(path)? else { return Ok(()) };
    if share && space.shares && session.globals.dry_run {
        return Ok(());
    }
    let Some(need) = write::shortage(layers, space.free, &session.cx()).of(path)? else { return Ok(()) };
    let need = format!("up to {} would be stored", Human(need));
    Err(Error::full(path.to_owned(), &need, space.free)).of(path)
}
