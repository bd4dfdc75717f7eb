//! Images of the formats that are only read, and their tables.

use crate::base::{Base, Place, sealing, span};
use disk::{MemDisk, ReadAt, Sparse};
use ondisk::Offset;
use std::path::{Path, PathBuf};
use testkit::images::noise;
use testkit::oracle::qemu_convert;
use testkit::vhdx::{self, Entry};
use testkit::xva::{self, Sums};
use testkit::vmdk;

/// Format and options of qemu-img, and the parts of the file that are worth changing: position and length.
const QEMU: &[(&str, &str)] = &[
    ("vmdk", "subformat=monolithicSparse"),
    ("vmdk", "subformat=monolithicSparse,zeroed_grain=on"),
    ("vmdk", "subformat=streamOptimized"),
    ("vdi", ""),
    ("vdi", "static=on"),
    ("parallels", "cluster_size=65536"),
    ("qed", "cluster_size=4096,table_size=2"),
    ("qed", "cluster_size=64k"),
    ("vhdx", "block_size=1M"),
];

/// Images of all of these formats.
#[must_use]
pub fn bases() -> Vec<Base> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut content = vec![0; (3 << 20) + 512];
    content[..70_000].copy_from_slice(&noise(1, 70_000));
    content[2 << 20..(2 << 20) + 100_000].fill(7);
    let raw = dir.path().join("raw");
    std::fs::write(&raw, &content).expect("a raw image");
    let mut all: Vec<Base> = QEMU.iter().map(|(format, options)| made(dir.path(), &raw, format, options)).collect();
    let stream = vmdk::stream(&content, 512);
    let end = stream.len() as u64 - 512 - 4096;
    all.push(plain("vmdk stream", &stream, &[&[(0, 512), (end, 4096)], &[(512, 1024)], &[(1536, 64)]]));
    let text = b"# Disk DescriptorFile\nCID=1\nparentCID=ffffffff\nRW 100 ZERO\nRW 9 FLAT \"a\" 0\nRW 7 SPARSE \"b\"\n";
    all.push(plain("vmdk descriptor", text, &[&[(0, text.len() as u64)]]));
    all.push(dirty(&all));
    for sums in [Sums::Sha1, Sums::Xxh64] {
        all.push(export(dir.path(), &content, sums));
    }
    all
}

fn sparse(bytes: &[u8]) -> Sparse {
    MemDisk::from_bytes(bytes).bytes().clone()
}

/// An image without checksums.
fn plain(name: &str, bytes: &[u8], kinds: &[&[(u64, u64)]]) -> Base {
    let disk = sparse(bytes);
    let place = |&(at, len): &(u64, u64)| Place::on(&disk, span(at, len), None);
    let kinds = kinds.iter().map(|kind| kind.iter().map(place).collect()).collect();
    Base::new(name, disk.clone(), kinds)
}

fn made(dir: &Path, raw: &Path, format: &str, options: &str) -> Base {
    let path: PathBuf = dir.join("image");
    if path.exists() {
        std::fs::remove_file(&path).expect("the image before");
    }
    qemu_convert(raw, "raw", &path, format, &[options]);
    let name = format!("{format} {options}");
    if format == "vhdx" {
        return hyper(&name, crate::ext::load(&path));
    }
    let bytes = std::fs::read(&path).expect("an image");
    let word = |at: usize| u64::from(u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")));
    match format {
        "vdi" => plain(&name, &bytes, &[&[(64, 20), (340, 52)], &[(word(340), 64)]]),
        "parallels" => plain(&name, &bytes, &[&[(0, 64)], &[(64, 200)]]),
        "qed" => plain(&name, &bytes, &[&[(0, 64)], &[(word(40), 64)], &[(word(word(40) as usize), 512)]]),
        _ => {
            let directory = word(56) * 512;
            let tables = [(directory, 64), (word(directory as usize) * 512, 256)];
            plain(&name, &bytes, &[&[(0, 80)], &[(512, 400)], &tables, &[(word(48) * 512, 64), (65_536, 64)]])
        }
    }
}

/// A VHDX: headers, region tables and what they lead to.
fn hyper(name: &str, disk: Sparse) -> Base {
    let sealed = |at: usize, len: usize| {
        let whole = span(at as u64, len as u64);
        Place::on(&disk, span(at as u64, 256), sealing(whole, move |bytes| vhdx::seal(bytes, 0, len)))
    };
    let mut bytes = [0; 8];
    let mut regions = Vec::new();
    for entry in 0..2 {
        disk.get(Offset::new(vhdx::REGIONS[0] as u64 + 32 + entry * 32), &mut bytes);
        regions.push(u64::from_le_bytes(bytes));
    }
    let at = |at: u64, len: u64| Place::on(&disk, span(at, len), None);
    let items = regions.iter().map(|region| at(region + (64 << 10), 256)).collect();
    let log = 1 << 20;
    let entries = [0, 8192].map(|ahead| {
        let whole = span(log + ahead, 8192);
        let sound = {
            let mut head = [0; 4];
            disk.get(Offset::new(log + ahead), &mut head);
            head == *b"loge"
        };
        Place::on(&disk, span(log + ahead, 160), sealing(whole, |bytes| vhdx::seal(bytes, 0, 8192)).filter(|_| sound))
    });
    let kinds = vec![
        vhdx::HEADERS.map(|at| sealed(at, 4096)).to_vec(),
        vhdx::REGIONS.map(|at| sealed(at, 64 << 10)).to_vec(),
        regions.iter().map(|region| at(*region, 256)).collect(),
        items,
        entries.to_vec(),
    ];
    Base::new(name, disk.clone(), kinds)
}

/// The VHDX among the bases with a log of two entries to be replayed.
fn dirty(bases: &[Base]) -> Base {
    let clean = bases.iter().find(|base| base.name.starts_with("vhdx")).expect("a VHDX");
    let mut bytes = vec![0; clean.disk.len().to_usize()];
    clean.disk.get(Offset::ZERO, &mut bytes);
    let len = bytes.len() as u64;
    let sector = bytes[2 << 20..(2 << 20) + 4096].to_vec();
    let first = Entry { number: 7, tail: 0, data: &[(2 << 20, &sector)], zeros: &[], len: (len, len) };
    let second = Entry { number: 8, zeros: &[(len - 8192, 4096)], ..first };
    hyper("vhdx with a log", sparse(&vhdx::with_log(&bytes, &[(0, first.bytes()), (8192, second.bytes())])))
}

/// An export of one disk.
fn export(dir: &Path, content: &[u8], sums: Sums) -> Base {
    let disk = xva::Disk { folder: "Ref:10", name: "root", number: "0", len: content.len() };
    let names = xva::chunks(dir, disk.folder, content, sums);
    let bytes = xva::archive(dir, &xva::ova(&[disk]), &names);
    std::fs::remove_dir_all(dir.join(disk.folder)).expect("a folder of chunks");
    let disk = sparse(&bytes);
    let is_header = |at: &usize| bytes[*at..].len() >= 512 && bytes[at + 257..at + 262] == *b"ustar";
    let headers = (0..bytes.len()).step_by(512).filter(is_header).map(|at| {
        let whole = span(at as u64, 512);
        Place::on(&disk, whole, sealing(whole, |header| {
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }))
    });
    let headers: Vec<Place> = headers.collect();
    let text = Place::on(&disk, span(512, 2048), None);
    let sums = headers.iter().map(|header| Place::on(&disk, span(header.at.get() + 512, 16), None)).collect();
    Base::new(&format!("xva {sums:?}", sums = names.len()), disk, vec![headers, vec![text], sums])
}
