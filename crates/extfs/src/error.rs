//! What can be wrong with an ext filesystem.

use crate::feature::{Incompat, RoCompat};
use crate::refusal::Refusal;
use crate::unit::{BlockNo, FileBlock, GroupNo, InodeNo};
use ondisk::{Class, Classified, Mismatch};
use std::fmt;

/// The result of reading a filesystem.
pub type Result<T> = std::result::Result<T, Error>;

/// A structure and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The superblock, or the backup of it in a group.
    Superblock(GroupNo),
    /// A group descriptor.
    Descriptor(GroupNo),
    /// The block bitmap of a group.
    BlockBitmap(GroupNo),
    /// The inode bitmap of a group.
    InodeBitmap(GroupNo),
    /// An inode.
    Inode(InodeNo),
    /// The root of an extent tree or of indirect blocks, inside the inode.
    MapRoot(InodeNo),
    /// A block of an extent tree, or an indirect block.
    MapBlock(InodeNo, BlockNo),
    /// A block of a directory.
    Directory(InodeNo, FileBlock),
    /// Data or a directory inside the inode.
    Inline(InodeNo),
    /// Extended attributes inside the inode.
    Xattr(InodeNo),
    /// A block of extended attributes.
    XattrBlock(BlockNo),
    /// A symbolic link.
    Symlink(InodeNo),
    /// The block of multiple mount protection.
    Mmp(BlockNo),
    /// A block of the orphan file.
    Orphans(BlockNo),
    /// The journal.
    Journal,
    /// A block of the journal, counted within it.
    JournalBlock(u32),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Superblock(GroupNo(0)) => f.write_str("superblock"),
            Self::Superblock(g) => write!(f, "group {g}: backup superblock"),
            Self::Descriptor(g) => write!(f, "group {g}: descriptor"),
            Self::BlockBitmap(g) => write!(f, "group {g}: block bitmap"),
            Self::InodeBitmap(g) => write!(f, "group {g}: inode bitmap"),
            Self::Inode(i) => write!(f, "inode {i}"),
            Self::MapRoot(i) => write!(f, "inode {i}: block map"),
            Self::MapBlock(i, b) => write!(f, "inode {i}: map block {b}"),
            Self::Directory(i, b) => write!(f, "directory {i}: block {b}"),
            Self::Inline(i) => write!(f, "inode {i}: inline data"),
            Self::Xattr(i) => write!(f, "inode {i}: extended attributes"),
            Self::XattrBlock(b) => write!(f, "attribute block {b}"),
            Self::Symlink(i) => write!(f, "symbolic link {i}"),
            Self::Mmp(b) => write!(f, "mmp block {b}"),
            Self::Orphans(b) => write!(f, "orphan file block {b}"),
            Self::Journal => f.write_str("journal"),
            Self::JournalBlock(b) => write!(f, "journal block {b}"),
        }
    }
}

/// What can go wrong while reading a filesystem.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk below.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// Not an ext filesystem.
    #[error("no ext2, ext3 or ext4 filesystem: magic number is {found:#06x}, expected 0xef53")]
    Magic {
        /// As found.
        found: u16,
    },
    /// A structure whose checksum differs.
    #[error("{part}: {mismatch}")]
    Checksum {
        /// Which.
        part: Part,
        /// Both values.
        mismatch: Mismatch,
    },
    /// A field with an impossible value.
    #[error("{part}: {field} is {found}, expected {expected}")]
    Field {
        /// In which structure.
        part: Part,
        /// The name of the field in the specification.
        field: &'static str,
        /// As found.
        found: u64,
        /// What would be right.
        expected: String,
    },
    /// A structure that contradicts itself in a way that is not one field's.
    #[error("{part}: {problem}")]
    Broken {
        /// Which.
        part: Part,
        /// How.
        problem: &'static str,
    },
    /// Features that change how everything is read.
    #[error("the filesystem has features that are not supported: {0}")]
    Features(Incompat),
    /// Features that forbid writing.
    #[error("the filesystem has features that allow reading only: {0}")]
    ReadOnlyFeatures(RoCompat),
    /// A property that is legal and not supported.
    #[error("{part}: {what} is not supported")]
    Unsupported {
        /// Where.
        part: Part,
        /// What.
        what: &'static str,
    },
    /// A sound filesystem that will not be resized.
    #[error(transparent)]
    Resize(#[from] Refusal),
    /// No such file in the filesystem.
    #[error("{path}: no such file in the filesystem")]
    NotFound {
        /// The path, made printable.
        path: String,
    },
    /// A file of another kind than was asked for.
    #[error("inode {ino} is not a {wanted}")]
    WrongKind {
        /// Which.
        ino: InodeNo,
        /// What it should have been.
        wanted: &'static str,
    },
    /// More symbolic links in a path than anybody needs.
    #[error("{path}: more than 40 symbolic links")]
    Links {
        /// The path, made printable.
        path: String,
    },
}

impl Error {
    /// A field with an impossible value.
    pub fn field(
        part: Part,
        field: &'static str,
        found: impl Into<u64>,
        expected: impl fmt::Display,
    ) -> Self {
        Self::Field { part, field, found: found.into(), expected: expected.to_string() }
    }

    /// A structure that contradicts itself.
    #[must_use]
    pub const fn broken(part: Part, problem: &'static str) -> Self {
        Self::Broken { part, problem }
    }

    /// For `map_err` after a checksum was verified.
    pub fn checksum(part: Part) -> impl FnOnce(Mismatch) -> Self {
        move |mismatch| Self::Checksum { part, mismatch }
    }
}

impl Classified for Error {
    fn class(&self) -> Class {
        match self {
            Self::Disk(inner) => inner.class(),
            Self::Resize(inner) => inner.class(),
            Self::Magic { .. } | Self::Features(_) | Self::Unsupported { .. } => Class::Unsupported,
            Self::ReadOnlyFeatures(_) => Class::Unsupported,
            Self::Checksum { .. } | Self::Field { .. } | Self::Broken { .. } => Class::Corrupt,
            Self::NotFound { .. } | Self::WrongKind { .. } | Self::Links { .. } => Class::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Disk(inner) => inner.help(),
            Self::Resize(inner) => inner.help(),
            Self::Features(bits) if bits.has(Incompat::JOURNAL_DEV) => {
                Some("this is the external journal of a filesystem, not a filesystem".to_owned())
            }
            _ => None,
        }
    }
}
