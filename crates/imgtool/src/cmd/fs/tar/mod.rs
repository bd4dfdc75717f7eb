//! Archives as POSIX.1-2001 has them (pax), with the extensions for holes, attributes and access control lists that
//! GNU tar, bsdtar and star agree on.
//!
//! ```text
//! [ header x | records: "LEN KEY=VALUE\n"… ]  only where the next header cannot say it all
//! [ header   | content, up to whole blocks of 512 bytes ]
//! …
//! [ two blocks of zeros ]
//! ```
//!
//! 1. Whatever a header has no room for stands in records, which win over the header.
//! 2. A sparse file begins with its map (version 1.0 of GNU tar's format): the number of data spans, then offset and
//!    length of each, as decimal lines up to a whole block; then the data.

use ondisk::num::{round_up, to_u64, to_usize};
use ondisk::tar::Header;
use ondisk::{Len, Span};
use zerocopy::{FromZeros, IntoBytes};

/// Everything is in such blocks.
pub(super) const BLOCK: u64 = 512;
/// The longest name that a header has room for.
const NAME_MAX: usize = 100;

/// The kinds of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    /// A further name of an earlier member.
    HardLink,
    Symlink,
    Char,
    Block,
    Dir,
    Fifo,
}

impl Kind {
    const fn flag(self) -> u8 {
        match self {
            Self::File => b'0',
            Self::HardLink => b'1',
            Self::Symlink => b'2',
            Self::Char => b'3',
            Self::Block => b'4',
            Self::Dir => b'5',
            Self::Fifo => b'6',
        }
    }
}

/// A key and its value.
pub(super) type Record = (Vec<u8>, Vec<u8>);

/// A member of an archive, but for its content.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub kind: Kind,
    pub name: Vec<u8>,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    /// Where a link leads.
    pub target: Vec<u8>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Further records: attributes.
    pub records: Vec<Record>,
}

/// What stands before the content of a member that is `len` bytes long, and how many bytes of padding follow the
/// content. `data` are the spans of a file that hold data: where they leave holes, only they are content.
pub(super) fn head(member: &Member, len: Len, data: &[Span]) -> (Vec<u8>, u64) {
    let mut records = Records(Vec::new());
    let stored = data.iter().fold(0_u64, |sum, span| sum.saturating_add(span.len().get()));
    let is_sparse = stored < len.get();
    let map = if is_sparse { sparse_map(len, data) } else { Vec::new() };
    let size = to_u64(map.len()).saturating_add(stored);
    let mut name = member.name.clone();
    if is_sparse {
        records.put(b"GNU.sparse.major", b"1");
        records.put(b"GNU.sparse.minor", b"0");
        records.put(b"GNU.sparse.name", &member.name);
        records.put(b"GNU.sparse.realsize", len.to_string().as_bytes());
        name = synthetic(&member.name);
    }
    let mut header = Header::new_zeroed();
    text(&mut header.name, &name, b"path", &mut records);
    text(&mut header.linkname, &member.target, b"linkpath", &mut records);
    number(&mut header.mode, u64::from(member.mode & 0o7777), b"mode", &mut records);
    number(&mut header.uid, member.uid.into(), b"uid", &mut records);
    number(&mut header.gid, member.gid.into(), b"gid", &mut records);
    number(&mut header.size, size, b"size", &mut records);
    time(&mut header.mtime, member.mtime, &mut records);
    number(&mut header.devmajor, member.device.0.into(), b"SCHILY.devmajor", &mut records);
    number(&mut header.devminor, member.device.1.into(), b"SCHILY.devminor", &mut records);
    for (key, value) in &member.records {
        records.put(key, value);
    }
    let mut head = records.member();
    head.extend(seal(header, member.kind.flag()).as_bytes());
    head.extend(map);
    (head, padding(size))
}

/// What ends an archive.
pub(super) const END: [u8; 1024] = [0; 1024];

/// The rest of the last block behind so many bytes.
fn padding(size: u64) -> u64 {
    round_up(size, BLOCK).unwrap_or(size).saturating_sub(size)
}

/// Records for the next member.
struct Records(Vec<u8>);

impl Records {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        // " KEY=VALUE\n", and in front of it the length of it all, its own digits included.
        let rest = key.len().saturating_add(value.len()).saturating_add(3);
        let mut len = rest;
        while len != rest.saturating_add(len.to_string().len()) {
            len = rest.saturating_add(len.to_string().len());
        }
        self.0.extend(len.to_string().as_bytes());
        for part in [&b" "[..], key, b"=", value, b"\n"] {
            self.0.extend(part);
        }
    }

    /// The member that carries them, if there are any.
    fn member(self) -> Vec<u8> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let size = to_u64(self.0.len());
        let mut header = Header::new_zeroed();
        let mut none = Self(Vec::new());
        text(&mut header.name, b"././@PaxHeader", b"", &mut none);
        number(&mut header.mode, 0o644, b"", &mut none);
        number(&mut header.uid, 0, b"", &mut none);
        number(&mut header.gid, 0, b"", &mut none);
        number(&mut header.size, size, b"", &mut none);
        number(&mut header.mtime, 0, b"", &mut none);
        let mut member = seal(header, b'x').as_bytes().to_vec();
        member.extend(self.0);
        member.resize(member.len().next_multiple_of(to_usize(BLOCK)), 0);
        member
    }
}

fn seal(mut header: Header, typeflag: u8) -> Header {
    header.typeflag = typeflag;
    header.magic = *b"ustar\0";
    header.version = *b"00";
    header.chksum = [b' '; 8];
    let sum: u64 = header.as_bytes().iter().map(|&byte| u64::from(byte)).sum();
    let digits = format!("{sum:06o}\0 ");
    copy(&mut header.chksum, digits.as_bytes());
    header
}

/// Puts a text into its field, and into a record where it does not fit.
fn text(field: &mut [u8], text: &[u8], key: &[u8], records: &mut Records) {
    if text.len() > NAME_MAX {
        records.put(key, text);
    }
    copy(field, text);
}

/// Puts a number into its field, and into a record where it does not fit.
fn number(field: &mut [u8], number: u64, key: &[u8], records: &mut Records) {
    let width = field.len().saturating_sub(1);
    let digits = format!("{number:0width$o}");
    if digits.len() <= width {
        copy(field, digits.as_bytes());
    } else {
        records.put(key, number.to_string().as_bytes());
        copy(field, "0".repeat(width).as_bytes());
    }
}

fn time(field: &mut [u8], (seconds, nanoseconds): (i64, u32), records: &mut Records) {
    let whole = u64::try_from(seconds).ok().filter(|_| nanoseconds == 0);
    match whole {
        Some(whole) => number(field, whole, b"mtime", records),
        None => {
            records.put(b"mtime", decimal(seconds, nanoseconds).as_bytes());
            let mut none = Records(Vec::new());
            number(field, u64::try_from(seconds).unwrap_or_default(), b"", &mut none);
        }
    }
}

/// Seconds with nine digits behind the point.
pub(super) fn decimal(seconds: i64, nanoseconds: u32) -> String {
    if seconds < 0 && nanoseconds > 0 {
        // 0.25 s behind second -2 is -1.75.
        let whole = seconds.saturating_add(1).unsigned_abs();
        return format!("-{whole}.{:09}", 1_000_000_000_u32.saturating_sub(nanoseconds));
    }
    format!("{seconds}.{nanoseconds:09}")
}

fn copy(field: &mut [u8], bytes: &[u8]) {
    for (to, from) in field.iter_mut().zip(bytes) {
        *to = *from;
    }
}

fn sparse_map(len: Len, data: &[Span]) -> Vec<u8> {
    // A hole at the end is told by an empty span there.
    let end = data.last().is_none_or(|last| last.end() < len.end()).then_some(len.get());
    let count = data.len().saturating_add(usize::from(end.is_some()));
    let mut map = format!("{count}\n").into_bytes();
    for span in data {
        map.extend(format!("{}\n{}\n", span.start(), span.len()).bytes());
    }
    if let Some(end) = end {
        map.extend(format!("{end}\n0\n").bytes());
    }
    map.resize(map.len().next_multiple_of(to_usize(BLOCK)), 0);
    map
}

/// The name that programs see that know nothing of holes.
fn synthetic(name: &[u8]) -> Vec<u8> {
    let at = name.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at.saturating_add(1));
    let (folder, file) = name.split_at(at);
    [folder, b"GNUSparseFile.0/", file].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_their_own_length() {
        let mut records = Records(Vec::new());
        records.put(b"k", b"v");
        records.put(b"path", &[b'x'; 89]);
        records.put(b"path", &[b'x'; 90]);
        let text = String::from_utf8(records.0).unwrap();
        let lines: Vec<_> = text.lines().collect();
        for line in &lines {
            let (len, _) = line.split_once(' ').unwrap();
            assert_eq!(len.parse::<usize>().unwrap(), line.len() + 1);
        }
        assert_eq!(lines[0], "6 k=v");
    }

    #[test]
    fn the_map_of_a_sparse_file() {
        let span = |start, len| Span::new(ondisk::Offset::new(start), Len::new(len)).unwrap();
        let map = |len, data: &[Span]| {
            let map = sparse_map(Len::new(len), data);
            assert_eq!(map.len() % 512, 0);
            String::from_utf8(map).unwrap().trim_end_matches('\0').to_owned()
        };
        assert_eq!(map(10_000, &[span(0, 1024), span(4096, 1024)]), "3\n0\n1024\n4096\n1024\n10000\n0\n");
        assert_eq!(map(5120, &[span(4096, 1024)]), "1\n4096\n1024\n");
        assert_eq!(map(512, &[]), "1\n512\n0\n");
    }

    #[test]
    fn decimals() {
        assert_eq!(decimal(1, 5), "1.000000005");
        assert_eq!(decimal(-2, 0), "-2.000000000");
        assert_eq!(decimal(-2, 250_000_000), "-1.750000000");
        assert_eq!(decimal(-1, 1), "-0.999999999");
    }
}
