//! VHD against qemu-img, libvhdi, and a second reader that shares nothing with ours.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    clippy::single_range_in_vec_init
)]

mod face;
mod grow;
mod open;
mod read;
mod repair;
mod write;

use container::vhd::Vhd;
use disk::mem::MemDisk;
use disk::{Limits, Overlay, ReadAt};
use ondisk::{Len, Offset, Span};
use std::path::Path;

fn limits() -> Limits {
    Limits::default()
}

fn span(at: u64, len: u64) -> Span {
    Span::new(Offset::new(at), Len::new(len)).unwrap()
}

fn mem(bytes: &[u8]) -> MemDisk {
    MemDisk::from_bytes(bytes)
}

fn load(path: &Path) -> MemDisk {
    mem(&std::fs::read(path).unwrap())
}

fn open(bytes: &[u8]) -> Vhd<MemDisk> {
    Vhd::open(mem(bytes), &limits()).unwrap()
}

fn all(disk: &dyn ReadAt) -> Vec<u8> {
    let mut bytes = vec![0; disk.len().to_usize()];
    disk.read_at(Offset::ZERO, &mut bytes).unwrap();
    bytes
}

/// Runs `work` on the image through an overlay, commits it, and returns the new file.
fn changed(file: &MemDisk, work: impl FnOnce(&mut Overlay<'_>)) -> MemDisk {
    let mut overlay = Overlay::new(file, &limits());
    work(&mut overlay);
    let seen = all(&overlay);
    let change = overlay.into_change().unwrap();
    let mut after = file.clone();
    after.apply(&change).unwrap();
    assert_eq!(after.to_vec(), seen, "the change is what the overlay showed");
    after
}

/// As [`changed`], through the container.
fn edited(file: &MemDisk, work: impl FnOnce(&mut Vhd<&mut Overlay<'_>>)) -> MemDisk {
    changed(file, |overlay| work(&mut Vhd::open(overlay, &limits()).unwrap()))
}

fn assert_clean(file: &MemDisk) {
    let vhd = Vhd::open(file, &limits()).unwrap();
    let findings = vhd.check().unwrap();
    assert!(findings.is_clean(), "{findings:?}");
}

fn assert_same(a: &[u8], b: &[u8], what: &str) {
    if let Some(at) = (0..a.len().max(b.len())).find(|&i| a.get(i) != b.get(i)) {
        panic!(
            "{what}: lengths {} and {}, first difference at byte {at}: {:?} {:?}",
            a.len(),
            b.len(),
            a.get(at),
            b.get(at)
        );
    }
}
