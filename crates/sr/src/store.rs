//! Where the images of a repository lie: in the volumes of a group, or in files.

mod blocks;
mod device;

pub use device::OnDevice;

use crate::Result;
use crate::metadata::Metadata;
use crate::name::Role;
use disk::{Cx, ReadAt};
use ondisk::guid::Uuid;
use ondisk::{Finding, Len};

/// The bytes of a volume or file.
pub type Bytes = Box<dyn ReadAt + Send>;

/// What kind of repository it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A volume group with a volume for each VDI.
    Lvhd,
    /// A volume group with one volume, whose filesystem has a file for each VDI.
    Ext,
    /// A folder of this machine with such files.
    File,
}

impl Kind {
    /// The type as the host knows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lvhd => "lvm",
            Self::Ext => "ext",
            Self::File => "file",
        }
    }
}

/// What a repository is as a whole.
#[derive(Clone, Debug)]
pub struct Title {
    /// Its kind.
    pub kind: Kind,
    /// Its identifier, where its storage tells it.
    pub uuid: Option<Uuid>,
    /// How much it can hold.
    pub size: Len,
    /// How much of that is free.
    pub free: Len,
    /// What `MGT` says, where there is one.
    pub metadata: Option<Metadata>,
    /// What is wrong or strange about its storage.
    pub findings: Vec<Finding>,
}

/// A volume or file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// What the name means.
    pub role: Role,
    /// How long it is.
    pub len: Len,
    /// Marked as the parent of others, beside what its image says.
    pub hidden: bool,
}

/// The volumes or files of a repository.
pub trait Store: Sync {
    /// What the repository is as a whole.
    fn title(&self) -> &Title;
    /// Its volumes or files.
    fn entries(&self) -> &[Entry];
    /// Opens one for reading.
    ///
    /// # Errors
    /// Where it is not there, or cannot be read.
    fn open(&self, entry: &Entry, cx: &Cx<'_>) -> Result<Bytes>;
}
