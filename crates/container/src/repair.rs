//! Mending what a container knows about itself, from what survives of it.
//!
//! 1. What can be read stays as it reads: no byte of the disk changes, and nothing is guessed. What two structures
//!    claim, or what points out of the file, stays for people to look at.
//! 2. The file is an overlay: what is mended becomes one change, as everything else.
//! 3. An image that is sound is not touched.

use crate::{Format, Result, qcow2, vhd};
use disk::{Disk, Limits};

/// Mends the image in `file`, whose length is not ours to change where it `is_device`. Says what was done, a sentence
/// a step.
///
/// # Errors
/// Where what is left of the image is not enough to read it, or it uses what is not supported.
pub fn mend(file: &mut dyn Disk, format: Format, is_device: bool, limits: &Limits) -> Result<Vec<String>> {
    match format {
        Format::Vhd => vhd::repair::mend(file, is_device, limits),
        Format::Qcow2 => qcow2::repair::mend(file, limits),
        _ => Ok(Vec::new()),
    }
}
