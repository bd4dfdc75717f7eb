//! Images by qemu-img, and what must be true of everything that is read.

use container::{Container, Format, Mapped, OpenWith, Part, Severity};
use disk::{Image, Limits, MemDisk, OpenOptions, ReadAt};
use ondisk::{Len, Offset, Span};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use testkit::images::noise;
use testkit::tool::run;

/// A folder with a raw disk, from which qemu-img makes the others.
pub struct Kit {
    pub dir: TempDir,
    pub bytes: Vec<u8>,
}

/// Runs of data, some compressible, between zeros; the end is not the end of any block.
pub fn content(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for (at, data) in
        [(0, 700), (70_000, 200_000), (1 << 20, 65_536), ((2 << 20) - 300, 1000), (len - 512, 512)]
    {
        bytes[at..at + data].copy_from_slice(&noise(at as u64, data));
    }
    bytes[3 << 20..(3 << 20) + 300_000].fill(0x5a);
    bytes
}

impl Kit {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bytes = content((5 << 20) + 7 * 512);
        std::fs::write(dir.path().join("disk.raw"), &bytes).unwrap();
        Self { dir, bytes }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The raw disk in another format.
    pub fn convert(&self, format: Format, options: &str) -> PathBuf {
        let path = self.path(&format!("image.{format}"));
        let raw = self.path("disk.raw");
        let mut args = vec!["convert", "-f", "raw", "-O", format.qemu_name()];
        if !options.is_empty() {
            args.extend(["-o", options]);
        }
        args.extend([raw.to_str().unwrap(), path.to_str().unwrap()]);
        run("qemu-img", args);
        path
    }

    /// What qemu-img reads of an image.
    pub fn by_qemu(&self, image: &Path, format: Format) -> Vec<u8> {
        let raw = self.path("by-qemu.raw");
        let names = [image, &raw].map(|path| path.to_str().unwrap());
        run("qemu-img", ["convert", "-f", format.qemu_name(), "-O", "raw", names[0], names[1]]);
        std::fs::read(raw).unwrap()
    }
}

pub fn limits() -> Limits {
    Limits::default()
}

pub fn file(path: &Path) -> Image {
    Image::open(path, &OpenOptions::default()).unwrap()
}

/// Opens an image with the files beside it.
pub fn open(path: &Path, format: Format) -> container::Result<Container<Image>> {
    let names = Container::open(file(path), format, &limits())?.parts();
    let part = |name: &String| -> Part { Arc::new(file(&path.parent().unwrap().join(name))) };
    let with = OpenWith { disk: None, parts: names.iter().map(part).collect() };
    Container::open_with(file(path), format, &with, &limits())
}

pub fn open_bytes(bytes: &[u8], format: Format) -> container::Result<Container<MemDisk>> {
    Container::open(MemDisk::from_bytes(bytes), format, &limits())
}

/// Why an image cannot be opened, or read, or what is wrong with it.
pub fn complaint(bytes: &[u8], format: Format) -> String {
    let disk = match open_bytes(bytes, format) {
        Ok(disk) => disk,
        Err(error) => return error.to_string(),
    };
    let mut all = vec![0; disk.len().min(Len::mib(64)).to_usize()];
    if let Err(error) = disk.read_at(Offset::ZERO, &mut all) {
        return error.to_string();
    }
    let findings = disk.check().unwrap();
    findings.iter().map(|finding| finding.text.clone()).collect::<Vec<_>>().join("; ")
}

/// An image reads to these bytes in every way, its map covers it, and nothing is wrong with it.
pub fn assert_reads<D: ReadAt>(disk: &Container<D>, bytes: &[u8], what: &str) {
    assert_eq!(disk.len().get(), bytes.len() as u64, "{what}");
    let read = |at: usize, len: usize| {
        let mut buf = vec![0xee; len];
        disk.read_at(Offset::new(at as u64), &mut buf).unwrap_or_else(|error| panic!("{what}: {error}"));
        if let Some(differs) = (0..len).find(|i| buf[*i] != bytes[at + i]) {
            panic!("{what}: byte {} is {}, not {}", at + differs, buf[differs], bytes[at + differs]);
        }
    };
    read(0, bytes.len());
    for at in (0..bytes.len() - 70_000).step_by(66_666) {
        read(at, 1);
        read(at + 511, 69_000);
    }
    let is_zero =
        |span: Span| bytes[span.start().get() as usize..span.end().get() as usize].iter().all(|b| *b == 0);
    let mut end = Offset::ZERO;
    for extent in disk.extents(Span::whole(disk.len())).unwrap().iter() {
        assert_eq!(extent.span.start(), end, "{what}");
        assert!(!extent.kind.reads_zero() || is_zero(extent.span), "{what}: {extent:?}");
        end = extent.span.end();
    }
    assert_eq!(end, disk.len().end(), "{what}");
    end = Offset::ZERO;
    for run in disk.map() {
        let run = run.unwrap();
        assert_eq!(run.span.start(), end, "{what}");
        assert!(!run.zero || is_zero(run.span), "{what}: {run:?}");
        assert_eq!(run.data, !run.zero, "{what}: {run:?}");
        end = run.span.end();
    }
    assert_eq!(end, disk.len().end(), "{what}");
    let part = Span::new(Offset::new(70_001), Len::new(100)).unwrap();
    assert_eq!(disk.status(part).unwrap()[0].span.start(), part.start(), "{what}");
    let findings = disk.check().unwrap();
    let damage = findings.iter().find(|finding| finding.severity != Severity::Note);
    assert!(damage.is_none(), "{what}: {damage:?}");
}

pub fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

pub fn patched(bytes: &[u8], at: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    put(&mut bytes, at, value);
    bytes
}

pub fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}
