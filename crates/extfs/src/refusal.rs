//! Why a filesystem will not be grown although nothing in it is damaged.

use crate::unit::{BlockCount, BlockNo, GroupNo, InodeNo};
use ondisk::{Class, Classified};

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The journal holds changes that are not yet in place.
    #[error("the journal must be replayed first (needs_recovery is set)")]
    Replay,
    /// Deleted files are still to be freed.
    #[error("orphaned files must be freed first")]
    Orphans,
    /// Somebody has seen errors.
    #[error("the filesystem is marked as having errors")]
    Errors,
    /// It was not unmounted.
    #[error("the filesystem was not unmounted cleanly")]
    NotUnmounted,
    /// Multiple mount protection says that somebody has it.
    #[error("multiple mount protection (mmp) says that {by} uses the filesystem")]
    Mounted {
        /// Who, made printable.
        by: String,
    },
    /// That would be a shrink.
    #[error("{want} blocks are fewer than the filesystem has ({have})")]
    Smaller {
        /// Present blocks.
        have: BlockCount,
        /// Blocks asked for.
        want: BlockCount,
    },
    /// Block numbers would not fit.
    #[error("{want} blocks of {block_bytes} bytes cannot be numbered without the feature 64bit")]
    Without64Bit {
        /// Blocks asked for.
        want: BlockCount,
        /// The size of a block.
        block_bytes: u64,
    },
    /// Inode numbers would not fit.
    #[error("{want} blocks would take more than 2^32-1 inodes at {per_group} inodes in each group")]
    Inodes {
        /// Blocks asked for.
        want: BlockCount,
        /// Inodes in each group.
        per_group: u32,
    },
    /// Groups would not hold their own metadata.
    #[error("descriptors and inode tables for {want} blocks do not fit into groups of {per_group} blocks")]
    Head {
        /// Blocks asked for.
        want: BlockCount,
        /// Blocks in a group.
        per_group: u32,
    },
    /// The reserve is used up, and neither `meta_bg` nor longer heads are possible.
    #[error(
        "{want} blocks need {need} descriptor blocks, there is room for {room}, the boot loader rules out the feature \
         meta_bg, and bigalloc rules out more room"
    )]
    Reserve {
        /// Blocks asked for.
        want: BlockCount,
        /// Descriptor blocks needed.
        need: u32,
        /// Descriptor blocks that there is room for.
        room: u32,
    },
    /// Something that cannot be moved lies where descriptors must go.
    #[error("{what} lies at block {at}, where more descriptors must go")]
    InTheWay {
        /// What.
        what: &'static str,
        /// Where.
        at: BlockNo,
    },
    /// There is nowhere to move things to.
    #[error("group {group}: no {count} neighbouring free blocks for what is in the way of more descriptors")]
    NoRoom {
        /// The group.
        group: GroupNo,
        /// So many blocks.
        count: BlockCount,
    },
    /// A file's extents would have to be split, and their node is full.
    #[error(
        "inode {ino}: parts of it are in the way of more descriptors, and its extent node has no room to say so"
    )]
    Extents {
        /// The inode.
        ino: InodeNo,
    },
    /// The resize inode cannot name blocks beyond 32 bits.
    #[error("the feature resize_inode cannot be kept beyond 2^32 blocks, and {want} were asked for")]
    ResizeInode {
        /// Blocks asked for.
        want: BlockCount,
    },
}

impl Classified for Refusal {
    fn class(&self) -> Class {
        match self {
            Self::Mounted { .. } => Class::InUse,
            Self::Smaller { .. } => Class::Usage,
            _ => Class::Refused,
        }
    }

    fn help(&self) -> Option<String> {
        let text = match self {
            Self::Replay | Self::Orphans => "run `imgtool fs replay`, or start and shut down the guest",
            Self::Errors | Self::NotUnmounted => "repair it with `e2fsck -f` first",
            Self::Mounted { .. } => {
                "stop whoever has it mounted; if nobody has, clear it with `tune2fs -E clear_mmp`"
            }
            Self::Without64Bit { .. } => "convert it with `resize2fs -b` first",
            Self::Reserve { room, .. } => {
                return Some(format!("grow to fewer blocks, so that {room} descriptor blocks are enough"));
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}
