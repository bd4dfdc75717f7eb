//! A tar archive, member by member. Nothing is unpacked, and no name means anything outside.

use crate::foreign::{Files, Place, record};
use crate::{Error, Result};
use ondisk::num::round_up;
use ondisk::tar::{Header, number};
use ondisk::{Len, Offset, Span};

const HEADER: &str = "tar header";
const BLOCK: u64 = 512;

/// A regular file in the archive.
#[derive(Clone, Debug)]
pub struct Member {
    pub name: Vec<u8>,
    pub data: Span,
}

/// Goes through the members from a position on.
pub struct Members<'a> {
    files: &'a Files<'a>,
    at: Offset,
    /// The archive was ended, and not only cut off.
    pub ended: bool,
}

impl<'a> Members<'a> {
    pub const fn from(files: &'a Files<'a>, at: Offset) -> Self {
        Self { files, at, ended: false }
    }

    /// The next regular file; `None` at the end of the archive, or of the file.
    pub fn next(&mut self) -> Result<Option<Member>> {
        loop {
            let here = Place::own(self.at);
            if self.ended || !self.files.holds(here, Len::new(BLOCK))? {
                return Ok(None);
            }
            let header: Header = record(self.files, HEADER, here)?;
            let bad = |problem: &str| Error::corrupt(HEADER, here.at, problem);
            if zerocopy::IntoBytes::as_bytes(&header).iter().all(|byte| *byte == 0) {
                self.ended = true;
                return Ok(None);
            }
            if !header.is_whole() {
                return Err(bad("its checksum is wrong"));
            }
            let size = number(&header.size).ok_or_else(|| bad("its size is no number"))?;
            let start = here.ahead(Len::new(BLOCK)).ok_or_else(|| bad("it lies behind byte 2^64"))?.at;
            let data = Span::new(start, Len::new(size)).ok_or_else(|| bad("it is too long"))?;
            if !self.files.holds(Place::own(start), Len::new(size))? {
                let problem =
                    format!("its {size} bytes end behind the end of the file: the archive is cut off");
                return Err(Error::corrupt(HEADER, here.at, problem));
            }
            let next = round_up(size, BLOCK).and_then(|size| start.checked_add(Len::new(size)));
            self.at = next.ok_or_else(|| bad("it is too long"))?;
            if matches!(header.typeflag, b'0' | 0) {
                return Ok(Some(Member { name: name(&header), data }));
            }
        }
    }
}

fn name(header: &Header) -> Vec<u8> {
    let text = ondisk::text::until_nul;
    let prefix = if header.magic.starts_with(b"ustar\0") { text(&header.prefix) } else { &[] };
    let name = text(&header.name);
    let whole = if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() };
    whole.strip_prefix(b"./").map(<[u8]>::to_vec).unwrap_or(whole)
}
