//! The hash tree of a directory: what its nodes promise, and what its leaves hold.
//!
//! ```text
//! root (block 0)   [hash block] [hash block] …       a leaf holds the names from its hash up to the next one's
//! node             [hash block] …                    as deep as the root says
//! leaf             names
//! ```

use super::finding::What;
use super::hash::{Hash, Version};
use crate::layout::{DxCountLimit, DxEntry, DxRootInfo};
use ondisk::num::{low32, to_u64, to_usize};
use zerocopy::FromBytes;

/// The largest hash there is.
const HASH_MAX: u32 = 0xffff_fffe;
/// Block numbers in a tree have so many bits.
const BLOCK_MASK: u32 = 0x0fff_ffff;

/// What a block is in the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Role {
    /// Not seen yet.
    #[default]
    Unknown,
    Root,
    Node,
    Leaf,
}

/// What is known of a block.
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    role: Role,
    parent: u32,
    previous: u32,
    /// What lies in it.
    least: u32,
    most: u32,
    /// What its parent promises.
    from: u32,
    to: u32,
    referenced: u32,
    first: bool,
    last: bool,
}

/// A tree under way.
pub(super) struct Tree {
    blocks: Vec<Block>,
    pub(super) hash: Option<Hash>,
    depth: u32,
    checksums: bool,
    block_bytes: usize,
}

impl Tree {
    /// A tree over so many blocks of a directory.
    pub(super) fn new(count: usize, block_bytes: usize, checksums: bool) -> Self {
        let empty = Block { least: u32::MAX, ..Block::default() };
        Self { blocks: vec![empty; count], hash: None, depth: 0, checksums, block_bytes }
    }

    /// Memory that a tree over so many blocks takes.
    pub(super) fn memory(count: u64) -> u64 {
        count.saturating_mul(to_u64(size_of::<Block>()))
    }

    /// Reads the root's header; `levels` is how deep trees may be.
    pub(super) fn root(
        &mut self,
        bytes: &[u8],
        levels: u8,
        stored: bool,
        seed: [u32; 4],
        unsigned: bool,
    ) -> Option<What> {
        let Ok((info, _)) = DxRootInfo::ref_from_prefix(bytes.get(24..).unwrap_or_default()) else {
            return Some(What::Broken("has no room for the head of a hash tree"));
        };
        if info.reserved_zero.get() != 0 || info.info_length < 8 {
            return Some(What::Broken("has no head of a hash tree"));
        }
        let version = Version::of(info.hash_version);
        let Some(version) = version.filter(|version| (*version == Version::Stored) == stored) else {
            return Some(What::field(
                "hash_version",
                info.hash_version,
                "a hash function for this directory",
            ));
        };
        if info.unused_flags & 1 != 0 {
            return Some(What::field("unused_flags", info.unused_flags, 0));
        }
        if info.indirect_levels >= levels {
            return Some(What::field("indirect_levels", info.indirect_levels, format!("less than {levels}")));
        }
        self.depth = u32::from(info.indirect_levels).saturating_add(1);
        self.hash = Some(Hash { version, unsigned, seed });
        None
    }

    /// Whether a block that is not the root is a node: one empty entry, and entries of the tree in it.
    pub(super) fn is_node(&self, bytes: &[u8]) -> bool {
        let empty = bytes.get(..4) == Some(&[0; 4]) && bytes.get(6) == Some(&0);
        let rec_len = bytes.get(4..).and_then(<[u8]>::first_chunk).map(|len| u16::from_le_bytes(*len));
        let whole = super::dir::rec_len(rec_len.unwrap_or_default(), bytes.len()) == bytes.len();
        let limit = DxCountLimit::ref_from_prefix(bytes.get(8..).unwrap_or_default());
        empty && whole && limit.is_ok_and(|(limit, _)| usize::from(limit.limit.get()) == self.limit(8))
    }

    fn limit(&self, first: usize) -> usize {
        let tail = if self.checksums { 8 } else { 0 };
        self.block_bytes.saturating_sub(first).saturating_sub(tail).checked_div(8).unwrap_or_default()
    }

    /// Reads the entries of the root or of a node.
    pub(super) fn node(&mut self, at: usize, bytes: &[u8]) -> Option<What> {
        let info = bytes.get(29).copied().unwrap_or_default();
        let first = if at == 0 { usize::from(info).saturating_add(24) } else { 8 };
        let entries = bytes.get(first..).unwrap_or_default();
        let Ok((head, _)) = DxCountLimit::ref_from_prefix(entries) else {
            return Some(What::Broken("has no room for entries of the hash tree"));
        };
        let (limit, count) = (usize::from(head.limit.get()), usize::from(head.count.get()));
        let expected = self.limit(first);
        if limit != expected {
            return Some(What::field("limit", head.limit.get(), expected));
        }
        if count > limit {
            return Some(What::field("count", head.count.get(), format!("at most {limit}")));
        }
        let entry = |index: usize| {
            let raw =
                entries.get(index.saturating_mul(8)..).and_then(|raw| DxEntry::ref_from_prefix(raw).ok());
            let (hash, block) =
                raw.map_or((0, 0), |(raw, _)| (raw.hash.get() & !1, raw.block.get() & BLOCK_MASK));
            (if index == 0 { 0 } else { hash }, block)
        };
        let (mut least, mut most, mut before) = (u32::MAX, 0, (0, 0));
        for index in 0..count {
            let (hash, block) = entry(index);
            let Some(child) = self.blocks.get_mut(to_usize(block.into())) else {
                return Some(What::field("a block of the hash tree", block, "a block of the directory"));
            };
            if hash < before.0 {
                return Some(What::field("hash", hash, format!("at least {}", before.0)));
            }
            if child.referenced == 0 {
                child.parent = low32(to_u64(at));
            }
            child.referenced = child.referenced.saturating_add(1);
            child.previous = before.1;
            child.from = hash;
            let next = index.saturating_add(1);
            child.last |= next == count;
            child.first |= index == 0;
            child.to = if next < count { entry(next).0 } else { HASH_MAX };
            (least, most, before) = (least.min(hash), most.max(hash), (hash, block));
        }
        if let Some(block) = self.blocks.get_mut(at) {
            (block.least, block.most) = (least, most);
            block.role = if at == 0 { Role::Root } else { Role::Node };
        }
        None
    }

    /// Notes that a block is a leaf.
    pub(super) fn leaf(&mut self, at: usize) {
        if let Some(block) = self.blocks.get_mut(at) {
            block.role = Role::Leaf;
        }
    }

    /// Notes the hash of a name.
    pub(super) fn name(&mut self, at: usize, hash: u32) {
        if let Some(block) = self.blocks.get_mut(at).filter(|block| block.role == Role::Leaf) {
            block.least = block.least.min(hash);
            block.most = block.most.max(hash);
        }
    }

    /// Compares what nodes promise with what there is; the block where they differ.
    pub(super) fn finish(mut self) -> Option<(u64, What)> {
        if let Some(root) = self.blocks.first_mut() {
            root.referenced = root.referenced.saturating_add(1);
            (root.first, root.last) = (true, true);
        }
        self.propagate(Role::Leaf);
        self.propagate(Role::Node);
        for (at, block) in self.blocks.iter().enumerate() {
            let what = if block.referenced == 0 {
                Some(What::Broken("is in no node of the hash tree"))
            } else if block.referenced > 1 {
                Some(What::Broken("is in the hash tree twice"))
            } else if !block.first && block.least < block.from {
                Some(What::field("the least hash in it", block.least, format!("at least {}", block.from)))
            } else if at > 0 && block.most > block.to {
                Some(What::field("the greatest hash in it", block.most, format!("at most {}", block.to)))
            } else if block.role == Role::Leaf && self.depth_of(block) != self.depth {
                Some(What::field("its depth in the hash tree", self.depth_of(block), self.depth))
            } else {
                None
            };
            if let Some(what) = what {
                return Some((to_u64(at), what));
            }
        }
        None
    }

    /// Carries what the outermost children hold up to their parents.
    fn propagate(&mut self, role: Role) {
        for at in 0..self.blocks.len() {
            let Some(block) = self.blocks.get(at).copied().filter(|block| block.role == role) else {
                continue;
            };
            let Some(parent) = self.blocks.get_mut(to_usize(block.parent.into())) else { continue };
            if block.last {
                parent.most = block.most;
            }
            if block.first {
                parent.least = block.least;
                let (previous, least) = (to_usize(parent.previous.into()), parent.least);
                if let Some(before) = self.blocks.get_mut(previous).filter(|_| previous != 0) {
                    before.to = least;
                }
            }
        }
    }

    fn depth_of(&self, block: &Block) -> u32 {
        let (mut depth, mut block) = (0_u32, *block);
        while block.role != Role::Root && depth < 8 {
            block = self.blocks.get(to_usize(block.parent.into())).copied().unwrap_or_default();
            depth = depth.saturating_add(1);
        }
        depth
    }
}
