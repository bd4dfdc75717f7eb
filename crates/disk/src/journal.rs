//! The file that makes a change atomic.
//!
//! ```text
//! header   512 bytes: magic, version, old and new length, for people: identity, time, command
//! payload  of each record in order: new bytes (home with bytes), then a CRC-32C for each of its 512-byte sectors
//! table    64 bytes a record, padded to 512
//! commit   512 bytes: magic, count, place of the table, BLAKE3 of everything before it
//! ```
//!
//! 1. A journal without a valid commit record is void: whoever wrote it has not touched the image yet.
//! 2. Records are ascending, disjoint and at most 1 MiB long. Home and shadowed lie inside both lengths, fresh and poured
//!    inside the new one.
//! 3. Home carries its new bytes (or says zeros) and the checksums of the old sectors; fresh carries the digest and,
//!    inside the old length, the checksums of its new bytes. What it replaces there read as zero, so that undoing it is
//!    zeroing; behind the old end undoing it is cutting, whatever lies there. What is poured has neither.
//! 4. Everything read back is bounded by the length of the file and by the memory allowed, then checked against 2.
//!
//! An undo file is the journal of the way back, under another magic: its old bytes are those of the finished change.

pub(crate) mod layout;
mod read;
pub(crate) mod space;
mod write;

pub(crate) use read::{Found, Journal};
pub(crate) use write::Writer;

use crate::Identity;
use ondisk::num::round_down;
use ondisk::{Len, Offset, Span};

/// Records are at most this long.
pub(crate) const RECORD_MAX: Len = Len::mib(1);
/// The grain of checksums and of tearing.
pub(crate) const SECTOR: Len = Len::new(512);

/// What the header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub old_len: Len,
    pub new_len: Len,
    pub identity: Identity,
    pub created: u64,
    pub about: Vec<u8>,
}

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Journal,
    Undo,
}

/// What a record does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Written before the first home write; the record can tell whether it is there.
    Fresh,
    /// As [`What::Fresh`], but that only a home write that is there tells whether it is whole.
    Poured,
    /// As [`What::Poured`], over bytes that do not matter: it stays when the change is undone.
    Shadowed,
    /// Overwritten, with these bytes.
    Home,
    /// Overwritten, with zeros.
    HomeZero,
    /// Only in undo files: bytes that a shrink cut off.
    Tail,
}

/// One record, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub what: What,
    pub span: Span,
    /// In the journal: the new bytes; empty where there are none.
    pub bytes: Span,
    /// In the journal: one checksum a sector.
    pub sums: Span,
    /// Of the new bytes, for fresh ones.
    pub digest: [u8; 32],
}

/// The sectors of the image that `span` touches, each with its part of `bytes`, which are those of `span`.
pub(crate) fn sectors(span: Span, bytes: &[u8]) -> impl Iterator<Item = (Span, &[u8])> {
    let mut rest = (span, bytes);
    std::iter::from_fn(move || {
        let (span, bytes) = rest;
        let boundary = span.start().get().checked_add(1)?.checked_next_multiple_of(SECTOR.get())?;
        let cut = Offset::new(boundary).min(span.end());
        let head = Span::between(span.start(), cut).filter(|head| !head.is_empty())?;
        let (part, tail) = bytes.split_at_checked(head.len().to_usize())?;
        rest = (Span::between(cut, span.end())?, tail);
        Some((head, part))
    })
}

/// How many sectors of the image `span` touches.
pub(crate) fn sector_count(span: Span) -> u64 {
    let first = round_down(span.start().get(), SECTOR.get()).unwrap_or_default();
    span.end().get().saturating_sub(first).div_ceil(SECTOR.get())
}

/// The checksum of one sector.
pub(crate) fn sum(sector: &[u8]) -> u32 {
    ondisk::sum::crc32c(!0, sector)
}
