//! A patch in either format, told by how it begins.

use crate::cx::Session;
use crate::exit::{Failure, Of};
use crate::output::Output;
use delta::Patch;
use delta::vcdiff::{Vcdiff, is_vcdiff};
use disk::{FileDev, ReadAt};
use std::path::Path;

/// A patch.
pub enum AnyPatch<D = FileDev> {
    /// Our own.
    Native(Patch<D>),
    /// One that xdelta3 reads.
    Vcdiff(Vcdiff<D>),
}

impl<D: ReadAt> AnyPatch<D> {
    /// Reads what it says about itself.
    pub fn open(file: D, path: &Path, session: &Session) -> Result<Self, Failure> {
        if is_vcdiff(&file).of(path)? {
            return Ok(Self::Vcdiff(Vcdiff::open(file, &session.limits).of(path)?));
        }
        Ok(Self::Native(Patch::open(file, &session.limits).of(path)?))
    }

    /// Refuses more bases than it can have.
    pub fn refuse_more(&self, path: &Path, bases: usize) -> Result<(), Failure> {
        match self {
            Self::Vcdiff(_) if bases > 1 => {
                Err(Failure::refused(path, "a VCDIFF has one base").with_help("give --base once"))
            }
            _ => Ok(()),
        }
    }

    /// The patch, where it has to be one of our own format for that option.
    pub fn native(self, path: &Path, option: &str) -> Result<Patch<D>, Failure> {
        match self {
            Self::Native(patch) => Ok(patch),
            Self::Vcdiff(_) => {
                Err(Failure::refused(path, format_args!("{option} needs a native patch, this is a VCDIFF"))
                    .with_help("make a new image of it with -o OUT"))
            }
        }
    }

    /// Tells what the result lacks.
    pub fn warn(&self, out: &Output) {
        match self {
            Self::Native(patch) if patch.facts().drop_free => {
                out.warn("blocks that no filesystem used read as zero: the patch was made with --drop-free");
            }
            _ => self.warn_unchecked(out),
        }
    }

    /// Tells what nobody can compare.
    pub fn warn_unchecked(&self, out: &Output) {
        let Self::Vcdiff(patch) = self else { return };
        let facts = patch.facts();
        match facts.unchecked {
            0 => {}
            all if all == facts.windows => out.warn("the patch has no checksums: nothing can be verified"),
            some => out.warn(format!(
                "{some} of the {} windows of the patch have no checksum: they cannot be verified",
                facts.windows
            )),
        }
    }
}
