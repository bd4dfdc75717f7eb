//! What descriptor and revoke blocks list.
//!
//! ```text
//! descriptor   [header 12] [tag] [uuid 16?] [tag] …            [checksum 4?]
//! revoke       [header 12] [bytes in use 4] [block number] …   [checksum 4?]
//! ```
//!
//! 1. Tags are 8 bytes apart, 4 more with 64-bit numbers, 2 more with checksums of version 2; 16 with version 3.
//! 2. A UUID follows every tag that does not say otherwise.

use super::log::{Log, Version};
use crate::error::{Error, Part, Result};
use crate::layout::jbd2::{Header, RevokeHeader, TAG_ESCAPE, TAG_LAST, TAG_SAME_UUID, Tag, Tag3};
use crate::unit::BlockNo;
use disk::ReadAt;
use ondisk::num::to_usize;
use zerocopy::FromBytes;

/// A block in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Where it belongs.
    pub(super) block: BlockNo,
    /// Its first four bytes were the magic number and are zero in the log.
    pub(super) escaped: bool,
    /// The stored checksum of the copy in the log.
    pub(super) sum: u32,
}

impl<D: ReadAt> Log<'_, D> {
    const fn stride(&self) -> usize {
        match (self.version, self.wide) {
            (Version::V3, _) => size_of::<Tag3>(),
            (Version::V2, true) => 14,
            (Version::V2, false) => 10,
            (_, true) => 12,
            (_, false) => 8,
        }
    }

    /// The blocks that a descriptor block announces.
    pub(super) fn targets(&self, descriptor: &[u8]) -> Vec<Target> {
        let end = descriptor.len().saturating_sub(self.tail_len());
        let mut all = Vec::new();
        let mut at = size_of::<Header>();
        while at.saturating_add(self.stride()) <= end {
            let Some((target, flags)) = self.target(descriptor.get(at..).unwrap_or_default()) else { break };
            all.push(target);
            let uuid = if flags & TAG_SAME_UUID == 0 { 16 } else { 0 };
            at = at.saturating_add(self.stride()).saturating_add(uuid);
            if flags & TAG_LAST != 0 {
                break;
            }
        }
        all
    }

    fn target(&self, bytes: &[u8]) -> Option<(Target, u32)> {
        let (low, high, flags, sum) = if self.version == Version::V3 {
            let (tag, _) = Tag3::ref_from_prefix(bytes).ok()?;
            let flags = tag.t_flags.get() & 0xffff;
            (tag.t_blocknr.get(), tag.t_blocknr_high.get(), flags, tag.t_checksum.get())
        } else {
            // The last tag of a block may end before its high half, which does not count then.
            let mut padded = [0; size_of::<Tag>()];
            for (to, from) in padded.iter_mut().zip(bytes) {
                *to = *from;
            }
            let tag = Tag::ref_from_bytes(&padded).ok()?;
            let flags = u32::from(tag.t_flags.get());
            (tag.t_blocknr.get(), tag.t_blocknr_high.get(), flags, u32::from(tag.t_checksum.get()))
        };
        let high = if self.wide { high } else { 0 };
        let block = BlockNo(u64::from(high) << 32 | u64::from(low));
        Some((Target { block, escaped: flags & TAG_ESCAPE != 0, sum }, flags))
    }

    /// The blocks that the revoke block `at` names.
    pub(super) fn revoked(&self, at: u32, block: &[u8]) -> Result<Vec<BlockNo>> {
        let part = Part::JournalBlock(at);
        let (head, _) = RevokeHeader::ref_from_prefix(block)
            .map_err(|_| Error::broken(part, "is shorter than its header"))?;
        let max = block.len().saturating_sub(self.tail_len());
        let used = to_usize(head.r_count.get().into());
        if used > max {
            return Err(Error::field(part, "r_count", head.r_count.get(), format!("at most {max}")));
        }
        let list = block.get(size_of::<RevokeHeader>()..used).unwrap_or_default();
        Ok(if self.wide {
            list.as_chunks::<8>().0.iter().map(|b| BlockNo(u64::from_be_bytes(*b))).collect()
        } else {
            list.as_chunks::<4>().0.iter().map(|b| BlockNo(u32::from_be_bytes(*b).into())).collect()
        })
    }
}
