//! Which format is it?
//!
//! 1. A format is told or proven. Proven means: the whole head of the one container whose signature is there is right.
//! 2. Both ends are looked at. The signatures of two formats are nobody's proof.
//! 3. A container that we know by name only is never taken for raw.
//! 4. What a guest can write proves nothing to a writer: for writing, the format comes from the command line, from the
//!    name's ending, or from the absence of every known signature.

use crate::vhd;
use crate::{Container, Error, Format, Result};
use disk::{Limits, ReadAt};
use ondisk::num::to_u64;
use ondisk::{Len, Offset};

/// What the bytes of a file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The format.
    pub format: Format,
    /// How this is known.
    pub certainty: Certainty,
}

/// How a format is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// The name's ending says it.
    Named,
    /// The head of the container is right from end to end. A guest could have written it into a raw disk.
    Proven,
    /// No known signature is at either end.
    Nothing,
}

/// The head of the file, as far as signatures reach.
const HEAD: usize = 512;

/// Formats that we know by name only: the signature, where it is from the start, the name.
const FOREIGN_HEADS: [(&[u8], usize, &str); 11] = [
    (b"\xbe\xba\xfe\xca\0\0\0\0", 0, "an SEsparse VMDK image"),
    (b"LUKS\xba\xbe", 0, "a LUKS volume"),
    (b"\x3a\xff\x26\xed", 0, "an Android sparse image"),
    (b"\x1f\x8b\x08", 0, "compressed with gzip"),
    (b"\xfd7zXZ\0", 0, "compressed with xz"),
    (b"\x28\xb5\x2f\xfd", 0, "compressed with zstd"),
    (b"BZh", 0, "compressed with bzip2"),
    (b"\x04\x22\x4d\x18", 0, "compressed with lz4"),
    (b"PK\x03\x04", 0, "a zip archive"),
    (b"7z\xbc\xaf\x27\x1c", 0, "a 7z archive"),
    (b"QFI\xfb\0\0\0\x01", 0, "a qcow image of version 1"),
];

/// What patches begin with: our own, and those of xdelta3.
const PATCHES: [&[u8]; 2] = [b"imgdelta", b"\xd6\xc3\xc4\0"];

/// Signatures of formats that are only read.
const HEADS: [(&[u8], usize, Format); 9] = [
    (b"vhdxfile", 0, Format::Vhdx),
    (b"KDMV", 0, Format::Vmdk),
    (b"COWD", 0, Format::Vmdk),
    (b"# Disk DescriptorFile", 0, Format::Vmdk),
    (b"\x7f\x10\xda\xbe", 64, Format::Vdi),
    (b"WithoutFreeSpace", 0, Format::Parallels),
    (b"WithouFreSpacExt", 0, Format::Parallels),
    (b"QED\0", 0, Format::Qed),
    (b"ova.xml\0", 0, Format::Xva),
];

/// A signature that was found: a supported format, or the name of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signature {
    Ours(Format),
    Foreign(&'static str),
    Patch,
}

impl Signature {
    fn describe(self) -> String {
        match self {
            Self::Ours(format) => format.described().to_owned(),
            Self::Foreign(name) => name.to_owned(),
            Self::Patch => "a patch".to_owned(),
        }
    }
}

/// The signatures at both ends.
fn signatures(file: &dyn ReadAt) -> Result<Vec<Signature>> {
    let mut head = [0; HEAD];
    let there = file.len().min(Len::new(to_u64(HEAD))).to_usize();
    file.read_at(Offset::ZERO, head.get_mut(..there).unwrap_or_default())?;
    let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    let mut found = Vec::new();
    if at(0, b"QFI\xfb") && !at(0, b"QFI\xfb\0\0\0\x01") {
        found.push(Signature::Ours(Format::Qcow2));
    }
    let poisoned = at(0, b"v_poison");
    if poisoned || vhd::begins_sparse(file)? || vhd::ends_fixed(file)? || vhd::ends_sparse(file)? {
        found.push(Signature::Ours(Format::Vhd));
    }
    for (magic, offset, format) in HEADS {
        if at(offset, magic) {
            found.push(Signature::Ours(format));
        }
    }
    for (magic, offset, name) in FOREIGN_HEADS {
        if at(offset, magic) {
            found.push(Signature::Foreign(name));
        }
    }
    if PATCHES.iter().any(|magic| at(0, magic)) {
        found.push(Signature::Patch);
    }
    if ends_with_koly(file)? {
        found.push(Signature::Foreign("a DMG image"));
    }
    found.dedup();
    Ok(found)
}

/// Whether one of the ends is that of an image that can stand on another one and be written.
#[must_use]
pub fn may_have_parent(file: &dyn ReadAt) -> bool {
    let can = |one: &Signature| matches!(one, Signature::Ours(Format::Qcow2 | Format::Vhd));
    signatures(file).is_ok_and(|found| found.iter().any(can))
}

fn ends_with_koly(file: &dyn ReadAt) -> Result<bool> {
    let Some(at) = file.len().checked_sub(Len::new(512)) else { return Ok(false) };
    let mut magic = [0; 8];
    file.read_at(at.end(), &mut magic)?;
    Ok(magic == *b"koly\0\0\0\x04")
}

/// Says what the file is, by its bytes and, where they say nothing, by its name.
///
/// # Errors
/// Where it carries the signatures of several formats, that of one that is not supported, or a damaged head.
pub fn probe(file: &dyn ReadAt, name: Option<&str>) -> Result<Probe> {
    let named = name.and_then(Format::of_name);
    if let Some(format) = named {
        return Ok(Probe { format, certainty: Certainty::Named });
    }
    match signatures(file)?.as_slice() {
        [] => Ok(Probe { format: Format::Raw, certainty: Certainty::Nothing }),
        [Signature::Ours(format)] => {
            prove(file, *format)?;
            Ok(Probe { format: *format, certainty: Certainty::Proven })
        }
        [Signature::Foreign(name)] => Err(foreign(name)),
        [Signature::Patch] => Err(Error::Patch),
        several => Err(ambiguous(several)),
    }
}

/// Validates the whole head of the one container that the signature names.
fn prove(file: &dyn ReadAt, format: Format) -> Result<()> {
    let opened = match Container::open(file, format, &Limits::default()) {
        // An archive of several disks is one all the same.
        Ok(_) | Err(Error::Choose { .. }) => Ok(()),
        Err(error) => Err(error),
    };
    opened.map_err(|error| match error {
        Error::Corrupt { .. } => Error::Ambiguous {
            why: format!("the file has the signature of {format}, but its head is damaged: {error}"),
            choices: vec![format, Format::Raw],
        },
        other => other,
    })
}

fn foreign(name: &str) -> Error {
    let why = if name.starts_with("compressed") {
        format!("the file is {name}; unpack it first")
    } else {
        format!("the file is {name}, which is not supported yet")
    };
    Error::Unsupported { what: why }
}

fn ambiguous(found: &[Signature]) -> Error {
    let names: Vec<_> = found.iter().map(|signature| signature.describe()).collect();
    let ours = found.iter().filter_map(|signature| match signature {
        Signature::Ours(format) => Some(*format),
        Signature::Foreign(_) | Signature::Patch => None,
    });
    Error::Ambiguous {
        why: format!("the file looks like {} at once", names.join(" and ")),
        choices: ours.chain([Format::Raw]).collect(),
    }
}

/// The format to read by: told, named, or probed.
///
/// # Errors
/// As [`probe`].
pub fn for_reading(file: &dyn ReadAt, name: Option<&str>, told: Option<Format>) -> Result<Format> {
    match told {
        Some(format) => Ok(format),
        None => Ok(probe(file, name)?.format),
    }
}

/// The format beyond doubt: told, named, or raw because no known signature is there.
///
/// # Errors
/// Where only the bytes would say which container it is; the help names what to type.
pub fn certain(file: &dyn ReadAt, name: Option<&str>, told: Option<Format>) -> Result<Format> {
    if let Some(format) = told {
        return Ok(format);
    }
    let probe = probe(file, name)?;
    match probe.certainty {
        Certainty::Named | Certainty::Nothing => Ok(probe.format),
        Certainty::Proven => Err(Error::Ambiguous {
            why: format!(
                "the file looks like {}, but its name does not say so, and a guest can make a raw disk look like that",
                probe.format.described()
            ),
            choices: vec![probe.format, Format::Raw],
        }),
    }
}

/// The format to write by: beyond doubt, and one that is written.
///
/// # Errors
/// As [`certain`], and where images of that format are only read.
pub fn for_writing(file: &dyn ReadAt, name: Option<&str>, told: Option<Format>) -> Result<Format> {
    let format = certain(file, name, told)?;
    if format.is_writable() { Ok(format) } else { Err(Error::read_only(format)) }
}
