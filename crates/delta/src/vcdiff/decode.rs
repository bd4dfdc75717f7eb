//! A window, made of its sections and the base.

use super::cache::Cache;
use super::code::{self, Half, Kind};
use super::number;
use super::read::Window;
use crate::error::{Error, Result};
use disk::{Limits, ReadAt};
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset};

/// What is read of the base for a copy, at least: the next one begins near its end most often.
const AROUND: u64 = 4096;

/// What a window is made of: data, instructions, addresses.
pub type Sections = [Vec<u8>; 3];

/// Makes a window.
pub fn make(
    window: &Window,
    sections: &Sections,
    base: Option<&dyn ReadAt>,
    limits: &Limits,
) -> Result<Vec<u8>> {
    let [data, instructions, addresses] = sections;
    let len = window.target.len();
    let segment = window.source.unwrap_or_default();
    let mut out = limits.buffer("a window of the patch", len)?;
    out.clear();
    let mut work = Work {
        out,
        len: len.to_usize(),
        segment: segment.len().get(),
        data,
        instructions,
        addresses,
        cache: Cache::new(),
        source: Source { base, start: segment.start().get(), at: 0, bytes: Vec::new() },
    };
    let wrong = |why: &'static str| Error::damaged("the window", window.at, why);
    while let Some((byte, rest)) = work.instructions.split_first() {
        work.instructions = rest;
        for half in code::both(*byte) {
            work.step(half).map_err(|stop| match stop {
                Stop::Wrong(why) => wrong(why),
                Stop::Disk(error) => error.into(),
            })?;
        }
    }
    if work.out.len() != work.len {
        return Err(wrong("makes less than it says"));
    }
    if !work.data.is_empty() || !work.addresses.is_empty() {
        return Err(wrong("has data or addresses that nothing takes"));
    }
    Ok(work.out)
}

/// Why a window cannot be made.
enum Stop {
    Wrong(&'static str),
    Disk(disk::Error),
}

impl From<disk::Error> for Stop {
    fn from(error: disk::Error) -> Self {
        Self::Disk(error)
    }
}

struct Work<'a> {
    out: Vec<u8>,
    /// Bytes to be made.
    len: usize,
    /// Bytes of the segment: addresses below it are there, those above in what was made.
    segment: u64,
    data: &'a [u8],
    instructions: &'a [u8],
    addresses: &'a [u8],
    cache: Cache,
    source: Source<'a>,
}

impl Work<'_> {
    fn step(&mut self, half: Half) -> std::result::Result<(), Stop> {
        if half.kind == Kind::Nothing {
            return Ok(());
        }
        let told = if half.size == 0 { number::take(&mut self.instructions) } else { Some(half.size.into()) };
        let size = told.ok_or(Stop::Wrong("has an instruction that is cut off"))?;
        let room = self.len.saturating_sub(self.out.len());
        if size > to_u64(room) {
            return Err(Stop::Wrong("makes more than it says"));
        }
        let size = to_usize(size);
        let short = || Stop::Wrong("has too little data");
        match half.kind {
            Kind::Nothing => {}
            Kind::Add => {
                let (bytes, rest) = self.data.split_at_checked(size).ok_or_else(short)?;
                self.data = rest;
                self.out.extend_from_slice(bytes);
            }
            Kind::Run => {
                let (byte, rest) = self.data.split_first().ok_or_else(short)?;
                self.data = rest;
                self.out.resize(self.out.len().saturating_add(size), *byte);
            }
            Kind::Copy(mode) => {
                let here = self.segment.saturating_add(to_u64(self.out.len()));
                let address = self.cache.take(&mut self.addresses, mode, here);
                self.copy(address.ok_or(Stop::Wrong("has a wrong address"))?, size)?;
            }
        }
        Ok(())
    }

    fn copy(&mut self, address: u64, size: usize) -> std::result::Result<(), Stop> {
        let inside = to_usize(self.segment.saturating_sub(address)).min(size);
        let start = self.out.len();
        self.out.resize(start.saturating_add(inside), 0);
        self.source.read(address, self.out.get_mut(start..).unwrap_or_default())?;
        let mut from = to_usize(address.saturating_sub(self.segment));
        let mut left = size.saturating_sub(inside);
        while left > 0 {
            // A copy may run into what it makes itself.
            let there = self.out.len().saturating_sub(from).min(left);
            if there == 0 {
                return Err(Stop::Wrong("has a wrong address"));
            }
            self.out.extend_from_within(from..from.saturating_add(there));
            from = from.saturating_add(there);
            left = left.saturating_sub(there);
        }
        Ok(())
    }
}

/// A segment of the base.
struct Source<'a> {
    base: Option<&'a dyn ReadAt>,
    start: u64,
    /// What was read last, and where it lies in the base.
    at: u64,
    bytes: Vec<u8>,
}

impl Source<'_> {
    /// Reads from `address` in the segment on.
    fn read(&mut self, address: u64, buf: &mut [u8]) -> disk::Result<()> {
        let Some(base) = self.base.filter(|_| !buf.is_empty()) else { return Ok(()) };
        let at = self.start.saturating_add(address);
        if to_u64(buf.len()) >= AROUND {
            return base.read_at(Offset::new(at), buf);
        }
        let kept = |source: &Self| {
            let within = to_usize(at.checked_sub(source.at)?);
            Some(within..within.checked_add(buf.len())?)
        };
        if kept(self).is_none_or(|range| range.end > self.bytes.len()) {
            let len = Len::new(base.len().get().saturating_sub(at).min(AROUND));
            // Whatever happens, what is kept is not the old bytes.
            self.bytes.clear();
            self.at = at;
            let mut bytes = vec![0; len.to_usize().max(buf.len())];
            base.read_at(Offset::new(at), &mut bytes)?;
            self.bytes = bytes;
        }
        let there = kept(self).and_then(|range| self.bytes.get(range)).unwrap_or_default();
        if there.len() == buf.len() {
            buf.copy_from_slice(there);
        }
        Ok(())
    }
}
