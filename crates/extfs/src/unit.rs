//! The numbers of an ext filesystem as types.

use ondisk::{Len, Offset, Span};
use std::fmt;

macro_rules! unit {
    ($(#[$doc:meta] $name:ident($of:ty);)*) => {$(
        #[$doc]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $of);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

unit! {
    /// A block of the filesystem, counted from its first byte.
    BlockNo(u64);
    /// A number of blocks.
    BlockCount(u64);
    /// A number of clusters: what one bit of a block bitmap stands for. Without `bigalloc` a cluster is a block.
    ClusterCount(u64);
    /// A block group.
    GroupNo(u32);
    /// An inode number; the first is 1.
    InodeNo(u32);
    /// A block of a file, counted from the file's first byte.
    FileBlock(u64);
}

impl BlockNo {
    /// The block `by` blocks further on, at most the last number there is.
    #[must_use]
    pub const fn plus(self, by: u64) -> Self {
        Self(self.0.saturating_add(by))
    }
}

impl FileBlock {
    /// The block `by` blocks further on, at most the last number there is.
    #[must_use]
    pub const fn plus(self, by: u64) -> Self {
        Self(self.0.saturating_add(by))
    }
}

impl InodeNo {
    /// The root directory.
    pub const ROOT: Self = Self(2);
    /// The inode that owns the reserved descriptor blocks.
    pub const RESIZE: Self = Self(7);
    /// The usual place of the journal.
    pub const JOURNAL: Self = Self(8);
}

/// The size of a block: a power of two from 1 KiB to 64 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockSize {
    log: u32,
}

impl BlockSize {
    /// From the superblock's logarithm, which counts from 1 KiB; `None` beyond 64 KiB.
    #[must_use]
    pub const fn from_log(log: u32) -> Option<Self> {
        if log <= 6 { Some(Self { log: log.saturating_add(10) }) } else { None }
    }

    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        1 << self.log
    }

    /// In bytes, as a size in memory.
    #[must_use]
    pub const fn to_usize(self) -> usize {
        1 << self.log
    }

    /// Its binary logarithm.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.log
    }

    /// Bits in a bitmap of one block.
    #[must_use]
    pub const fn bitmap_bits(self) -> u64 {
        self.bytes().saturating_mul(8)
    }

    /// Where a block begins; `None` beyond the end of all numbers.
    #[must_use]
    pub const fn offset_of(self, block: BlockNo) -> Option<Offset> {
        match block.0.checked_mul(self.bytes()) {
            Some(at) => Some(Offset::new(at)),
            None => None,
        }
    }

    /// How long that many blocks are; `None` beyond the end of all numbers.
    #[must_use]
    pub const fn len_of(self, blocks: BlockCount) -> Option<Len> {
        match blocks.0.checked_mul(self.bytes()) {
            Some(len) => Some(Len::new(len)),
            None => None,
        }
    }

    /// The bytes of `count` blocks from `first`; `None` beyond the end of all numbers.
    #[must_use]
    pub fn span_of(self, first: BlockNo, count: BlockCount) -> Option<Span> {
        Span::new(self.offset_of(first)?, self.len_of(count)?)
    }

    /// Whole blocks in `len`.
    #[must_use]
    pub const fn blocks_in(self, len: Len) -> BlockCount {
        BlockCount(len.get() >> self.log)
    }

    /// Blocks that hold `len` bytes, the last one perhaps in part.
    #[must_use]
    pub const fn blocks_for(self, len: Len) -> BlockCount {
        BlockCount(len.get().div_ceil(self.bytes()))
    }
}
