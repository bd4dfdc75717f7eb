//! Partition tables of sfdisk and sgdisk.

use crate::base::{Base, Place, Seal, span};
use disk::{Disk, Limits, ReadAt, Sparse, read_vec};
use ondisk::sum::crc32;
use ondisk::{Len, Offset, Span};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use testkit::tool::tool;

const MIB: u64 = 1 << 20;

/// Scripts of sfdisk.
const SCRIPTS: &[(&str, &str)] = &[
    ("mbr", "label: dos\nlabel-id: 0x12345678\n2048,8192,83,*\n10240,8192,82\n18432,,83\n"),
    ("logical", "label: dos\n2048,8192,83\n10240,,5\n12288,4096,83\n18432,8192,82\n28672,,83\n"),
    ("gpt", "label: gpt\n2048,8192,U\n10240,4096,S\nstart=14336,size=8192,type=L,name=\"root\"\n"),
    ("full gpt", "label: gpt\n2048,8192,U\n10240,,L\n"),
];

/// A disk with each kind of table.
#[must_use]
pub fn bases() -> Vec<Base> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let make = |(name, script): &(&str, &str)| {
        let path = dir.path().join("disk");
        partitioned(&path, script, 32 * MIB);
        let disk = crate::ext::load(&path);
        let kinds = places(&disk);
        Base::new(name, disk, kinds)
    };
    let mut bases: Vec<Base> = SCRIPTS.iter().map(make).collect();
    // After its container has grown: the backup is where the end was.
    let last = bases.last().expect("the last script");
    let (mut disk, kinds) = (last.disk.clone(), last.kinds.clone());
    disk.set_len(Len::new(40 * MIB));
    bases.push(Base::new("gpt, grown disk", disk, kinds));
    bases
}

/// Makes a disk image with the table of a script.
pub(crate) fn partitioned(path: &Path, script: &str, len: u64) {
    File::create(path).and_then(|file| file.set_len(len)).expect("an empty image");
    let mut command = tool("sfdisk");
    command.args(["--quiet", "--no-reread", "--no-tell-kernel"]).arg(path).stdin(Stdio::piped());
    let mut child = command.spawn().expect("sfdisk");
    child.stdin.take().expect("its input").write_all(script.as_bytes()).expect("it reads");
    assert!(child.wait().expect("sfdisk").success());
}

/// The records of a table: MBR, EBRs, both copies of a GPT.
pub(crate) fn places(disk: &Sparse) -> Vec<Vec<Place>> {
    let last = disk.len().get() - 512;
    let sector = |at| Place::on(disk, span(at, 512), None);
    let slots = Place::on(disk, span(446, 66), None);
    let is_gpt = |at: u64| be_signature(disk, at);
    let table = table::read(disk, &Limits::default()).expect("a table").expect("a table");
    let ebrs = table.partitions().iter().filter_map(|part| match part.role {
        table::Role::Logical { ebr } => Some(Place::on(disk, span(ebr.get() + 446, 66), None)),
        _ => None,
    });
    let mut kinds = vec![vec![slots, sector(0)], ebrs.collect()];
    if is_gpt(512) {
        let seal: Seal =
            Arc::new(move |disk| [512, last].into_iter().for_each(|at| drop(seal_gpt(disk, at))));
        let place = |at, len| Place::on(disk, span(at, len), Some(Arc::clone(&seal)));
        kinds.push([512, last].into_iter().filter(|at| is_gpt(*at)).map(|at| place(at, 92)).collect());
        kinds.push((0..4).map(|i| place(1024 + i * 128, 128)).collect());
        kinds.push((0..4).map(|i| place(last - 32 * 512 + i * 128, 128)).collect());
    }
    kinds
}

fn be_signature(disk: &Sparse, at: u64) -> bool {
    let mut magic = [0; 8];
    disk.get(Offset::new(at), &mut magic);
    magic == *b"EFI PART"
}

/// Seals the header at `at` and the entries it names, as far as they lie on the disk.
fn seal_gpt(disk: &mut dyn Disk, at: u64) -> disk::Result<()> {
    let mut head = read_vec(disk, span(at, 512), &Limits::default())?;
    let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
    let lba = u64::from_le_bytes(head[72..80].try_into().expect("eight bytes"));
    let (len, size) = (u64::from(word(80)) * u64::from(word(84)), word(12) as usize);
    let array = Span::new(Offset::new(lba.saturating_mul(512)), Len::new(len)).unwrap_or_default();
    if array.len() <= Len::mib(1)
        && let Ok(entries) = read_vec(disk, array, &Limits::default())
    {
        head[88..92].copy_from_slice(&crc32(&entries).to_le_bytes());
    }
    head[16..20].fill(0);
    let sum = crc32(&head[..size.min(512)]);
    head[16..20].copy_from_slice(&sum.to_le_bytes());
    disk.write_at(Offset::new(at), &head)
}
