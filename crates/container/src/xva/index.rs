//! Where the chunks of a disk lie in the archive.
//!
//! 1. A chunk's number does not say where it belongs: missing numbers stand for as many bytes as the first chunk has,
//!    but a chunk without bytes, which exporters write to keep a connection alive, stands for none.
//! 2. Behind each chunk lies its checksum.
//! 3. An archive that was cut off has no chunks of zeros: what is missing there is missing.

use super::tar::{Member, Members};
use crate::foreign::{Files, Place};
use crate::{Error, Result};
use disk::Limits;
use ondisk::num::to_u64;
use ondisk::sum;
use ondisk::text::Printable;
use ondisk::{Len, Offset, Span};

const CHUNK: &str = "XVA chunk";
/// Chunks have 1 MiB; none may have more than this.
const CHUNK_MAX: u64 = 4 << 20;

/// A piece of the disk.
#[derive(Clone, Copy, Debug)]
pub struct Chunk {
    /// Where on the disk.
    pub span: Span,
    /// Where in the archive.
    pub at: Offset,
    /// Its checksum, as text in the archive.
    sum: Option<(Kind, Span)>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Sha1,
    Xxh64,
}

/// The chunks of one disk, in order.
#[derive(Debug)]
pub struct Index {
    pub chunks: Vec<Chunk>,
    /// The archive was ended, and not only cut off.
    pub ended: bool,
}

impl Index {
    /// Goes through the archive once.
    pub fn scan(files: &Files<'_>, from: Offset, folder: &str, disk: Len, limits: &Limits) -> Result<Self> {
        let budget = limits.budget("the index of an XVA archive");
        let mut members = Members::from(files, from);
        let mut scan = Scan { folder: folder.as_bytes(), disk, chunks: Vec::new(), unit: 0, last: None };
        while let Some(member) = members.next()? {
            let before = scan.chunks.len();
            scan.take(&member)?;
            if scan.chunks.len() > before {
                budget.take(Len::new(to_u64(size_of::<Chunk>().saturating_mul(2))))?;
            }
        }
        if scan.chunks.is_empty() && !disk.is_zero() {
            let problem = format!("the archive has no data of {}", Printable(folder.as_bytes()));
            return Err(Error::corrupt(CHUNK, from, problem));
        }
        Ok(Self { chunks: scan.chunks, ended: members.ended })
    }

    /// The chunk with that byte of the disk, or where the next one begins.
    pub fn find(&self, at: Offset) -> std::result::Result<&Chunk, Option<Offset>> {
        let index = self.chunks.partition_point(|chunk| chunk.span.end() <= at);
        match self.chunks.get(index) {
            Some(chunk) if chunk.span.start() <= at => Ok(chunk),
            next => Err(next.map(|chunk| chunk.span.start())),
        }
    }
}

struct Scan<'a> {
    folder: &'a [u8],
    disk: Len,
    chunks: Vec<Chunk>,
    /// The bytes of the first chunk.
    unit: u64,
    /// Number and end of the last chunk, if the next member may be its checksum.
    last: Option<(u64, Offset, bool)>,
}

impl Scan<'_> {
    fn take(&mut self, member: &Member) -> Result<()> {
        let inside = member.name.strip_prefix(self.folder).and_then(|rest| rest.strip_prefix(b"/"));
        let Some(inside) = inside else { return Ok(()) };
        let bad = |problem: String| Error::corrupt(CHUNK, member.data.start(), problem);
        let (digits, ending) = match inside.iter().position(|byte| *byte == b'.') {
            Some(dot) => inside.split_at_checked(dot).unwrap_or_default(),
            None => (inside, &[][..]),
        };
        let number = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let number: Option<u64> = number.and_then(|text| text.parse().ok());
        let number = number.ok_or_else(|| bad(format!("'{}' is no number", Printable(inside))))?;
        match ending {
            b"" => self.chunk(number, member.data),
            b".checksum" => self.sum(number, Kind::Sha1, member.data),
            b".xxhash" => self.sum(number, Kind::Xxh64, member.data),
            _ => Ok(()),
        }
    }

    fn chunk(&mut self, number: u64, data: Span) -> Result<()> {
        let bad = |problem: String| Error::corrupt(CHUNK, data.start(), problem);
        let (gap, end) = match self.last {
            None => {
                self.unit = data.len().get();
                (number, Offset::ZERO)
            }
            Some((last, end, _)) => {
                let gap = number.checked_sub(last).and_then(|ahead| ahead.checked_sub(1));
                (gap.ok_or_else(|| bad(format!("chunk {number} comes behind chunk {last}")))?, end)
            }
        };
        if self.unit == 0 || self.unit > CHUNK_MAX || data.len().get() > self.unit {
            return Err(bad(format!("chunk {number} has {} bytes, the first one {}", data.len(), self.unit)));
        }
        let start = gap.checked_mul(self.unit).and_then(|bytes| end.checked_add(Len::new(bytes)));
        let span = start.and_then(|start| Span::new(start, data.len()));
        let span = span.filter(|span| Span::whole(self.disk).contains(*span));
        let span =
            span.ok_or_else(|| bad(format!("chunk {number} ends behind the disk of {} bytes", self.disk)))?;
        self.last = Some((number, span.end(), !span.is_empty()));
        if !span.is_empty() {
            self.chunks.push(Chunk { span, at: data.start(), sum: None });
        }
        Ok(())
    }

    fn sum(&mut self, number: u64, kind: Kind, data: Span) -> Result<()> {
        match (self.last, self.chunks.last_mut()) {
            (Some((last, _, has_bytes)), chunk) if last == number => {
                if let Some(chunk) = chunk.filter(|_| has_bytes) {
                    chunk.sum = Some((kind, data));
                }
                Ok(())
            }
            _ => Err(Error::corrupt(
                CHUNK,
                data.start(),
                format!("a checksum of chunk {number} is out of place"),
            )),
        }
    }
}

impl Chunk {
    /// Whether it has a checksum.
    pub const fn has_sum(&self) -> bool {
        self.sum.is_some()
    }

    /// Its bytes, verified.
    pub fn read(&self, files: &Files<'_>, limits: &Limits) -> Result<Vec<u8>> {
        let mut bytes = limits.buffer("a chunk of an XVA archive", self.span.len())?;
        files.read(Place::own(self.at), &mut bytes)?;
        let Some((kind, place)) = self.sum else { return Ok(bytes) };
        let computed = match kind {
            Kind::Sha1 => sum::sha1(&bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            Kind::Xxh64 => format!("{:016x}", sum::xxh64(&bytes)),
        };
        let mut stored = vec![0; place.len().min(Len::new(64)).to_usize()];
        files.read(Place::own(place.start()), &mut stored)?;
        let stored = stored.trim_ascii();
        if !stored.eq_ignore_ascii_case(computed.as_bytes()) {
            let problem = format!("its checksum is {}, computed {computed}", Printable(stored));
            return Err(Error::corrupt(CHUNK, self.at, problem));
        }
        Ok(bytes)
    }
}
