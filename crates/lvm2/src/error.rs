//! Errors of volume groups.

use crate::unit::ExtentCount;
use ondisk::{Class, Classified, Len};

/// What can go wrong with a volume group.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes cannot be read.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// There is a label, but not enough of it is left to be read.
    #[error("{0}")]
    Unreadable(String),
    /// The metadata can be read, but contradict themselves: they must be mended before they are changed.
    #[error("volume group {vg} is damaged: {first}{}", others(*.more))]
    Damaged {
        /// Which.
        vg: String,
        /// The first thing found.
        first: String,
        /// How many more there are.
        more: usize,
    },
    /// Physical volumes that are not at hand: the metadata on all of them must be changed together.
    #[error("volume group {vg} needs {} not here: {}", volumes(.names.len()), .names.join(", "))]
    Missing {
        /// Which.
        vg: String,
        /// The physical volumes.
        names: Vec<String>,
    },
    /// A volume group, physical or logical volume that must not be changed.
    #[error("{what} {why}")]
    Refused {
        /// What.
        what: String,
        /// Why not.
        why: String,
    },
    /// Something that we do not know how to change.
    #[error("{what} {why}")]
    Unsupported {
        /// What.
        what: String,
        /// What it is.
        why: String,
    },
    /// A logical volume that is not there.
    #[error("volume group {vg} has no logical volume {lv}")]
    NoLv {
        /// Where.
        vg: String,
        /// As asked for, made printable.
        lv: String,
    },
    /// A physical volume that is not there.
    #[error("volume group {vg} has no physical volume number {number}")]
    NoPv {
        /// Where.
        vg: String,
        /// As asked for.
        number: usize,
    },
    /// A device shorter than what lies on it.
    #[error("a device of {len} bytes is shorter than physical volume {pv}, which needs {need}")]
    Short {
        /// Which.
        pv: String,
        /// As asked for.
        len: Len,
        /// At least.
        need: Len,
    },
    /// A size below the present one.
    #[error("logical volume {lv} has {has} extents, growing cannot give it {wanted}")]
    Backwards {
        /// Which.
        lv: String,
        /// Now.
        has: ExtentCount,
        /// As asked for.
        wanted: ExtentCount,
    },
    /// Not enough free extents.
    #[error("logical volume {lv} needs {need} more extents, {free} {}", free_where(*.contiguous))]
    NoRoom {
        /// Which.
        lv: String,
        /// As asked for.
        need: ExtentCount,
        /// How many it could have.
        free: ExtentCount,
        /// Whether only those right behind it would do.
        contiguous: bool,
    },
    /// The new text would not fit beside the present one.
    #[error("the new metadata take {need} bytes, a metadata area has room for {limit}")]
    NoRoomForText {
        /// Its size.
        need: Len,
        /// What fits.
        limit: Len,
    },
    /// A logical volume whose bytes cannot be told.
    #[error("logical volume {lv}: {why}")]
    NotMapped {
        /// Which.
        lv: String,
        /// Why not.
        why: String,
    },
}

fn others(more: usize) -> String {
    if more == 0 { String::new() } else { format!(" (and {more} more)") }
}

const fn volumes(count: usize) -> &'static str {
    if count == 1 { "a physical volume that is" } else { "physical volumes that are" }
}

const fn free_where(contiguous: bool) -> &'static str {
    if contiguous { "are free right behind it" } else { "are free where it can use them" }
}

impl Classified for Error {
    fn class(&self) -> Class {
        match self {
            Self::Disk(inner) => inner.class(),
            Self::Unreadable(_) | Self::Damaged { .. } => Class::Corrupt,
            Self::Unsupported { .. } | Self::NotMapped { .. } => Class::Unsupported,
            Self::NoLv { .. } | Self::NoPv { .. } => Class::Usage,
            Self::Missing { .. }
            | Self::Refused { .. }
            | Self::Short { .. }
            | Self::Backwards { .. }
            | Self::NoRoom { .. }
            | Self::NoRoomForText { .. } => Class::Refused,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Disk(inner) => inner.help(),
            Self::Damaged { .. } => {
                Some("`imgtool check` lists everything; `--repair` mends what a copy proves, LVM2's own vgck or vgcfgrestore the rest".to_owned())
            }
            _ => None,
        }
    }
}
