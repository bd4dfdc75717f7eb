//! A patch on its way out.

use super::layout::{self, END_MAGIC, MAGIC, VERSION};
use super::limits;
use super::op::Op;
use super::patch::BaseFacts;
use super::section::{self, List};
use crate::digest::{Digest, Leaf};
use crate::error::{Error, Result};
use ondisk::num::{low32, to_u64};
use ondisk::{Len, Span};
use std::collections::VecDeque;
use std::io::Write;
use zerocopy::{FromZeros, IntoBytes};

/// Level at which lists of windows are compressed.
const LEVEL: i32 = 9;

/// What has been written, and what stands in the trailer.
pub struct Writer<'a> {
    out: &'a mut (dyn Write + Send),
    at: u64,
    /// Header and bases.
    head: Vec<u8>,
    bases: usize,
    frames: Vec<layout::Frame>,
    sections: Vec<layout::Section>,
    list: List,
    /// Sections, until frames are written up to where they begin: their order does not depend on who is done first.
    waiting: VecDeque<(layout::Section, Vec<u8>)>,
    /// Literal bytes of the frames that are written.
    literals: u64,
}

impl<'a> Writer<'a> {
    /// Writes the header.
    pub fn begin(
        out: &'a mut (dyn Write + Send),
        flags: u16,
        target: Len,
        bases: &[BaseFacts],
    ) -> Result<Self> {
        let header = layout::Header {
            magic: MAGIC,
            version: VERSION.into(),
            flags: flags.into(),
            bases: low32(to_u64(bases.len())).into(),
            target: target.get().into(),
            reserved: [0; 8],
        };
        let mut head = header.as_bytes().to_vec();
        for base in bases {
            let record = layout::Base { len: base.len.get().into(), digest: *base.digest.as_bytes() };
            head.extend(record.as_bytes());
        }
        let mut writer = Self {
            out,
            at: 0,
            head: Vec::new(),
            bases: bases.len(),
            frames: Vec::new(),
            sections: Vec::new(),
            list: List::default(),
            waiting: VecDeque::new(),
            literals: 0,
        };
        writer.put(&head)?;
        writer.head = head;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|source| failed(self.at, bytes, source))?;
        self.at = self.at.saturating_add(to_u64(bytes.len()));
        Ok(())
    }

    /// Writes the next frame, of `len` literal bytes.
    pub fn frame(&mut self, record: &[u8], len: usize) -> Result<()> {
        self.frame_upon(record, len, (limits::own_work(to_u64(len)), 0))
    }

    /// The same for a frame whose dictionary names others: what must be decoded for it, and how many dictionaries name
    /// each other.
    pub fn frame_upon(&mut self, record: &[u8], len: usize, (work, depth): (u64, u32)) -> Result<()> {
        self.literals = self.literals.saturating_add(to_u64(len));
        self.put_sections(self.literals)?;
        self.frames.push(layout::Frame {
            at: self.at.into(),
            stored: low32(to_u64(record.len())).into(),
            len: low32(to_u64(len)).into(),
            work: work.into(),
            depth: depth.into(),
            reserved: 0.into(),
            digest: *blake3::hash(record).as_bytes(),
        });
        self.put(record)
    }

    /// Adds the next window that is not as in the first base.
    pub fn window(&mut self, index: u64, leaf: &Leaf, ops: &[Op], literals: u64) -> Result<()> {
        self.list.push(index, leaf, ops, literals, self.bases);
        if self.list.bytes.len() >= section::FULL { self.section() } else { Ok(()) }
    }

    fn section(&mut self) -> Result<()> {
        let list = std::mem::take(&mut self.list);
        let record =
            zstd::bulk::compress(&list.bytes, LEVEL).map_err(|source| failed(self.at, &[], source))?;
        let section = layout::Section {
            at: 0.into(),
            stored: low32(to_u64(record.len())).into(),
            len: low32(to_u64(list.bytes.len())).into(),
            first: list.first.into(),
            count: list.count.into(),
            reserved: 0.into(),
            literals: list.literals.into(),
            digest: *blake3::hash(&record).as_bytes(),
        };
        self.waiting.push_back((section, record));
        Ok(())
    }

    /// Writes the sections that begin before byte `end` of the literal stream.
    fn put_sections(&mut self, end: u64) -> Result<()> {
        while let Some((mut section, record)) =
            self.waiting.pop_front_if(|(section, _)| section.literals.get() < end)
        {
            section.at.set(self.at);
            self.put(&record)?;
            self.sections.push(section);
        }
        Ok(())
    }

    /// Writes what remains. The length of the patch.
    pub fn finish(mut self, digest: Digest) -> Result<Len> {
        if self.list.count > 0 {
            self.section()?;
        }
        self.put_sections(u64::MAX)?;
        let trailer = layout::Trailer {
            digest: *digest.as_bytes(),
            frames: low32(to_u64(self.frames.len())).into(),
            sections: low32(to_u64(self.sections.len())).into(),
        };
        let mut bytes = trailer.as_bytes().to_vec();
        bytes.extend(self.frames.as_bytes());
        bytes.extend(self.sections.as_bytes());
        let mut end = layout::End::new_zeroed();
        end.trailer.set(self.at);
        end.digest = *blake3::Hasher::new().update(&self.head).update(&bytes).finalize().as_bytes();
        end.magic = END_MAGIC;
        bytes.extend(end.as_bytes());
        self.put(&bytes)?;
        self.out.flush().map_err(|source| failed(self.at, &[], source))?;
        Ok(Len::new(self.at))
    }
}

fn failed(at: u64, bytes: &[u8], source: std::io::Error) -> Error {
    let span = Span::new(ondisk::Offset::new(at), Len::of(bytes)).unwrap_or_default();
    Error::Disk(disk::Error::Io { op: "write of the patch", span, source })
}
