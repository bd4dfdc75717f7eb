//! Filling a new VHD: blocks one behind the other, tables and footer last.
//!
//! ```text
//! | footer copy | header | BAT | locators |   | bitmap | data |   | bitmap | data | … | footer |
//! ```
//!
//! 1. The data of a block begins at a multiple of 4 KiB, its bitmap in the sector before.
//! 2. On a device the footer stands at its end, wherever the blocks end.
//! 3. Without a parent every sector of a block is the file's. Over a parent only those are that the source holds itself.

use super::bits;
use super::create::{self, CreatePlan, New, Spec};
use super::footer::FOOTER_LEN;
use super::header::{HEADER_LEN, SECTOR};
use crate::write::{Layer, Piece, Place, Prepare, Put, What};
use crate::{Error, Result};
use disk::{MemDisk, ReadAt};
use ondisk::num::{round_up, to_u64, to_usize};
use ondisk::size::Human;
use ondisk::{Len, Offset};

/// The data of a block begins at a multiple of this.
const ALIGN: u64 = 4096;
/// A fixed VHD is read in pieces of this length.
const FIXED_PIECE: Len = Len::mib(1);
/// The data of a block.
pub(super) const BLOCK_LEN: Len = Len::mib(2);

/// The half that works on pieces.
pub(crate) struct Fill {
    fixed: bool,
    own: bool,
}

/// The bitmap of a block; empty where the block is not stored.
pub(crate) type Made = Option<Vec<u8>>;

impl Fill {
    /// For that image and source.
    pub(crate) fn new(spec: &Spec, layer: Layer<'_>) -> Self {
        Self { fixed: spec.kind == New::Fixed, own: layer.own }
    }
}

impl Prepare for Fill {
    type Tools = ();
    type Made = Made;

    fn piece(&self) -> Len {
        if self.fixed { FIXED_PIECE } else { BLOCK_LEN }
    }

    fn granule(&self) -> Len {
        Len::new(ALIGN)
    }

    fn unit(&self) -> Len {
        Len::new(SECTOR)
    }

    fn tools(&self) -> Result<()> {
        Ok(())
    }

    fn prepare(&self, piece: &Piece, (): &mut ()) -> Result<Made> {
        if self.own {
            let mut bitmap = vec![0; BITMAP];
            for part in &piece.parts {
                let range = piece.range_of(part.span);
                bits::set(&mut bitmap, to_u64(range.start) >> 9..to_u64(range.end).div_ceil(SECTOR));
            }
            return Ok(Some(bitmap));
        }
        Ok((!piece.runs().is_empty()).then(|| vec![0xff; BITMAP]))
    }
}

/// The bytes of a bitmap of 2 MiB.
pub(super) const BITMAP: usize = 512;

/// The half that gives places.
pub(crate) struct Order {
    fixed: bool,
    len: Len,
    /// What stands before the blocks; its table is filled as blocks come.
    tables: Vec<u8>,
    footer: Vec<u8>,
    /// The end of the last block.
    end: Offset,
    /// The length of a device.
    room: Option<Len>,
}

impl Order {
    /// For a new image, on a device of that length where it is no file.
    pub(crate) fn new(spec: &Spec, room: Option<Len>) -> Result<Self> {
        let fixed = spec.kind == New::Fixed;
        let (tables, footer) = metadata(create::plan(spec)?, if fixed { spec.len } else { Len::ZERO })?;
        let end = Offset::new(to_u64(tables.len()));
        Ok(Self { fixed, len: spec.len, tables, footer, end, room })
    }
}

/// What an empty image holds behind the first `skip` bytes: tables, and the footer.
pub(super) fn metadata(plan: CreatePlan, skip: Len) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut empty = MemDisk::from_bytes(&[]);
    plan.apply(&mut empty)?;
    let footer_at = empty.len().saturating_sub(FOOTER_LEN);
    let mut tables = vec![0; to_usize(footer_at.saturating_sub(skip).get())];
    let mut footer = vec![0; FOOTER_LEN.to_usize()];
    if !tables.is_empty() {
        empty.read_at(skip.end(), &mut tables)?;
    }
    empty.read_at(footer_at.end(), &mut footer)?;
    Ok((tables, footer))
}

/// Where the bitmap of a block stands that comes behind `end` (invariant 1).
fn bitmap_at(end: Offset) -> Offset {
    let data = round_up(end.get().saturating_add(SECTOR), ALIGN).unwrap_or(u64::MAX);
    Offset::new(data.saturating_sub(SECTOR))
}

/// The end of a block whose bitmap stands there.
fn block_end(bitmap: Offset) -> Offset {
    Offset::new(bitmap.get().saturating_add(SECTOR).saturating_add(BLOCK_LEN.get()))
}

impl Place for Order {
    type Made = Made;

    fn place(&mut self, piece: &Piece, made: &Made) -> Result<Vec<Put>> {
        if self.fixed {
            let there = self.len.end().since(piece.span.start()).unwrap_or_default();
            let bytes = 0..to_usize(there.min(piece.span.len()).get());
            return Ok(vec![Put { at: piece.span.start(), what: What::Piece(bytes) }]);
        }
        let Some(bitmap) = made else { return Ok(Vec::new()) };
        let at = bitmap_at(self.end);
        let index = piece.span.start().get().checked_div(BLOCK_LEN.get()).unwrap_or_default();
        let sector = u32::try_from(at.get() >> 9).ok().filter(|sector| *sector != u32::MAX);
        let too_large = || Error::TooLarge {
            format: "the file of a VHD".to_owned(),
            want: Len::new(at.get()),
            limit: Len::new(u64::from(u32::MAX) << 9),
        };
        let sector = sector.ok_or_else(too_large)?;
        name_block(&mut self.tables, index, sector);
        self.end = block_end(at);
        let data = Put {
            at: Offset::new(at.get().saturating_add(SECTOR)),
            what: What::Piece(0..BLOCK_LEN.to_usize()),
        };
        Ok(vec![Put { at, what: What::Bytes(bitmap.clone()) }, data])
    }

    fn finish(self) -> Result<(Vec<Put>, Len)> {
        let end = if self.fixed { self.len.end() } else { self.end };
        let need = Len::new(end.get()).checked_add(FOOTER_LEN).unwrap_or_default();
        let len = self.room.unwrap_or(need);
        let too_small = || {
            Error::refused(format!("the image takes {}, the device has {}", Human(need), Human(len)), None)
        };
        let footer_at = Len::new(end.get()).checked_add(len.checked_sub(need).ok_or_else(too_small)?);
        let tables = Put { at: Offset::ZERO, what: What::Bytes(self.tables) };
        let footer = Put { at: footer_at.unwrap_or_default().end(), what: What::Bytes(self.footer) };
        Ok((vec![tables, footer], len))
    }

    fn bytes(_: &Made) -> &[u8] {
        &[]
    }
}

/// Enters a block into the tables of an image that we make.
pub(super) fn name_block(tables: &mut [u8], index: u64, sector: u32) {
    let bat_at = FOOTER_LEN.checked_add(HEADER_LEN).unwrap_or_default();
    let entry = to_usize(bat_at.get().saturating_add(index.saturating_mul(4)));
    if let Some(place) = tables.get_mut(entry..entry.saturating_add(4)) {
        place.copy_from_slice(&sector.to_be_bytes());
    }
}

/// What takes space as a whole; nothing does in a fixed VHD, which has all of it.
pub(crate) fn unit(spec: &Spec) -> Option<Len> {
    (spec.kind != New::Fixed).then_some(BLOCK_LEN)
}

/// The length of the file with so many blocks, or with all where there are fewer.
pub(crate) fn file_len(spec: &Spec, blocks: u64) -> Result<Len> {
    let order = Order::new(spec, None)?;
    if order.fixed {
        return Ok(order.finish()?.1);
    }
    let blocks = blocks.min(spec.len.get().div_ceil(BLOCK_LEN.get()));
    let first = block_end(bitmap_at(order.end));
    let step = block_end(bitmap_at(first)).since(first).unwrap_or_default();
    let more = blocks.checked_sub(1).map(|more| more.saturating_mul(step.get()));
    let end = more.map_or(order.end, |more| Offset::new(first.get().saturating_add(more)));
    Ok(Len::new(end.get()).checked_add(FOOTER_LEN).unwrap_or_default())
}
