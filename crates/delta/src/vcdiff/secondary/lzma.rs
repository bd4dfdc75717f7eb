//! LZMA: an xz stream without checksums for each kind of section. It never ends: each section takes up where the last
//! compressed one of its kind stopped.
//!
//! Sections that are written begin with a reset of the state, so that they can be compressed by all threads at once.
//! What the sections before have may be referred to all the same.
//!
//! Source: the .xz file format, version 1.2, sections 2.1.1 and 3.1; what xdelta3 3.0 reads and writes.

use super::runs::{Run, runs};
use disk::Limits;
use lzma_rust2::{Lzma2Options, Lzma2Reader, Lzma2Writer};
use ondisk::Len;
use ondisk::num::{low16, low32, to_u64};
use std::io::{self, Read, Write};

/// At the beginning of a stream: no checksums of blocks.
const STREAM: [u8; 8] = [0xfd, b'7', b'z', b'X', b'Z', 0, 0, 0];
/// Before the size of the dictionary: a block of so many times four bytes more, no lengths, LZMA2 alone.
const BLOCK: [u8; 4] = [2, 0, 0x21, 1];
/// Bytes of a stream's header and of the block's, checksums included.
const STREAM_LEN: usize = 12;
const BLOCK_LEN: usize = 12;
/// What levels up to 9 of xz ask for.
const DICTIONARY: u64 = 64 << 20;
/// What is worth looking at before what is compressed: so many times its own length.
pub const BEFORE: usize = 2;
/// Bytes of a chunk that is stored, at most.
const CHUNK: usize = 1 << 16;

/// A stream that is read.
#[derive(Default)]
pub struct Reader(Option<Lzma2Reader<Feed>>);

/// The section that is read.
#[derive(Default)]
struct Feed {
    bytes: Vec<u8>,
    at: usize,
}

impl Feed {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }
}

impl Read for Feed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.rest().read(buf)?;
        self.at = self.at.saturating_add(read);
        Ok(read)
    }
}

impl Reader {
    /// The next section, which fills `out`.
    pub fn unpack(&mut self, mut section: &[u8], out: &mut [u8], limits: &Limits) -> Result<(), String> {
        let stream = match &mut self.0 {
            Some(stream) => stream,
            none => {
                let dictionary = header(&mut section)?;
                if dictionary > DICTIONARY.min(limits.memory.get()) {
                    return Err(format!("has a dictionary of {dictionary} bytes, too large for --memory"));
                }
                none.insert(Lzma2Reader::new(Feed::default(), low32(dictionary), None))
            }
        };
        *stream.inner_mut() = Feed { bytes: section.to_vec(), at: 0 };
        stream.read_exact(out).map_err(|error| format!("is no LZMA: {error}"))?;
        if stream.inner_mut().rest().is_empty() { Ok(()) } else { Err("has bytes behind its end".to_owned()) }
    }
}

/// Takes the headers of a stream and of its only block. Yields the size of the dictionary.
fn header(bytes: &mut &[u8]) -> Result<u64, String> {
    let sound = |part: &[u8]| part.split_last_chunk().map(|(_, sum)| u32::from_le_bytes(*sum));
    let (stream, rest) = bytes.split_at_checked(STREAM_LEN).ok_or("is too short for an xz stream")?;
    let flags = stream.get(6..8).unwrap_or_default();
    if !stream.starts_with(&STREAM) || sound(stream) != Some(crc32fast::hash(flags)) {
        return Err("does not begin as an xz stream without checks does".to_owned());
    }
    let (block, rest) = rest.split_at_checked(BLOCK_LEN).ok_or("is too short for a block of xz")?;
    let covered = block.get(..BLOCK_LEN.saturating_sub(4)).unwrap_or_default();
    if !block.starts_with(&BLOCK) || sound(block) != Some(crc32fast::hash(covered)) {
        return Err("does not begin as a block of LZMA2 does".to_owned());
    }
    *bytes = rest;
    let coded = u32::from(block.get(BLOCK.len()).copied().unwrap_or_default() & 0x3f);
    Ok((u64::from(coded & 1) | 2).wrapping_shl((coded >> 1).saturating_add(11)))
}

/// The headers of a stream with such a dictionary, which is a power of two.
pub fn begin(dictionary: u32) -> Vec<u8> {
    let mut out = STREAM.to_vec();
    out.extend(crc32fast::hash(&[0, 0]).to_le_bytes());
    let mut block = BLOCK.to_vec();
    // Even codes stand for powers of two, from 4 KiB on.
    let coded = dictionary.max(4096).ilog2().saturating_sub(12).wrapping_shl(1);
    block.push(ondisk::num::low8(u64::from(coded)));
    block.resize(BLOCK_LEN.saturating_sub(4), 0);
    block.extend(crc32fast::hash(&block).to_le_bytes());
    out.extend(block);
    out
}

/// A section, compressed at a preset of xz; `before` is what ends the sections before it, as far as it may be referred
/// to. LZMA looks back by `most` bytes at most, a power of two.
pub fn pack(bytes: &[u8], before: &[u8], preset: u32, most: u64) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut at = 0_usize;
    for (len, run) in runs(bytes, before) {
        let (so_far, rest) = bytes.split_at(at);
        let part = rest.get(..len).unwrap_or(rest);
        let far = match run {
            Run::Stored => {
                store(part, at == 0 && before.is_empty(), &mut out);
                None
            }
            Run::Plain => Some(part.len().saturating_mul(BEFORE)),
            Run::Again => Some(usize::MAX),
        };
        if let Some(far) = far {
            out.extend(coded(part, tail([before, so_far], far), preset, most)?);
        }
        at = at.saturating_add(part.len());
    }
    Ok(out)
}

/// What ends two parts.
fn tail([first, second]: [&[u8]; 2], len: usize) -> Vec<u8> {
    let last = |part: &'_ [u8], len: usize| part.len().saturating_sub(len);
    let there = second.get(last(second, len)..).unwrap_or_default();
    let before = first.get(last(first, len.saturating_sub(there.len()))..).unwrap_or_default();
    [before, there].concat()
}

/// Chunks as they are. The `first` ones of a stream refer to nothing before.
fn store(bytes: &[u8], first: bool, out: &mut Vec<u8>) {
    for (number, chunk) in bytes.chunks(CHUNK).enumerate() {
        out.push(if first && number == 0 { 1 } else { 2 });
        out.extend(low16(to_u64(chunk.len().saturating_sub(1))).to_be_bytes());
        out.extend(chunk);
    }
}

fn coded(bytes: &[u8], before: Vec<u8>, preset: u32, most: u64) -> io::Result<Vec<u8>> {
    let mut options = Lzma2Options::with_preset(preset);
    let reach = to_u64(bytes.len().saturating_add(before.len())).next_power_of_two().max(1 << 16);
    options.lzma_options.dict_size = low32(reach.min(most));
    options.lzma_options.preset_dict = Some(before).filter(|before| !before.is_empty());
    let mut writer = Lzma2Writer::new(Vec::new(), options);
    writer.write_all(bytes)?;
    let mut out = writer.finish()?;
    // The mark that ends a stream: this one goes on.
    out.pop();
    Ok(out)
}

/// Memory that takes to compress so many bytes, those before them included.
pub fn need(preset: u32, bytes: u64) -> Len {
    let mut options = Lzma2Options::with_preset(preset);
    options.lzma_options.dict_size = low32(bytes.next_power_of_two());
    Len::kib(options.lzma_options.get_memory_usage())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_go_on() {
        let text: Vec<u8> = (0..200_000_u32).flat_map(|n| (n / 7 % 1000).to_le_bytes()).collect();
        let noise = testkit::images::noise(5, 100_000);
        let mixed = [&noise[..], &testkit::images::noise(7, 200_000), &text, &noise].concat();
        let sections = [&text[..1000], &noise, &text, &noise[..70_000], &text[..70], &mixed, &text];
        let mut reader = Reader::default();
        let mut before: Vec<u8> = Vec::new();
        let mut packed_len = 0;
        for (number, section) in sections.iter().enumerate() {
            let mut packed = if number == 0 { begin(1 << 21) } else { Vec::new() };
            packed.extend(pack(section, &before, 3, 1 << 21).unwrap());
            packed_len += packed.len();
            let mut out = vec![0; section.len()];
            reader.unpack(&packed, &mut out, &Limits::default()).unwrap();
            assert!(out == *section, "{number}");
            before.extend(*section);
        }
        assert!(packed_len < 420_000, "{packed_len}");
        assert!(Reader::default().unpack(&[0; 40], &mut [0; 3], &Limits::default()).is_err());
    }
}
