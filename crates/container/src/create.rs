//! Empty images of every format.

use crate::{Error, Format, Result, qcow2, vhd};
use disk::Disk;
use ondisk::Len;

/// What a new image shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Create {
    /// A file of so many bytes.
    Raw(Len),
    /// A VHD.
    Vhd(vhd::create::Spec),
    /// A qcow2 image.
    Qcow2(qcow2::Create),
}

/// A new image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreatePlan {
    /// A file of so many bytes.
    Raw(Len),
    /// A VHD.
    Vhd(vhd::create::CreatePlan),
    /// A qcow2 image.
    Qcow2(qcow2::CreatePlan),
}

impl Create {
    /// Its format.
    #[must_use]
    pub const fn format(&self) -> Format {
        match self {
            Self::Raw(_) => Format::Raw,
            Self::Vhd(_) => Format::Vhd,
            Self::Qcow2(_) => Format::Qcow2,
        }
    }

    /// Plans the image.
    ///
    /// # Errors
    /// Where the format cannot have that size, or the options contradict each other.
    pub fn plan(&self) -> Result<CreatePlan> {
        Ok(match self {
            Self::Raw(len) if len.is_zero() => {
                return Err(Error::Usage { what: "a disk has at least one byte".to_owned() });
            }
            Self::Raw(len) => CreatePlan::Raw(*len),
            Self::Vhd(spec) => CreatePlan::Vhd(vhd::create::plan(spec)?),
            Self::Qcow2(spec) => CreatePlan::Qcow2(spec.plan()?),
        })
    }
}

impl CreatePlan {
    /// Does it, on an empty file.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn apply(self, file: &mut dyn Disk) -> disk::Result<()> {
        match self {
            Self::Raw(len) => file.resize(len),
            Self::Vhd(plan) => plan.apply(file),
            Self::Qcow2(plan) => plan.apply(file),
        }
    }
}
