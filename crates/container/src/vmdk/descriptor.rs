//! The descriptor: text that says what an image consists of.
//!
//! ```text
//! CID=fffffffe               changes with every opening for writing
//! parentCID=ffffffff         none
//! createType="twoGbMaxExtentSparse"
//! RW 4192256 SPARSE "disk-s001.vmdk"
//! RW 63 FLAT "disk-pt.vmdk" 0
//! ```
//!
//! Names are text; who opens them decides which he trusts.

use crate::{Error, Result};
use ondisk::text::Printable;
use ondisk::{Len, Offset};

pub const DESCRIPTOR: &str = "VMDK descriptor";
/// No descriptor is longer.
pub const LEN_MAX: Len = Len::mib(1);
/// So many extents make a disk at most.
const EXTENTS_MAX: usize = 4096;
/// No parent.
pub const NO_PARENT: u32 = u32::MAX;

/// What a descriptor says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    pub cid: Option<u32>,
    pub parent_cid: Option<u32>,
    pub create_type: String,
    pub parent_hint: String,
    pub extents: Vec<Line>,
}

/// One of the extents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub len: Len,
    pub kind: Kind,
    /// The file that holds it; empty where there is none.
    pub name: String,
    /// Where it begins in the file.
    pub offset: Offset,
}

/// What an extent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grains and tables.
    Sparse,
    /// Byte by byte.
    Flat,
    /// Nothing but zeros.
    Zero,
}

impl Descriptor {
    /// Reads the text up to its first NUL.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let bad = |problem: String| Error::corrupt(DESCRIPTOR, Offset::ZERO, problem);
        let mut descriptor = Self::default();
        for line in ondisk::text::until_nul(bytes).split(|&byte| byte == b'\n' || byte == b'\r') {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let told = || Printable(line.get(..line.len().min(80)).unwrap_or_default()).to_string();
            let text = std::str::from_utf8(line);
            if let Some(extent) = extent(text.unwrap_or_default()).or_else(|| lost_name(line)) {
                if descriptor.extents.len() >= EXTENTS_MAX {
                    return Err(bad(format!("it has more than {EXTENTS_MAX} extents")));
                }
                let extent = extent.map_err(|why| match why {
                    Why::Bad => bad(format!("'{}' is no extent", told())),
                    Why::Unsupported(kind) => {
                        let kind = Printable(kind.as_bytes()).to_string();
                        Error::unsupported(format!("VMDK extents of type {kind} are not supported"))
                    }
                })?;
                descriptor.extents.push(extent);
            } else if let Some((key, value)) = text.ok().and_then(|text| text.split_once('=')) {
                descriptor.set(key.trim(), value.trim().trim_matches('"'));
            }
        }
        Ok(descriptor)
    }

    fn set(&mut self, key: &str, value: &str) {
        let hex = || u32::from_str_radix(value, 16).ok();
        if key.eq_ignore_ascii_case("CID") {
            self.cid = hex();
        } else if key.eq_ignore_ascii_case("parentCID") {
            self.parent_cid = hex();
        } else if key.eq_ignore_ascii_case("createType") {
            value.clone_into(&mut self.create_type);
        } else if key.eq_ignore_ascii_case("parentFileNameHint") {
            value.clone_into(&mut self.parent_hint);
        }
    }

    /// Whether the image stands on another one.
    pub fn has_parent(&self) -> bool {
        self.parent_cid.is_some_and(|cid| cid != NO_PARENT)
    }
}

/// Why a line is no extent that can be used.
enum Why {
    Bad,
    Unsupported(String),
}

/// `ACCESS SECTORS KIND ["NAME" [OFFSET]]`, if the line begins like that.
fn extent(line: &str) -> Option<std::result::Result<Line, Why>> {
    let (access, rest) = line.split_once(|c: char| c.is_ascii_whitespace())?;
    if !["RW", "RDONLY", "NOACCESS"].contains(&access) {
        return None;
    }
    Some(parts(rest.trim_start()))
}

/// The same line where its name is in a coding that we cannot read.
fn lost_name(line: &[u8]) -> Option<std::result::Result<Line, Why>> {
    let begins = [&b"RW "[..], b"RDONLY ", b"NOACCESS "].iter().any(|access| line.starts_with(access));
    begins.then_some(Err(Why::Bad))
}

fn parts(rest: &str) -> std::result::Result<Line, Why> {
    let (sectors, rest) = rest.split_once(|c: char| c.is_ascii_whitespace()).ok_or(Why::Bad)?;
    let len = sectors.parse().ok().and_then(|n: u64| n.checked_mul(512)).map(Len::new).ok_or(Why::Bad)?;
    let rest = rest.trim_start();
    let (word, rest) = rest.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((rest, ""));
    let kind = match word {
        "SPARSE" | "VMFSSPARSE" => Kind::Sparse,
        "FLAT" | "VMFS" => Kind::Flat,
        "ZERO" => return Ok(Line { len, kind: Kind::Zero, name: String::new(), offset: Offset::ZERO }),
        other => return Err(Why::Unsupported(other.to_owned())),
    };
    let (name, behind) =
        rest.trim_start().strip_prefix('"').and_then(|rest| rest.rsplit_once('"')).ok_or(Why::Bad)?;
    let sectors: u64 = match behind.split_ascii_whitespace().next() {
        None => 0,
        Some(number) => number.parse().map_err(|_| Why::Bad)?,
    };
    let offset = sectors.checked_mul(512).map(Offset::new).ok_or(Why::Bad)?;
    Ok(Line { len, kind, name: name.to_owned(), offset })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn what_products_write() {
        let text = b"# Disk DescriptorFile\r\nversion=1\r\nencoding=\"UTF-8\"\r\nCID=7fffffff\r\n\
            parentCID=ffffffff\r\nisNativeSnapshot=\"no\"\r\ncreateType=\"custom\"\r\n\r\n# Extent description\r\n\
            RW 63 FLAT \"a disk-pt.vmdk\" 0\r\nRDONLY 100 FLAT \"x=y.vmdk\" 7 partitionUUID dev\r\n\
            RW 8 ZERO \r\nRW 20971520 VMFS \"vm-flat.vmdk\"\r\nRW 4192256 SPARSE \"s \"1\".vmdk\"\r\n\
            \r\n# The Disk Data Base\r\nddb.adapterType = \"lsilogic\"\r\n\0\0RW junk";
        let all = Descriptor::parse(text).unwrap();
        assert_eq!((all.cid, all.parent_cid), (Some(0x7fff_ffff), Some(NO_PARENT)));
        assert_eq!((all.create_type.as_str(), all.has_parent()), ("custom", false));
        let names: Vec<_> = all.extents.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["a disk-pt.vmdk", "x=y.vmdk", "", "vm-flat.vmdk", "s \"1\".vmdk"]);
        assert_eq!(all.extents[1].offset, Offset::new(7 * 512));
        assert_eq!(all.extents[4].len, Len::new(4_192_256 * 512));
    }

    #[test]
    fn what_is_refused() {
        for (line, part) in [
            ("RW x FLAT \"a\"", "no extent"),
            ("RW 36893488147419103 FLAT \"a\"", "no extent"),
            ("RW 1 FLAT a", "no extent"),
            ("RW 1 FLAT \"a\" -1", "no extent"),
            ("RW 1 SESPARSE \"a\"", "SESPARSE"),
            ("RW 1 VMFSRDM \"a\"", "VMFSRDM"),
            ("RW", ""),
        ] {
            let parsed = Descriptor::parse(line.as_bytes());
            match parsed {
                Ok(found) => assert!(part.is_empty() && found.extents.is_empty(), "{line}"),
                Err(error) => {
                    assert!(!part.is_empty() && error.to_string().contains(part), "{line}: {error}")
                }
            }
        }
        let latin = Descriptor::parse(b"RW 1 FLAT \"\xe4.vmdk\"").unwrap_err();
        assert!(latin.to_string().contains("no extent"), "{latin}");
        assert!(Descriptor::parse(&b"RW 1 ZERO\n".repeat(5000)).is_err());
    }
}
