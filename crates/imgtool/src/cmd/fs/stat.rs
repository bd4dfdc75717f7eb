//! `fs stat IMAGE PATH`: everything about a file but its content.

use super::show::{facts, kind_name, mode_text, time_json, time_text};
use super::{Guest, acl, with_guest};
use crate::args::Stat;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of};
use crate::json::put_bytes;
use crate::output::Output;
use crate::render::Table;
use crate::sandbox::Needs;
use extfs::read::inode::HUGE_FILE;
use extfs::{Inode, Kind};
use ondisk::text::Printable;
use serde_json::{Map, Value};
use std::os::unix::ffi::OsStrExt;

/// The letters of `lsattr` and what they mean.
const FLAGS: &[(u32, &str)] = &[
    (0x1, "secure-delete"),
    (0x2, "undelete"),
    (0x4, "compress"),
    (0x8, "sync"),
    (0x10, "immutable"),
    (0x20, "append-only"),
    (0x40, "no-dump"),
    (0x80, "no-atime"),
    (0x800, "encrypted"),
    (0x1000, "indexed"),
    (0x4000, "journal-data"),
    (0x8000, "no-tail"),
    (0x1_0000, "dir-sync"),
    (0x2_0000, "top-dir"),
    (0x4_0000, "huge-file"),
    (0x8_0000, "extents"),
    (0x10_0000, "verity"),
    (0x20_0000, "attribute-value"),
    (0x80_0000, "no-cow"),
    (0x200_0000, "dax"),
    (0x1000_0000, "inline-data"),
    (0x2000_0000, "project"),
    (0x4000_0000, "casefold"),
];

/// An attribute with its value.
struct Attr {
    name: Vec<u8>,
    value: Vec<u8>,
}

/// Runs it.
///
/// # Errors
/// Where there is no such file, or it is damaged.
pub(super) fn run(args: &Stat, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    with_guest(&args.image, &args.at, &Needs::nothing(), session, |guest| {
        let inode = guest.resolve_no_follow(&args.path)?;
        let target = match inode.kind() {
            Some(Kind::Symlink) => Some(guest.read_link(&inode)?),
            _ => None,
        };
        let attrs = attrs(guest, &inode)?;
        let path = args.path.as_os_str().as_bytes();
        let bytes = allocated(guest, &inode);
        out.table(&table(path, &inode, target.as_deref(), bytes, &attrs));
        out.document(&document(path, &inode, target.as_deref(), bytes, &attrs))?;
        Ok(Exit::Done)
    })
}

fn attrs(guest: &Guest<'_>, inode: &Inode) -> Result<Vec<Attr>, Failure> {
    let all = guest.fs.xattrs(inode).of(guest.image)?;
    let valued = all.iter().map(|attr| {
        let value = guest.fs.xattr_value(attr).of(guest.image)?;
        Ok(Attr { name: attr.full_name(), value })
    });
    valued.collect()
}

/// Bytes that the file takes.
fn allocated(guest: &Guest<'_>, inode: &Inode) -> u64 {
    let unit = if inode.has(HUGE_FILE) { guest.fs.geom().block_size.bytes() } else { 512 };
    inode.sectors().saturating_mul(unit)
}

/// The names of the flags; those without one as a number.
fn flag_names(flags: u32) -> Vec<String> {
    let known = FLAGS.iter().filter(|(bit, _)| flags & bit != 0);
    let rest = FLAGS.iter().fold(flags, |rest, (bit, _)| rest & !bit);
    let rest = (rest != 0).then(|| format!("{rest:#x}"));
    known.map(|(_, name)| (*name).to_owned()).chain(rest).collect()
}

impl Attr {
    /// The value as people read it: an access control list as text.
    fn shown(&self) -> String {
        let list = self.name.starts_with(b"system.posix_acl_").then(|| acl::text(&self.value)).flatten();
        list.unwrap_or_else(|| Printable(&self.value).to_string())
    }
}

fn table(path: &[u8], inode: &Inode, target: Option<&[u8]>, bytes: u64, attrs: &[Attr]) -> Table {
    let mut table = Table::new().left("FILE").left(&Printable(path).to_string());
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("type", kind_name(inode.kind()).to_owned());
    if let Some(target) = target {
        row("target", Printable(target).to_string());
    }
    row("inode", format!("{} (generation {})", inode.ino(), inode.generation()));
    row("mode", format!("{:04o} {}", inode.mode() & 0o7777, mode_text(inode.mode())));
    row("owner", format!("{}:{}", inode.uid(), inode.gid()));
    row("links", inode.links().to_string());
    row("size", inode.size().to_string());
    row("allocated", bytes.to_string());
    if let Some((major, minor)) = inode.device() {
        row("device", format!("{major}, {minor}"));
    }
    row("accessed", time_text(inode.atime()));
    row("modified", time_text(inode.mtime()));
    row("changed", time_text(inode.ctime()));
    if let Some(time) = inode.crtime() {
        row("born", time_text(time));
    }
    row("flags", flag_names(inode.flags()).join(" "));
    for attr in attrs {
        row(&Printable(&attr.name).to_string(), attr.shown());
    }
    table
}

fn document(
    path: &[u8],
    inode: &Inode,
    target: Option<&[u8]>,
    bytes: u64,
    attrs: &[Attr],
) -> Map<String, Value> {
    let mut object = facts(("path", path), inode, target);
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("allocated", bytes.into());
    put("generation", inode.generation().into());
    put("flags", flag_names(inode.flags()).into());
    put("flags-value", inode.flags().into());
    put("atime", time_json(inode.atime()));
    put("ctime", time_json(inode.ctime()));
    put("crtime", inode.crtime().map_or(Value::Null, time_json));
    let attrs = attrs.iter().map(|attr| {
        let mut object = Map::new();
        put_bytes(&mut object, "name", &attr.name);
        put_bytes(&mut object, "value", &attr.value);
        Value::Object(object)
    });
    put("xattrs", attrs.collect());
    object
}
