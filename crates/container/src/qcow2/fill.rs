//! Filling a new image: clusters one behind the other, L2 tables and refcount blocks as they become full.
//!
//! ```text
//! | header | L1 | data … | L2 | data … | L2 | refcount block | data … | L2 | refcount block | refcount table |
//! ```
//!
//! 1. The disk comes in order, and so do its L2 tables: one is held at a time.
//! 2. The file is handed out in order, and so are its refcounts: a block is written when the file has passed it.
//! 3. Compressed streams lie byte by byte behind each other; a cluster has as many users as streams touch it.

use super::create::{Create, Tables};
use super::entry::{Plain, Raw};
use super::geom::{Geometry, Guest, Host};
use super::header::REFCOUNT_TABLE_MAX;
use super::layout::COPIED;
use super::pack::Packer;
use super::tally::Tally;
use crate::write::{Layer, Piece, Place, Prepare, Put, What};
use crate::{Error, Result};
use disk::Limits;
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset};
use std::ops::Range;

/// The least that is read at once.
const PIECE: Len = Len::mib(1);

/// The half that works on pieces.
pub(crate) struct Fill {
    geo: Geometry,
    version: u32,
    packed: Option<super::Compression>,
    own: bool,
}

/// What becomes of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cluster {
    /// It reads as zero, whatever the parent has.
    Zero,
    /// Stored, with these parts; others read as zero.
    Stored { stored: u32, zero: u32 },
    /// This stream.
    Packed(Range<usize>),
}

/// What becomes of a piece.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// The clusters that have an entry, by their number in the piece.
    clusters: Vec<(u64, Cluster)>,
    /// Their streams.
    streams: Vec<u8>,
}

impl Fill {
    /// For that image and source.
    pub(crate) fn new(spec: &Create, packed: bool, layer: Layer<'_>) -> Self {
        let packed = packed.then_some(spec.compression);
        Self { geo: spec.geometry(), version: spec.version, packed, own: layer.own }
    }

    /// A cluster that is not zero, or that the image must say to be zero.
    fn stored(&self, piece: &Piece, range: Range<usize>) -> Cluster {
        let mut stored = 0;
        for run in piece.runs_in(range.clone()) {
            let from = to_u64(run.start.saturating_sub(range.start));
            stored |= Plain::touched(self.geo, from, Len::new(to_u64(run.len())));
        }
        let all = Plain::all(self.geo);
        match (stored, self.own) {
            (0, _) if self.version >= 3 => Cluster::Zero,
            (0, _) => Cluster::Stored { stored: all, zero: 0 },
            // Parts that are not stored are the parent's, unless the entry says otherwise.
            (_, true) => Cluster::Stored { stored, zero: all & !stored },
            (_, false) => Cluster::Stored { stored, zero: 0 },
        }
    }
}

impl Prepare for Fill {
    type Tools = Option<Packer>;
    type Made = Made;

    fn piece(&self) -> Len {
        PIECE.max(self.geo.len())
    }

    fn granule(&self) -> Len {
        Len::new(self.geo.part_bytes().min(4096))
    }

    fn unit(&self) -> Len {
        self.geo.len()
    }

    fn tools(&self) -> Result<Option<Packer>> {
        self.packed.map(|how| Packer::new(how, self.geo.cluster_bits())).transpose()
    }

    fn prepare(&self, piece: &Piece, tools: &mut Option<Packer>) -> Result<Made> {
        let mut made = Made::default();
        let bytes = to_usize(self.geo.bytes());
        let mut known = 0;
        for span in piece.parts.iter().map(|part| piece.range_of(part.span)) {
            let first = to_u64(span.start).checked_div(self.geo.bytes()).unwrap_or_default().max(known);
            let end = to_u64(span.end).div_ceil(self.geo.bytes());
            known = known.max(end);
            for index in first..end {
                let start = to_usize(index).saturating_mul(bytes);
                let range = start..start.saturating_add(bytes);
                let empty = piece.runs_in(range.clone()).next().is_none();
                if empty && !self.own {
                    continue;
                }
                let stream = match tools {
                    Some(packer) if !empty => {
                        let begin = made.streams.len();
                        let len = packer.pack(piece.bytes(range.clone()), &mut made.streams);
                        len.map(|len| Cluster::Packed(begin..begin.saturating_add(len)))
                    }
                    _ => None,
                };
                made.clusters.push((index, stream.unwrap_or_else(|| self.stored(piece, range))));
            }
        }
        Ok(made)
    }
}

/// The half that gives places.
pub(crate) struct Order {
    spec: Create,
    geo: Geometry,
    l1: Vec<u64>,
    l1_at: Offset,
    /// The L2 table that is being filled, by its index in the L1 table.
    table: Option<(usize, Vec<u8>)>,
    tally: Tally,
}

impl Order {
    /// For a new image.
    pub(crate) fn new(spec: &Create, limits: &Limits) -> Result<Self> {
        // Its refusals are ours.
        spec.plan()?;
        let geo = spec.geometry();
        let entries = geo.l1_needed(spec.len);
        limits.budget("the L1 table of a new image").take(Len::new(entries.saturating_mul(8)))?;
        let mut tally = Tally::new(geo);
        tally.take(1);
        let l1_at = geo.host_at(tally.take(geo.clusters(Len::new(entries.saturating_mul(8)))));
        Ok(Self { spec: spec.clone(), geo, l1: vec![0; to_usize(entries)], l1_at, table: None, tally })
    }

    /// Gives places to one cluster.
    fn add(&mut self, guest: Guest, cluster: &Cluster, source: Range<usize>, puts: &mut Vec<Put>) {
        let (l1, index) = self.geo.indexes(guest);
        if self.table.as_ref().is_none_or(|(held, _)| *held != l1) {
            self.end_table(puts);
            self.table = Some((l1, vec![0; to_usize(self.geo.bytes())]));
        }
        let raw = match cluster {
            Cluster::Zero => {
                Plain { host: None, stored: 0, zero: Plain::all(self.geo) }.encode(self.geo, true)
            }
            Cluster::Stored { stored, zero } => {
                let at = self.geo.host_at(self.tally.take(1));
                Put { at, what: What::Piece(source) }.append_to(puts);
                Plain { host: Some(at), stored: *stored, zero: *zero }.encode(self.geo, true)
            }
            Cluster::Packed(range) => {
                let at = self.tally.take_bytes(to_u64(range.len()));
                Put { at, what: What::Made(range.clone()) }.append_to(puts);
                Raw::packed(self.geo, at, Len::new(to_u64(range.len())))
            }
        };
        let entry = to_usize(index.saturating_mul(self.geo.entry_bytes()));
        let bytes = [raw.word.to_be_bytes(), raw.parts.to_be_bytes()].concat();
        let bytes = bytes.get(..to_usize(self.geo.entry_bytes())).unwrap_or_default();
        let table = self
            .table
            .as_mut()
            .and_then(|(_, table)| table.get_mut(entry..entry.saturating_add(bytes.len())));
        if let Some(place) = table {
            place.copy_from_slice(bytes);
        }
    }

    /// Writes the L2 table that is held.
    fn end_table(&mut self, puts: &mut Vec<Put>) {
        if let Some((l1, table)) = self.table.take() {
            let at = self.geo.host_at(self.tally.take(1));
            if let Some(entry) = self.l1.get_mut(l1) {
                *entry = at.get() | COPIED;
            }
            puts.push(Put { at, what: What::Bytes(table) });
        }
    }
}

impl Place for Order {
    type Made = Made;

    fn place(&mut self, piece: &Piece, made: &Made) -> Result<Vec<Put>> {
        let mut puts = Vec::new();
        let first = self.geo.guest_of(piece.span.start());
        let bytes = to_usize(self.geo.bytes());
        for (index, cluster) in &made.clusters {
            let start = to_usize(*index).saturating_mul(bytes);
            let source = start..start.saturating_add(bytes);
            self.add(Guest(first.0.saturating_add(*index)), cluster, source, &mut puts);
        }
        self.tally.write_full(&mut puts);
        Ok(puts)
    }

    fn finish(mut self) -> Result<(Vec<Put>, Len)> {
        let mut puts = Vec::new();
        self.end_table(&mut puts);
        let (refcount_table, refcount_table_clusters) = self.tally.finish(&mut puts);
        let table_len = refcount_table_clusters.saturating_mul(self.geo.bytes());
        if table_len > REFCOUNT_TABLE_MAX {
            let (want, limit) = (Len::new(table_len), Len::new(REFCOUNT_TABLE_MAX));
            return Err(Error::TooLarge { format: "a qcow2 refcount table".to_owned(), want, limit });
        }
        let l1: Vec<u8> = self.l1.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        let tables = Tables { l1: self.l1_at, refcount_table, refcount_table_clusters };
        puts.push(Put { at: self.l1_at, what: What::Bytes(l1) });
        puts.push(Put { at: Offset::ZERO, what: What::Bytes(self.spec.header(self.geo, tables)?) });
        Ok((puts, Len::new(self.geo.host_at(Host(self.tally.end())).get())))
    }

    fn bytes(made: &Made) -> &[u8] {
        &made.streams
    }
}

/// The length of the file when every cluster is stored.
pub(crate) fn file_len(spec: &Create) -> Result<Len> {
    spec.plan()?;
    let geo = spec.geometry();
    let data = geo.clusters(spec.len);
    let l2 = data.saturating_mul(geo.entry_bytes()).div_ceil(geo.bytes());
    let l1 = geo.clusters(Len::new(geo.l1_needed(spec.len).saturating_mul(8)));
    let counted = [1, data, l2, l1].into_iter().fold(0, u64::saturating_add);
    let (blocks, table) = super::tally::needed(geo, counted, 0);
    let clusters = counted.saturating_add(blocks).saturating_add(table);
    Ok(Len::new(clusters.saturating_mul(geo.bytes())))
}
