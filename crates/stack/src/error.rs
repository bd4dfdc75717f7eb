//! What can go wrong between the layers.

use crate::layout::VolumeId;
use ondisk::size::Human;
use ondisk::{Class, Classified, Len};

/// Errors of work on several layers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes below.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// The container.
    #[error(transparent)]
    Container(#[from] container::Error),
    /// A patch.
    #[error(transparent)]
    Delta(#[from] delta::Error),
    /// The partition table.
    #[error(transparent)]
    Table(#[from] table::Error),
    /// A volume group.
    #[error(transparent)]
    Lvm(#[from] lvm2::Error),
    /// A filesystem.
    #[error("{volume}: {source}")]
    Ext {
        /// Where it lies.
        volume: VolumeId,
        /// What is wrong with it.
        source: extfs::Error,
    },
    /// A filesystem whose journal or orphans cannot be dealt with.
    #[error("{volume}: {source}")]
    Replay {
        /// Where it lies.
        volume: VolumeId,
        /// Why not.
        source: extfs::jbd2::Error,
    },
    /// No volume is what was named.
    #[error("{wanted}: no such place on this disk, which has {present}")]
    NoPlace {
        /// What was asked for.
        wanted: String,
        /// What there is.
        present: String,
    },
    /// More than one volume could be meant.
    #[error("several places could be meant: {choices}")]
    Several {
        /// They.
        choices: String,
    },
    /// No volume can be meant.
    #[error("{why}")]
    None {
        /// What was looked for and not found.
        why: String,
    },
    /// The size asked for is below the present one.
    #[error("{want} ({} bytes) is less than the present size of {present} ({} bytes)", .want.0, .present.0)]
    Smaller {
        /// Asked for.
        want: Human,
        /// There is.
        present: Human,
    },
    /// A size that has no meaning here.
    #[error("{what}")]
    Size {
        /// Why.
        what: String,
    },
    /// Growing is possible, but we will not do it.
    #[error("{volume}: {why}")]
    Refused {
        /// Where.
        volume: VolumeId,
        /// Why.
        why: String,
        /// The way out.
        help: Option<String>,
    },
    /// A check has found damage in what the change relies on.
    #[error("{what}{}", more(.count))]
    Damaged {
        /// The first finding, with its place.
        what: String,
        /// All findings.
        count: u64,
    },
    /// The staged result is not what the plan promised: a mistake of ours, found before it cost anything.
    #[error("the staged result is wrong and was thrown away: {what}")]
    Result {
        /// How it differs.
        what: String,
    },
}

fn more(count: &u64) -> String {
    match count.saturating_sub(1) {
        0 => String::new(),
        n => format!(" (and {n} more)"),
    }
}

impl Error {
    /// An ext error with its volume.
    pub(crate) const fn ext(volume: &VolumeId) -> impl Fn(extfs::Error) -> Self {
        move |source| Self::Ext { volume: volume.clone(), source }
    }

    /// A size below the present one.
    pub(crate) const fn smaller(want: Len, present: Len) -> Self {
        Self::Smaller { want: Human(want), present: Human(present) }
    }
}

impl Classified for Error {
    fn class(&self) -> Class {
        match self {
            Self::Disk(inner) => inner.class(),
            Self::Container(inner) => inner.class(),
            Self::Delta(inner) => inner.class(),
            Self::Table(inner) => inner.class(),
            Self::Lvm(inner) => inner.class(),
            Self::Ext { source, .. } => source.class(),
            Self::Replay { source, .. } => source.class(),
            Self::NoPlace { .. } | Self::Several { .. } | Self::None { .. } | Self::Smaller { .. } => {
                Class::Refused
            }
            Self::Refused { .. } => Class::Refused,
            Self::Size { .. } => Class::Usage,
            Self::Damaged { .. } => Class::Corrupt,
            Self::Result { .. } => Class::Io,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Disk(inner) => inner.help(),
            Self::Container(inner) => inner.help(),
            Self::Delta(inner) => inner.help(),
            Self::Table(inner) => inner.help(),
            Self::Lvm(inner) => inner.help(),
            Self::Ext { source, .. } => source.help(),
            Self::Replay { source, .. } => source.help(),
            Self::NoPlace { .. } | Self::Several { .. } => Some("name one with -p".to_owned()),
            Self::Smaller { .. } => Some("grow only grows; write +10G for 10 GiB more".to_owned()),
            Self::Refused { help, .. } => help.clone(),
            Self::Damaged { .. } => Some("see `imgtool check` for all findings; repair it first".to_owned()),
            _ => None,
        }
    }
}
