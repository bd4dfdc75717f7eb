//! A volume group under change.
//!
//! 1. A draft starts from a volume group that may be changed at all: sound, complete, of one host, not in the middle
//!    of something.
//! 2. A step edits the text and reads the model from it again: both always say the same.
//! 3. What fails leaves the draft as it was.

use crate::build;
use crate::check;
use crate::model::Vg;
use crate::text::{BadText, Edit, Text};
use crate::unit::{ExtentCount, ExtentSize};
use crate::{Error, Result};
use disk::Limits;
use ondisk::size::Human;
use ondisk::{Len, Offset};
use std::fmt;

/// A volume group with the changes that are wanted.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    pub(crate) old: &'a Vg,
    pub(crate) new: Vg,
    pub(crate) changes: Vec<Change>,
    pub(crate) limits: Limits,
}

/// What becomes of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A physical volume gains extents.
    Pv {
        /// Its name in the text.
        name: String,
        /// Extents now.
        before: ExtentCount,
        /// Extents then.
        after: ExtentCount,
        /// Their size.
        size: ExtentSize,
    },
    /// The metadata area at the end of a physical volume follows the end.
    Area {
        /// The physical volume's name in the text.
        pv: String,
        /// Where it begins now.
        before: Offset,
        /// Where it begins then.
        after: Offset,
    },
    /// A metadata area that could not be read gets the text that the others have.
    Mended {
        /// The physical volume's name in the text.
        pv: String,
        /// Where the area begins.
        at: Offset,
    },
    /// A logical volume gains extents.
    Lv {
        /// Volume group and name.
        name: String,
        /// Its size now.
        before: Len,
        /// Its size then.
        after: Len,
        /// How many segments it gains.
        segments: usize,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pv { name, before, after, size } => {
                write!(f, "physical volume {name}: {before} -> {after} extents of {size}")
            }
            Self::Area { pv, before, after } => {
                write!(
                    f,
                    "physical volume {pv}: metadata area at the end moves from byte {before} to {after}"
                )
            }
            Self::Mended { pv, at } => {
                write!(f, "physical volume {pv}: metadata area at byte {at} gets the text of the others")
            }
            Self::Lv { name, before, after, segments } => {
                write!(f, "logical volume {name}: {} -> {}", Human(*before), Human(*after))?;
                match segments {
                    0 => Ok(()),
                    1 => f.write_str(" (1 new segment)"),
                    more => write!(f, " ({more} new segments)"),
                }
            }
        }
    }
}

impl<'a> Draft<'a> {
    /// A draft without changes.
    ///
    /// # Errors
    /// Where the volume group must not be changed: it is damaged, physical volumes are missing, it is exported,
    /// clustered, shared, read-only or not resizeable.
    pub fn of(vg: &'a Vg, limits: &Limits) -> Result<Self> {
        vg.require_sound()?;
        let missing: Vec<String> = vg.missing().map(|pv| format!("{} ({})", pv.name, pv.uuid)).collect();
        if !missing.is_empty() {
            return Err(Error::Missing { vg: vg.name.clone(), names: missing });
        }
        let what = format!("volume group {}", vg.name);
        let refused = |why: &str| Err(Error::Refused { what: what.clone(), why: why.to_owned() });
        let has = |status: &str| vg.status.iter().any(|one| one == status);
        if let Some(kind) = vg.lock_type.as_deref().filter(|kind| *kind != "none") {
            let kind = ondisk::text::Printable(kind.as_bytes());
            return refused(&format!("is shared between hosts (lock_type {kind})"));
        }
        if has("CLUSTERED") || has("SHARED") {
            return refused("is shared between hosts of a cluster");
        }
        if has("EXPORTED") || vg.pvs.iter().any(|pv| pv.has("EXPORTED")) {
            return refused("is exported: nobody may change it before it is imported");
        }
        if !has("RESIZEABLE") {
            return refused("is not resizeable (vgchange -x y makes it so)");
        }
        if !has("WRITE") {
            return refused("is read-only");
        }
        if let Some(pv) = vg.pvs.iter().find(|pv| pv.has("MISSING") || pv.has("PARTIAL")) {
            return refused(&format!("went on without physical volume {}, whose data may be old", pv.name));
        }
        let known = |status: &&String| matches!(status.as_str(), "RESIZEABLE" | "READ" | "WRITE");
        if let Some(status) = vg.status.iter().find(|status| !known(status)) {
            return Err(Error::Unsupported { what, why: format!("has status {status}") });
        }
        Ok(Self { old: vg, new: vg.clone(), changes: Vec::new(), limits: *limits })
    }

    /// The volume group with the changes.
    #[must_use]
    pub const fn vg(&self) -> &Vg {
        &self.new
    }

    /// The changes so far.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The volume group after edits of its text, on the same devices.
    pub(crate) fn edited(&self, edits: Vec<Edit>) -> Result<Vg> {
        let odd = |why: String| Error::Unsupported {
            what: format!("volume group {}", self.old.name),
            why: format!("cannot be edited: {why}"),
        };
        let text: Text = self.new.text.edited(edits, &self.limits).map_err(|error| match error {
            BadText::Memory(error) => error.into(),
            BadText::Syntax { at, what } => odd(format!("{what} at byte {at} of the new text")),
        })?;
        let mut vg = build::vg(text).map_err(odd)?;
        for (new, old) in vg.pvs.iter_mut().zip(&self.new.pvs) {
            new.device.clone_from(&old.device);
        }
        Ok(vg)
    }

    /// Refuses where the changes contradict each other or the devices.
    pub(crate) fn require_sound(&self) -> Result<()> {
        let mut new = self.new.clone();
        new.findings.extend(check::devices(&self.new));
        new.require_sound()
    }
}
