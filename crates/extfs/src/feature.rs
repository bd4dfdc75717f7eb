//! Feature bits by name.
//!
//! 1. An unknown *incompat* bit: we must not even read.
//! 2. An unknown *`ro_compat`* bit: we may read, not write.
//! 3. An unknown *compat* bit changes nothing that matters to either.

use std::fmt;

macro_rules! features {
    ($(#[$doc:meta])* $set:ident { $($(#[$bit_doc:meta])* $name:ident = $bit:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $set(pub u32);

        impl $set {
            $($(#[$bit_doc])* pub const $name: Self = Self($bit);)*
            /// Every bit that has a name.
            pub const KNOWN: Self = Self(0 $(| $bit)*);

            /// Whether all bits of `other` are set.
            #[must_use]
            pub const fn has(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// The bits of both.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// The bits that are not in `other`.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            /// Whether no bit is set.
            #[must_use]
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// The names of the bits, those without a name left out.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                [$((Self::$name, $text)),*].into_iter().filter(move |(bit, _)| self.has(*bit)).map(|(_, text)| text)
            }
        }

        impl fmt::Display for $set {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut gap = "";
                $(if self.has(Self::$name) {
                    write!(f, "{gap}{}", $text)?;
                    gap = " ";
                })*
                let unknown = self.without(Self::KNOWN);
                if unknown.is_empty() { Ok(()) } else { write!(f, "{gap}{:#x}", unknown.0) }
            }
        }
    };
}

features! {
    /// Features that older code may ignore.
    Compat {
        /// Preallocates directory blocks.
        DIR_PREALLOC = 0x1, "dir_prealloc";
        /// Used by AFS servers.
        IMAGIC_INODES = 0x2, "imagic_inodes";
        /// There is a journal.
        HAS_JOURNAL = 0x4, "has_journal";
        /// Extended attributes.
        EXT_ATTR = 0x8, "ext_attr";
        /// Inode 7 owns reserved descriptor blocks.
        RESIZE_INODE = 0x10, "resize_inode";
        /// Hashed directories.
        DIR_INDEX = 0x20, "dir_index";
        /// Never in a release.
        LAZY_BG = 0x40, "lazy_bg";
        /// Snapshots that were never merged.
        EXCLUDE_INODE = 0x80, "exclude_inode";
        /// Snapshots that were never merged.
        EXCLUDE_BITMAP = 0x100, "snapshot_bitmap";
        /// At most two backups of the superblock.
        SPARSE_SUPER2 = 0x200, "sparse_super2";
        /// The journal may hold logical records.
        FAST_COMMIT = 0x400, "fast_commit";
        /// Inode numbers and UUID are key material.
        STABLE_INODES = 0x800, "stable_inodes";
        /// A file of orphans instead of a list.
        ORPHAN_FILE = 0x1000, "orphan_file";
    }
}

features! {
    /// Features that must be understood to read.
    Incompat {
        /// Compressed files.
        COMPRESSION = 0x1, "compression";
        /// Directory entries carry the file type.
        FILETYPE = 0x2, "filetype";
        /// The journal must be replayed.
        RECOVER = 0x4, "needs_recovery";
        /// Not a filesystem but the journal of one.
        JOURNAL_DEV = 0x8, "journal_dev";
        /// Descriptor blocks lie in their meta groups.
        META_BG = 0x10, "meta_bg";
        /// Files mapped by extents.
        EXTENTS = 0x40, "extent";
        /// Block numbers beyond 32 bits.
        BIT64 = 0x80, "64bit";
        /// Multiple mount protection.
        MMP = 0x100, "mmp";
        /// Bitmaps and tables may lie in any group.
        FLEX_BG = 0x200, "flex_bg";
        /// Large attribute values in inodes of their own.
        EA_INODE = 0x400, "ea_inode";
        /// Data in directory entries.
        DIRDATA = 0x1000, "dirdata";
        /// The checksum seed is stored.
        CSUM_SEED = 0x2000, "metadata_csum_seed";
        /// Three-level hashed directories beyond 2 GiB.
        LARGEDIR = 0x4000, "large_dir";
        /// Small files inside their inode.
        INLINE_DATA = 0x8000, "inline_data";
        /// Encrypted files.
        ENCRYPT = 0x1_0000, "encrypt";
        /// Directories that ignore case.
        CASEFOLD = 0x2_0000, "casefold";
    }
}

features! {
    /// Features that must be understood to write.
    RoCompat {
        /// Backups only in groups 0, 1 and powers of 3, 5 and 7.
        SPARSE_SUPER = 0x1, "sparse_super";
        /// Files beyond 2 GiB.
        LARGE_FILE = 0x2, "large_file";
        /// Never used.
        BTREE_DIR = 0x4, "btree_dir";
        /// File sizes counted in blocks.
        HUGE_FILE = 0x8, "huge_file";
        /// Descriptors with a 16-bit checksum; uninitialised groups.
        GDT_CSUM = 0x10, "uninit_bg";
        /// Directories with many subdirectories.
        DIR_NLINK = 0x20, "dir_nlink";
        /// Inodes with more than 128 bytes of fields.
        EXTRA_ISIZE = 0x40, "extra_isize";
        /// Snapshots that were never merged.
        HAS_SNAPSHOT = 0x80, "snapshot";
        /// Quota files are filesystem metadata.
        QUOTA = 0x100, "quota";
        /// Allocation in clusters of blocks.
        BIGALLOC = 0x200, "bigalloc";
        /// Checksums on all metadata.
        METADATA_CSUM = 0x400, "metadata_csum";
        /// Never merged.
        REPLICA = 0x800, "replica";
        /// Never to be mounted writable.
        READONLY = 0x1000, "read-only";
        /// Project quotas.
        PROJECT = 0x2000, "project";
        /// Files share blocks.
        SHARED_BLOCKS = 0x4000, "shared_blocks";
        /// Files with Merkle trees.
        VERITY = 0x8000, "verity";
        /// The orphan file has entries.
        ORPHAN_PRESENT = 0x1_0000, "orphan_present";
    }
}

impl Incompat {
    /// What we can read.
    pub const READABLE: Self =
        Self::KNOWN.without(Self(Self::COMPRESSION.0 | Self::JOURNAL_DEV.0 | Self::DIRDATA.0));
    /// What ext3 has.
    pub const EXT3: Self = Self(Self::FILETYPE.0 | Self::RECOVER.0 | Self::META_BG.0);
}

impl RoCompat {
    /// What we can write.
    pub const WRITABLE: Self = Self::KNOWN.without(Self(
        Self::BTREE_DIR.0 | Self::HAS_SNAPSHOT.0 | Self::REPLICA.0 | Self::READONLY.0 | Self::SHARED_BLOCKS.0,
    ));
    /// What ext3 has.
    pub const EXT3: Self = Self(Self::SPARSE_SUPER.0 | Self::LARGE_FILE.0 | Self::BTREE_DIR.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_leftovers() {
        assert_eq!((Incompat::EXTENTS.with(Incompat(0x8000_0000))).to_string(), "extent 0x80000000");
        assert_eq!(RoCompat::default().to_string(), "");
        assert!(!Incompat::READABLE.has(Incompat::JOURNAL_DEV));
        assert!(Incompat::READABLE.has(Incompat::CASEFOLD));
    }
}
