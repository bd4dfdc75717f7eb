//! What a new image shall be: from the command line to its description.

use crate::args::{Compat, Compress, Layout, OutFormat};
use crate::cx::Session;
use crate::exit::Failure;
use crate::output::Output;
use container::{Create as Spec, Format, qcow2, vhd};
use ondisk::Len;
use ondisk::guid::Uuid;
use ondisk::num::round_up;
use std::path::Path;

/// What a new image stands on.
pub(super) enum Stands {
    /// Nothing.
    Alone,
    /// A VHD.
    Vhd(vhd::create::ParentSpec),
    /// Whatever qcow2 can name.
    Qcow2(qcow2::Backing),
}

/// As `-O` says, else the name's ending, else raw.
pub(super) fn format(told: Option<OutFormat>, image: &Path) -> Result<OutFormat, Failure> {
    let by_name = image.to_str().and_then(Format::of_name);
    match (told, by_name) {
        (Some(told), _) => Ok(told),
        (None, Some(Format::Vhd)) => Ok(OutFormat::Vhd),
        (None, Some(Format::Qcow2)) => Ok(OutFormat::Qcow2),
        (None, Some(Format::Raw) | None) => Ok(OutFormat::Raw),
        (None, Some(other)) => {
            let why = format!("{} is only read, never made", other.described());
            Err(Failure::usage(why).with_help("say what to make: -O raw, vhd, vhd-fixed or qcow2"))
        }
    }
}

/// As it is typed.
pub(super) const fn name_of(format: OutFormat) -> &'static str {
    match format {
        OutFormat::Raw => "raw",
        OutFormat::Vhd => "vhd",
        OutFormat::VhdFixed => "vhd-fixed",
        OutFormat::Qcow2 => "qcow2",
    }
}

/// The size in whole sectors.
pub(super) fn whole_sectors(want: Len, out: &Output) -> Result<Len, Failure> {
    let too_large = || Failure::usage(format!("{want} bytes are more than a disk can have"));
    let len = round_up(want.get(), 512).map(Len::new).ok_or_else(too_large)?;
    if len != want {
        out.warn(format!("{want} bytes are no whole sectors; the disk gets {len}"));
    }
    Ok(len)
}

/// The description of a new image.
pub(super) fn spec(
    format: OutFormat,
    len: Len,
    (layout, compress): (Layout, Option<Compress>),
    stands: Stands,
    session: &Session,
) -> Result<Spec, Failure> {
    if format != OutFormat::Qcow2 && (layout != Layout::default() || compress.is_some()) {
        return Err(Failure::usage("clusters, versions and compression are those of qcow2")
            .with_help("make it -O qcow2, or leave these options out"));
    }
    let now = session.cx().now;
    let uuid = Uuid(*uuid::Uuid::new_v4().as_bytes());
    let vhd = |kind| Spec::Vhd(vhd::create::Spec { len, uuid, now, kind, hidden: false });
    Ok(match (format, stands) {
        (OutFormat::Raw, Stands::Alone) => Spec::Raw(len),
        (OutFormat::VhdFixed, Stands::Alone) => vhd(vhd::create::New::Fixed),
        (OutFormat::Vhd, Stands::Alone) => vhd(vhd::create::New::Dynamic),
        (OutFormat::Vhd, Stands::Vhd(parent)) => vhd(vhd::create::New::Differencing(parent)),
        (OutFormat::Qcow2, Stands::Alone) => Spec::Qcow2(qcow2(len, layout, compress)),
        (OutFormat::Qcow2, Stands::Qcow2(backing)) => {
            Spec::Qcow2(qcow2::Create { backing: Some(backing), ..qcow2(len, layout, compress) })
        }
        (format, _) => return Err(no_parent(format)),
    })
}

/// The refusal of a parent.
pub(super) fn no_parent(format: OutFormat) -> Failure {
    Failure::usage(format!("a {} image has no such parent", name_of(format)))
        .with_help("make it -O qcow2, or over a VHD -O vhd")
}

fn qcow2(len: Len, layout: Layout, compress: Option<Compress>) -> qcow2::Create {
    let plain = qcow2::Create::new(len);
    qcow2::Create {
        version: if layout.compat == Some(Compat::V2) { 2 } else { 3 },
        cluster_bits: layout.cluster_size.map_or(plain.cluster_bits, |size| size.get().trailing_zeros()),
        extended_l2: layout.extended_l2,
        compression: match compress {
            Some(Compress::Zstd) => qcow2::Compression::Zstd,
            Some(Compress::Deflate) | None => qcow2::Compression::Deflate,
        },
        ..plain
    }
}

/// A name that nobody takes for a protocol.
pub(super) fn plain(name: String) -> String {
    let first = name.split('/').next().unwrap_or_default();
    if first.contains(':') { format!("./{name}") } else { name }
}

/// Something that will not be done to a file.
pub(super) fn refused(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::refused(path, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_like_protocols() {
        assert_eq!(plain("a:b.raw".to_owned()), "./a:b.raw");
        assert_eq!(plain("c/a:b.raw".to_owned()), "c/a:b.raw");
        assert_eq!(plain("b.raw".to_owned()), "b.raw");
    }
}
