//! A patch that is read.

use super::codec::Codec;
use super::frame::{self, Part, Pools, Record, Stream};
use super::layout::{self, END_MAGIC, MAGIC, VERSION, flag};
use super::limits;
use super::op::Bounds;
use super::seal::{self, Signature};
use super::section::{self, Section};
use crate::digest::{Digest, windows};
use crate::error::{Error, Result};
use crate::pool::Buf;
use disk::{Cx, Limits, ReadAt, read_record};
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset, Span};
use std::collections::BTreeSet;
use std::mem::size_of;
use zerocopy::{FromBytes, IntoBytes};

/// Bases of a patch, at most.
pub const BASES: u64 = 64;

/// A base as a patch knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseFacts {
    /// Its length.
    pub len: Len,
    /// Its digest.
    pub digest: Digest,
}

/// What a patch says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What it was made from.
    pub bases: Vec<BaseFacts>,
    /// What it makes.
    pub target: BaseFacts,
    /// Blocks that no filesystem uses read as zero in the result.
    pub drop_free: bool,
    /// Bytes that were nowhere in the bases.
    pub literals: Len,
    /// Windows of the disk that are not as in the first base.
    pub windows: u64,
    /// Its signature, which nobody has verified yet.
    pub signature: Option<Signature>,
    /// Bytes of the patch.
    pub len: Len,
}

/// A piece of the literal stream.
#[derive(Clone, Copy, Debug)]
pub struct FrameAt {
    /// Its record in the patch.
    pub record: Span,
    /// Where its bytes stand in the stream.
    pub literals: Span,
    /// What must be decoded for it.
    pub work: u64,
    /// How many dictionaries name each other.
    pub depth: u32,
    digest: [u8; 32],
}

/// A list of windows.
#[derive(Clone, Copy, Debug)]
struct SectionAt {
    record: Span,
    len: Len,
    first: u64,
    count: u32,
    literals: u64,
    digest: [u8; 32],
}

/// An opened patch: header and trailer are whole, everything else is looked at when it is needed.
#[derive(Debug)]
pub struct Patch<D> {
    file: D,
    limits: Limits,
    facts: Facts,
    base_lens: Vec<Len>,
    frames: Vec<FrameAt>,
    sections: Vec<SectionAt>,
}

impl<D: ReadAt> Patch<D> {
    /// Opens the patch in `file`.
    ///
    /// # Errors
    /// Where it is no patch, is cut or altered, has a version that is not known, or tables that need more memory than
    /// allowed.
    pub fn open(file: D, limits: &Limits) -> Result<Self> {
        let (signature, end) = seal::find(&file)?;
        let header: layout::Header = record(&file, Span::whole(size(size_of::<layout::Header>())))?
            .ok_or(Error::NoPatch { why: "it is too short" })?;
        if header.magic != MAGIC {
            return Err(Error::NoPatch { why: "it does not begin like one" });
        }
        if header.version.get() != VERSION {
            return Err(Error::Version { found: header.version.get(), known: VERSION });
        }
        refuse_huge("a disk", Len::new(header.target.get()))?;
        let parts = Parts::read(&file, &header, end, limits)?;
        let mut patch = Self {
            limits: *limits,
            facts: parts.facts(&header, signature, file.len()),
            base_lens: parts.bases.iter().map(|base| Len::new(base.len.get())).collect(),
            frames: Vec::new(),
            sections: Vec::new(),
            file,
        };
        patch.take_frames(&parts)?;
        patch.take_sections(&parts)?;
        Ok(patch)
    }

    fn take_frames(&mut self, parts: &Parts) -> Result<()> {
        let mut literals = 0_u64;
        for raw in &parts.frames {
            let record = parts.inside(raw.at.get(), raw.stored.get(), "the frame")?;
            let len = Len::new(u64::from(raw.len.get()));
            let span = Span::new(Offset::new(literals), len);
            let span = span.filter(|_| !len.is_zero() && len <= frame::FRAME);
            let span =
                span.ok_or_else(|| Error::damaged("the frame", record.start(), "is too long or empty"))?;
            literals = span.end().get();
            let (work, depth) = (raw.work.get(), raw.depth.get());
            if !(limits::own_work(len.get())..=limits::WORK).contains(&work) || depth > limits::DEPTH {
                return Err(Error::damaged("the frame", record.start(), "needs too many others"));
            }
            self.frames.push(FrameAt { record, literals: span, work, depth, digest: raw.digest });
        }
        self.facts.literals = Len::new(literals);
        Ok(())
    }

    fn take_sections(&mut self, parts: &Parts) -> Result<()> {
        let mut next = 0;
        for raw in &parts.sections {
            let record = parts.inside(raw.at.get(), raw.stored.get(), "the section")?;
            let damaged = |why: &str| Error::damaged("the section", record.start(), why);
            if raw.len.get() > section::MAX {
                return Err(damaged("is too long"));
            }
            let (first, count) = (raw.first.get(), u64::from(raw.count.get()));
            let end = first.checked_add(count).filter(|end| *end <= windows(self.facts.target.len));
            let end = end.ok_or_else(|| damaged("lists windows behind the end of the disk"))?;
            if first < next || count == 0 {
                return Err(damaged("is out of order"));
            }
            next = end;
            self.facts.windows = self.facts.windows.saturating_add(count);
            self.sections.push(SectionAt {
                record,
                len: Len::new(u64::from(raw.len.get())),
                first,
                count: raw.count.get(),
                literals: raw.literals.get(),
                digest: raw.digest,
            });
        }
        Ok(())
    }

    /// What it says about itself.
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What instructions may refer to.
    pub(crate) fn bounds(&self) -> Bounds<'_> {
        let literals = self.facts.literals.get();
        Bounds { target: self.facts.target.len, bases: &self.base_lens, literals }
    }

    /// Which list may have window `index`.
    pub(crate) fn section_of(&self, index: u64) -> Option<usize> {
        self.sections.partition_point(|section| section.first <= index).checked_sub(1)
    }

    /// How many lists there are.
    pub(crate) fn sections(&self) -> usize {
        self.sections.len()
    }

    /// Reads a list.
    pub(crate) fn section(&self, number: usize) -> Result<Section> {
        let Some(section) = self.sections.get(number) else {
            return Err(Error::damaged("the section", Offset::ZERO, "is not there"));
        };
        let damaged = |why: &str| Error::damaged("the section", section.record.start(), why);
        let mut record = Vec::new();
        self.whole("the section", section.record, &section.digest, &mut record)?;
        drop(self.limits.buffer("a list of windows", section.len)?);
        let bytes = zstd::bulk::decompress(&record, section.len.to_usize())
            .ok()
            .filter(|bytes| bytes.len() == section.len.to_usize())
            .ok_or_else(|| damaged("cannot be decompressed"))?;
        let next = self.sections.get(number.saturating_add(1));
        let windows = next.map_or_else(|| windows(self.facts.target.len), |next| next.first);
        let list = (section.first, section.count);
        let read = Section::read(bytes, list, windows, section.literals, &self.bounds()).map_err(damaged)?;
        let fits = next.is_none_or(|next| next.literals == read.literals);
        if fits { Ok(read) } else { Err(damaged("does not lead to the next one")) }
    }

    /// Number of the frame that has byte `at` of the literal stream.
    pub(crate) fn frame_of(&self, at: u64) -> Option<usize> {
        let behind = self.frames.partition_point(|frame| frame.literals.start().get() <= at);
        behind.checked_sub(1)
    }

    /// How many frames there are.
    pub(crate) const fn frames(&self) -> usize {
        self.frames.len()
    }

    /// What the trailer says about a frame.
    pub(crate) fn frame_at(&self, number: usize) -> Result<FrameAt> {
        let missing = || Error::damaged("the frame", Offset::ZERO, "is not there");
        self.frames.get(number).copied().ok_or_else(missing)
    }

    /// Reads the record of a frame into `room`, and gives it to `look`.
    pub(crate) fn frame_record<T>(
        &self,
        number: usize,
        room: &mut Vec<u8>,
        look: impl FnOnce(FrameAt, Record<'_>) -> Result<T>,
    ) -> Result<T> {
        let at = self.frame_at(number)?;
        self.whole("the frame", at.record, &at.digest, room)?;
        let record = Record::parse(room, at.record.start(), at.literals.start(), &self.base_lens)?;
        // What the dictionary names comes before, and leads less deep: there is an end to it.
        let (work, depth) = self.needs(number, &record.dictionary)?;
        if (work, depth) != (at.work, at.depth) {
            return Err(Error::damaged("the frame", at.record.start(), "needs other frames than it says"));
        }
        look(at, record)
    }

    /// What must be decoded for a frame with this dictionary, and how many dictionaries name each other.
    fn needs(&self, number: usize, dictionary: &[Part]) -> Result<(u64, u32)> {
        let own = limits::own_work(self.frame_at(number)?.literals.len().get());
        let named = self.frames_of(dictionary);
        named.into_iter().try_fold((own, 0), |(work, depth), number| {
            let frame = self.frame_at(number)?;
            Ok((work.saturating_add(frame.work), depth.max(frame.depth.saturating_add(1))))
        })
    }

    /// The frames that a dictionary names.
    pub(crate) fn frames_of(&self, dictionary: &[Part]) -> BTreeSet<usize> {
        let stream = dictionary.iter().filter_map(|part| match part {
            Part::Stream(span) if !span.is_empty() => Some(*span),
            _ => None,
        });
        stream.flat_map(|span| self.frames_in(span)).collect()
    }

    /// The frames that have bytes of a part of the literal stream.
    pub(crate) fn frames_in(&self, span: Span) -> std::ops::Range<usize> {
        let first = self.frame_of(span.start().get()).unwrap_or_default();
        let behind = self.frames.partition_point(|frame| frame.literals.start() < span.end());
        first..behind
    }

    /// Reads the literal bytes of a frame; `stream` gives those that its dictionary names.
    pub(crate) fn frame<B: ReadAt>(
        &self,
        number: usize,
        bases: &[B],
        stream: &Stream<'_>,
        pools: &Pools,
    ) -> Result<(Span, Buf)> {
        self.frame_record(number, &mut pools.records.take(), |at, record| {
            let bytes = record.unpack(at.literals.len().to_usize(), bases, stream, pools, &self.limits)?;
            Ok((at.literals, bytes))
        })
    }

    /// What its literal bytes are compressed with.
    ///
    /// # Errors
    /// Where the patch cannot be read, or knows more codecs than we do.
    pub fn codecs(&self) -> Result<Vec<Codec>> {
        let mut found = BTreeSet::new();
        for frame in &self.frames {
            let mut number = [0];
            self.file.read_at(frame.record.start(), &mut number)?;
            let number = number[0] & !layout::codec::PACKED_LIST;
            if number != layout::codec::STORED {
                let unknown = || Error::damaged("the frame", frame.record.start(), "has an unknown codec");
                found.insert(Codec::of(number).ok_or_else(unknown)?);
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Compares all records with their digests.
    ///
    /// # Errors
    /// Where one of them is damaged or cannot be read, or the operator interrupts.
    pub fn check(&self, cx: &Cx<'_>) -> Result<()> {
        let frames = self.frames.iter().map(|frame| ("the frame", frame.record, &frame.digest));
        let sections = self.sections.iter().map(|section| ("the section", section.record, &section.digest));
        let mut room = Vec::new();
        frames.chain(sections).try_for_each(|(what, record, digest)| {
            cx.cancel.check()?;
            self.whole(what, record, digest, &mut room)
        })
    }

    /// Makes `bytes` those of a record that is what it was.
    fn whole(&self, what: &'static str, span: Span, digest: &[u8; 32], bytes: &mut Vec<u8>) -> Result<()> {
        self.limits.resize("a part of the patch", span.len(), bytes)?;
        self.file.read_at(span.start(), bytes)?;
        if blake3::hash(bytes).as_bytes() == digest {
            Ok(())
        } else {
            Err(Error::damaged(what, span.start(), "does not have its digest"))
        }
    }
}

/// Header and trailer, as they stand in the file.
struct Parts {
    bases: Vec<layout::Base>,
    trailer: layout::Trailer,
    frames: Vec<layout::Frame>,
    sections: Vec<layout::Section>,
    /// Where frames and sections lie.
    records: Span,
}

impl Parts {
    /// Reads those of a patch that ends at `patch_len`, where its signature begins if it has one.
    fn read<D: ReadAt>(file: &D, header: &layout::Header, patch_len: Len, limits: &Limits) -> Result<Self> {
        let at_header = |why: &str| Error::damaged("the header", Offset::ZERO, why);
        let count = u64::from(header.bases.get());
        if count > BASES || header.flags.get() & !flag::ALL != 0 {
            return Err(at_header("asks for what is not known"));
        }
        let head = size(size_of::<layout::Header>())
            .checked_add(Len::new(count.saturating_mul(to_u64(size_of::<layout::Base>()))));
        let head = head.unwrap_or_default();
        let cut = || at_header("is followed by too little: the patch is cut");
        let end_at = patch_len.checked_sub(size(size_of::<layout::End>())).ok_or_else(cut)?;
        let end: layout::End = read_record(file, end_at.end())?;
        let at_end = |why: &str| Error::damaged("the end", end_at.end(), why);
        if end.magic != END_MAGIC {
            return Err(at_end("is not one: the patch is cut"));
        }
        let trailer_at = Offset::new(end.trailer.get());
        let trailer = Span::between(trailer_at, end_at.end()).filter(|_| trailer_at >= head.end());
        let trailer = trailer.ok_or_else(|| at_end("has a trailer outside the patch"))?;
        let total = head.checked_add(trailer.len()).unwrap_or(patch_len);
        let mut bytes = limits.buffer("the tables of the patch", total)?;
        let (first, last) = bytes.split_at_mut(head.to_usize());
        file.read_at(Offset::ZERO, first)?;
        file.read_at(trailer.start(), last)?;
        if blake3::Hasher::new().update(&bytes).finalize().as_bytes() != &end.digest {
            return Err(Error::damaged("the trailer", trailer.start(), "does not have its digest"));
        }
        let records = Span::between(head.end(), trailer.start()).unwrap_or_default();
        Self::parse(&bytes, to_usize(count), records)
            .ok_or_else(|| Error::damaged("the trailer", trailer.start(), "does not have its length"))
    }

    fn parse(bytes: &[u8], bases: usize, records: Span) -> Option<Self> {
        let (_, rest) = layout::Header::ref_from_prefix(bytes).ok()?;
        let (bases, rest) = <[layout::Base]>::ref_from_prefix_with_elems(rest, bases).ok()?;
        let (trailer, rest) = layout::Trailer::read_from_prefix(rest).ok()?;
        let count = to_usize(u64::from(trailer.frames.get()));
        let (frames, rest) = <[layout::Frame]>::ref_from_prefix_with_elems(rest, count).ok()?;
        let count = to_usize(u64::from(trailer.sections.get()));
        let (sections, rest) = <[layout::Section]>::ref_from_prefix_with_elems(rest, count).ok()?;
        let (bases, frames, sections) = (bases.to_vec(), frames.to_vec(), sections.to_vec());
        rest.is_empty().then_some(Self { bases, trailer, frames, sections, records })
    }

    fn facts(&self, header: &layout::Header, signature: Option<Signature>, len: Len) -> Facts {
        let base = |base: &layout::Base| BaseFacts {
            len: Len::new(base.len.get()),
            digest: Digest::from_bytes(base.digest),
        };
        Facts {
            bases: self.bases.iter().map(base).collect(),
            target: BaseFacts {
                len: Len::new(header.target.get()),
                digest: Digest::from_bytes(self.trailer.digest),
            },
            drop_free: header.flags.get() & flag::DROP_FREE != 0,
            literals: Len::ZERO,
            windows: 0,
            signature,
            len,
        }
    }

    /// A record, if it lies between header and trailer.
    fn inside(&self, at: u64, len: u32, what: &'static str) -> Result<Span> {
        Span::new(Offset::new(at), Len::new(u64::from(len)))
            .filter(|span| self.records.contains(*span))
            .ok_or_else(|| Error::damaged(what, Offset::new(at), "lies outside the patch"))
    }
}

/// Refuses disks that exist only in headers.
pub fn refuse_huge(what: &'static str, len: Len) -> Result<()> {
    if len <= limits::DISK { Ok(()) } else { Err(Error::TooLarge { what, len, limit: limits::DISK }) }
}

fn size(bytes: usize) -> Len {
    Len::new(to_u64(bytes))
}

/// A record at the beginning, if the file is long enough.
fn record<T: FromBytes + IntoBytes>(file: &impl ReadAt, span: Span) -> Result<Option<T>> {
    if file.len() < span.len() { Ok(None) } else { Ok(Some(read_record(file, span.start())?)) }
}
