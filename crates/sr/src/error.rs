//! What can go wrong with a repository.

use ondisk::guid::Uuid;
use ondisk::{Class, Classified};

/// The result of work on a repository.
pub type Result<T> = std::result::Result<T, Error>;

/// Errors of work on a repository.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes below.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// What lies on the device.
    #[error(transparent)]
    Stack(#[from] stack::Error),
    /// A volume group.
    #[error(transparent)]
    Lvm(#[from] lvm2::Error),
    /// A filesystem.
    #[error("the filesystem of the repository: {0}")]
    Ext(#[from] extfs::Error),
    /// The image of a VDI.
    #[error("{vdi}: {source}")]
    Image {
        /// Which.
        vdi: Uuid,
        /// What is wrong with it.
        source: container::Error,
    },
    /// There is no repository.
    #[error("no volume group of XenServer is here{0}")]
    None(String),
    /// There are several.
    #[error("several repositories are here: {0}")]
    Several(String),
    /// It has no such VDI.
    #[error("there is no VDI {vdi} in repository {sr}")]
    NoVdi {
        /// Asked for.
        vdi: Uuid,
        /// Where.
        sr: String,
    },
    /// The host has begun something, or left something behind.
    #[error("{what}: the host has not finished it")]
    Busy {
        /// The names of journals, and of what was left.
        what: String,
    },
    /// It cannot be copied as it is.
    #[error("the repository is damaged: {what}")]
    Damaged {
        /// The first damage that was found.
        what: String,
    },
    /// Files cannot hold it.
    #[error("{vdi}: {why}")]
    Kept {
        /// Which.
        vdi: Uuid,
        /// Why not.
        why: &'static str,
    },
    /// A VDI stands on something that is not there, or on itself.
    #[error("{vdi}: {why}")]
    Chain {
        /// Which.
        vdi: Uuid,
        /// What is wrong.
        why: String,
    },
}

impl Classified for Error {
    fn class(&self) -> Class {
        match self {
            Self::Disk(inner) => inner.class(),
            Self::Stack(inner) => inner.class(),
            Self::Lvm(inner) => inner.class(),
            Self::Ext(inner) => inner.class(),
            Self::Image { source, .. } => source.class(),
            Self::None(_) | Self::Chain { .. } | Self::Damaged { .. } => Class::Corrupt,
            Self::Several(_) | Self::NoVdi { .. } | Self::Busy { .. } | Self::Kept { .. } => Class::Refused,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Disk(inner) => inner.help(),
            Self::Stack(inner) => inner.help(),
            Self::Lvm(inner) => inner.help(),
            Self::Ext(inner) => inner.help(),
            Self::Image { source, .. } => source.help(),
            Self::Several(_) => Some("name the partition with -p".to_owned()),
            Self::NoVdi { .. } => Some("`imgtool sr scan` lists them".to_owned()),
            Self::Busy { .. } => Some("attach the repository to a host once, which finishes it".to_owned()),
            Self::Damaged { .. } => Some("`imgtool sr check` tells all that is damaged".to_owned()),
            Self::None(_) | Self::Chain { .. } | Self::Kept { .. } => None,
        }
    }
}
