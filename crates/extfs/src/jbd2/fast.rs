//! Fast commits: logical records at the end of the journal, behind the last whole transaction.
//!
//! ```text
//! [head: features, transaction] [record]… [tail: transaction, checksum] [record]… [tail] …
//! ```
//!
//! 1. Records count up to the last tail whose transaction and checksum are right.
//! 2. The transaction is the one that would have come next.

use super::log::Log;
use crate::error::{Error, Part, Result};
use disk::ReadAt;
use ondisk::sum::crc32c;

const PAD: u16 = 7;
const TAIL: u16 = 8;
const HEAD: u16 = 9;

/// Whether there are fast commits that count.
pub(super) fn any<D: ReadAt>(log: &Log<'_, D>, tid: u32) -> Result<bool> {
    if !log.fast {
        return Ok(false);
    }
    let mut crc = 0;
    // The block behind the log is left out.
    for at in log.end.saturating_add(1)..log.len {
        let block = log.read(at)?;
        let begins = u16_at(&block, 0) == Some(HEAD);
        if at == log.end.saturating_add(1) && !begins {
            return Ok(false);
        }
        let mut rest = block.as_slice();
        while let Some((kind, record, behind)) = record(rest) {
            match verdict(kind, record, tid, &mut crc) {
                Verdict::On => rest = behind,
                Verdict::Committed => return Ok(true),
                Verdict::Ended => return Ok(false),
                Verdict::Broken => {
                    let problem = "holds a fast commit that makes no sense";
                    return Err(Error::broken(Part::JournalBlock(at), problem));
                }
            }
        }
    }
    Ok(false)
}

enum Verdict {
    On,
    Committed,
    Ended,
    Broken,
}

fn verdict(kind: u16, record: &[u8], tid: u32, crc: &mut u32) -> Verdict {
    match kind {
        TAIL => {
            // Covered are the head of the record and its transaction.
            let sum = crc32c(*crc, record.get(..8).unwrap_or_default());
            let right = u32_at(record, 4) == Some(tid) && u32_at(record, 8) == Some(sum);
            if right { Verdict::Committed } else { Verdict::Broken }
        }
        HEAD if u32_at(record, 4) != Some(0) => Verdict::Broken,
        HEAD if u32_at(record, 8) != Some(tid) => Verdict::Ended,
        1..=PAD | HEAD => {
            *crc = crc32c(*crc, record);
            Verdict::On
        }
        _ => Verdict::Broken,
    }
}

/// The kind of the first record, its bytes, and what follows it.
fn record(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (kind, len) = (u16_at(bytes, 0)?, usize::from(u16_at(bytes, 2)?));
    let (record, behind) = bytes.split_at_checked(len.saturating_add(4)).unwrap_or((bytes, &[]));
    Some((kind, record, behind))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
