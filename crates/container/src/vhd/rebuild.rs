//! Structures of a VHD that can be put together again from others.
//!
//! 1. The header's checksum survives most damage of the header: what makes it right again was there before. Only where
//!    every other byte is what the footer alone calls for, the checksum itself is what was damaged.
//! 2. The batmap repeats what the bitmaps say.

use super::batmap::{covered, map_len};
use super::bits::{Bits, set};
use super::header::{HEADER_LEN, Header, SECTOR};
use super::layout::{self, BatmapHeader, DIFFERENCING, DynamicHeader, Footer, ParentLocator};
use super::{Sparse, Vhd};
use crate::Result;
use disk::{ReadAt, read_record};
use ondisk::num::low32;
use ondisk::{Len, Offset, Sealed, Span};
use zerocopy::FromZeros;

/// The block size of nearly all images.
const BLOCK: u32 = 2 << 20;

/// The headers that may have been where a damaged one is now.
pub fn headers(file: &dyn ReadAt, footer: &Footer) -> Result<Vec<DynamicHeader>> {
    let at = Offset::new(footer.data_offset.get());
    let span = Span::new(at, HEADER_LEN).filter(|span| Span::whole(file.len()).contains(*span));
    let Some(behind) = span.map(Span::end) else { return Ok(Vec::new()) };
    let found: DynamicHeader = read_record(file, at)?;
    let fixed = DynamicHeader {
        cookie: layout::HEADER_COOKIE,
        data_offset: u64::MAX.into(),
        header_version: layout::VERSION.into(),
        ..found
    };
    let childless = DynamicHeader {
        parent_unique_id: [0; 16],
        parent_timestamp: 0.into(),
        reserved: 0.into(),
        parent_unicode_name: [0; 512],
        parent_locators: [ParentLocator::new_zeroed(); 8],
        reserved2: [0; 256],
        ..fixed
    };
    let blocks = |size: u32| footer.current_size.get().div_ceil(u64::from(size.max(1)));
    let usual = |base: DynamicHeader| {
        [
            base,
            DynamicHeader { table_offset: behind.get().into(), ..base },
            DynamicHeader { block_size: BLOCK.into(), ..base },
            DynamicHeader { max_table_entries: low32(blocks(base.block_size.get())).into(), ..base },
        ]
    };
    let child = footer.disk_type.get() == DIFFERENCING;
    let bases = [fixed, childless];
    let bases = if child { bases.get(..1) } else { bases.get(..) };
    let mut list: Vec<DynamicHeader> =
        bases.unwrap_or_default().iter().flat_map(|base| usual(*base)).collect();
    list.retain(|header| header.verify(&()).is_ok());
    let mut plain = DynamicHeader {
        table_offset: behind.get().into(),
        block_size: BLOCK.into(),
        max_table_entries: low32(blocks(BLOCK)).into(),
        ..childless
    };
    if !child && plain == found {
        plain.seal(&());
        list.push(plain);
    }
    list.retain(|header| Header::of(*header, at, file.len(), footer).is_ok());
    Ok(list)
}

/// A batmap that is made anew.
pub struct Rebuilt {
    pub at: Offset,
    pub header: BatmapHeader,
    pub place: Span,
    pub bits: Vec<u8>,
}

/// The batmap whose header is at `at`; `None` where something else lies in its place.
pub fn batmap<D: ReadAt>(vhd: &Vhd<D>, sparse: &Sparse, at: Offset) -> Result<Option<Rebuilt>> {
    let current = vhd.footers.footer.current_size.get();
    let Some(own) = Span::new(at, Len::new(SECTOR)) else { return Ok(None) };
    let fresh = BatmapHeader {
        cookie: layout::BATMAP_COOKIE,
        batmap_offset: own.end().get().into(),
        batmap_size: low32(map_len(sparse.header.entries, current).get() >> 9).into(),
        batmap_version: 0x0001_0002.into(),
        ..BatmapHeader::new_zeroed()
    };
    let mut candidates = Vec::new();
    if Span::whole(vhd.file.len()).contains(own) {
        let found: BatmapHeader = read_record(&vhd.file, at)?;
        let known = matches!(found.batmap_version.get(), 0x0001_0001 | 0x0001_0002);
        let kept = BatmapHeader { cookie: layout::BATMAP_COOKIE, ..found };
        candidates.extend(Some(kept).filter(|kept| known && kept.key_cookie == 0));
    }
    candidates.push(fresh);
    for header in candidates {
        let len = Len::new(u64::from(header.batmap_size.get()) << 9);
        let place = Span::new(Offset::new(header.batmap_offset.get()), len);
        let Some(place) = place.filter(|_| len >= covered(current)) else { continue };
        if own.intersect(place).is_none() && is_free(vhd, sparse, own)? && is_free(vhd, sparse, place)? {
            return filled(vhd, sparse, at, header, place).map(Some);
        }
    }
    Ok(None)
}

/// Whether only a batmap can be there.
fn is_free<D: ReadAt>(vhd: &Vhd<D>, sparse: &Sparse, place: Span) -> Result<bool> {
    let old = sparse.batmap.spans();
    let others = sparse.metadata.iter().filter(|span| !old.contains(span));
    let mut free = place.end() <= vhd.footers.end.start()
        && others.into_iter().all(|span| span.intersect(place).is_none());
    vhd.each_block(sparse, |_, entry| {
        free &= sparse.block_span(entry).is_none_or(|block| block.intersect(place).is_none());
        Ok(())
    })?;
    Ok(free)
}

fn filled<D: ReadAt>(
    vhd: &Vhd<D>,
    sparse: &Sparse,
    at: Offset,
    mut header: BatmapHeader,
    place: Span,
) -> Result<Rebuilt> {
    let current = vhd.footers.footer.current_size.get();
    let shape = sparse.header.shape;
    let needed = shape.count(Len::new(current));
    let room = place.len().get().saturating_mul(8);
    let mut bits = vhd.limits.buffer("the batmap", place.len())?;
    vhd.each_block(sparse, |index, entry| {
        let Some(block) = sparse.place(entry).filter(|_| index < needed.min(room)) else { return Ok(()) };
        let mut bytes = vec![0; shape.bitmap_bytes()];
        vhd.file.read_at(block.bitmap.start(), &mut bytes)?;
        if Bits::of(bytes, shape) == Bits::All {
            set(&mut bits, index..index.saturating_add(1));
        }
        Ok(())
    })?;
    let sealed = bits.get(..covered(current).to_usize()).unwrap_or_default();
    header.checksum = (!header.sum_of(sealed)).into();
    Ok(Rebuilt { at, header, place, bits })
}
