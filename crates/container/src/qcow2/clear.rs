//! Making places read as zero: by their entries where these can say so, else by writing.

use super::Qcow2;
use super::entry::{Entry, Plain};
use super::read::What;
use super::write::outside;
use crate::Result;
use disk::Disk;
use ondisk::{Offset, Span};

impl<D: Disk> Qcow2<D> {
    /// Makes `span` read as zero; with `discard`, without keeping space for it.
    pub(super) fn clear(&mut self, span: Span, discard: bool) -> Result<()> {
        disk::traits::within(span, self.header.size)?;
        self.ready()?;
        let mut rest = span;
        while !rest.is_empty() {
            let run = self.run(rest)?;
            let todo = match run.what {
                What::Parent => run.span.intersect(Span::whole(self.parent_len()?)).unwrap_or_default(),
                What::Zero if !discard => Span::default(),
                _ => run.span,
            };
            // Within one L2 table, so that the list stays short.
            for piece in self.by_cluster(todo) {
                self.clear_in_cluster(piece, discard)?;
            }
            rest = Span::between(run.span.end(), rest.end()).unwrap_or_default();
        }
        Ok(())
    }

    fn clear_in_cluster(&mut self, span: Span, discard: bool) -> Result<()> {
        let geo = self.header.geo;
        let cluster = geo.guest_span(geo.guest_of(span.start()));
        let whole =
            span.start() == cluster.start() && span.end() >= cluster.end().min(self.header.size.end());
        let below = cluster.start() < self.parent_len()?.end();
        if whole && (self.header.version >= 3 || !below) {
            return self.clear_cluster(span.start(), below, discard);
        }
        if geo.extended() && self.clear_parts(span)? {
            return Ok(());
        }
        let run = self.run(span)?;
        if run.span == span && self.reads_zero(span, run.what)? {
            return Ok(());
        }
        let host = self.own(span)?;
        self.file.zero(Span::new(host, span.len()).unwrap_or_default())?;
        Ok(())
    }

    /// A whole cluster: by its entry.
    fn clear_cluster(&mut self, at: Offset, below: bool, discard: bool) -> Result<()> {
        let geo = self.header.geo;
        let table = self.own_table(at)?;
        let entry = self.entry(table, at)?;
        let kept = match entry {
            Entry::Plain(Plain { host: Some(host), .. })
                if !discard && self.header.version >= 3 && self.refcount(host)? == 1 =>
            {
                Some(host)
            }
            _ => None,
        };
        let zero = if below || kept.is_some() { Plain::all(geo) } else { 0 };
        self.set_entry(table, at, Plain { host: kept, stored: 0, zero }.encode(geo, true))?;
        if kept.is_none() { self.release_entry(entry, discard) } else { Ok(()) }
    }

    /// Whole subclusters, with the ragged ends written; `false` where the cluster is compressed.
    fn clear_parts(&mut self, span: Span) -> Result<bool> {
        let geo = self.header.geo;
        let part = geo.part_bytes();
        let up = Offset::new(span.start().get().next_multiple_of(part));
        let down = Offset::new(span.end().get() & !part.wrapping_sub(1));
        let Some(inner) = Span::between(up, down).filter(|inner| !inner.is_empty()) else { return Ok(false) };
        let table = self.own_table(span.start())?;
        let Entry::Plain(plain) = self.entry(table, span.start())? else { return Ok(false) };
        let mask = Plain::touched(geo, geo.within(inner.start()), inner.len());
        let exclusive = match plain.host {
            Some(host) => self.refcount(host)? == 1,
            None => false,
        };
        let new = Plain { host: plain.host, stored: plain.stored & !mask, zero: plain.zero | mask };
        self.set_entry(table, span.start(), new.encode(geo, exclusive))?;
        for ragged in outside(span, inner) {
            let host = self.own(ragged)?;
            self.file.zero(Span::new(host, ragged.len()).unwrap_or_default())?;
        }
        Ok(true)
    }
}
