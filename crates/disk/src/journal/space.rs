//! How much space a journal takes.

use super::layout::{Commit, Entry, Header};
use super::{SECTOR, sector_count};
use ondisk::num::to_u64;
use ondisk::{Len, Span};

/// Bytes that a record for `span` takes, which carries `bytes` of it, with checksums or without.
pub(crate) fn record(span: Span, bytes: Len, summed: bool) -> Len {
    let sums = if summed { sector_count(span).saturating_mul(4) } else { 0 };
    Len::new(bytes.get().saturating_add(sums).saturating_add(to_u64(size_of::<Entry>())))
}

/// A whole journal with such records: with header, commit record, and what fills sectors up.
pub(crate) fn journal(records: impl Iterator<Item = Len>) -> Len {
    let ends = to_u64(size_of::<Header>().saturating_add(size_of::<Commit>()));
    let own = ends.saturating_add(SECTOR.get().saturating_mul(2));
    Len::new(records.map(Len::get).fold(own, u64::saturating_add))
}
