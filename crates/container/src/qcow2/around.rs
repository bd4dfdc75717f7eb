//! Tables around a disk that lies in its file as it is.
//!
//! ```text
//! 0        1                  N            N + 1
//! | header | the disk's own … | its first  | L1 | L2 … | refcount table | refcount blocks |
//! ```
//!
//! 1. Cluster i of the disk is cluster i of the file, but for the first, which makes room for the header.
//! 2. A hole of the file stays one: nothing refers to it.

use super::create::{Create, Room, Tables};
use super::entry::Plain;
use super::geom::{Geometry, Guest, Host};
use super::{layout, store};
use crate::{Error, Result};
use disk::{Change, Disk, Limits, Overlay, ReadAt};
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset, Span};

/// So much of the file is looked at at once.
const WINDOW: Len = Len::gib(1);

/// Where everything goes.
struct Plan {
    geo: Geometry,
    order: u32,
    /// Clusters of the disk.
    guests: u64,
    /// Which of them are stored, by bit.
    stored: Vec<u8>,
    /// The L1 entries that have a table.
    tables: Vec<usize>,
    l1: Host,
    l2: Host,
    refcounts: Host,
    blocks: Host,
    end: Host,
}

impl Create {
    /// The change by which the disk of `len` bytes that `file` begins with becomes the disk of such an image.
    pub(crate) fn around(&self, file: &dyn ReadAt, len: Len, limits: &Limits) -> Result<Change> {
        self.check()?;
        if self.backing.is_some() {
            return Err(Error::Usage { what: "what is converted in place gets no parent".to_owned() });
        }
        let room = self.room(self.geometry())?;
        let plan = Plan::new(self, &room, file, len, limits)?;
        let mut overlay = Overlay::new(file, limits);
        // Behind the disk there was a footer at most.
        overlay.zero(Span::between(len.end(), file.len().end()).unwrap_or_default())?;
        overlay.resize(Len::new(plan.geo.host_at(plan.end).get()))?;
        if plan.has(0) {
            let first = plan.geo.host_span(Host(0)).intersect(Span::whole(len)).unwrap_or_default();
            overlay.copy(first, plan.geo.host_at(Host(plan.guests)))?;
        }
        plan.write_tables(&mut overlay)?;
        plan.write_refcounts(&mut overlay)?;
        let tables = Tables {
            l1: plan.geo.host_at(plan.l1),
            refcount_table: plan.geo.host_at(plan.refcounts),
            refcount_table_clusters: plan.blocks.0.saturating_sub(plan.refcounts.0),
        };
        let header = self.header(plan.geo, tables)?;
        overlay.write_at(Offset::ZERO, &header)?;
        Ok(overlay.into_change()?)
    }
}

impl Plan {
    fn new(new: &Create, room: &Room, file: &dyn ReadAt, len: Len, limits: &Limits) -> Result<Self> {
        let geo = new.geometry();
        let guests = geo.clusters(new.len);
        let stored = limits.buffer("the map of clusters in use", Len::new(guests.div_ceil(8)))?;
        let none = Host(0);
        let (l1, l2, refcounts, blocks, end) = (none, none, none, none, none);
        let order = new.refcount_order;
        let mut plan =
            Self { geo, order, guests, stored, tables: Vec::new(), l1, l2, refcounts, blocks, end };
        for window in Span::whole(len.min(file.len())).chunks(WINDOW) {
            for data in file.extents(window)?.data() {
                plan.note(data);
            }
        }
        let next = |at: Host, count: u64| Host(at.0.saturating_add(count));
        plan.l1 = Host(guests.saturating_add(1));
        plan.l2 = next(plan.l1, room.l1);
        plan.refcounts = next(plan.l2, to_u64(plan.tables.len()));
        let (mut table, mut count) = (1, 1);
        loop {
            plan.blocks = next(plan.refcounts, table);
            plan.end = next(plan.blocks, count);
            let blocks = plan.end.0.div_ceil(plan.per_block());
            let clusters = blocks.saturating_mul(8).div_ceil(geo.bytes());
            if (clusters, blocks) == (table, count) {
                return Ok(plan);
            }
            (table, count) = (clusters.max(table), blocks.max(count));
        }
    }

    const fn per_block(&self) -> u64 {
        (self.geo.bytes() << 3).wrapping_shr(self.order)
    }

    fn note(&mut self, data: Span) {
        for guest in self.geo.hosts(data) {
            if let Some(byte) = self.stored.get_mut(to_usize(guest >> 3)) {
                *byte |= 1 << (guest & 7);
            }
            let (l1, _) = self.geo.indexes(Guest(guest));
            if self.tables.last() != Some(&l1) {
                self.tables.push(l1);
            }
        }
    }

    /// Whether a cluster of the disk is stored.
    fn has(&self, guest: u64) -> bool {
        self.stored.get(to_usize(guest >> 3)).is_some_and(|byte| byte >> (guest & 7) & 1 == 1)
    }

    fn write_tables(&self, overlay: &mut Overlay<'_>) -> Result<()> {
        for (&l1, table) in self.tables.iter().zip(self.l2.0..) {
            let table = self.geo.host_at(Host(table));
            let at =
                Offset::new(self.geo.host_at(self.l1).get().saturating_add(to_u64(l1).saturating_mul(8)));
            overlay.write_at(at, &(table.get() | layout::COPIED).to_be_bytes())?;
            let first = self.geo.guest_of_l1(l1).0;
            let mut bytes = Vec::with_capacity(to_usize(self.geo.bytes()));
            for guest in first..first.saturating_add(self.geo.table_entries()) {
                let host = if guest == 0 { self.guests } else { guest };
                let host = Some(self.geo.host_at(Host(host))).filter(|_| self.has(guest));
                let stored = if host.is_some() { Plain::all(self.geo) } else { 0 };
                let raw = Plain { host, stored, zero: 0 }.encode(self.geo, true);
                bytes.extend(raw.word.to_be_bytes());
                if self.geo.extended() {
                    bytes.extend(raw.parts.to_be_bytes());
                }
            }
            overlay.write_at(table, &bytes)?;
        }
        Ok(())
    }

    /// How often a cluster of the file is referred to.
    fn refcount(&self, host: u64) -> u64 {
        let own = host == 0 || host > self.guests && host < self.end.0;
        let data = host < self.guests && self.has(host) || host == self.guests && self.has(0);
        u64::from(own || data)
    }

    fn write_refcounts(&self, overlay: &mut Overlay<'_>) -> Result<()> {
        for (index, block) in (0_u64..).zip(self.blocks.0..self.end.0) {
            let block = self.geo.host_at(Host(block));
            let at = self.geo.host_at(self.refcounts).get().saturating_add(index.saturating_mul(8));
            overlay.write_at(Offset::new(at), &block.get().to_be_bytes())?;
            let mut bytes = vec![0; to_usize(self.geo.bytes())];
            let first = index.saturating_mul(self.per_block());
            for within in 0..self.per_block() {
                let refcount = self.refcount(first.saturating_add(within));
                store::put(&mut bytes, within, self.order, refcount);
            }
            overlay.write_at(block, &bytes)?;
        }
        Ok(())
    }
}
