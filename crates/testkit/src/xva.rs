//! Exports of XenServer: the description, the chunks of the disks, and the archive by tar.

use crate::tool::run;
use ondisk::sum;
use std::fmt::Write as _;
use std::path::Path;

/// The bytes of a chunk.
pub const MIB: usize = 1 << 20;

/// A disk of an export.
#[derive(Clone, Copy, Debug)]
pub struct Disk<'a> {
    /// The folder of its chunks, which is its name in the description: `Ref:10`.
    pub folder: &'a str,
    /// Its label.
    pub name: &'a str,
    /// Where it is plugged in.
    pub number: &'a str,
    /// Its bytes.
    pub len: usize,
}

fn value(name: &str, value: &str) -> String {
    format!("<member><name>{name}</name><value>{value}</value></member>")
}

fn object(class: &str, id: &str, fields: &str) -> String {
    let text =
        [value("class", class), value("id", id), value("snapshot", &format!("<struct>{fields}</struct>"))];
    format!("<value><struct>{}</struct></value>", text.concat())
}

/// The description, as XML-RPC writes it.
#[must_use]
pub fn ova(disks: &[Disk<'_>]) -> String {
    let mut objects = object("VM", "Ref:1", &value("name_label", "a &lt;guest&gt;"));
    for (i, disk) in disks.iter().enumerate() {
        let vdi = [
            value("uuid", &uuid(i)),
            value("name_label", disk.name),
            value("virtual_size", &disk.len.to_string()),
            value("sm_config", "<struct></struct>"),
        ];
        let vbd = [
            value("VDI", disk.folder),
            value("userdevice", disk.number),
            value("device", ""),
            value("type", "Disk"),
        ];
        objects += &object("VBD", &format!("Ref:9{i}"), &vbd.concat());
        objects += &object("VDI", disk.folder, &vdi.concat());
    }
    let cd = [value("VDI", "Ref:77"), value("userdevice", "3"), value("type", "CD")];
    objects += &object("VBD", "Ref:99", &cd.concat());
    let iso = [value("uuid", &uuid(70)), value("name_label", "tools.iso"), value("virtual_size", "0")];
    objects += &object("VDI", "Ref:77", &iso.concat());
    let array = format!("<array><data>{objects}</data></array>");
    format!(
        "<?xml version=\"1.0\"?><value><struct>{}{}</struct></value>",
        value("version", "<struct></struct>"),
        value("objects", &array)
    )
}

/// The identity of the disk at that place of the list.
#[must_use]
pub fn uuid(i: usize) -> String {
    format!("0cab7e00-0000-4000-8000-{i:012}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a folder that takes files");
        text
    })
}

/// How chunks are guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sums {
    /// As ever.
    Sha1,
    /// As newer exporters do.
    Xxh64,
    /// Not at all.
    None,
}

/// Writes the chunks of a disk, and returns the names in the order in which they go into the archive.
///
/// # Panics
/// Where they cannot be written.
pub fn chunks(dir: &Path, folder: &str, content: &[u8], sums: Sums) -> Vec<String> {
    let all: Vec<_> = content.chunks(MIB).collect();
    let kept = |i: &usize| *i == 0 || i + 1 == all.len() || all[*i].iter().any(|byte| *byte != 0);
    let numbered = (0..all.len()).filter(kept).map(|i| (i, all[i]));
    numbered.flat_map(|(i, bytes)| chunk(dir, folder, i, bytes, sums)).collect()
}

/// Writes one chunk and its checksum, and returns their names.
///
/// # Panics
/// Where they cannot be written.
pub fn chunk(dir: &Path, folder: &str, number: usize, bytes: &[u8], sums: Sums) -> Vec<String> {
    std::fs::create_dir_all(dir.join(folder)).expect("a folder that takes files");
    let name = format!("{folder}/{number:08}");
    std::fs::write(dir.join(&name), bytes).expect("a folder that takes files");
    let (ending, text) = match sums {
        Sums::Sha1 => ("checksum", hex(&sum::sha1(bytes))),
        Sums::Xxh64 => ("xxhash", format!("{:016X}", sum::xxh64(bytes))),
        Sums::None => return vec![name],
    };
    let beside = format!("{name}.{ending}");
    std::fs::write(dir.join(&beside), text).expect("a folder that takes files");
    vec![name, beside]
}

/// The archive of a description and of these members, by tar.
///
/// # Panics
/// Where tar fails.
pub fn archive(dir: &Path, ova: &str, names: &[String]) -> Vec<u8> {
    std::fs::write(dir.join("ova.xml"), ova).expect("a folder that takes files");
    let path = dir.join("vm.xva");
    let (to, from) = (
        path.to_str().expect("a folder that takes files").to_owned(),
        dir.to_str().expect("a folder that takes files").to_owned(),
    );
    let mut args: Vec<String> =
        ["--format=ustar", "--owner=0", "--group=0", "-cf"].into_iter().map(str::to_owned).collect();
    args.extend([to, "-C".to_owned(), from, "ova.xml".to_owned()]);
    args.extend(names.iter().cloned());
    run("tar", args);
    std::fs::read(path).expect("a folder that takes files")
}
