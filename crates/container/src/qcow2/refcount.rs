//! Taking clusters and giving them back.
//!
//! 1. New clusters come one behind the other from behind everything that has references or a refcount. They are fresh:
//!    no valid structure of the old state refers to them.
//! 2. A refcount block is counted like everything else, perhaps by itself.
//! 3. The refcount table moves as a whole when it is full, and is large enough to count itself.

use super::check::Scan;
use super::geom::{Geometry, Host};
use super::header::{self, Header, REFCOUNT_TABLE_MAX};
use super::store;
use crate::{Error, Result};
use disk::{Disk, ReadAt};
use ondisk::num::{low32, to_u64, to_usize};
use ondisk::{Len, Offset, Span};

/// The end of what an L2 entry can point to.
const FILE_MAX: u64 = 1 << 56;
/// Clusters that a new refcount table has room for besides what it was made for.
const SPARE: u64 = 64;

/// The refcounts of an image that is being written.
pub struct Refcounts {
    geo: Geometry,
    order: u32,
    table_at: Offset,
    /// Positions of the blocks; 0 where there is none.
    blocks: Vec<u64>,
    /// The first cluster that nobody has taken yet, with all behind it.
    next: u64,
}

impl Refcounts {
    /// As a check has found them.
    pub fn new(header: &Header, scan: &Scan) -> Self {
        let (geo, order) = (header.geo, header.refcount_order);
        Self {
            geo,
            order,
            table_at: header.refcount_table.start(),
            blocks: scan.blocks.clone(),
            next: scan.end,
        }
    }

    /// The end of all clusters in use.
    pub const fn end(&self) -> Offset {
        self.geo.host_at(Host(self.next))
    }

    /// Where the refcount table is.
    pub fn table(&self) -> Span {
        Span::new(self.table_at, Len::new(to_u64(self.blocks.len()).saturating_mul(8))).unwrap_or_default()
    }

    /// The table is at `at` from now on.
    pub const fn set_table(&mut self, at: Offset) {
        self.table_at = at;
    }

    const fn per_block(&self) -> u64 {
        (self.geo.bytes() << 3).wrapping_shr(self.order)
    }

    fn split(&self, host: Host) -> (usize, u64) {
        let per_block = self.per_block();
        (
            to_usize(host.0.checked_div(per_block).unwrap_or_default()),
            host.0.checked_rem(per_block).unwrap_or_default(),
        )
    }

    /// Whether there is a refcount block for a cluster.
    pub fn covers(&self, host: Host) -> bool {
        self.blocks.get(self.split(host).0).is_some_and(|block| *block != 0)
    }

    /// The refcount of a cluster.
    pub fn get(&self, file: &(impl ReadAt + ?Sized), host: Host) -> Result<u64> {
        let (block, within) = self.split(host);
        match self.blocks.get(block).copied().unwrap_or_default() {
            0 => Ok(0),
            at => store::get_in_file(file, Offset::new(at), within, self.order),
        }
    }

    /// Changes the refcount of a cluster.
    pub fn set(&mut self, file: &mut (impl Disk + ?Sized), host: Host, value: u64) -> Result<()> {
        if value > store::max(self.order) {
            let at = self.geo.host_at(host);
            let text = format!("{value} references do not fit into {} bits", 1_u32.wrapping_shl(self.order));
            return Err(Error::corrupt("qcow2 refcount", at, text));
        }
        self.cover(file, host)?;
        self.put(file, host, value)
    }

    /// Takes `n` clusters in a row; they read as zero and have refcount 1.
    pub fn take(&mut self, file: &mut (impl Disk + ?Sized), n: u64) -> Result<Host> {
        let first = self.claim(file, n)?;
        for host in first.0..first.0.saturating_add(n) {
            self.set(file, Host(host), 1)?;
        }
        Ok(first)
    }

    /// One user less; whether it was the last one.
    pub fn release(&mut self, file: &mut (impl Disk + ?Sized), host: Host) -> Result<bool> {
        match self.get(file, host)?.checked_sub(1) {
            Some(left) => self.put(file, host, left).map(|()| left == 0),
            None => Err(Error::corrupt("qcow2 refcount", self.geo.host_at(host), "0 for a cluster in use")),
        }
    }

    fn put(&self, file: &mut (impl Disk + ?Sized), host: Host, value: u64) -> Result<()> {
        let (block, within) = self.split(host);
        let at = Offset::new(self.blocks.get(block).copied().unwrap_or_default());
        store::put_in_file(file, at, within, self.order, value)?;
        Ok(())
    }

    /// Takes space without counting it.
    fn claim(&mut self, file: &mut (impl Disk + ?Sized), n: u64) -> Result<Host> {
        let first = Host(self.next);
        let end = self.geo.host_at(Host(first.0.saturating_add(n)));
        if end.get() >= FILE_MAX {
            let (want, limit) = (Len::new(end.get()), Len::new(FILE_MAX));
            return Err(Error::TooLarge { format: "a qcow2 file".to_owned(), want, limit });
        }
        if file.len().end() < end {
            file.resize(Len::new(end.get()))?;
        }
        let span = Span::between(self.geo.host_at(first), end).unwrap_or_default();
        file.mark_fresh(span)?;
        file.zero(span)?;
        self.next = first.0.saturating_add(n);
        Ok(first)
    }

    /// Sees to it that there is a refcount block for `host`, and for every cluster that this takes.
    fn cover(&mut self, file: &mut (impl Disk + ?Sized), host: Host) -> Result<()> {
        let mut open = vec![host];
        let mut owed = Vec::new();
        while let Some(host) = open.pop() {
            let (index, _) = self.split(host);
            match self.blocks.get(index).copied() {
                None => {
                    let (old, new) = (self.table(), self.grow_table(file, to_u64(index))?);
                    owed.extend(self.geo.hosts(old).map(|host| (Host(host), 0)));
                    owed.extend(self.geo.hosts(new).map(|host| (Host(host), 1)));
                    open.push(host);
                    open.extend(self.geo.hosts(new).map(Host));
                }
                Some(0) => {
                    let block = self.claim(file, 1)?;
                    self.set_block(file, index, block)?;
                    owed.push((block, 1));
                    open.push(block);
                }
                Some(_) => {}
            }
        }
        owed.into_iter().try_for_each(|(host, value)| self.put(file, host, value))
    }

    /// The block of that index is at `block` from now on.
    pub fn set_block(&mut self, file: &mut (impl Disk + ?Sized), index: usize, block: Host) -> Result<()> {
        let word = self.geo.host_at(block).get();
        if let Some(entry) = self.blocks.get_mut(index) {
            *entry = word;
        }
        let at = self.table_at.get().saturating_add(to_u64(index).saturating_mul(8));
        store::put_word(file, Offset::new(at), word)
    }

    /// A larger refcount table, with an entry for block `index` and for itself; the header points to it.
    fn grow_table(&mut self, file: &mut (impl Disk + ?Sized), index: u64) -> Result<Span> {
        let per_cluster = self.geo.bytes() >> 3;
        let mut clusters = to_u64(self.blocks.len()).div_ceil(per_cluster);
        loop {
            let last = self.next.saturating_add(clusters.saturating_mul(2)).saturating_add(SPARE);
            let entries = last.div_ceil(self.per_block()).max(index).saturating_add(2);
            if entries <= clusters.saturating_mul(per_cluster) {
                break;
            }
            clusters = entries.div_ceil(per_cluster);
        }
        let bytes = Len::new(clusters.saturating_mul(self.geo.bytes()));
        if bytes.get() > REFCOUNT_TABLE_MAX {
            let format = "a qcow2 refcount table".to_owned();
            return Err(Error::TooLarge { format, want: bytes, limit: Len::new(REFCOUNT_TABLE_MAX) });
        }
        let host = self.claim(file, clusters)?;
        self.table_at = self.geo.host_at(host);
        let words: Vec<u8> = self.blocks.iter().flat_map(|word| word.to_be_bytes()).collect();
        file.write_at(self.table_at, &words)?;
        self.blocks.resize(to_usize(clusters.saturating_mul(per_cluster)), 0);
        header::edit(file, |record| {
            record.refcount_table_offset.set(self.table_at.get());
            record.refcount_table_clusters.set(low32(clusters));
        })?;
        Ok(self.table())
    }
}
